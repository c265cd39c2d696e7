//! Where objects live: the trait that everything above sees, and what is wrapped around it.
//!
//! A medium stores named objects that are written once, from front to back, and never change. An object exists from
//! the moment at which `finish` returns, whole, or not at all. Wrappers (retry, faults) implement the same trait.

pub mod layout;
pub mod memory;
mod plugin;
pub mod repository;
pub(crate) mod turn;

use std::fmt;

pub use plugin::{PluginMedium, PluginParams};

use crate::error::Result;
use crate::model::Timestamp;

/// The name of an object on a medium: parts of `[A-Za-z0-9._-]`, joined by `/`, not beginning with a dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// The longest name of an object, in bytes. Oracle's SBT 2.0 allows 512, DM's 256.
pub const MAX_NAME: usize = 240;

impl ObjectName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] when the name has characters or a length that not every medium can take.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
        };
        if name.len() <= MAX_NAME && name.split('/').all(part) {
            Ok(ObjectName(name))
        } else {
            Err(crate::Error::new(crate::ErrorKind::Usage, "not a name that every medium can store").on(name))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a medium can do. Told by the medium, never guessed from its type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Objects can be listed.
    pub list: bool,
    /// Reading can begin anywhere at little cost.
    pub ranged_read: bool,
    /// One object at a time, best read in the order written.
    pub sequential_only: bool,
    /// `finish` makes an object appear at once and whole, also after a crash.
    pub atomic_publish: bool,
    /// Creating an object that exists fails, also when two try at the same time.
    pub conditional_create: bool,
    /// Objects can be locked against removal.
    pub retention_lock: bool,
    /// Writers' locks are released when the process that holds them dies.
    pub locks: bool,
}

/// What a medium knows of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub name: ObjectName,
    /// Bytes in it.
    pub len: u64,
    /// When it was finished, if the medium knows.
    pub created: Option<Timestamp>,
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// With others that share it.
    Shared,
    /// Alone.
    Exclusive,
}

/// A place for objects. Used by several threads at once.
pub trait Medium: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// For messages: what the user called it, without secrets.
    fn label(&self) -> String;

    /// Begins an object. Nothing is visible before the writer's `finish` has returned.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Exists`] here or in `finish` when there is an object of that name.
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>>;

    /// Opens an object to be read from `offset` on.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is none.
    fn open(&self, name: &ObjectName, offset: u64) -> Result<Box<dyn ObjectReader>>;

    /// What is known of an object; `None` when there is none.
    ///
    /// # Errors
    /// When the medium fails.
    fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>>;

    /// Hands every object whose name begins with `prefix` to `each`, in no particular order. An empty prefix means all.
    ///
    /// # Errors
    /// When the medium fails or cannot list, and what `each` fails with.
    fn list(&self, prefix: &str, each: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()>;

    /// Removes an object. Succeeds when there is none.
    ///
    /// # Errors
    /// When the medium fails or the object is locked against removal.
    fn remove(&self, name: &ObjectName) -> Result<()>;

    /// Takes a writers' lock without waiting. It is released when it is dropped or the process dies.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Locked`] when another holds it in a mode that does not fit.
    fn lock(&self, name: &ObjectName, mode: LockMode) -> Result<Box<dyn HeldLock>>;
}

/// An object being written. Dropping it without `finish` leaves nothing behind.
pub trait ObjectWriter: Send {
    /// Appends all of `bytes`. After an error nothing but dropping works.
    ///
    /// # Errors
    /// When the medium fails or is full.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the object durable and visible. The only road to success.
    ///
    /// # Errors
    /// When the medium fails or is full, or the name has been taken meanwhile.
    fn finish(self: Box<Self>) -> Result<ObjectInfo>;
}

/// An object being read.
pub trait ObjectReader: Send {
    /// Reads up to `into.len()` bytes; 0 means the end.
    ///
    /// # Errors
    /// When the medium fails.
    fn read(&mut self, into: &mut [u8]) -> Result<usize>;
}

/// A lock that is held until it is dropped.
pub trait HeldLock: Send {}
