//! PostgreSQL and its descendants differ in the prefix of their names: `pg_wal` and `pg_backup_start` there, `sys_wal`
//! and `sys_backup_start` in KingbaseES.

use std::path::{Path, PathBuf};

use setpiece_core::{Error, ErrorKind, Result};

/// How a server and its directory name things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgresql,
    /// KingbaseES, by its own documentation; not tried on a real server.
    Kingbase,
}

impl Dialect {
    /// The engine's name in the metadata of sets.
    #[must_use]
    pub fn engine(self) -> &'static str {
        match self {
            Dialect::Postgresql => "postgresql",
            Dialect::Kingbase => "kingbase",
        }
    }

    /// `pg_wal` or `sys_wal`: a name with the dialect's prefix.
    pub(crate) fn name(self, of: &str) -> String {
        match self {
            Dialect::Postgresql => format!("pg_{of}"),
            Dialect::Kingbase => format!("sys_{of}"),
        }
    }

    /// The dialect of a data directory, by the name of its control file.
    pub(crate) fn of_directory(directory: &Path) -> Result<Self> {
        // KingbaseES may keep names of PostgreSQL for old programs; PostgreSQL has none of the other's.
        let known = [Dialect::Kingbase, Dialect::Postgresql];
        let found = known.into_iter().find(|dialect| directory.join(dialect.control_file()).is_file());
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "is no data directory: it has no control file")
                .on(directory.display().to_string())
                .remedy("name the directory that holds `base`, `global` and `pg_wal`")
        })
    }

    /// The dialect of a server that is spoken to as one of `configured`: what the address says of KingbaseES holds, and a
    /// server that calls itself so is one, whatever the address says. `version` is the answer of `version()`.
    pub(crate) fn of_server(configured: Self, version: &str) -> Self {
        if version.starts_with("Kingbase") { Dialect::Kingbase } else { configured }
    }

    /// The port that a server of it listens on when nothing else is said.
    pub(crate) fn port(self) -> u16 {
        match self {
            Dialect::Postgresql => 5432,
            Dialect::Kingbase => 54321,
        }
    }

    pub(crate) fn control_file(self) -> String {
        format!("global/{}", self.name("control"))
    }

    /// The file with the major version, for people.
    pub(crate) fn version_file(self) -> &'static str {
        match self {
            Dialect::Postgresql => "PG_VERSION",
            Dialect::Kingbase => "SYS_VERSION",
        }
    }

    /// The directory that a server makes for itself in that of a tablespace.
    pub(crate) fn tablespace_directory(self, version: &str, catalog: u32) -> String {
        let prefix = match self {
            Dialect::Postgresql => "PG",
            Dialect::Kingbase => "SYS",
        };
        format!("{prefix}_{}_{catalog}", version.trim())
    }

    /// The file with the settings.
    pub(crate) fn settings_file(self) -> &'static str {
        match self {
            Dialect::Postgresql => "postgresql.conf",
            Dialect::Kingbase => "kingbase.conf",
        }
    }

    /// The file with settings that the server reads last, so that what it says counts.
    pub(crate) fn last_settings_file(self) -> &'static str {
        match self {
            Dialect::Postgresql => "postgresql.auto.conf",
            Dialect::Kingbase => "kingbase.auto.conf",
        }
    }

    /// Where distributions put the programs of a version.
    pub(crate) fn usual_programs(self, version: &str) -> Vec<PathBuf> {
        let places = match self {
            Dialect::Postgresql => {
                vec![format!("/usr/lib/postgresql/{version}/bin"), format!("/usr/pgsql-{version}/bin")]
            }
            // The version of the directory is that of PostgreSQL that it descends from; this one is of the product.
            Dialect::Kingbase => ["V9", "V8"].map(|product| format!("/opt/Kingbase/ES/{product}/Server/bin")).into(),
        };
        places.into_iter().map(PathBuf::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_calls_itself_kingbase_is_one() {
        let of = Dialect::of_server;
        let (postgres, kingbase) = (Dialect::Postgresql, Dialect::Kingbase);
        assert_eq!(of(postgres, "PostgreSQL 15.4 on x86_64-pc-linux-gnu"), postgres);
        assert_eq!(of(postgres, "KingbaseES V008R006C007B0024 on x86_64-pc-linux-gnu"), kingbase);
        assert_eq!(of(kingbase, "PostgreSQL 12.1"), kingbase);
    }
}
