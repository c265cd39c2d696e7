//! SQLite as a Setpiece source: online backup, capture of the write-ahead log, recovery to any transaction.
//!
//! # Two copies of SQLite
//! If the host process already contains SQLite (linked to the system's library, or built in by another crate), leave
//! the feature `bundled` off, so that this crate uses the same one. Two copies in one process do not know of each
//! other's locks, and POSIX drops the locks of both when either closes a descriptor of a file. Databases that other
//! *processes* use are no problem in either case.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod batch;
mod bytes;
mod connect;
mod dbfile;
mod fault;
mod freelist;
mod identity;
mod look;
mod place;
mod recovery;
mod run;
mod sidecar;
mod site;
mod snapshot;
mod source;
mod stream;
mod unit;
mod wal;

pub use recovery::SqliteRecovery;
pub use source::{SqliteOptions, SqliteSource, attached_sources};
