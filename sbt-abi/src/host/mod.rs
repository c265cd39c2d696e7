//! The host's side: load a plugin, open sessions, and never trust what comes back.
//!
//! Ownership is the order of calls: a [`Writer`], [`Reader`] or [`Lock`] owns its [`Session`] and gives it back, so
//! that a session can never do two things at once. Handles are [`Send`] and not [`Sync`], as the ABI asks.
//!
//! Everything a plugin returns is checked: codes against the table, lengths against buffers, handles against null,
//! texts against UTF-8. A plugin that breaks its contract gets [`Code::Internal`](crate::Code) with
//! [`Error::breach`] saying how, and the session is poisoned.

mod call;
mod error;
mod load;
mod lock;
mod session;
mod stream;
mod table;

pub use error::{Error, Refused};
pub use load::{Library, LoadError};
pub use lock::Lock;
pub use session::{OpenParams, Session};
pub use stream::{Reader, Writer};
pub use table::{Plugin, TableError};

/// Result with the error of this side.
pub type Result<T, E = Error> = std::result::Result<T, E>;
