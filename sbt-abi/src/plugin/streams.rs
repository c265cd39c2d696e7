//! Writers and readers as C calls them.

use super::glue::{Busy, SessionBox, bytes_mut, owned, put_info, session_of};
use super::guard::{bytes, failed_before, guard, guard_handle, name, out};
use super::{Reader, Result, Session, Writer};
use crate::raw;

/// What a `sbt_writer` or a `sbt_reader` of ours points to. The stream is dropped before the session is free again.
struct StreamBox<T> {
    stream: T,
    poisoned: bool,
    _busy: Busy,
}

/// Opens a stream of a session and gives its handle out.
///
/// # Safety
/// `session` is null or a session handle of ours; `handle` is null or a place for a handle; `error` as in [`guard`].
unsafe fn begin<S: Session, T, H>(
    session: *mut raw::sbt_session,
    handle: *mut *mut H,
    error: *mut raw::sbt_error,
    make: impl FnOnce(&mut S) -> Result<T>,
) -> i32 {
    // SAFETY: the caller says so.
    let boxed = match unsafe { session_of::<S>(session) } {
        Ok(boxed) => boxed,
        // SAFETY: the caller says so.
        Err(failure) => return unsafe { guard(error, || Err(failure)) },
    };
    let busy = boxed.begin();
    let SessionBox { session, poisoned, .. } = boxed;
    let open = || {
        let busy = busy?;
        // SAFETY: the caller says so.
        let handle = unsafe { out(handle) }?;
        let stream = make(session)?;
        *handle = Box::into_raw(Box::new(StreamBox { stream, poisoned: false, _busy: busy })).cast();
        Ok(())
    };
    // SAFETY: the caller says so.
    unsafe { guard_handle(error, poisoned, false, open) }
}

/// Uses a stream; any failure poisons it.
///
/// # Safety
/// `handle` is null or a handle of ours to a `T`; `error` as in [`guard`].
unsafe fn on<T, H>(handle: *mut H, error: *mut raw::sbt_error, verb: impl FnOnce(&mut T) -> Result<()>) -> i32 {
    // SAFETY: the caller says so.
    match unsafe { out(handle.cast::<StreamBox<T>>()) } {
        // SAFETY: the caller says so.
        Err(failure) => unsafe { guard(error, || Err(failure)) },
        Ok(StreamBox { stream, poisoned, .. }) => {
            // SAFETY: the caller says so.
            unsafe { guard_handle(error, poisoned, true, || verb(stream)) }
        }
    }
}

/// Drops a stream.
///
/// # Safety
/// `handle` is null or a handle of ours to a `T`, used for the last time; `error` as in [`guard`].
unsafe fn end<T, H>(handle: *mut H, error: *mut raw::sbt_error) -> i32 {
    let close = || {
        // SAFETY: the caller says so.
        drop(unsafe { owned(handle.cast::<StreamBox<T>>()) }?);
        Ok(())
    };
    // SAFETY: the caller says so.
    unsafe { guard(error, close) }
}

/// # Safety
/// As the header says for `create`.
pub(super) unsafe extern "C" fn create<S: Session>(
    session: *mut raw::sbt_session,
    object: raw::sbt_str,
    handle: *mut *mut raw::sbt_writer,
    error: *mut raw::sbt_error,
) -> i32 {
    // SAFETY: the host passes what the header asks for.
    unsafe { begin(session, handle, error, |session: &mut S| session.create(name(object)?)) }
}

/// # Safety
/// As the header says for `write`.
pub(super) unsafe extern "C" fn write<W: Writer>(
    writer: *mut raw::sbt_writer,
    ptr: *const u8,
    len: u64,
    error: *mut raw::sbt_error,
) -> i32 {
    // SAFETY: the host passes what the header asks for.
    unsafe { on(writer, error, |writer: &mut W| writer.write(bytes(ptr, len)?)) }
}

/// # Safety
/// As the header says for `finish`.
pub(super) unsafe extern "C" fn finish<W: Writer>(
    writer: *mut raw::sbt_writer,
    info: *mut raw::sbt_info,
    error: *mut raw::sbt_error,
) -> i32 {
    let run = || {
        // SAFETY: the host passes a handle of ours, for the last time.
        let writer = unsafe { owned(writer.cast::<StreamBox<W>>()) }?;
        // SAFETY: the host passes a place for the information.
        let info = unsafe { out(info) }?;
        let StreamBox { stream, poisoned, _busy } = *writer;
        if poisoned {
            return Err(failed_before());
        }
        put_info(info, stream.finish()?)
    };
    // SAFETY: the host passes an error buffer.
    unsafe { guard(error, run) }
}

/// # Safety
/// As the header says for `abort`.
pub(super) unsafe extern "C" fn abort<W: Writer>(writer: *mut raw::sbt_writer, error: *mut raw::sbt_error) -> i32 {
    // SAFETY: the host passes what the header asks for.
    unsafe { end::<W, _>(writer, error) }
}

/// # Safety
/// As the header says for `open`.
pub(super) unsafe extern "C" fn open<S: Session>(
    session: *mut raw::sbt_session,
    object: raw::sbt_str,
    offset: u64,
    handle: *mut *mut raw::sbt_reader,
    error: *mut raw::sbt_error,
) -> i32 {
    // SAFETY: the host passes what the header asks for.
    unsafe { begin(session, handle, error, |session: &mut S| session.open(name(object)?, offset)) }
}

/// # Safety
/// As the header says for `read`.
pub(super) unsafe extern "C" fn read<R: Reader>(
    reader: *mut raw::sbt_reader,
    into: *mut u8,
    cap: u64,
    got: *mut u64,
    error: *mut raw::sbt_error,
) -> i32 {
    let run = |reader: &mut R| {
        // SAFETY: the host passes what the header asks for.
        let (into, got) = unsafe { (bytes_mut(into, cap)?, out(got)?) };
        *got = reader.read(into)? as u64;
        Ok(())
    };
    // SAFETY: the host passes a handle of ours and an error buffer.
    unsafe { on(reader, error, run) }
}

/// # Safety
/// As the header says for `close_reader`.
pub(super) unsafe extern "C" fn close_reader<R: Reader>(
    reader: *mut raw::sbt_reader,
    error: *mut raw::sbt_error,
) -> i32 {
    // SAFETY: the host passes what the header asks for.
    unsafe { end::<R, _>(reader, error) }
}
