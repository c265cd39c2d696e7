//! Where the files of relations lie below the data directory, and which relation a file belongs to.

use super::rel::{DEFAULT_TABLESPACE, DatabaseDir, Fork, GLOBAL_TABLESPACE, RelFork};

/// How a cluster lays out the files of its relations. The numbers are in its `pg_control`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLayout {
    /// Bytes of a block of a relation; 8192 nearly everywhere.
    pub block_size: u32,
    /// Blocks of a file, before the next one begins; 131072 nearly everywhere.
    pub blocks_per_file: u32,
    /// The directory within a tablespace that is this version's, such as `PG_15_202209061`.
    pub tablespace_directory: String,
}

/// One file of a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelFile {
    /// The fork.
    pub fork: RelFork,
    /// Its place among the files of the fork, counted from 0.
    pub part: u32,
}

impl FileLayout {
    /// The layout of a cluster of PostgreSQL `major` with this catalog version.
    #[must_use]
    pub fn new(block_size: u32, blocks_per_file: u32, major: u16, catalog_version: u32) -> Self {
        FileLayout { block_size, blocks_per_file, tablespace_directory: format!("PG_{major}_{catalog_version}") }
    }

    /// The path of a database's directory, below the data directory.
    #[must_use]
    pub fn directory(&self, directory: DatabaseDir) -> String {
        let DatabaseDir { tablespace, database } = directory;
        match tablespace {
            GLOBAL_TABLESPACE => "global".to_owned(),
            DEFAULT_TABLESPACE => format!("base/{database}"),
            _ => format!("pg_tblspc/{tablespace}/{}/{database}", self.tablespace_directory),
        }
    }

    /// The path of a file, below the data directory.
    #[must_use]
    pub fn path(&self, file: RelFile) -> String {
        let mut path = format!("{}/{}", self.directory(file.fork.directory()), file.fork.relation);
        if file.fork.fork != Fork::Main {
            path.push('_');
            path.push_str(file.fork.fork.name());
        }
        if file.part > 0 {
            path.push_str(&format!(".{}", file.part));
        }
        path
    }

    /// The directory that a path below the data directory names; `None` when it is not that of a database.
    #[must_use]
    pub fn parse_directory(&self, path: &str) -> Option<DatabaseDir> {
        let parts: Vec<&str> = path.split('/').collect();
        let (tablespace, database) = match parts.as_slice() {
            ["global"] => (GLOBAL_TABLESPACE, 0),
            ["base", database] => (DEFAULT_TABLESPACE, oid(database)?),
            ["pg_tblspc", tablespace, version, database] if *version == self.tablespace_directory => {
                (oid(tablespace)?, oid(database)?)
            }
            _ => return None,
        };
        Some(DatabaseDir { tablespace, database })
    }

    /// The file that a path below the data directory names; `None` when it belongs to no relation, or to a temporary
    /// one.
    #[must_use]
    pub fn parse(&self, path: &str) -> Option<RelFile> {
        let (directory, name) = path.rsplit_once('/')?;
        let DatabaseDir { tablespace, database } = self.parse_directory(directory)?;
        let (name, part) = match name.split_once('.') {
            Some((name, part)) => (name, oid(part)?),
            None => (name, 0),
        };
        let (relation, fork) = match name.split_once('_') {
            Some((relation, fork)) => (relation, Fork::ALL.into_iter().skip(1).find(|known| known.name() == fork)?),
            None => (name, Fork::Main),
        };
        Some(RelFile { fork: RelFork { tablespace, database, relation: oid(relation)?, fork }, part })
    }

    /// The first block of a file; `None` when no fork has that many blocks.
    #[must_use]
    pub fn first_block(&self, file: RelFile) -> Option<u32> {
        file.part.checked_mul(self.blocks_per_file)
    }

    /// The file that holds a block of a fork.
    #[must_use]
    pub fn file_of(&self, fork: RelFork, block: u32) -> RelFile {
        RelFile { fork, part: block.checked_div(self.blocks_per_file).unwrap_or(0) }
    }
}

/// A number as PostgreSQL prints it: digits, no zero in front.
fn oid(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|digit| digit.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout() -> FileLayout {
        FileLayout::new(8192, 131_072, 15, 202_209_061)
    }

    fn file(tablespace: u32, database: u32, relation: u32, fork: Fork, part: u32) -> RelFile {
        RelFile { fork: RelFork { tablespace, database, relation, fork }, part }
    }

    #[test]
    fn paths_are_those_of_postgresql() {
        let known = [
            ("global/1262", file(1664, 0, 1262, Fork::Main, 0)),
            ("global/1262_vm", file(1664, 0, 1262, Fork::VisibilityMap, 0)),
            ("base/5/16384", file(1663, 5, 16384, Fork::Main, 0)),
            ("base/5/16384.1", file(1663, 5, 16384, Fork::Main, 1)),
            ("base/5/16384_fsm.12", file(1663, 5, 16384, Fork::FreeSpaceMap, 12)),
            ("pg_tblspc/16400/PG_15_202209061/5/16401_init", file(16400, 5, 16401, Fork::Init, 0)),
        ];
        for (path, file) in known {
            assert_eq!(layout().parse(path), Some(file));
            assert_eq!(layout().path(file), path);
        }
    }

    #[test]
    fn other_files_are_no_relations() {
        for path in [
            "",
            "1262",
            "global",
            "global/pg_control",
            "global/pg_filenode.map",
            "global/pg_internal.init",
            "base/5/PG_VERSION",
            "base/5/pg_filenode.map",
            "base/5/t3_16384",
            "base/5/16384_main",
            "base/5/16384_fsm_vm",
            "base/5/16384.0",
            "base/5/16384.",
            "base/5/16384.01",
            "base/5/.1",
            "base/5/_fsm",
            "base/5/016384",
            "base/5/0",
            "base/5/+1",
            "base/5/99999999999",
            "base/05/1",
            "base/pgsql_tmp/1",
            "base/5",
            "base/5/6/7",
            "pg_tblspc/16400/PG_14_202107181/5/16401",
            "pg_tblspc/16400/16401",
            "pg_wal/000000010000000000000001",
            "/base/5/16384",
            "./base/5/16384",
        ] {
            assert_eq!(layout().parse(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_block_lies_in_one_file() {
        let fork = file(1663, 5, 16384, Fork::Main, 0).fork;
        assert_eq!(layout().file_of(fork, 131_071), RelFile { fork, part: 0 });
        assert_eq!(layout().file_of(fork, 131_072), RelFile { fork, part: 1 });
        assert_eq!(layout().first_block(RelFile { fork, part: 2 }), Some(262_144));
        assert_eq!(layout().first_block(RelFile { fork, part: 1 << 20 }), None);
    }

    proptest! {
        #[test]
        fn a_path_leads_back_to_its_file(
            (tablespace, database) in prop_oneof![
                Just((GLOBAL_TABLESPACE, 0)),
                (1u32..).prop_map(|database| (DEFAULT_TABLESPACE, database)),
                (16384u32.., 1u32..),
            ],
            relation in 1u32..,
            fork in prop::sample::select(&Fork::ALL[..]),
            part in any::<u32>(),
        ) {
            let file = file(tablespace, database, relation, fork, part);
            prop_assert_eq!(layout().parse(&layout().path(file)), Some(file));
        }

        #[test]
        fn what_parses_is_printed_the_same(path in "(global|base/[0-9]{1,3}|pg_tblspc/[0-9]{1,2}/PG_15_202209061/5)/[0-9t_a-z.]{1,9}") {
            if let Some(file) = layout().parse(&path) {
                prop_assert_eq!(layout().path(file), path);
            }
        }
    }
}
