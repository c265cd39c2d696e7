//! The facts that a record can tell, and the moments in them.

use minicbor::{Decode, Encode};
use setpiece_core::model::{Lsn, Timestamp};

use super::super::rel::{DatabaseDir, RelFork};

/// How much of its work the WAL tells (the setting `wal_level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum WalLevel {
    /// Enough for a restart after a crash; not for archives.
    #[n(0)]
    Minimal,
    /// Enough for archives and standbys.
    #[n(1)]
    Replica,
    /// Enough for logical replication as well.
    #[n(2)]
    Logical,
}

impl WalLevel {
    /// The level with PostgreSQL's number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [WalLevel::Minimal, WalLevel::Replica, WalLevel::Logical].into_iter().find(|level| level.number() == number)
    }

    /// PostgreSQL's number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            WalLevel::Minimal => 0,
            WalLevel::Replica => 1,
            WalLevel::Logical => 2,
        }
    }
}

/// One thing that a record does or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact<'r> {
    /// A block changes.
    Block(RelFork, u32),
    /// A fork is made or cut, so that everything from this block on may differ from what was there before.
    From(RelFork, u32),
    /// All forks of a relation are dropped when the transaction ends.
    Dropped(RelFork),
    /// The directory of a database is made by copying files that the WAL does not hold.
    DirectoryCopied(DatabaseDir),
    /// The directory of a database is made; what comes into it is in the WAL.
    DirectoryMade(DatabaseDir),
    /// The directory of a database is dropped.
    DirectoryDropped(DatabaseDir),
    /// The file that maps catalogs to relations (`pg_filenode.map`) of a directory is replaced.
    MapChanged(DatabaseDir),
    /// A tablespace is made.
    TablespaceMade {
        /// Its OID.
        tablespace: u32,
        /// The directory it lies in, as the server knows it; empty for one inside of the data directory.
        path: &'r [u8],
    },
    /// A tablespace is dropped.
    TablespaceDropped(u32),
    /// A transaction is committed.
    Commit {
        /// The transaction.
        xid: u32,
        /// The moment, by the server's clock.
        time: Timestamp,
    },
    /// A transaction is aborted.
    Abort {
        /// The transaction.
        xid: u32,
        /// The moment, by the server's clock.
        time: Timestamp,
    },
    /// A checkpoint is complete.
    Checkpoint {
        /// Recovery from this checkpoint begins here.
        redo: Lsn,
        /// Whether the server went on meanwhile; `false` for that of a clean shutdown.
        online: bool,
        /// The moment, to the second.
        time: Timestamp,
    },
    /// What follows is on another timeline.
    Timeline {
        /// The new one.
        timeline: u32,
        /// The one that it left.
        previous: u32,
    },
    /// The server runs with this `wal_level` from here on. Told when it starts with other settings than before.
    WalLevel(WalLevel),
    /// The rest of the segment is empty.
    Switch,
    /// A named place to recover to.
    RestorePoint {
        /// The name.
        name: &'r [u8],
        /// The moment, by the server's clock.
        time: Timestamp,
    },
    /// A backup that began at this LSN ended.
    BackupEnd(Lsn),
}

/// A moment as PostgreSQL counts it: in microseconds since 2000.
pub(super) fn moment(micros: i64) -> Timestamp {
    Timestamp(micros.saturating_add(946_684_800_000_000))
}
