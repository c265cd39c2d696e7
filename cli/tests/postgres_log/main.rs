//! The log of PostgreSQL servers in a repository: streamed, pushed, swept; and recovery to the last commit that is in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod again;
mod ahead;
mod everything;
mod refusals;
mod stream;
mod sweep;
mod world;
