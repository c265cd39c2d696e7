//! PostgreSQL and its descendants as a source.
//!
//! The database is read by two roads: its files, which are copied page by page while the server runs, and SQL, which
//! tells the server that a backup begins and ends. What changes meanwhile is put right by the redo that goes with the
//! set; the server applies it when a restored cluster is started.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod archive;
mod changes;
pub mod client;
mod control;
mod dialect;
mod directory;
mod history;
mod identity;
mod locate;
mod manifest;
mod open;
mod page;
mod protocol;
mod recovery;
mod reuse;
mod run;
mod segments;
mod session;
mod settings;
mod shelf;
mod source;
mod spool;
mod standby;
mod stream;
mod tree;
pub mod wal;

pub use archive::{LogFile, LogHome};
pub use dialect::Dialect;
pub use directory::PostgresDirectory;
pub use recovery::PostgresRecovery;
pub use source::PostgresSource;
pub use spool::{Direction, Pushed, Spool};
pub use stream::CaptureOptions;
