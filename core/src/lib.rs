//! The core of Setpiece: what a backup set is, how it is made, proven, kept and brought back.
//!
//! The folders read like the road the data takes: [`model`] says what things are, [`source`] what a database must
//! offer, [`format`](mod@format) how a set looks on a medium, [`transform`] how one frame is compressed and sealed, [`media`] where
//! objects live, [`pipeline`] how work is spread over channels, and [`backup`], [`restore`], [`verify`], [`catalog`] and
//! [`retain`] are the use cases. Imports go down this list only.
//!
//! The library never prints, never exits, installs no signal handler, reads no environment variable and keeps no
//! global state. Everything it has to say goes to an [`events::Observer`].
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod backup;
pub mod catalog;
pub mod copy;
pub mod error;
pub mod events;
pub mod format;
pub mod media;
pub mod model;
pub mod pipeline;
pub mod rekey;
pub mod restore;
pub mod retain;
pub mod source;
pub mod transform;
pub mod verify;

pub use error::{Error, ErrorKind, Result};
