//! Waiting for one's turn where others hold a lock for moments.

use std::thread;
use std::time::{Duration, Instant};

use super::HeldLock;
use super::repository::Repository;
use crate::error::{ErrorKind, Result};

/// How long others are waited for that may go on for hours, as a backup may, or be done in a moment.
const MOMENTS: Duration = Duration::from_secs(5);
/// How long a removal of sets is waited for. Most are done in moments, such as that of redo which is there as a whole now.
const REMOVAL: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Takes what `take` takes as soon as nobody else holds it, for as long as `patience` says, or for ever. `goes_on` is asked
/// before every pause whether there is still anybody who waits.
///
/// # Errors
/// [`ErrorKind::Locked`] when it is still held then; what else `take` fails with, at once; what `goes_on` says.
pub(crate) fn in_turn<T>(
    patience: Option<Duration>,
    goes_on: impl Fn() -> Result<()>,
    take: impl Fn() -> Result<T>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        match take() {
            Err(error) if error.kind() == ErrorKind::Locked && patience.is_none_or(|most| begun.elapsed() < most) => {
                goes_on()?;
                thread::sleep(PAUSE);
            }
            taken => return taken,
        }
    }
}

/// Keeps every writer out as soon as nobody writes. Redo is stored in moments, again and again, and may be waited for; a
/// backup may not.
///
/// # Errors
/// [`ErrorKind::Locked`] when others still write after some seconds; what `goes_on` says, and what the medium fails with.
pub(crate) fn alone(repository: &Repository, goes_on: impl Fn() -> Result<()>) -> Result<Box<dyn HeldLock>> {
    in_turn(Some(MOMENTS), goes_on, || repository.lock_for_removal())
}

/// Keeps removals out as soon as none is under way. Whoever writes may have begun at night with nobody there to try again.
///
/// # Errors
/// [`ErrorKind::Locked`] when sets are still being removed after a minute; what `goes_on` says, and what the medium fails
/// with.
pub(crate) fn among_writers(repository: &Repository, goes_on: impl Fn() -> Result<()>) -> Result<Box<dyn HeldLock>> {
    in_turn(Some(REMOVAL), goes_on, || repository.lock_for_writing())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::error::Error;

    fn held() -> Result<()> {
        Err(Error::new(ErrorKind::Locked, "held"))
    }

    #[test]
    fn what_is_let_go_is_taken() {
        let left = Cell::new(3);
        let take = || if left.replace(left.get() - 1) > 1 { held() } else { Ok(()) };
        in_turn(None, || Ok(()), take).unwrap();
        assert_eq!(left.get(), 0);
    }

    #[test]
    fn patience_ends_and_so_does_a_wait_that_is_cancelled() {
        let error = in_turn(Some(Duration::from_millis(50)), || Ok(()), held).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        let cancelled = || Err(Error::new(ErrorKind::Cancelled, "enough"));
        assert_eq!(in_turn(None, cancelled, held).unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn nobody_waits_for_what_is_no_lock() {
        let failing = || Err::<(), _>(Error::new(ErrorKind::Medium, "read-only"));
        let asked = || -> Result<()> { panic!("it waited") };
        assert_eq!(in_turn(None, asked, failing).unwrap_err().kind(), ErrorKind::Medium);
    }
}
