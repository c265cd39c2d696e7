//! PostgreSQL and its descendants as a source.
//!
//! The database is read by two roads: its files, which are copied page by page while the server runs, and SQL, which
//! tells the server that a backup begins and ends.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod wal;
