//! Chains, windows, starts and retention against naive answers in small random worlds.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chain;
mod retention;
mod window;
mod world;
