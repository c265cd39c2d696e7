//! Relations, their forks, and the directories they lie in.

use std::fmt;

use minicbor::{Decode, Encode};

/// The tablespace of the databases that were given no other (`DEFAULTTABLESPACE_OID`).
pub const DEFAULT_TABLESPACE: u32 = 1663;
/// The tablespace of the relations that all databases share (`GLOBALTABLESPACE_OID`).
pub const GLOBAL_TABLESPACE: u32 = 1664;

/// The kinds of file that a relation has. The numbers are those of PostgreSQL's relpath.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
#[repr(u8)]
pub enum Fork {
    /// The data.
    #[n(0)]
    Main = 0,
    /// Free space of each block. Changes of it are not in the WAL; it is to be taken whole, always.
    #[n(1)]
    FreeSpaceMap = 1,
    /// Two bits for each block of the main fork: all its rows are visible to all, and all are frozen.
    #[n(2)]
    VisibilityMap = 2,
    /// What an unlogged relation is reset to after a crash.
    #[n(3)]
    Init = 3,
}

impl Fork {
    /// All forks, by number.
    pub const ALL: [Fork; 4] = [Fork::Main, Fork::FreeSpaceMap, Fork::VisibilityMap, Fork::Init];

    /// The fork with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Fork::ALL.into_iter().find(|fork| u32::from(*fork as u8) == number)
    }

    /// PostgreSQL's name for it, as in file names and in pg_waldump.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fork::Main => "main",
            Fork::FreeSpaceMap => "fsm",
            Fork::VisibilityMap => "vm",
            Fork::Init => "init",
        }
    }
}

/// One fork of one relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct RelFork {
    /// The tablespace's OID.
    #[n(0)]
    pub tablespace: u32,
    /// The database's OID; 0 for relations that all databases share.
    #[n(1)]
    pub database: u32,
    /// The number that the relation's files bear (relfilenode), which is not always its OID.
    #[n(2)]
    pub relation: u32,
    /// The fork.
    #[n(3)]
    pub fork: Fork,
}

impl RelFork {
    /// Another fork of the same relation.
    #[must_use]
    pub fn with(self, fork: Fork) -> Self {
        RelFork { fork, ..self }
    }

    /// The directory that it lies in.
    #[must_use]
    pub fn directory(self) -> DatabaseDir {
        DatabaseDir { tablespace: self.tablespace, database: self.database }
    }
}

impl fmt::Display for RelFork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tablespace, self.database, self.relation)?;
        if self.fork == Fork::Main { Ok(()) } else { write!(f, "_{}", self.fork.name()) }
    }
}

/// The directory of a database in one tablespace; the shared relations lie in that of database 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct DatabaseDir {
    /// The tablespace's OID.
    #[n(0)]
    pub tablespace: u32,
    /// The database's OID; 0 for the shared one.
    #[n(1)]
    pub database: u32,
}

/// The block of the visibility map that has the bits of `heap_block`, where blocks have `block_size` bytes: two bits a
/// block behind a page header of 24 bytes (PostgreSQL's visibilitymap.c).
#[must_use]
pub fn map_block(heap_block: u32, block_size: u32) -> u32 {
    let covered = block_size.saturating_sub(24).saturating_mul(4).max(1);
    heap_block / covered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_block_of_8_kib_covers_32672_blocks() {
        assert_eq!(map_block(0, 8192), 0);
        assert_eq!(map_block(32671, 8192), 0);
        assert_eq!(map_block(32672, 8192), 1);
        assert_eq!(map_block(u32::MAX, 8192), 131_457);
        assert_eq!(map_block(7, 0), 7, "no block size that is nonsense makes it fail");
    }
}
