//! The plugin's side: write a medium in safe Rust, get the table that hosts call.
//!
//! A plugin implements [`Medium`] and what hangs on it, and makes its table a constant:
//! `pub static PLUGIN: Table = plugin::table::<Tape>();`. The library that hosts load is a package of its own with one
//! line, `setpiece_sbt_abi::export_plugin!(my_tape::PLUGIN);`, so that several plugins can also be linked into one
//! program.
//!
//! The glue around an implementation checks what hosts pass, turns panics into [`Code::Panic`](crate::Code), and
//! enforces the order of calls: one writer or reader a session, nothing after an error but closing. Names that reach
//! an implementation have passed [`is_name`](crate::is_name), prefixes [`is_prefix`](crate::is_prefix).

mod failure;
mod glue;
mod guard;
mod locks;
mod parms;
mod query;
mod streams;

use std::ops::ControlFlow;

pub use failure::Failure;
pub use glue::{table, table_with_locks};
pub use parms::Parms;
#[doc(hidden)]
pub use query::answer_query;

use crate::types::{Info, LockMode, SessionInfo};

/// Result with the failure of this side.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What a session is opened with.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where the objects are, in the plugin's own words. May be empty.
    pub location: String,
    /// All parameters: those of the PARMS string, then the pairs.
    pub parms: Parms,
}

/// A kind of medium. Has no state of its own: what there is belongs to a session.
pub trait Medium: Sized + 'static {
    /// Short name, for messages.
    const NAME: &'static str;
    /// The plugin's own version.
    const VERSION: &'static str;
    /// One line about it.
    const DESCRIPTION: &'static str;
    /// Its sessions.
    type Session: Session;

    /// Opens a session. Called by several threads at once. Unknown parameters must be refused: take the known ones
    /// and end with [`Parms::finish`].
    ///
    /// # Errors
    /// Whatever keeps the session from opening.
    fn open(request: Request) -> Result<Self::Session>;
}

/// An opened use of a medium. Dropping it closes it. Used by one thread at a time.
pub trait Session: Send + 'static {
    /// Writes objects.
    type Writer: Writer;
    /// Reads objects.
    type Reader: Reader;

    /// What it can do.
    fn told(&self) -> SessionInfo;

    /// Begins an object. Nothing is visible before [`Writer::finish`].
    ///
    /// # Errors
    /// [`Code::Exists`](crate::Code::Exists) when the name is taken, here or in `finish`.
    fn create(&mut self, name: &str) -> Result<Self::Writer>;

    /// Opens an object to be read from `offset` on. An offset at or behind the end reads nothing.
    ///
    /// # Errors
    /// [`Code::NotFound`](crate::Code::NotFound) when there is none.
    fn open(&mut self, name: &str, offset: u64) -> Result<Self::Reader>;

    /// What is known of an object.
    ///
    /// # Errors
    /// [`Code::NotFound`](crate::Code::NotFound) when there is none.
    fn info(&mut self, name: &str) -> Result<Info>;

    /// Hands every object whose name begins with `prefix` to `each`, in any order, until it breaks. What was not made
    /// by this ABI and has a name that it cannot have is passed over.
    ///
    /// # Errors
    /// [`Code::Unsupported`](crate::Code::Unsupported) when the medium cannot list.
    fn list(&mut self, prefix: &str, each: &mut dyn FnMut(&str, Info) -> ControlFlow<()>) -> Result<()>;

    /// Removes an object. Succeeds when there is none.
    ///
    /// # Errors
    /// [`Code::Retention`](crate::Code::Retention) when it is protected.
    fn remove(&mut self, name: &str) -> Result<()>;

    /// Does something of the plugin's own.
    ///
    /// # Errors
    /// [`Code::Unsupported`](crate::Code::Unsupported) for a command that it does not know.
    fn command(&mut self, command: &str, argument: &str) -> Result<String>;
}

/// An object being written. Dropping it without `finish` must leave nothing behind.
pub trait Writer: Send + 'static {
    /// Appends all of `bytes`. After an error only dropping follows.
    ///
    /// # Errors
    /// [`Code::Full`](crate::Code::Full) when there is no room; what else keeps it from writing all.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the object durable, then visible, whole and at once.
    ///
    /// # Errors
    /// [`Code::Exists`](crate::Code::Exists) when the name has been taken. Nothing is visible then.
    fn finish(self) -> Result<Info>;
}

/// An object being read. Dropping it closes it.
pub trait Reader: Send + 'static {
    /// Reads up to `into.len()` bytes, never 0 before the end.
    ///
    /// # Errors
    /// Whatever keeps it from reading.
    fn read(&mut self, into: &mut [u8]) -> Result<usize>;
}

/// A session that has locks: the extension `setpiece.lock/1`.
pub trait Locking: Session {
    /// A lock that is held; dropping it releases it.
    type Lock: Send + 'static;

    /// Takes a lock without waiting. It must vanish with the process that holds it.
    ///
    /// # Errors
    /// [`Code::Locked`](crate::Code::Locked) when another one holds it in a mode that does not fit.
    fn lock(&mut self, name: &str, mode: LockMode) -> Result<Self::Lock>;
}
