//! One reading of a whole segment, and of the rest of its last record in what follows.
//!
//! A commit counts where its record ends, for that is where recovery can stop behind it; what a record changes counts
//! where it begins.

use setpiece_core::model::log::FileChanges;
use setpiece_core::model::{Lsn, NamedPoint};
use setpiece_core::{Error, ErrorKind, Result};

use super::translate::file_changes;
use crate::wal::{Changes, Commits, Gatherer, Happening, Reader, SegmentInfo, lsn_text};

/// Runs of blocks that are recorded at most: about half of what a unit's record may hold.
const MOST_RUNS: usize = 1 << 17;

/// What a segment says.
#[derive(Debug)]
pub(crate) struct UnitFacts {
    /// The commits whose records end in it.
    pub commits: Option<Commits>,
    /// What the records change that begin in it; `None` when that cannot be told completely.
    pub changes: Option<Vec<FileChanges>>,
    /// The points with names whose records end in it; `None` when that cannot be told completely.
    pub points: Option<Vec<NamedPoint>>,
}

impl UnitFacts {
    pub(super) const NOTHING: UnitFacts = UnitFacts { commits: None, changes: None, points: None };
}

/// The named points among what happened.
pub(crate) fn points(changes: &Changes) -> Vec<NamedPoint> {
    let named = changes.events().iter().filter_map(|event| match &event.what {
        Happening::RestorePoint { name, .. } => Some(NamedPoint { name: name.clone(), lsn: event.lsn }),
        _ => None,
    });
    named.collect()
}

/// Changes as a unit records them; `None` when they do not tell all that changed.
pub(super) fn recorded(changes: Changes) -> Option<Vec<FileChanges>> {
    file_changes(&changes.bounded(MOST_RUNS)).ok()
}

/// One reading of a segment.
pub(super) struct Pass {
    /// Behind it; where the log ended in it, it says so.
    pub reader: Reader,
    pub commits: Option<Commits>,
    /// The points; `None` where one may lie across the begin of the segment.
    pub points: Option<Vec<NamedPoint>>,
    /// What the records change that begin and end in it.
    pub changes: Changes,
}

impl Pass {
    /// Reads a segment behind `front`, which has read what lies before it; without that where it does not fit.
    pub(super) fn behind(front: Option<Reader>, info: &SegmentInfo, bytes: &[u8], block_size: u32) -> Option<Self> {
        let with_front = front.and_then(|reader| Pass::over(reader, info, bytes, block_size).ok());
        if let Some(pass) = with_front.filter(|pass| pass.reader.end().is_none()) {
            return Some(pass);
        }
        // What cannot be read is for the server to say, which wrote it, when it recovers.
        let pass = Pass::over(Reader::new(), info, bytes, block_size).ok()?;
        Some(Pass { points: pass.points.filter(|_| !info.continues), ..pass })
    }

    fn over(mut reader: Reader, info: &SegmentInfo, bytes: &[u8], block_size: u32) -> Result<Self> {
        let gatherer = || Gatherer::new(info.start, block_size);
        let (mut front, mut body) = (gatherer(), gatherer());
        let mut records = reader.push(bytes)?;
        while let Some(record) = records.next_record()? {
            if record.start < info.start { front.add(&record)? } else { body.add(&record)? }
        }
        let changes = body.finish(info.end());
        let front = front.finish(info.start);
        let commits = joined(front.commits(), changes.commits());
        let points = Some([points(&front), points(&changes)].concat());
        Ok(Pass { reader, commits, points, changes })
    }

    /// Whether a record that begins in the segment goes on behind it.
    pub(super) fn goes_on(&self, info: &SegmentInfo) -> bool {
        self.reader.unfinished().is_some_and(|start| start >= info.start)
    }
}

fn joined(one: Option<Commits>, other: Option<Commits>) -> Option<Commits> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
    let count = one.count.saturating_add(other.count);
    Some(Commits { count, first: one.first.min(other.first), last: one.last.max(other.last) })
}

/// Looks in `pages` for the end of the record that goes on behind a segment which ends at `end`: what it changes, or
/// `None` when it goes on behind the pages as well.
///
/// # Errors
/// When the log ends or is damaged before.
pub(super) fn rest(reader: &mut Reader, pages: &[u8], end: Lsn, block_size: u32) -> Result<Option<Changes>> {
    let mut gatherer = Gatherer::new(end, block_size);
    let mut records = reader.push(pages)?;
    if let Some(record) = records.next_record()? {
        // Another record in its place: the server crashed and gave it up when it started again.
        if record.start < end {
            gatherer.add(&record)?;
        }
        return Ok(Some(gatherer.finish(end)));
    }
    match reader.end() {
        None => Ok(None),
        Some(end) => Err(Error::new(ErrorKind::Source, format!("the log ends at {}", lsn_text(end.at)))),
    }
}
