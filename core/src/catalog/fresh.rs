//! Fresh identifiers, and the clock they and the records are made by.

use std::time::SystemTime;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{RepoId, SetId, Timestamp, Uuid};

/// A fresh identifier that sorts by time.
///
/// # Errors
/// When the system gives no random bytes.
pub fn uuid() -> Result<Uuid> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)
        .map_err(|error| Error::new(ErrorKind::Io, "the system gives no random bytes").because(error))?;
    Ok(Uuid::from_time(now().unix_millis(), random))
}

/// A fresh identifier for a set.
///
/// # Errors
/// When the system gives no random bytes.
pub fn set_id() -> Result<SetId> {
    uuid().map(SetId)
}

/// A fresh identifier for a repository.
///
/// # Errors
/// When the system gives no random bytes.
pub fn repository_id() -> Result<RepoId> {
    uuid().map(RepoId)
}

/// The present moment by the system's clock.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
