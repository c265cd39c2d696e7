//! Why a plugin could not do what it was asked.

use std::fmt;
use std::io;

use crate::Code;

/// Code, words, and what goes with them. The words say what failed, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub(super) code: Code,
    pub(super) text: String,
    pub(super) retryable: bool,
    pub(super) native: i32,
}

impl Failure {
    /// A failure that is not worth another try.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Failure { code, text: text.into(), retryable: false, native: 0 }
    }

    /// What the operating system says about `object`, with the code that fits.
    pub fn io(object: impl fmt::Display, error: &io::Error) -> Self {
        let (code, remedy) = code_of(error.kind());
        Failure {
            code,
            text: format!("{object}: {error}{remedy}"),
            retryable: matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::TimedOut),
            native: error.raw_os_error().unwrap_or(0),
        }
    }

    /// Whether the same call may succeed when tried again.
    #[must_use]
    pub fn retryable(mut self, yes: bool) -> Self {
        self.retryable = yes;
        self
    }

    /// The kind of failure.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn code_of(kind: io::ErrorKind) -> (Code, &'static str) {
    match kind {
        io::ErrorKind::NotFound => (Code::NotFound, ""),
        io::ErrorKind::AlreadyExists => (Code::Exists, ""),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (Code::Full, "; make room or use another place"),
        io::ErrorKind::FileTooLarge => {
            (Code::Full, "; larger than the file system or the limits of this process allow, use smaller pieces")
        }
        io::ErrorKind::PermissionDenied => (Code::Access, "; check who owns it and its permissions"),
        io::ErrorKind::ReadOnlyFilesystem => (Code::Access, "; the file system is mounted read-only"),
        io::ErrorKind::TimedOut => (Code::Unreachable, ""),
        io::ErrorKind::Unsupported => (Code::Unsupported, ""),
        _ => (Code::Io, ""),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.text(), self.text)
    }
}

impl std::error::Error for Failure {}
