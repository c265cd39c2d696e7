//! What is different when the server that is backed up is a standby: it writes no log, so nothing marks the end of the
//! backup and no segment ends with it.
//!
//! Where its pages fit together is the minimum recovery point of the control file that goes with the set, which the server
//! takes for the end when a label says that the backup is of a standby (PostgreSQL's `xlogrecovery.c`). The redo up to
//! there lies in the standby's own log directory, the last of it in a segment that still grows and never gets archived
//! from here: of that one the set holds what is needed.

use setpiece_core::model::Lsn;
use setpiece_core::{Error, ErrorKind, Result};

use crate::control::{Control, State};

/// Where the backup ends, by the control file that was read behind everything else.
pub(crate) fn end(control: &Control, timeline: u32, stopped: Lsn) -> Result<Lsn> {
    let again = |what: &str| Err(Error::new(ErrorKind::Source, what).remedy("back up again").retryable(true));
    if control.state != State::InArchiveRecovery {
        return again("the standby was promoted or stopped during the backup");
    }
    let (lsn, of) = control.minimum_recovery;
    if of != timeline {
        return again("the standby went over to another timeline since the checkpoint that the backup begins with");
    }
    Ok(lsn.max(stopped))
}
