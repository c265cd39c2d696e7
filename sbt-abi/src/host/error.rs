//! What the host says when a plugin's verb failed.

use std::fmt;

use super::Session;
use crate::Code;

/// A verb of a plugin failed: which plugin, which verb, on which object, and the plugin's own words.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    retryable: bool,
    native: i32,
    text: String,
    breach: Option<String>,
    plugin: String,
    verb: &'static str,
    object: Option<String>,
}

impl Error {
    /// A failure that the plugin reported.
    pub(super) fn reported(code: Code, retryable: bool, native: i32, text: String) -> Self {
        let inner =
            Inner { code, retryable, native, text, breach: None, plugin: String::new(), verb: "", object: None };
        Error(Box::new(inner))
    }

    /// The plugin broke its contract.
    pub(super) fn broke(how: impl Into<String>) -> Self {
        let how = how.into();
        let mut error = Error::reported(Code::Internal, false, 0, format!("the plugin broke its contract: {how}"));
        error.0.breach = Some(how);
        error
    }

    /// Refused by the host before the plugin was called.
    pub(super) fn refused(code: Code, text: impl Into<String>) -> Self {
        Error::reported(code, false, 0, text.into())
    }

    pub(super) fn at(mut self, plugin: &str, verb: &'static str, object: Option<&str>) -> Self {
        plugin.clone_into(&mut self.0.plugin);
        self.0.verb = verb;
        self.0.object = object.map(str::to_owned);
        self
    }

    /// The kind of failure.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Whether the same call may succeed when tried again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// The number of the operating system or the vendor, 0 when there is none.
    #[must_use]
    pub fn native(&self) -> i32 {
        self.0.native
    }

    /// The plugin's own words. May be empty when the plugin is badly written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// How the plugin broke its contract, when it did.
    #[must_use]
    pub fn breach(&self) -> Option<&str> {
        self.0.breach.as_deref()
    }

    /// The verb that failed.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        self.0.verb
    }

    /// The name of the plugin.
    #[must_use]
    pub fn plugin(&self) -> &str {
        &self.0.plugin
    }

    /// The object that the verb was called for, if there is one.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        self.0.object.as_deref()
    }

    /// Whether the handle can't be trusted any more: the plugin panicked, broke its contract, or says so itself.
    pub(super) fn is_fatal(&self) -> bool {
        self.0.breach.is_some() || matches!(self.0.code, Code::Panic | Code::Poisoned)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}: {}", self.0.plugin, self.0.verb)?;
        if let Some(object) = &self.0.object {
            write!(f, " {object}")?;
        }
        write!(f, ": {}", self.0.code.text())?;
        if !self.0.text.is_empty() {
            write!(f, ": {}", self.0.text)?;
        }
        if self.0.native != 0 {
            write!(f, " [{}]", self.0.native)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// A verb that takes the session failed; the session comes back with the error.
#[derive(Debug)]
pub struct Refused {
    /// What went wrong.
    pub error: Error,
    /// The session. Poisoned when the error was a panic or a breach of contract.
    pub session: Box<Session>,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Refused {}
