//! What one whole segment says: the moments of its commits, and what its records change if that can be told completely.
//!
//! A commit counts where its record ends, for that is where recovery can stop behind it; what a record changes counts
//! where it begins. So the end of the segment before is looked at for a commit, and the begin of the next one for the
//! rest of a record. Both are small looks, and the segment itself is read once.

use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use setpiece_core::Result;
use setpiece_core::model::log::FileChanges;
use setpiece_core::model::{BranchHistory, Lsn, NamedPoint, Seq};

use super::files::SegmentFiles;
use super::translate::file_changes;
use crate::wal::{Changes, Commits, Gatherer, Happening, Reader, SegmentInfo, SegmentName, describe, last_begun};

/// Bytes that are looked at in a neighbour at once; a multiple of every size that pages have.
const LOOK: usize = 256 << 10;
/// Runs of blocks that are recorded at most: about half of what a unit's record may hold.
const MOST_RUNS: usize = 1 << 17;
/// How often the next segment is looked at while the server has not written the rest of a record there.
const PAUSE: Duration = Duration::from_millis(10);

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

/// The named points among what happened.
pub(crate) fn points(changes: &Changes) -> Vec<NamedPoint> {
    let named = changes.events().iter().filter_map(|event| match &event.what {
        Happening::RestorePoint { name, .. } => Some(NamedPoint { name: name.clone(), lsn: event.lsn }),
        _ => None,
    });
    named.collect()
}

/// What the segment `name` of a history says, whose content is `bytes`. A record that goes on in the next segment is
/// waited for, but not longer than `patience`.
pub(crate) fn facts(
    files: &SegmentFiles,
    history: Option<&BranchHistory>,
    name: SegmentName,
    bytes: &[u8],
    patience: Duration,
) -> UnitFacts {
    let nothing = UnitFacts { commits: None, changes: None, points: None };
    let Ok(info) = describe(bytes) else { return nothing };
    let behind_front = history.and_then(|history| front(files, history, &info));
    let with_front = behind_front.and_then(|reader| Pass::over(files, &info, reader, bytes).ok());
    let (pass, from_front) = match with_front.filter(|pass| pass.reader.end().is_none()) {
        Some(pass) => (Ok(pass), true),
        None => (Pass::over(files, &info, Reader::new(), bytes), false),
    };
    // What cannot be read is for the server to say, which wrote it, when it recovers.
    let Ok(Pass { reader, commits, points, mut changes }) = pass else { return nothing };
    let rest = if reader.end().is_none() { rest(files, name, &info, &reader, patience) } else { None };
    let whole = rest.and_then(|rest| changes.merge(&rest).ok());
    let changes = whole.and_then(|()| file_changes(&changes.bounded(MOST_RUNS)).ok());
    UnitFacts { commits, changes, points: (from_front || !info.continues).then_some(points) }
}

/// One reading of a segment.
struct Pass {
    /// Behind it.
    reader: Reader,
    commits: Option<Commits>,
    points: Vec<NamedPoint>,
    /// What the records change that begin and end in it.
    changes: Changes,
}

impl Pass {
    fn over(files: &SegmentFiles, info: &SegmentInfo, mut reader: Reader, bytes: &[u8]) -> Result<Self> {
        let gatherer = || Gatherer::new(info.start, files.block_size);
        let (mut front, mut body) = (gatherer(), gatherer());
        let mut records = reader.push(bytes)?;
        while let Some(record) = records.next_record()? {
            if record.start < info.start { front.add(&record)? } else { body.add(&record)? }
        }
        let changes = body.finish(info.end());
        let front = front.finish(info.start);
        let commits = joined(front.commits(), changes.commits());
        let points = [points(&front), points(&changes)].concat();
        Ok(Pass { reader, commits, points, changes })
    }
}

fn joined(one: Option<Commits>, other: Option<Commits>) -> Option<Commits> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
    let count = one.count.saturating_add(other.count);
    Some(Commits { count, first: one.first.min(other.first), last: one.last.max(other.last) })
}

/// A reader that has read the end of the segment before; `None` when that is not at hand.
fn front(files: &SegmentFiles, history: &BranchHistory, info: &SegmentInfo) -> Option<Reader> {
    let before = Seq(info.number().0.checked_sub(1)?);
    let file = files.open(files.name(history, before)?).ok()??;
    let size = files.size.bytes();
    let look = size.min(LOOK as u64);
    let mut pages = vec![0; usize::try_from(look).ok()?];
    file.read_exact_at(&mut pages, size - look).ok()?;
    let at = last_begun(&pages, info.block_size as usize)?;
    let lsn = Lsn(info.start.0.checked_sub(look)?.checked_add(at as u64)?);
    let before = SegmentInfo { timeline: 0, ..*info };
    let mut reader = Reader::within(&before, lsn);
    let mut records = reader.push(pages.get(at..)?).ok()?;
    while records.next_record().ok()?.is_some() {}
    reader.end().is_none().then_some(reader)
}

/// What the record changes that begins in the segment and goes on in the next one.
fn rest(
    files: &SegmentFiles,
    name: SegmentName,
    info: &SegmentInfo,
    reader: &Reader,
    patience: Duration,
) -> Option<Changes> {
    if reader.unfinished().is_none_or(|start| start < info.start) {
        return Some(Changes::none(info.end()));
    }
    let until = Instant::now() + patience;
    loop {
        match written_rest(files, name, info, reader.clone()) {
            None if Instant::now() < until => thread::sleep(PAUSE),
            rest => return rest,
        }
    }
}

/// The same, if it is written by now.
fn written_rest(files: &SegmentFiles, name: SegmentName, info: &SegmentInfo, mut reader: Reader) -> Option<Changes> {
    let mut gatherer = Gatherer::new(info.end(), files.block_size);
    let mut pages = vec![0; LOOK];
    let mut number = info.number();
    while reader.end().is_none() {
        number = number.next()?;
        let file = files.open(SegmentName::new(name.timeline, number, files.size)?).ok()??;
        for at in (0..files.size.bytes()).step_by(LOOK) {
            file.read_exact_at(&mut pages, at).ok()?;
            let mut records = reader.push(&pages).ok()?;
            if let Some(record) = records.next_record().ok()? {
                // Another record in its place: the server crashed and gave it up when it started again.
                if record.start < info.end() {
                    gatherer.add(&record).ok()?;
                }
                return Some(gatherer.finish(info.end()));
            }
            if reader.end().is_some() {
                return None;
            }
        }
    }
    None
}
