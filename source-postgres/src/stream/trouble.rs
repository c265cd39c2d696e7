//! A connection that is lost: for how long it is made again, and what is said when that is of no use.

use std::time::{Duration, Instant};

use setpiece_core::{Error, Result};

use crate::client::sqlstate;

/// Between two tries to connect: at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long a slot may stay in use by a connection of ours that was lost.
const IN_USE: Duration = Duration::from_secs(90);

/// A connection that is missed.
pub(super) struct Trouble {
    pub error: Error,
    since: Instant,
    /// When it is tried again.
    pub again: Instant,
    pause: Duration,
}

impl Trouble {
    /// One more failure, after those that are known; the error, when there is nothing to wait for.
    pub(super) fn bear(known: Option<&Trouble>, error: Error) -> Result<Self> {
        let now = Instant::now();
        let (since, pause) = known.map_or((now, PAUSES.0), |old| (old.since, old.pause));
        let hopeless = is_in_use(&error) && since.elapsed() > IN_USE;
        if !error.is_retryable() || hopeless {
            return Err(explained(error));
        }
        tracing::debug!(%error, "the log is not received");
        Ok(Trouble { error, since, again: now + pause, pause: (pause * 2).min(PAUSES.1) })
    }
}

/// The server has no such segment any more.
pub(super) fn is_removed(error: &Error) -> bool {
    sqlstate(error) == Some("58P01")
}

fn is_in_use(error: &Error) -> bool {
    sqlstate(error) == Some("55006") || error.to_string().contains("in use")
}

/// An error with what to do about it.
pub(super) fn explained(error: Error) -> Error {
    if is_removed(&error) {
        return error
            .remedy("log that was not captured is gone: drop the slot, start the stream again and take a backup");
    }
    error
}
