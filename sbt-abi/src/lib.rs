//! The storage plugin ABI of Setpiece, from both sides.
//!
//! [`raw`] is the ABI as C sees it and is the same as `include/setpiece_sbt.h`. [`host`] loads plugins and calls them
//! safely; [`plugin`] lets a plugin be written in safe Rust; [`conformance`] proves that a plugin keeps the contract.
//! `unsafe` lives in this crate only: neither the users of a plugin nor a plugin written in Rust need any.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod code;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "plugin")]
pub mod plugin;
pub mod raw;
mod types;

pub use code::Code;
pub use types::{Capabilities, Info, LockMode, NAME_MAX, SessionInfo, Table, is_name, is_prefix};
