//! What is different when the server that is backed up is a standby: it writes no log, so nothing marks the end of the
//! backup and no segment ends with it.
//!
//! Where its pages fit together is the minimum recovery point of the control file that goes with the set, which the server
//! takes for the end when a label says that the backup is of a standby (PostgreSQL's `xlogrecovery.c`). The redo up to
//! there lies in the standby's own log directory, the last of it in a segment that still grows and never gets archived
//! from here: of that one the set holds what is needed.

use std::fs;

use setpiece_core::model::{LogUnit, Lsn, Seq};
use setpiece_core::{Error, ErrorKind, Result};

use crate::control::{Control, State};
use crate::segments::LogDirectory;
use crate::wal::{SegmentName, SegmentSize};

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

/// Hands over the redo of a range whose last segment may still grow.
pub(crate) fn units(
    log: &LogDirectory,
    timeline: u32,
    (begin, end): (Lsn, Lsn),
    sink: &mut dyn FnMut(LogUnit, Vec<u8>) -> Result<()>,
) -> Result<()> {
    let last = log.number(end);
    let bounds = Lsn(last.0.saturating_mul(u64::from(log.segment_size)));
    if begin < bounds {
        log.units(timeline, begin, bounds, sink)?;
    }
    if end == bounds {
        return Ok(());
    }
    let (unit, bytes) = growing(log, timeline, last, end)?;
    sink(unit, bytes)
}

/// The segment that holds the end, up to there. What lies behind may be older than the file's name.
fn growing(log: &LogDirectory, timeline: u32, number: Seq, end: Lsn) -> Result<(LogUnit, Vec<u8>)> {
    let size = SegmentSize::new(u64::from(log.segment_size));
    let name = size.and_then(|size| SegmentName::new(timeline, number, size));
    let name = name.ok_or_else(|| Error::new(ErrorKind::Source, format!("segment {number} has no name")))?;
    let path = log.path.join(name.to_string());
    let place = || path.display().to_string();
    let mut bytes = fs::read(&path).map_err(|error| Error::io(place(), error))?;
    let used = usize::try_from(end.0 % u64::from(log.segment_size)).unwrap_or(usize::MAX);
    if bytes.len() < used {
        return Err(Error::new(ErrorKind::Source, "is too short").on(place()));
    }
    bytes.truncate(used);
    let unit = log.beginning(name, None, &bytes).map_err(|error| error.on(place()))?;
    Ok((unit, bytes))
}
