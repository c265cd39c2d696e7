//! The one public error of Setpiece.
//!
//! An error says what was being done, to which object, what went wrong and what to do about it. Its kind is a stable
//! number: kinds are added, never renumbered, and never reused. The table in [`ErrorKind`] is the only one.

use std::fmt;

/// Result with the error of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $exit:literal;)*) => {
        /// What kind of failure it is. The number is stable and is what C callers and JSON reports see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum ErrorKind { $($(#[$doc])* $name = $number,)* }

        impl ErrorKind {
            /// Every kind there is, in the order of the numbers.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$name,)*];

            /// A few words for the kind, for tables and C callers.
            #[must_use]
            pub fn text(self) -> &'static str { match self { $(ErrorKind::$name => $text,)* } }

            /// The exit code of a command that ends with this kind: 1 failed, 2 usage, 3 damage was found.
            #[must_use]
            pub fn exit_code(self) -> u8 { match self { $(ErrorKind::$name => $exit,)* } }
        }
    };
}

kinds! {
    /// The caller asked for something that makes no sense or left out something needed.
    Usage = 1, "wrong use", 2;
    /// The operating system refused an operation on a file of the source or the target.
    Io = 2, "input or output failed", 1;
    /// A medium failed; see the text for the plugin's own words.
    Medium = 3, "medium failed", 1;
    /// An object that must exist on the medium does not.
    NotFound = 4, "not found", 1;
    /// An object that must not exist on the medium does. Objects are never overwritten.
    Exists = 5, "exists already", 1;
    /// The medium or the target has no room left.
    Full = 6, "no space left", 1;
    /// Stored bytes are not what was written: bad checksum, bad seal, impossible length, truncated.
    Damaged = 7, "damaged", 3;
    /// Written by a newer version, or with a feature this version does not know.
    Unsupported = 8, "not supported", 1;
    /// No key, the wrong key, or a key option that does not fit the repository.
    Key = 9, "key does not fit", 1;
    /// Another writer holds the lock.
    Locked = 10, "locked by another writer", 1;
    /// The caller cancelled.
    Cancelled = 11, "cancelled", 1;
    /// A set that the chain needs is gone or not whole.
    ChainBroken = 12, "chain is broken", 1;
    /// The recovery target cannot be reached with what the repository holds.
    Unreachable = 13, "target cannot be reached", 1;
    /// The source failed, vanished, or is in a state in which it cannot be backed up.
    Source = 14, "source failed", 1;
    /// Pages of the source are damaged.
    BadPage = 15, "source has a bad page", 3;
    /// The target is not empty, or not a place that may be written to.
    Target = 16, "target cannot be used", 1;
    /// Other sets need the set.
    InUse = 17, "others need it", 1;
    /// A defect in Setpiece itself, or a plugin that broke its contract.
    Internal = 18, "internal defect", 1;
}

/// What went wrong, to what, and what to do.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    what: String,
    object: Option<String>,
    remedy: Option<String>,
    retryable: bool,
    doing: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `what` says what went wrong, in lower case and without a final stop.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        let inner = Inner {
            kind,
            what: what.into(),
            object: None,
            remedy: None,
            retryable: false,
            doing: Vec::new(),
            source: None,
        };
        Error(Box::new(inner))
    }

    /// A damaged object: `object` says which and where.
    pub fn damaged(object: impl Into<String>, what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Damaged, what).on(object)
    }

    /// An operating-system error met on `object`; a full disk becomes [`ErrorKind::Full`].
    pub fn io(object: impl Into<String>, error: std::io::Error) -> Self {
        let (kind, remedy) = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                (ErrorKind::Full, Some("make room or choose another place"))
            }
            std::io::ErrorKind::PermissionDenied => (ErrorKind::Io, Some("check who owns it and its permissions")),
            _ => (ErrorKind::Io, None),
        };
        let made = Error::new(kind, "operating system error").on(object).because(error);
        match remedy {
            Some(text) => made.remedy(text),
            None => made,
        }
    }

    /// Name the object and the place (file, piece, offset). The first name given stays.
    #[must_use]
    pub fn on(mut self, object: impl Into<String>) -> Self {
        self.0.object.get_or_insert(object.into());
        self
    }

    /// Say what to do about it. The first remedy given stays.
    #[must_use]
    pub fn remedy(mut self, text: impl Into<String>) -> Self {
        self.0.remedy.get_or_insert(text.into());
        self
    }

    /// Mark as worth another try.
    #[must_use]
    pub fn retryable(mut self, yes: bool) -> Self {
        self.0.retryable = yes;
        self
    }

    /// Add what was being done, from the inside out.
    #[must_use]
    pub fn doing(mut self, step: impl Into<String>) -> Self {
        self.0.doing.push(step.into());
        self
    }

    /// Keep the error that caused this one.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(cause.into());
        self
    }

    /// The stable kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The object it happened to, if known.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.0.object.as_deref()
    }

    /// What the user can do, if known.
    #[must_use]
    pub fn remedy_text(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }

    /// Whether the same call may succeed when tried again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.0.doing.iter().rev() {
            write!(f, "{step}: ")?;
        }
        if let Some(object) = &self.0.object {
            write!(f, "{object}: ")?;
        }
        f.write_str(&self.0.what)?;
        if let Some(remedy) = &self.0.remedy {
            write!(f, " ({remedy})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        if let Some(cause) = &self.0.source {
            write!(f, " [{cause:?}]")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

/// Adds what was being done to the error of a result.
pub trait Context<T> {
    /// Adds a step, from the inside out; the closure runs only on failure.
    ///
    /// # Errors
    /// The error it was given, with the step added.
    fn doing(self, step: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn doing(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.doing(step()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_keep_their_numbers_and_order() {
        let numbers: Vec<u16> = ErrorKind::ALL.iter().map(|kind| *kind as u16).collect();
        let expected: Vec<u16> = (1..=18).collect();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn message_says_step_object_fault_and_remedy() {
        let error = Error::damaged("piece 3 at offset 128", "checksum does not match")
            .remedy("restore from another copy")
            .doing("checking set a");
        assert_eq!(
            error.to_string(),
            "checking set a: piece 3 at offset 128: checksum does not match (restore from another copy)"
        );
        assert_eq!(error.kind().exit_code(), 3);
    }
}
