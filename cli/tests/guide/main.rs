//! What the guides tell people to type works: every block marked `sh run` is run, in order, by one shell that ends at
//! the first command that fails. Only the places are others: `/etc`, `/srv` and so on lie below a temporary directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, reason = "tests")]

mod machine;
mod postgresql;
mod sqlite;
