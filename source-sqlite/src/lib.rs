//! SQLite as a Setpiece source: online backup, capture of the write-ahead log, recovery to any transaction.
//!
//! [`SqliteSource`] is the database, [`SqliteRecovery`] brings a restored one to a moment. A backup is a snapshot between
//! two transactions, taken beside writers and checkpoints of any process; it needs no redo. A log stream captures every
//! committed transaction, so that each is a recovery target. LSNs are numbers of this crate, given to places in the
//! write-ahead log; `place.rs` has the rules. They order states, and prove nothing: `mark.rs` does. Databases with a
//! rollback journal can be backed up; they have no log to capture.
//!
//! SQLite must be 3.45.3 or newer; what is older does not link. With 3.51 or newer the log is looked at without side
//! effects. Older versions, which can come in when `bundled` is off, are asked by a passive checkpoint instead.
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
mod held;
mod identity;
mod look;
mod mark;
mod pending;
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
mod witness;

pub use recovery::SqliteRecovery;
pub use source::{SqliteOptions, SqliteSource, attached_sources};
