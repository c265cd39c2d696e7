//! The one place that prints. Answers go to standard output, everything else to standard error.

use std::error::Error as _;
use std::io::{ErrorKind, Write};

use serde_json::Value;
use setpiece::{Error, Result};

use crate::documents::ErrorDocument;

/// Prints text. A reader that has gone away is no failure; an answer that cannot be written is one.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    written(write!(out, "{text}{end}").and_then(|()| out.flush()))
}

/// What became of writing an answer.
pub(crate) fn written(done: std::io::Result<()>) -> Result<()> {
    match done {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io("standard output", error)),
        _ => Ok(()),
    }
}

/// Prints a document.
pub(crate) fn document(document: &Value) -> Result<()> {
    text(&format!("{document:#}"))
}

/// Prints the document of a failure; as text to standard error when it cannot be written.
pub(crate) fn error_document(failure: &ErrorDocument) {
    if let Err(unwritten) = document(&serde_json::json!({ "error": failure })) {
        error(&unwritten);
        note(&format!("setpiece: {}", failure.message));
    }
}

/// Prints a failure for people, with everything that caused it.
pub(crate) fn error(error: &Error) {
    note(&format!("setpiece: {error}"));
    let mut cause = error.source();
    while let Some(because) = cause {
        note(&format!("  because: {because}"));
        cause = because.source();
    }
}

/// Prints a line that is no part of the answer.
pub(crate) fn note(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}
