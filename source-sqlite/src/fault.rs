//! SQLite's errors as errors of Setpiece.

use std::path::Path;

use rusqlite::ErrorCode;
use setpiece_core::{Error, ErrorKind};

/// An error of SQLite met on the database at `path`.
pub(crate) fn sql(path: &Path, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    let made = Error::new(ErrorKind::Source, format!("SQLite says: {error}")).on(path.display().to_string());
    let made = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            made.retryable(true).remedy("another connection holds a lock for long; try again when it is done")
        }
        Some(ErrorCode::NotADatabase) => made.remedy("it is no SQLite database, or an encrypted one"),
        Some(ErrorCode::CannotOpen) => made.remedy("check the path and who may read the file and its directory"),
        Some(ErrorCode::DatabaseCorrupt) => made.remedy("run PRAGMA integrity_check; restore from a backup"),
        _ => made,
    };
    made.because(error)
}

/// The database is in a state in which it cannot be backed up, and may be in another soon.
pub(crate) fn unsettled(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Source, what)
        .on(path.display().to_string())
        .retryable(true)
        .remedy("try again; if it stays, close all connections to the database once")
}

/// Takes what a lock guards, also when a thread panicked while it held it: what is guarded here is replaced whole.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
