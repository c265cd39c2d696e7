//! One call of a verb: the error buffer around it, and the checks of what comes back.

use crate::Code;
use crate::raw;
use crate::types::size_u32;

use super::Error;

/// Bytes of the error buffer, and how many of them lie behind the plugin's part to see whether it writes too far.
const ROOM: usize = 1024;
const GUARD: usize = 16;
const FILL: u8 = 0xa5;

/// The room for error text that plugins are offered, in bytes.
pub(super) const TEXT_ROOM: u32 = (ROOM - GUARD) as u32;

/// Calls a verb with an error buffer that offers `room` bytes of text (at most [`TEXT_ROOM`]).
///
/// # Errors
/// What the verb reported, or how it broke the contract.
pub(super) fn call(room: u32, verb: impl FnOnce(*mut raw::sbt_error) -> i32) -> Result<(), Error> {
    let mut text = [FILL; ROOM];
    let cap = room.min(TEXT_ROOM);
    let mut error = raw::sbt_error {
        size: size_u32::<raw::sbt_error>(),
        code: raw::SBT_OK,
        retryable: 0,
        native: 0,
        text_cap: cap,
        text_len: 0,
        text: text.as_mut_ptr(),
    };
    let number = verb(&raw mut error);
    if number == raw::SBT_OK {
        return Ok(());
    }
    Err(judge(number, &error, &text, cap as usize))
}

fn judge(number: i32, error: &raw::sbt_error, text: &[u8], cap: usize) -> Error {
    let (written, behind) = text.split_at(cap);
    if behind.iter().any(|byte| *byte != FILL) {
        return Error::broke("it wrote behind the end of the error buffer");
    }
    let Some(words) = written.get(..error.text_len as usize) else {
        return Error::broke(format!("it says that {} bytes of error text are in {cap}", error.text_len));
    };
    let words = printable(words);
    let Some(code) = Code::from_number(number) else {
        return Error::broke(format!("it returned {number}, which is no code of the table: {words}"));
    };
    if error.code != number {
        return Error::broke(format!("it returned {number} and put {} into the error buffer: {words}", error.code));
    }
    if error.retryable > 1 {
        return Error::broke(format!("it says {} for retryable, which is 0 or 1: {words}", error.retryable));
    }
    Error::reported(code, error.retryable == 1, error.native, words)
}

/// Text of a plugin that can be shown: whatever is not UTF-8 or would steer a terminal is replaced.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(change: impl FnOnce(&mut raw::sbt_error) -> i32) -> Error {
        // SAFETY: `call` hands over a pointer to its own error buffer.
        call(8, |error| change(unsafe { &mut *error })).unwrap_err()
    }

    #[test]
    fn reported_errors_keep_code_text_and_flags() {
        let error = fail(|e| {
            e.code = raw::SBT_ERR_FULL;
            e.retryable = 1;
            e.native = 28;
            e.text_len = 3;
            // SAFETY: the buffer has room for 8 bytes.
            unsafe { std::ptr::copy_nonoverlapping(b"a\nb".as_ptr(), e.text, 3) };
            raw::SBT_ERR_FULL
        });
        assert_eq!((error.code(), error.is_retryable(), error.native(), error.text()), (Code::Full, true, 28, "a b"));
        assert_eq!(error.breach(), None);
    }

    #[test]
    fn every_lie_is_a_breach() {
        let too_long = fail(|e| {
            e.code = raw::SBT_ERR_IO;
            e.text_len = 9;
            raw::SBT_ERR_IO
        });
        let unknown = fail(|_| 7);
        let differs = fail(|e| {
            e.code = raw::SBT_ERR_IO;
            raw::SBT_ERR_FULL
        });
        let behind = fail(|e| {
            e.code = raw::SBT_ERR_IO;
            // SAFETY: the array behind the pointer is longer than the room it states.
            unsafe { e.text.add(8).write(0) };
            raw::SBT_ERR_IO
        });
        for (error, word) in [(too_long, "9 bytes"), (unknown, "7"), (differs, "into the error"), (behind, "behind")] {
            let how = error.breach().unwrap_or_default();
            assert!(how.contains(word), "{how}");
            assert!(error.is_fatal());
        }
    }
}
