//! A plugin's table, checked once, so that every verb can be called without looking again.

use std::fmt;
use std::sync::Arc;

use super::call::{TEXT_ROOM, call};
use super::session::{OpenParams, Session};
use super::{Error, Result};
use crate::raw;
use crate::types::{Table, size_u32};

/// A plugin that can be called. Cheap to clone; the table behind it lives as long as the process.
#[derive(Clone)]
pub struct Plugin(Arc<Inner>);

struct Inner {
    name: String,
    version: String,
    description: String,
    verbs: Verbs,
    lock: Option<LockVerbs>,
}

/// The verbs, known to be there.
#[derive(Clone, Copy)]
pub(super) struct Verbs {
    pub(super) open_session: raw::sbt_open_session_fn,
    pub(super) close_session: raw::sbt_close_session_fn,
    pub(super) create: raw::sbt_create_fn,
    pub(super) write: raw::sbt_write_fn,
    pub(super) finish: raw::sbt_finish_fn,
    pub(super) abort: raw::sbt_abort_fn,
    pub(super) open: raw::sbt_open_fn,
    pub(super) read: raw::sbt_read_fn,
    pub(super) close_reader: raw::sbt_close_reader_fn,
    pub(super) info: raw::sbt_info_fn,
    pub(super) list: raw::sbt_list_verb_fn,
    pub(super) remove: raw::sbt_remove_fn,
    pub(super) command: raw::sbt_command_fn,
    extension: raw::sbt_extension_fn,
}

/// The verbs of the extension `setpiece.lock/1`.
#[derive(Clone, Copy)]
pub(super) struct LockVerbs {
    pub(super) lock: raw::sbt_lock_fn,
    pub(super) unlock: raw::sbt_unlock_fn,
}

/// Why a plugin's table can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The plugin gave no table, or one at an address that no table can have.
    #[error("it gives no table; ask its vendor")]
    NoTable,
    /// The plugin speaks another version of the ABI.
    #[error(
        "it speaks version {major}.{minor} of the plugin interface and this program {}.{}; get a plugin built for {}.{}",
        raw::SBT_ABI_MAJOR,
        raw::SBT_ABI_MINOR,
        raw::SBT_ABI_MAJOR,
        raw::SBT_ABI_MINOR
    )]
    Version {
        /// Major version of the plugin.
        major: u16,
        /// Minor version of the plugin.
        minor: u16,
    },
    /// A table is shorter than its version demands.
    #[error("its {table} table has {size} bytes where {needed} are needed; ask its vendor")]
    Short {
        /// Which table.
        table: &'static str,
        /// Bytes it has.
        size: u32,
        /// Bytes needed.
        needed: u32,
    },
    /// A verb is missing.
    #[error("its table has no function for {0}; ask its vendor")]
    Missing(&'static str),
    /// A text in the table is not UTF-8, or longer than is believable.
    #[error("the {0} in its table is no text; ask its vendor")]
    Text(&'static str),
}

impl Plugin {
    /// A plugin that is linked into this program.
    ///
    /// # Errors
    /// When the table is of another version or not complete.
    pub fn from_static(table: &'static Table) -> std::result::Result<Plugin, TableError> {
        // SAFETY: whoever made the `Table` vouched for the contract.
        unsafe { Plugin::from_raw(table.raw()) }
    }

    /// Checks a table.
    ///
    /// # Safety
    /// `table` is null or points to a table of the size stated in its head that keeps the contract of
    /// `setpiece_sbt.h` as long as the process lives.
    ///
    /// # Errors
    /// When the table is missing, of another version or not complete.
    pub(super) unsafe fn from_raw(table: *const raw::sbt_plugin) -> std::result::Result<Plugin, TableError> {
        if table.is_null() || !table.is_aligned() {
            return Err(TableError::NoTable);
        }
        // SAFETY: the first eight bytes are the head in every version of the ABI.
        let head = unsafe { *table.cast::<raw::sbt_head>() };
        check_head(head, "plugin", size_u32::<raw::sbt_plugin>())?;
        // SAFETY: the head says that the table is of this version and whole.
        let table = unsafe { &*table };
        let verbs = verbs(table)?;
        // SAFETY: the texts of a table live as long as the process, by contract.
        let (name, version, description) = unsafe {
            (text(table.name, "name")?, text(table.version, "version")?, text(table.description, "description")?)
        };
        let lock = lock_verbs(&verbs)?;
        Ok(Plugin(Arc::new(Inner { name, version, description, verbs, lock })))
    }

    /// The plugin's short name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The plugin's own version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// One line about the plugin.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.0.description
    }

    /// Whether the plugin has the extension `setpiece.lock/1`. Whether locks work is for each session to say.
    #[must_use]
    pub fn has_locks(&self) -> bool {
        self.0.lock.is_some()
    }

    /// Opens a session.
    ///
    /// # Errors
    /// What the plugin reports; [`Code::Usage`](crate::Code::Usage) for a parameter that it does not know.
    pub fn open(&self, params: &OpenParams<'_>) -> Result<Session> {
        Session::open(self, params)
    }

    pub(super) fn verbs(&self) -> &Verbs {
        &self.0.verbs
    }

    pub(super) fn lock_verbs(&self) -> Option<LockVerbs> {
        self.0.lock
    }

    /// Calls a verb and names it in the error.
    pub(super) fn call(
        &self,
        name: &'static str,
        object: Option<&str>,
        verb: impl FnOnce(*mut raw::sbt_error) -> i32,
    ) -> Result<()> {
        call(TEXT_ROOM, verb).map_err(|error| self.name_error(error, name, object))
    }

    pub(super) fn name_error(&self, error: Error, verb: &'static str, object: Option<&str>) -> Error {
        error.at(&self.0.name, verb, object)
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({} {})", self.0.name, self.0.version)
    }
}

fn check_head(head: raw::sbt_head, table: &'static str, needed: u32) -> std::result::Result<(), TableError> {
    if (head.abi_major, head.abi_minor) != (raw::SBT_ABI_MAJOR, raw::SBT_ABI_MINOR) {
        return Err(TableError::Version { major: head.abi_major, minor: head.abi_minor });
    }
    if head.size < needed {
        return Err(TableError::Short { table, size: head.size, needed });
    }
    Ok(())
}

fn verbs(table: &raw::sbt_plugin) -> std::result::Result<Verbs, TableError> {
    macro_rules! take {
        ($($verb:ident),*) => { Verbs { $($verb: table.$verb.ok_or(TableError::Missing(stringify!($verb)))?,)* } };
    }
    Ok(take!(
        open_session,
        close_session,
        create,
        write,
        finish,
        abort,
        open,
        read,
        close_reader,
        info,
        list,
        remove,
        command,
        extension
    ))
}

fn lock_verbs(verbs: &Verbs) -> std::result::Result<Option<LockVerbs>, TableError> {
    let name = raw_str(raw::SBT_LOCK_V1);
    // SAFETY: the name is valid during the call.
    let table = unsafe { (verbs.extension)(name) }.cast::<raw::sbt_lock_v1>();
    if table.is_null() {
        return Ok(None);
    }
    if !table.is_aligned() {
        return Err(TableError::NoTable);
    }
    // SAFETY: every table begins with a head; an extension's table lives as long as the process.
    let head = unsafe { *table.cast::<raw::sbt_head>() };
    check_head(head, "lock", size_u32::<raw::sbt_lock_v1>())?;
    // SAFETY: the head says that the table is whole.
    let table = unsafe { &*table };
    let lock = table.lock.ok_or(TableError::Missing("lock"))?;
    let unlock = table.unlock.ok_or(TableError::Missing("unlock"))?;
    Ok(Some(LockVerbs { lock, unlock }))
}

/// A text of ours as the ABI wants it; valid as long as `text`.
pub(super) fn raw_str(text: &str) -> raw::sbt_str {
    raw::sbt_str { ptr: text.as_ptr(), len: text.len() as u64 }
}

/// # Safety
/// `text` points to `len` bytes that are valid during the call.
unsafe fn text(text: raw::sbt_str, which: &'static str) -> std::result::Result<String, TableError> {
    const MOST: u64 = 1024;
    if text.len == 0 {
        return Ok(String::new());
    }
    if text.ptr.is_null() || text.len > MOST {
        return Err(TableError::Text(which));
    }
    // SAFETY: the caller says so, and the length is small.
    let bytes = unsafe { std::slice::from_raw_parts(text.ptr, text.len as usize) };
    String::from_utf8(bytes.to_vec()).map_err(|_| TableError::Text(which))
}
