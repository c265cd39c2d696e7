//! PostgreSQL and its descendants differ in the prefix of their names: `pg_wal` and `pg_backup_start` there, `sys_wal`
//! and `sys_backup_start` in KingbaseES.

use std::path::Path;

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
        let known = [Dialect::Postgresql, Dialect::Kingbase];
        let found = known.into_iter().find(|dialect| directory.join(dialect.control_file()).is_file());
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "is no data directory: it has no control file")
                .on(directory.display().to_string())
                .remedy("name the directory that holds `base`, `global` and `pg_wal`")
        })
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
}
