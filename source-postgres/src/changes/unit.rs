//! What one whole segment of the server's log directory says: the moments of its commits, and what its records change if
//! that can be told completely.
//!
//! The end of the segment before is looked at for a commit that ends in this one, and the begin of the next one for the
//! rest of a record. Both are small looks, and the segment itself is read once.

use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use setpiece_core::model::{BranchHistory, Lsn, Seq};

use super::files::SegmentFiles;
use super::pass::{Pass, UnitFacts, recorded, rest};
use crate::wal::{Changes, Reader, SegmentInfo, SegmentName, describe, last_begun};

/// Bytes that are looked at in a neighbour at once; a multiple of every size that pages have.
const LOOK: usize = 256 << 10;
/// How often the next segment is looked at while the server has not written the rest of a record there.
const PAUSE: Duration = Duration::from_millis(10);

/// What the segment `name` of a history says, whose content is `bytes`. A record that goes on in the next segment is
/// waited for, but not longer than `patience`.
pub(crate) fn facts(
    files: &SegmentFiles,
    history: Option<&BranchHistory>,
    name: SegmentName,
    bytes: &[u8],
    patience: Duration,
) -> UnitFacts {
    let Ok(info) = describe(bytes) else { return UnitFacts::NOTHING };
    let front = history.and_then(|history| front(files, history, &info));
    let Some(pass) = Pass::behind(front, &info, bytes, files.block_size) else { return UnitFacts::NOTHING };
    let rest = if pass.reader.end().is_none() { written(files, name, &info, &pass, patience) } else { None };
    let Pass { commits, points, mut changes, .. } = pass;
    let whole = rest.and_then(|rest| changes.merge(&rest).ok());
    UnitFacts { commits, changes: whole.and_then(|()| recorded(changes)), points }
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
fn written(
    files: &SegmentFiles,
    name: SegmentName,
    info: &SegmentInfo,
    pass: &Pass,
    patience: Duration,
) -> Option<Changes> {
    if !pass.goes_on(info) {
        return Some(Changes::none(info.end()));
    }
    let until = Instant::now() + patience;
    loop {
        match written_by_now(files, name, info, pass.reader.clone()) {
            None if Instant::now() < until => thread::sleep(PAUSE),
            written => return written,
        }
    }
}

fn written_by_now(files: &SegmentFiles, name: SegmentName, info: &SegmentInfo, mut reader: Reader) -> Option<Changes> {
    let mut pages = vec![0; LOOK];
    let mut number = info.number();
    loop {
        number = number.next()?;
        let file = files.open(SegmentName::new(name.timeline, number, files.size)?).ok()??;
        for at in (0..files.size.bytes()).step_by(LOOK) {
            file.read_exact_at(&mut pages, at).ok()?;
            if let Some(changes) = rest(&mut reader, &pages, info.end(), files.block_size).ok()? {
                return Some(changes);
            }
        }
    }
}
