//! The extension `setpiece.lock/1` as C calls it.

use std::ffi::c_void;
use std::marker::PhantomData;

use super::glue::{head, on_session, owned};
use super::guard::{guard, name, out, text, usage};
use super::{Locking, Result};
use crate::raw;
use crate::types::LockMode;

/// Gives the table of the extension a place of its own for each kind of session.
struct LockTable<S>(PhantomData<S>);

impl<S: Locking> LockTable<S> {
    const TABLE: &'static raw::sbt_lock_v1 =
        &raw::sbt_lock_v1 { head: head::<raw::sbt_lock_v1>(), lock: Some(lock::<S>), unlock: Some(unlock::<S>) };
}

/// # Safety
/// As the header says for `extension`.
pub(super) unsafe extern "C" fn extension<S: Locking>(wanted: raw::sbt_str) -> *const c_void {
    // SAFETY: the host passes a text.
    match unsafe { text(wanted) } {
        Ok(raw::SBT_LOCK_V1) => std::ptr::from_ref(LockTable::<S>::TABLE).cast(),
        _ => std::ptr::null(),
    }
}

/// # Safety
/// As the header says for `lock`.
unsafe extern "C" fn lock<S: Locking>(
    session: *mut raw::sbt_session,
    object: raw::sbt_str,
    mode: u32,
    handle: *mut *mut raw::sbt_lock,
    error: *mut raw::sbt_error,
) -> i32 {
    let run = |session: &mut S| -> Result<()> {
        // SAFETY: the host passes what the header asks for.
        let (object, handle) = unsafe { (name(object)?, out(handle)?) };
        let mode = LockMode::from_number(mode).ok_or_else(|| usage("no such mode of a lock"))?;
        *handle = Box::into_raw(Box::new(session.lock(object, mode)?)).cast();
        Ok(())
    };
    // SAFETY: the host passes a handle of ours and an error buffer.
    unsafe { on_session(session, error, run) }
}

/// # Safety
/// As the header says for `unlock`.
unsafe extern "C" fn unlock<S: Locking>(lock: *mut raw::sbt_lock, error: *mut raw::sbt_error) -> i32 {
    let run = || {
        // SAFETY: the host passes a handle of ours, for the last time.
        drop(unsafe { owned(lock.cast::<S::Lock>()) }?);
        Ok(())
    };
    // SAFETY: the host passes an error buffer.
    unsafe { guard(error, run) }
}
