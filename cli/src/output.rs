//! The one place that prints. Answers go to standard output, everything else to standard error.

use std::error::Error as _;
use std::io::Write;

use serde_json::Value;
use setpiece::Error;

use crate::documents::ErrorDocument;

/// Prints text. A reader that has gone away is no failure.
pub(crate) fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    drop(write!(out, "{text}{end}").and_then(|()| out.flush()));
}

/// Prints a document.
pub(crate) fn document(document: &Value) {
    text(&format!("{document:#}"));
}

/// Prints the document of a failure.
pub(crate) fn error_document(error: &ErrorDocument) {
    document(&serde_json::json!({ "error": error }));
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
