//! The table of a medium: each verb of a session as C calls it.

use std::ffi::c_void;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::guard::{bytes, guard, guard_handle, name, out, text, usage};
use super::{Failure, Locking, Medium, Parms, Request, Result, Session, locks, streams};
use crate::types::{SessionInfo, Table, is_prefix, size_u32};
use crate::{Code, raw};

/// What a `sbt_session` of ours points to.
pub(super) struct SessionBox<S> {
    pub(super) session: S,
    pub(super) poisoned: bool,
    /// Whether a writer or a reader of this session is open.
    busy: Arc<AtomicBool>,
}

/// Held by an open writer or reader; the session is free again when it is dropped.
pub(super) struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<S> SessionBox<S> {
    pub(super) fn begin(&self) -> Result<Busy> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(usage("the session has an open writer or reader; finish or close it first"));
        }
        Ok(Busy(Arc::clone(&self.busy)))
    }
}

/// The table of a medium without locks.
#[must_use]
pub const fn table<M: Medium>() -> Table {
    make::<M>(no_extension)
}

/// The table of a medium whose sessions have locks.
#[must_use]
pub const fn table_with_locks<M: Medium>() -> Table
where
    M::Session: Locking,
{
    make::<M>(locks::extension::<M::Session>)
}

const fn make<M: Medium>(extension: raw::sbt_extension_fn) -> Table {
    let table = raw::sbt_plugin {
        head: head::<raw::sbt_plugin>(),
        flags: 0,
        name: constant(M::NAME),
        version: constant(M::VERSION),
        description: constant(M::DESCRIPTION),
        open_session: Some(open_session::<M>),
        close_session: Some(close_session::<M::Session>),
        create: Some(streams::create::<M::Session>),
        write: Some(streams::write::<<M::Session as Session>::Writer>),
        finish: Some(streams::finish::<<M::Session as Session>::Writer>),
        abort: Some(streams::abort::<<M::Session as Session>::Writer>),
        open: Some(streams::open::<M::Session>),
        read: Some(streams::read::<<M::Session as Session>::Reader>),
        close_reader: Some(streams::close_reader::<<M::Session as Session>::Reader>),
        info: Some(info::<M::Session>),
        list: Some(list::<M::Session>),
        remove: Some(remove::<M::Session>),
        command: Some(command::<M::Session>),
        extension: Some(extension),
    };
    // SAFETY: the texts are constants, and the functions below and beside keep the contract of the header.
    unsafe { Table::new(table) }
}

pub(super) const fn head<T>() -> raw::sbt_head {
    raw::sbt_head { size: size_u32::<T>(), abi_major: raw::SBT_ABI_MAJOR, abi_minor: raw::SBT_ABI_MINOR }
}

const fn constant(text: &'static str) -> raw::sbt_str {
    raw::sbt_str { ptr: text.as_ptr(), len: text.len() as u64 }
}

fn shown(text: &str) -> raw::sbt_str {
    raw::sbt_str { ptr: text.as_ptr(), len: text.len() as u64 }
}

unsafe extern "C" fn no_extension(_name: raw::sbt_str) -> *const c_void {
    std::ptr::null()
}

/// The session behind a handle.
///
/// # Safety
/// `session` is null or a handle that `open_session` of the same medium gave and that is in use by this call only.
pub(super) unsafe fn session_of<'a, S>(session: *mut raw::sbt_session) -> Result<&'a mut SessionBox<S>> {
    // SAFETY: the caller says so.
    unsafe { out(session.cast::<SessionBox<S>>()) }
}

/// # Safety
/// As the header says for `open_session`.
unsafe extern "C" fn open_session<M: Medium>(
    params: *const raw::sbt_params,
    told: *mut raw::sbt_session_info,
    handle: *mut *mut raw::sbt_session,
    error: *mut raw::sbt_error,
) -> i32 {
    let open = || {
        // SAFETY: the host passes what the header asks for.
        let (told, handle, request) = unsafe { (out(told)?, out(handle)?, request(params)?) };
        if told.size < size_u32::<raw::sbt_session_info>() {
            return Err(usage("the place for the session's information is too small"));
        }
        let session = M::open(request)?;
        tell(told, session.told());
        let boxed = SessionBox { session, poisoned: false, busy: Arc::new(AtomicBool::new(false)) };
        *handle = Box::into_raw(Box::new(boxed)).cast();
        Ok(())
    };
    // SAFETY: the host passes an error buffer.
    unsafe { guard(error, open) }
}

/// # Safety
/// `params` is null or as the header describes it.
unsafe fn request(params: *const raw::sbt_params) -> Result<Request> {
    // SAFETY: the caller says so.
    let params = unsafe { params.as_ref() }.ok_or_else(|| usage("no parameters"))?;
    if params.size < size_u32::<raw::sbt_params>() {
        return Err(usage("the parameters are of another version"));
    }
    // SAFETY: the caller says so.
    let (location, given) = unsafe { (text(params.location)?, text(params.parms)?) };
    let mut parms = Parms::parse(given)?;
    let most = isize::MAX as u64 / size_of::<raw::sbt_pair>() as u64;
    if params.pair_count > most || (params.pair_count > 0 && params.pairs.is_null()) {
        return Err(usage("a number of parameters without parameters"));
    }
    for index in 0..params.pair_count as usize {
        // SAFETY: the caller says that there are so many, and they fit into memory.
        let pair = unsafe { *params.pairs.add(index) };
        // SAFETY: as above.
        let (key, value) = unsafe { (text(pair.key)?, text(pair.value)?) };
        parms.add(key, value.to_owned())?;
    }
    Ok(Request { location: location.to_owned(), parms })
}

fn tell(told: &mut raw::sbt_session_info, info: SessionInfo) {
    told.flags = 0;
    told.capabilities = info.capabilities.0;
    told.max_object = info.max_object.unwrap_or(0);
    told.best_write = info.best_write.unwrap_or(0);
}

/// # Safety
/// As the header says for `close_session`.
unsafe extern "C" fn close_session<S: Session>(session: *mut raw::sbt_session, error: *mut raw::sbt_error) -> i32 {
    let close = || {
        // SAFETY: the host passes a handle of ours, for the last time.
        drop(unsafe { owned(session.cast::<SessionBox<S>>()) }?);
        Ok(())
    };
    // SAFETY: the host passes an error buffer.
    unsafe { guard(error, close) }
}

/// What a handle points to, taken back.
///
/// # Safety
/// `handle` is null, or came from `Box::into_raw` and is not used again.
pub(super) unsafe fn owned<T>(handle: *mut T) -> Result<Box<T>> {
    if handle.is_null() {
        return Err(usage("no handle"));
    }
    // SAFETY: the caller says so.
    Ok(unsafe { Box::from_raw(handle) })
}

/// # Safety
/// As the header says for `info`.
unsafe extern "C" fn info<S: Session>(
    session: *mut raw::sbt_session,
    object: raw::sbt_str,
    info: *mut raw::sbt_info,
    error: *mut raw::sbt_error,
) -> i32 {
    let run = |session: &mut S| {
        // SAFETY: the host passes what the header asks for.
        let (object, info) = unsafe { (name(object)?, out(info)?) };
        put_info(info, session.info(object)?)
    };
    // SAFETY: the host passes a handle of ours and an error buffer.
    unsafe { on_session(session, error, run) }
}

pub(super) fn put_info(into: &mut raw::sbt_info, info: crate::Info) -> Result<()> {
    if into.size < size_u32::<raw::sbt_info>() {
        return Err(usage("the place for the object's information is too small"));
    }
    *into = info.to_raw();
    Ok(())
}

/// # Safety
/// As the header says for `list`.
unsafe extern "C" fn list<S: Session>(
    session: *mut raw::sbt_session,
    prefix: raw::sbt_str,
    each: Option<raw::sbt_list_fn>,
    context: *mut c_void,
    error: *mut raw::sbt_error,
) -> i32 {
    let run = |session: &mut S| {
        // SAFETY: the host passes what the header asks for.
        let prefix = unsafe { text(prefix) }?;
        let each = each.ok_or_else(|| usage("nobody to list for"))?;
        if !is_prefix(prefix) {
            return Err(usage("no name can begin with this prefix"));
        }
        let mut stopped = false;
        session.list(prefix, &mut |name, info| {
            let info = info.to_raw();
            // SAFETY: name and information are valid during the call; the context is the host's own.
            stopped |= unsafe { each(context, shown(name), &raw const info) } != 0;
            if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if stopped { Err(Failure::new(Code::Stopped, "the caller asked to stop")) } else { Ok(()) }
    };
    // SAFETY: the host passes a handle of ours and an error buffer.
    unsafe { on_session(session, error, run) }
}

/// # Safety
/// As the header says for `remove`.
unsafe extern "C" fn remove<S: Session>(
    session: *mut raw::sbt_session,
    object: raw::sbt_str,
    error: *mut raw::sbt_error,
) -> i32 {
    // SAFETY: the host passes what the header asks for.
    let run = |session: &mut S| session.remove(unsafe { name(object) }?);
    // SAFETY: the host passes a handle of ours and an error buffer.
    unsafe { on_session(session, error, run) }
}

/// # Safety
/// As the header says for `command`.
unsafe extern "C" fn command<S: Session>(
    session: *mut raw::sbt_session,
    command: raw::sbt_str,
    argument: raw::sbt_str,
    answer: Option<raw::sbt_text_fn>,
    context: *mut c_void,
    error: *mut raw::sbt_error,
) -> i32 {
    let run = |session: &mut S| {
        // SAFETY: the host passes what the header asks for.
        let (command, argument) = unsafe { (text(command)?, text(argument)?) };
        let words = session.command(command, argument)?;
        if let Some(answer) = answer {
            // SAFETY: the text is valid during the call; the context is the host's own.
            unsafe { answer(context, shown(&words)) };
        }
        Ok(())
    };
    // SAFETY: the host passes a handle of ours and an error buffer.
    unsafe { on_session(session, error, run) }
}

/// Runs a verb of a session that is not poisoned and has no open writer or reader.
///
/// # Safety
/// As [`session_of`] and [`guard`].
pub(super) unsafe fn on_session<S: Session>(
    session: *mut raw::sbt_session,
    error: *mut raw::sbt_error,
    verb: impl FnOnce(&mut S) -> Result<()>,
) -> i32 {
    // SAFETY: the caller says so.
    match unsafe { session_of::<S>(session) } {
        // SAFETY: the caller says so.
        Err(failure) => unsafe { guard(error, || Err(failure)) },
        Ok(boxed) => {
            let busy = boxed.begin();
            let SessionBox { session, poisoned, .. } = boxed;
            // SAFETY: the caller says so.
            unsafe { guard_handle(error, poisoned, false, || busy.and_then(|_busy| verb(session))) }
        }
    }
}

/// Bytes that the host passed, for the streams.
///
/// # Safety
/// As [`bytes`].
pub(super) unsafe fn bytes_mut<'a>(ptr: *mut u8, cap: u64) -> Result<&'a mut [u8]> {
    // SAFETY: the caller says so; the same checks as for reading.
    let len = unsafe { bytes(ptr.cast_const(), cap) }?.len();
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: the caller says so, the pointer is not null, and the length fits into memory.
    Ok(unsafe { std::slice::from_raw_parts_mut(ptr, len) })
}
