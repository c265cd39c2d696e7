//! A lock that is held.

use std::fmt;
use std::ptr::NonNull;

use super::call::{TEXT_ROOM, call};
use super::session::Session;
use super::table::LockVerbs;
use super::{Refused, Result};
use crate::raw;

/// A lock that is held until it is released or dropped, or until the process dies.
pub struct Lock {
    // Dropped before the session, as the ABI asks.
    handle: LockHandle,
    session: Session,
}

struct LockHandle {
    verbs: LockVerbs,
    raw: NonNull<raw::sbt_lock>,
    open: bool,
}

// SAFETY: the ABI lets handles move between threads with their session; one thread uses them at a time.
unsafe impl Send for LockHandle {}

impl Lock {
    pub(super) fn new(session: Session, raw: NonNull<raw::sbt_lock>, verbs: LockVerbs) -> Self {
        Lock { handle: LockHandle { verbs, raw, open: true }, session }
    }

    /// Releases the lock and gives the session back.
    ///
    /// # Errors
    /// What the plugin reports; the lock is gone in any case, and the session comes back.
    pub fn release(mut self) -> Result<Session, Refused> {
        self.handle.open = false;
        let (lock, verbs) = (self.handle.raw.as_ptr(), self.handle.verbs);
        // SAFETY: the lock is held, used by this thread only, and gone after this call.
        let done = self.session.plugin().call("unlock", None, |error| unsafe { (verbs.unlock)(lock, error) });
        match done {
            Ok(()) => Ok(self.session),
            Err(error) => {
                self.session.note(&error);
                Err(Refused { error, session: Box::new(self.session) })
            }
        }
    }
}

impl Drop for LockHandle {
    fn drop(&mut self) {
        if self.open {
            // SAFETY: the lock is held, and gone after this call.
            let done = call(TEXT_ROOM, |error| unsafe { (self.verbs.unlock)(self.raw.as_ptr(), error) });
            // Closing the session, which comes next, releases what `unlock` could not.
            drop(done);
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("session", &self.session).finish_non_exhaustive()
    }
}
