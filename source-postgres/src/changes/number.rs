//! The numbers under which changes are recorded.
//!
//! A fork has one number for all of its files, and its pages are counted through all of them: so "everything from this
//! block on" can be said without knowing how many files there are. A directory or a tablespace of which everything is
//! to be taken has a number as well. If two of them ever get the same number, more is taken than changed.
//!
//! The numbers are on media: what they are made of never changes.

use setpiece_core::model::FileId;

use crate::identity::file_id;
use crate::wal::{DatabaseDir, RelFork};

pub(super) fn fork(fork: RelFork) -> FileId {
    let RelFork { tablespace, database, relation, fork } = fork;
    file_id(&format!("fork {tablespace}/{database}/{relation}/{}", fork as u8))
}

pub(super) fn directory(directory: DatabaseDir) -> FileId {
    file_id(&format!("directory {}/{}", directory.tablespace, directory.database))
}

pub(super) fn tablespace(tablespace: u32) -> FileId {
    file_id(&format!("tablespace {tablespace}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::Fork;

    /// They are on record: another number would hide what changed.
    #[test]
    fn numbers_stay() {
        let relation = RelFork { tablespace: 1663, database: 5, relation: 16384, fork: Fork::Main };
        assert_eq!(fork(relation), file_id("fork 1663/5/16384/0"));
        assert_eq!(fork(relation.with(Fork::VisibilityMap)), file_id("fork 1663/5/16384/2"));
        assert_eq!(directory(relation.directory()), file_id("directory 1663/5"));
        assert_eq!(tablespace(16400), file_id("tablespace 16400"));
        assert_eq!(file_id("fork 1663/5/16384/0").0, 13_799_105_325_370_752_040);
    }
}
