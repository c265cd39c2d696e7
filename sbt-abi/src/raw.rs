//! The plugin ABI as C sees it: the types and numbers of `include/setpiece_sbt.h`, and nothing else.
//!
//! The header is the specification; this file repeats it, and a test compares every size, offset and number of the
//! two. What a verb promises is written in the header and in `docs/ABI.md`, not here.
#![allow(non_camel_case_types)]

use std::ffi::c_void;

/// Major version of this ABI. Host and plugin must agree on it.
pub const SBT_ABI_MAJOR: u16 = 0;
/// Minor version of this ABI. While the major is 0, host and plugin must agree on it too.
pub const SBT_ABI_MINOR: u16 = 1;
/// The longest name of an object, in bytes.
pub const SBT_NAME_MAX: u32 = 240;
/// The size of the error text that hosts offer at least, in bytes.
pub const SBT_TEXT_MIN: u32 = 64;

/// It worked.
pub const SBT_OK: i32 = 0;
/// Wrong argument, wrong order of calls, unknown parameter.
pub const SBT_ERR_USAGE: i32 = -1;
/// There is no such object, or no such place.
pub const SBT_ERR_NOT_FOUND: i32 = -2;
/// There is an object of that name. Nothing is ever overwritten.
pub const SBT_ERR_EXISTS: i32 = -3;
/// No room, or a limit on size is reached.
pub const SBT_ERR_FULL: i32 = -4;
/// The device or the operating system failed.
pub const SBT_ERR_IO: i32 = -5;
/// Not permitted: owner, mode, credentials.
pub const SBT_ERR_ACCESS: i32 = -6;
/// Another one holds the lock.
pub const SBT_ERR_LOCKED: i32 = -7;
/// The plugin does not do that.
pub const SBT_ERR_UNSUPPORTED: i32 = -8;
/// The object is protected against removal.
pub const SBT_ERR_RETENTION: i32 = -9;
/// The medium itself says that what it stored is damaged.
pub const SBT_ERR_DAMAGED: i32 = -10;
/// The device or the server does not answer.
pub const SBT_ERR_UNREACHABLE: i32 = -11;
/// A human must do something first, such as mounting a volume; the text says what.
pub const SBT_ERR_OPERATOR: i32 = -12;
/// The caller's callback asked to stop.
pub const SBT_ERR_STOPPED: i32 = -13;
/// An earlier call on this handle failed; it can only be closed.
pub const SBT_ERR_POISONED: i32 = -14;
/// The plugin's code panicked or threw. The handle is poisoned.
pub const SBT_ERR_PANIC: i32 = -15;
/// Host and plugin are of different versions of the ABI.
pub const SBT_ERR_ABI: i32 = -16;
/// A defect in the plugin.
pub const SBT_ERR_INTERNAL: i32 = -17;

/// Objects can be listed.
pub const SBT_CAP_LIST: u64 = 1;
/// Reading may begin at any offset at little cost.
pub const SBT_CAP_RANGED_READ: u64 = 2;
/// One object at a time, best read in the order written.
pub const SBT_CAP_SEQUENTIAL_ONLY: u64 = 4;
/// `finish` makes the object appear at once and whole, also after a crash.
pub const SBT_CAP_ATOMIC_PUBLISH: u64 = 8;
/// An existing object is never replaced, also when two sessions race.
pub const SBT_CAP_CONDITIONAL_CREATE: u64 = 16;
/// Objects can be protected against removal.
pub const SBT_CAP_RETENTION_LOCK: u64 = 32;
/// The extension `setpiece.lock/1` works in this session.
pub const SBT_CAP_LOCKS: u64 = 64;

/// In `sbt_info::flags`: `created_us` is known.
pub const SBT_INFO_CREATED: u32 = 1;

/// Lock mode: with others that share it.
pub const SBT_LOCK_SHARED: u32 = 1;
/// Lock mode: alone.
pub const SBT_LOCK_EXCLUSIVE: u32 = 2;

/// Name of the one symbol that a plugin exports.
pub const SBT_QUERY_SYMBOL: &str = "setpiece_sbt_query";
/// Name of the extension that [`sbt_lock_v1`] is the table of.
pub const SBT_LOCK_V1: &str = "setpiece.lock/1";

/// Bytes with a length; UTF-8 where the header says text. Not NUL-terminated. `ptr` may be null when `len` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbt_str {
    /// The first byte.
    pub ptr: *const u8,
    /// Number of bytes.
    pub len: u64,
}

/// One parameter: a key and its value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbt_pair {
    /// The key.
    pub key: sbt_str,
    /// The value; may be a secret, and is never logged.
    pub value: sbt_str,
}

/// Where a verb puts what went wrong. Owned by the caller; the plugin writes only during the call.
#[repr(C)]
#[derive(Debug)]
pub struct sbt_error {
    /// Set by the caller: `sizeof(sbt_error)`.
    pub size: u32,
    /// The same number as the verb returns.
    pub code: i32,
    /// 1 when the same call may succeed when tried again, else 0.
    pub retryable: u32,
    /// The number of the operating system or the vendor, 0 when there is none.
    pub native: i32,
    /// Set by the caller: bytes at `text`.
    pub text_cap: u32,
    /// Bytes written to `text`, at most `text_cap`.
    pub text_len: u32,
    /// Set by the caller: room for the text, UTF-8, not terminated.
    pub text: *mut u8,
}

/// What a session is opened with. Valid during the call only.
#[repr(C)]
#[derive(Debug)]
pub struct sbt_params {
    /// `sizeof(sbt_params)`.
    pub size: u32,
    /// 0.
    pub flags: u32,
    /// Where the objects are, in the plugin's own words: a directory, a bucket, a device. May be empty.
    pub location: sbt_str,
    /// The PARMS string as the user gave it. May be empty.
    pub parms: sbt_str,
    /// Further parameters.
    pub pairs: *const sbt_pair,
    /// Number of further parameters.
    pub pair_count: u64,
}

/// What a session can do. The caller sets `size`; the plugin sets the rest.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbt_session_info {
    /// Set by the caller: `sizeof(sbt_session_info)`.
    pub size: u32,
    /// 0.
    pub flags: u32,
    /// Bits `SBT_CAP_*`.
    pub capabilities: u64,
    /// The longest object in bytes; 0 when there is no limit.
    pub max_object: u64,
    /// The size of a write that suits the medium best, in bytes; 0 when it does not care.
    pub best_write: u64,
}

/// What is known of an object. The caller sets `size`; the plugin sets the rest.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbt_info {
    /// Set by the caller: `sizeof(sbt_info)`.
    pub size: u32,
    /// Bits `SBT_INFO_*`.
    pub flags: u32,
    /// Bytes in the object.
    pub len: u64,
    /// When it was finished, in microseconds since 1970-01-01T00:00:00Z.
    pub created_us: i64,
}

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug)]
        pub struct $name { _opaque: [u8; 0] }
    )*};
}

opaque! {
    /// A session; what is in it is the plugin's business.
    sbt_session
    /// An object being written.
    sbt_writer
    /// An object being read.
    sbt_reader
    /// A lock that is held.
    sbt_lock
}

/// Called for each object of a list; anything but 0 ends the list with `SBT_ERR_STOPPED`.
pub type sbt_list_fn = unsafe extern "C" fn(context: *mut c_void, name: sbt_str, info: *const sbt_info) -> i32;
/// Called with the answer to a command, once or several times; the parts belong together.
pub type sbt_text_fn = unsafe extern "C" fn(context: *mut c_void, text: sbt_str);

/// `open_session` of [`sbt_plugin`].
pub type sbt_open_session_fn = unsafe extern "C" fn(
    params: *const sbt_params,
    info: *mut sbt_session_info,
    out: *mut *mut sbt_session,
    error: *mut sbt_error,
) -> i32;
/// `close_session` of [`sbt_plugin`].
pub type sbt_close_session_fn = unsafe extern "C" fn(session: *mut sbt_session, error: *mut sbt_error) -> i32;
/// `create` of [`sbt_plugin`].
pub type sbt_create_fn = unsafe extern "C" fn(
    session: *mut sbt_session,
    name: sbt_str,
    out: *mut *mut sbt_writer,
    error: *mut sbt_error,
) -> i32;
/// `write` of [`sbt_plugin`].
pub type sbt_write_fn =
    unsafe extern "C" fn(writer: *mut sbt_writer, bytes: *const u8, len: u64, error: *mut sbt_error) -> i32;
/// `finish` of [`sbt_plugin`].
pub type sbt_finish_fn =
    unsafe extern "C" fn(writer: *mut sbt_writer, info: *mut sbt_info, error: *mut sbt_error) -> i32;
/// `abort` of [`sbt_plugin`].
pub type sbt_abort_fn = unsafe extern "C" fn(writer: *mut sbt_writer, error: *mut sbt_error) -> i32;
/// `open` of [`sbt_plugin`].
pub type sbt_open_fn = unsafe extern "C" fn(
    session: *mut sbt_session,
    name: sbt_str,
    offset: u64,
    out: *mut *mut sbt_reader,
    error: *mut sbt_error,
) -> i32;
/// `read` of [`sbt_plugin`].
pub type sbt_read_fn =
    unsafe extern "C" fn(reader: *mut sbt_reader, into: *mut u8, cap: u64, got: *mut u64, error: *mut sbt_error) -> i32;
/// `close_reader` of [`sbt_plugin`].
pub type sbt_close_reader_fn = unsafe extern "C" fn(reader: *mut sbt_reader, error: *mut sbt_error) -> i32;
/// `info` of [`sbt_plugin`].
pub type sbt_info_fn =
    unsafe extern "C" fn(session: *mut sbt_session, name: sbt_str, info: *mut sbt_info, error: *mut sbt_error) -> i32;
/// `list` of [`sbt_plugin`].
pub type sbt_list_verb_fn = unsafe extern "C" fn(
    session: *mut sbt_session,
    prefix: sbt_str,
    each: Option<sbt_list_fn>,
    context: *mut c_void,
    error: *mut sbt_error,
) -> i32;
/// `remove` of [`sbt_plugin`].
pub type sbt_remove_fn = unsafe extern "C" fn(session: *mut sbt_session, name: sbt_str, error: *mut sbt_error) -> i32;
/// `command` of [`sbt_plugin`].
pub type sbt_command_fn = unsafe extern "C" fn(
    session: *mut sbt_session,
    command: sbt_str,
    argument: sbt_str,
    answer: Option<sbt_text_fn>,
    context: *mut c_void,
    error: *mut sbt_error,
) -> i32;
/// `extension` of [`sbt_plugin`].
pub type sbt_extension_fn = unsafe extern "C" fn(name: sbt_str) -> *const c_void;
/// The entry symbol.
pub type sbt_query_fn = unsafe extern "C" fn(host_major: u32, host_minor: u32, out: *mut *const sbt_plugin) -> i32;

/// The first eight bytes of every table, in every version of the ABI.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbt_head {
    /// Size of the whole table in bytes.
    pub size: u32,
    /// Major version of the ABI that the table is of.
    pub abi_major: u16,
    /// Minor version of the ABI that the table is of.
    pub abi_minor: u16,
}

/// The table of a plugin. Every function pointer must be set.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbt_plugin {
    /// Size and version.
    pub head: sbt_head,
    /// 0.
    pub flags: u64,
    /// Short name of the plugin, for messages.
    pub name: sbt_str,
    /// The plugin's own version.
    pub version: sbt_str,
    /// One line about it.
    pub description: sbt_str,
    /// Opens a session.
    pub open_session: Option<sbt_open_session_fn>,
    /// Closes a session; the handle is gone in any case.
    pub close_session: Option<sbt_close_session_fn>,
    /// Begins an object.
    pub create: Option<sbt_create_fn>,
    /// Appends to an object.
    pub write: Option<sbt_write_fn>,
    /// Makes an object durable and visible; the handle is gone in any case.
    pub finish: Option<sbt_finish_fn>,
    /// Gives an object up; the handle is gone in any case.
    pub abort: Option<sbt_abort_fn>,
    /// Opens an object for reading.
    pub open: Option<sbt_open_fn>,
    /// Reads on.
    pub read: Option<sbt_read_fn>,
    /// Closes a reader; the handle is gone in any case.
    pub close_reader: Option<sbt_close_reader_fn>,
    /// Tells what is known of an object.
    pub info: Option<sbt_info_fn>,
    /// Lists objects.
    pub list: Option<sbt_list_verb_fn>,
    /// Removes an object.
    pub remove: Option<sbt_remove_fn>,
    /// Does something of the plugin's own.
    pub command: Option<sbt_command_fn>,
    /// Finds an extension's table by name.
    pub extension: Option<sbt_extension_fn>,
}

// SAFETY: a table is constant data; what it points to is constant and lives as long as the process, by contract.
unsafe impl Sync for sbt_plugin {}
// SAFETY: as above; nothing in a table belongs to a thread.
unsafe impl Send for sbt_plugin {}

/// `lock` of [`sbt_lock_v1`].
pub type sbt_lock_fn = unsafe extern "C" fn(
    session: *mut sbt_session,
    name: sbt_str,
    mode: u32,
    out: *mut *mut sbt_lock,
    error: *mut sbt_error,
) -> i32;
/// `unlock` of [`sbt_lock_v1`].
pub type sbt_unlock_fn = unsafe extern "C" fn(lock: *mut sbt_lock, error: *mut sbt_error) -> i32;

/// The table of the extension `setpiece.lock/1`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbt_lock_v1 {
    /// Size and version.
    pub head: sbt_head,
    /// Takes a lock without waiting.
    pub lock: Option<sbt_lock_fn>,
    /// Releases a lock; the handle is gone in any case.
    pub unlock: Option<sbt_unlock_fn>,
}

/// The same numbers stand as `_Static_assert` in the header.
#[cfg(target_pointer_width = "64")]
mod layout {
    use super::*;
    use std::mem::{offset_of, size_of};

    const _: () = assert!(size_of::<sbt_str>() == 16 && offset_of!(sbt_str, len) == 8);
    const _: () = assert!(size_of::<sbt_pair>() == 32 && offset_of!(sbt_pair, value) == 16);
    const _: () = assert!(size_of::<sbt_error>() == 32 && offset_of!(sbt_error, text) == 24);
    const _: () = assert!(size_of::<sbt_params>() == 56 && offset_of!(sbt_params, pair_count) == 48);
    const _: () = assert!(size_of::<sbt_session_info>() == 32 && offset_of!(sbt_session_info, best_write) == 24);
    const _: () = assert!(size_of::<sbt_info>() == 24 && offset_of!(sbt_info, created_us) == 16);
    const _: () = assert!(size_of::<sbt_head>() == 8 && offset_of!(sbt_head, abi_minor) == 6);
    const _: () = assert!(size_of::<sbt_plugin>() == 176 && offset_of!(sbt_plugin, open_session) == 64);
    const _: () = assert!(offset_of!(sbt_plugin, list) == 144 && offset_of!(sbt_plugin, extension) == 168);
    const _: () = assert!(size_of::<sbt_lock_v1>() == 24 && offset_of!(sbt_lock_v1, unlock) == 16);
}
