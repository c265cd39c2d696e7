//! What segments say that are received one after the other.
//!
//! Each is read once. The reader that has read one knows how the record goes on that lies across its end, so the next is
//! told from its first byte on. What the record changes that goes on behind a segment is told as soon as the rest of it
//! came: the segment waits for that, and so do those behind it that lie within the record as a whole.
//!
//! Where a segment does not go on where the last one ended, nothing is known of what lies before it.

use setpiece_core::model::Lsn;
use setpiece_core::model::log::FileChanges;

use super::pass::{Pass, UnitFacts, recorded, rest};
use crate::wal::{Changes, Reader, describe};

/// The longest part of a record that is remembered.
const LONGEST: u64 = 64 << 20;

/// Follows a stream of segments.
#[derive(Debug)]
pub(crate) struct Follower {
    /// Bytes of a block of a relation.
    block_size: u32,
    /// Behind the last segment; `None` where that cannot be gone on from.
    behind: Option<Reader>,
    open: Option<Open>,
}

/// A segment with a record that goes on behind it.
#[derive(Debug)]
struct Open {
    start: Lsn,
    end: Lsn,
    /// Bytes of a page of the log.
    page: usize,
    /// What the records change that begin and end in it.
    changes: Changes,
    /// Behind the pages that came since.
    ahead: Reader,
    /// Bytes that `ahead` has read of the segment under way.
    seen: usize,
}

/// What a segment changes that was waited for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Where the segment begins.
    pub start: Lsn,
    /// `None` when that cannot be told.
    pub changes: Option<Vec<FileChanges>>,
}

impl Follower {
    /// Knows of nothing yet.
    pub(crate) fn new(block_size: u32) -> Self {
        Follower { block_size, behind: None, open: None }
    }

    /// What the next whole segment says. Its changes are not told when it [waits](Self::waits) from now on.
    ///
    /// A segment that waits is to be [looked for](Self::look) in the bytes of this one first.
    pub(crate) fn segment(&mut self, bytes: &[u8]) -> UnitFacts {
        let read = describe(bytes).ok().and_then(|info| {
            let pass = Pass::behind(self.front(info.start), &info, bytes, self.block_size)?;
            Some((info, pass))
        });
        let Some((info, pass)) = read else {
            self.forget();
            return UnitFacts::NOTHING;
        };
        let goes_on = pass.goes_on(&info);
        let Pass { reader, commits, points, changes } = pass;
        if reader.end().is_some() {
            self.forget();
            return UnitFacts { commits, changes: None, points };
        }
        let ahead = reader.clone();
        self.behind = Some(reader);
        if goes_on {
            let page = info.block_size as usize;
            self.open = Some(Open { start: info.start, end: info.end(), page, changes, ahead, seen: 0 });
            return UnitFacts { commits, changes: None, points };
        }
        match &mut self.open {
            // It lies within the record as a whole.
            Some(open) if ahead.unfinished().is_some_and(|start| start < open.end) => {
                (open.ahead, open.seen) = (ahead, 0)
            }
            _ => self.open = None,
        }
        UnitFacts { commits, changes: recorded(changes), points }
    }

    /// Whether the rest of a record is waited for.
    pub(crate) fn waits(&self) -> bool {
        self.open.is_some()
    }

    /// Looks for the rest of the record in what came by now of the segment that begins at `start`; `None` as long as
    /// nothing is waited for, or not there yet.
    pub(crate) fn look(&mut self, start: Lsn, bytes: &[u8]) -> Option<Told> {
        let open = self.open.as_mut()?;
        let begun = open.ahead.unfinished().filter(|_| self.behind.as_ref().is_some_and(|at| at.position() == start));
        let fits = begun.is_some_and(|begun| start.0.saturating_sub(begun.0) <= LONGEST);
        let found = if fits { open.look(bytes, self.block_size) } else { Err(()) };
        match found {
            Ok(None) => None,
            Ok(Some(rest)) => {
                let Open { start, mut changes, .. } = self.open.take()?;
                let whole = changes.merge(&rest).is_ok();
                Some(Told { start, changes: if whole { recorded(changes) } else { None } })
            }
            Err(()) => self.give_up(),
        }
    }

    /// The segment under way comes once more from its begin on.
    pub(crate) fn again(&mut self) {
        if let Some((open, behind)) = self.open.as_mut().zip(self.behind.as_ref()) {
            (open.ahead, open.seen) = (behind.clone(), 0);
        }
    }

    /// Waits no longer.
    pub(crate) fn give_up(&mut self) -> Option<Told> {
        self.open.take().map(|open| Told { start: open.start, changes: None })
    }

    /// A reader that has read what lies before the segment that begins at `start`.
    pub(crate) fn front(&self, start: Lsn) -> Option<Reader> {
        let behind = self.behind.as_ref().filter(|reader| reader.position() == start)?;
        let short = behind.unfinished().is_none_or(|begun| start.0.saturating_sub(begun.0) <= LONGEST);
        short.then(|| behind.clone())
    }

    fn forget(&mut self) {
        (self.behind, self.open) = (None, None);
    }
}

impl Open {
    /// The rest, when it is in the bytes. What came of the last page is tried without going on for good: that a record
    /// is all there its checksum says.
    fn look(&mut self, bytes: &[u8], block_size: u32) -> Result<Option<Changes>, ()> {
        let whole = bytes.len() - bytes.len() % self.page;
        if let Some(pages) = bytes.get(self.seen..whole).filter(|pages| !pages.is_empty()) {
            self.seen = whole;
            if let Some(rest) = rest(&mut self.ahead, pages, self.end, block_size).map_err(drop)? {
                return Ok(Some(rest));
            }
        }
        let mut tail = bytes.get(whole..).unwrap_or_default().to_vec();
        if tail.is_empty() {
            return Ok(None);
        }
        tail.resize(self.page, 0);
        Ok(rest(&mut self.ahead.clone(), &tail, self.end, block_size).unwrap_or_default())
    }
}
