//! Real PostgreSQL servers for tests: of several versions, made in a second, gone with the test.
//!
//! A [`Cluster`] is a data directory with its server, run as an unprivileged user, on a socket of its own; nothing of the
//! machine's configuration counts and nothing stays behind, even when the test is killed. SQL is run by the version's
//! own `psql`, so that what is tested has no part in it.
//!
//! | file | job |
//! |---|---|
//! | `version` | which versions there are, and where |
//! | `builder`, `home`, `cluster`, `process` | a cluster is made, started, killed |
//! | `sql`, `session` | SQL and the version's programs; a connection that stays |
//! | `standby`, `dump` | a second server that follows; what a cluster holds |
//! | `workload` | a random but repeatable life of a database |
//! | `compare`, `files`, `mask` | two data directories, page by page |
//! | `page`, `checksum`, `lsn` | what a page is |
//!
//! ```
//! use setpiece_test_postgres::{Cluster, Version};
//!
//! let mut cluster = Cluster::new(Version::V15).setting("wal_level", "logical").start();
//! cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS n");
//! cluster.crash_and_recover();
//! assert_eq!(cluster.psql("SELECT count(*) FROM t"), "10");
//! ```
#![allow(clippy::expect_used, clippy::panic, reason = "used by tests only, which end by a panic")]

mod builder;
mod checksum;
mod cluster;
mod compare;
mod dump;
mod files;
mod home;
mod lsn;
mod mask;
mod page;
mod process;
mod session;
mod sql;
mod standby;
mod version;
pub mod workload;

pub use builder::Builder;
pub use cluster::{Cluster, StopMode};
pub use compare::{Difference, MayDiffer, What, assert_same_pages, compare};
pub use files::damaged_pages;
pub use lsn::Lsn;
pub use page::{PAGE, PAGES_IN_FILE, Page, pages};
pub use session::Session;
pub use version::{Installation, Version};

/// Makes a test for each version out of a function that takes one.
///
/// ```
/// # use setpiece_test_postgres::{Version, every_version};
/// every_version!(starts, stops);
///
/// fn starts(version: Version) { /* ... */ }
/// fn stops(version: Version) { /* ... */ }
/// ```
#[macro_export]
macro_rules! every_version {
    ($($test:ident),+ $(,)?) => {
        mod v15 {
            $(#[test] fn $test() { super::$test($crate::Version::V15); })+
        }
        mod v17 {
            $(#[test] fn $test() { super::$test($crate::Version::V17); })+
        }
        mod v18 {
            $(#[test] fn $test() { super::$test($crate::Version::V18); })+
        }
    };
}
