//! The edge between C and an implementation: panics stop here, and what the host passed is checked.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Failure, Result};
use crate::types::{is_name, size_u32};
use crate::{Code, raw};

/// Runs a verb; its failure or panic goes into the error buffer and becomes the number to return.
///
/// # Safety
/// `error` is null or points to an error buffer as `setpiece_sbt.h` describes it.
pub(super) unsafe fn guard(error: *mut raw::sbt_error, verb: impl FnOnce() -> Result<()>) -> i32 {
    let failure = match catch_unwind(AssertUnwindSafe(verb)) {
        Ok(Ok(())) => return raw::SBT_OK,
        Ok(Err(failure)) => failure,
        Err(payload) => panicked(payload),
    };
    // SAFETY: the caller says so.
    unsafe { report(error, &failure) };
    failure.code.number()
}

/// As [`guard`], for a handle that can be poisoned: a poisoned handle refuses, and the verb's failure poisons it when
/// `poisons` says so. A panic always does.
///
/// # Safety
/// As [`guard`].
pub(super) unsafe fn guard_handle(
    error: *mut raw::sbt_error,
    poisoned: &mut bool,
    poisons: bool,
    verb: impl FnOnce() -> Result<()>,
) -> i32 {
    let was = *poisoned;
    let run = || if was { Err(failed_before()) } else { verb() };
    // SAFETY: the caller says so.
    let number = unsafe { guard(error, run) };
    *poisoned |= number == raw::SBT_ERR_PANIC || (poisons && number != raw::SBT_OK);
    number
}

pub(super) fn failed_before() -> Failure {
    Failure::new(Code::Poisoned, "an earlier call with this handle failed; close it and open another")
}

pub(super) fn usage(text: &str) -> Failure {
    Failure::new(Code::Usage, text)
}

fn panicked(payload: Box<dyn Any + Send>) -> Failure {
    let words = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let words = words.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
    // A payload can be anything, even something whose drop panics again. Nothing could be done about that.
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    std::mem::forget(dropped);
    Failure::new(Code::Panic, format!("the plugin panicked: {words}; report it to its vendor"))
}

/// # Safety
/// As [`guard`].
unsafe fn report(error: *mut raw::sbt_error, failure: &Failure) {
    if error.is_null() {
        return;
    }
    // SAFETY: not null, and the caller says that it is an error buffer.
    let error = unsafe { &mut *error };
    if error.size < size_u32::<raw::sbt_error>() {
        return;
    }
    error.code = failure.code.number();
    error.retryable = u32::from(failure.retryable);
    error.native = failure.native;
    error.text_len = 0;
    if error.text.is_null() {
        return;
    }
    let text = truncated(&failure.text, error.text_cap as usize);
    // SAFETY: the buffer has room for `text_cap` bytes, and the text is no longer.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), error.text, text.len()) };
    error.text_len = u32::try_from(text.len()).unwrap_or(0);
}

/// The beginning of `text` that fits into `room` bytes and ends at a character.
fn truncated(text: &str, room: usize) -> &str {
    let mut end = room.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Bytes that the host passed.
///
/// # Safety
/// `ptr` is null or points to `len` bytes that are valid for `'a`.
pub(super) unsafe fn bytes<'a>(ptr: *const u8, len: u64) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    let len = usize::try_from(len).ok().filter(|len| isize::try_from(*len).is_ok());
    let len =
        len.filter(|_| !ptr.is_null()).ok_or_else(|| usage("a length without bytes, or more than memory can hold"))?;
    // SAFETY: the caller says so, and the length fits into memory.
    Ok(unsafe { std::slice::from_raw_parts(ptr, len) })
}

/// Text that the host passed.
///
/// # Safety
/// As [`bytes`].
pub(super) unsafe fn text<'a>(text: raw::sbt_str) -> Result<&'a str> {
    // SAFETY: the caller says so.
    let bytes = unsafe { bytes(text.ptr, text.len) }?;
    std::str::from_utf8(bytes).map_err(|_| usage("a text that is not UTF-8"))
}

/// The name of an object that the host passed.
///
/// # Safety
/// As [`bytes`].
pub(super) unsafe fn name<'a>(name: raw::sbt_str) -> Result<&'a str> {
    // SAFETY: the caller says so.
    let name = unsafe { text(name) }?;
    if is_name(name) { Ok(name) } else { Err(usage(&format!("{name:?} is not a name that an object may have"))) }
}

/// A place of the host's for a result.
///
/// # Safety
/// `out` is null or points to a `T` that is valid for `'a` and that nobody else uses.
pub(super) unsafe fn out<'a, T>(out: *mut T) -> Result<&'a mut T> {
    // SAFETY: the caller says so.
    unsafe { out.as_mut() }.ok_or_else(|| usage("no place for a result, or no handle"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(text: &mut [u8]) -> raw::sbt_error {
        raw::sbt_error {
            size: size_u32::<raw::sbt_error>(),
            code: 0,
            retryable: 7,
            native: 7,
            text_cap: u32::try_from(text.len()).unwrap(),
            text_len: 7,
            text: text.as_mut_ptr(),
        }
    }

    #[test]
    fn panics_become_a_code_and_poison() {
        let mut room = [0u8; 64];
        let mut error = buffer(&mut room);
        let mut poisoned = false;
        // SAFETY: `error` is an error buffer.
        let number = unsafe { guard_handle(&raw mut error, &mut poisoned, false, || panic!("boom {}", 1)) };
        assert_eq!((number, error.code, poisoned), (raw::SBT_ERR_PANIC, raw::SBT_ERR_PANIC, true));
        // SAFETY: as above.
        let number = unsafe { guard_handle(&raw mut error, &mut poisoned, false, || Ok(())) };
        assert_eq!(number, raw::SBT_ERR_POISONED);
        assert!(room.starts_with(b"an earlier call"));
    }

    #[test]
    fn text_is_cut_at_a_character_and_never_beyond_its_room() {
        let mut room = [0xaau8; 8];
        let mut error = buffer(&mut room[..3]);
        // SAFETY: `error` is an error buffer.
        let number = unsafe { guard(&raw mut error, || Err(Failure::new(Code::Io, "aäöü"))) };
        assert_eq!((number, error.text_len, error.retryable, error.native), (raw::SBT_ERR_IO, 3, 0, 0));
        assert_eq!(room, *b"a\xc3\xa4\xaa\xaa\xaa\xaa\xaa");
        // SAFETY: a null buffer is allowed.
        assert_eq!(unsafe { guard(std::ptr::null_mut(), || Err(usage("x"))) }, raw::SBT_ERR_USAGE);
    }

    #[test]
    fn nonsense_of_the_host_is_refused() {
        // SAFETY: null with a length is refused before it is used; the others are valid.
        unsafe {
            assert!(bytes(std::ptr::null(), 1).is_err());
            assert!(bytes(b"x".as_ptr(), u64::MAX).is_err());
            assert_eq!(bytes(std::ptr::null(), 0), Ok(&[][..]));
            assert!(text(raw::sbt_str { ptr: b"\xff".as_ptr(), len: 1 }).is_err());
            assert!(name(raw::sbt_str { ptr: b"..".as_ptr(), len: 2 }).is_err());
            assert!(out::<u8>(std::ptr::null_mut()).is_err());
        }
    }
}
