//! The client against a real server, and against servers that mean harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod encryption;
mod hostile;
mod login;
mod replication;
mod server;
mod sql;
