//! Frames of the log on their way into a unit: whole transactions, each page once, or a part of one that is too large.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::SystemTime;

use setpiece_core::model::{MarkedState, PageRun, PageSet, Timestamp};

use crate::mark;
use crate::place::lsn;
use crate::unit::UnitWriter;
use crate::wal::{Commit, Cursor, Frame, WalHeader};

/// A unit is closed before it grows beyond this; a larger transaction is a unit of its own.
const UNIT: usize = 8 << 20;
/// A transaction is cut into parts of this size, each a unit: what is captured lies in memory, and a transaction can
/// have any size (a `VACUUM` writes the whole database).
const PART: usize = 16 << 20;

/// Transactions on their way into a unit.
pub(crate) struct Batch {
    /// The generation.
    pub(crate) header: WalHeader,
    ordinal: u32,
    /// When it was looked at.
    pub(crate) seen: Timestamp,
    writer: UnitWriter,
    transactions: u32,
    /// Whether it holds a part of a transaction that goes on behind it, and nothing else.
    part: bool,
    changed: PageSet,
    states: Vec<MarkedState>,
    last: Commit,
    /// Checksums of the newest images.
    images: BTreeMap<u32, u32>,
    /// The pages of the transaction that is being read.
    open: BTreeMap<u32, Vec<u8>>,
}

impl Batch {
    /// An empty batch behind `at` in generation `ordinal`.
    pub(crate) fn new(header: &WalHeader, ordinal: u32, at: Cursor) -> Self {
        Batch {
            header: *header,
            ordinal,
            seen: SystemTime::now().into(),
            writer: UnitWriter::new(header.page_size, header.salts, at.sum),
            transactions: 0,
            part: false,
            changed: PageSet::new(),
            states: Vec::new(),
            last: Commit { at, database: 0 },
            images: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    /// Takes a frame; breaks off before the transaction that would make the unit too large, or in it when it is alone.
    pub(crate) fn take(&mut self, frame: &Frame<'_>) -> ControlFlow<()> {
        self.open.insert(frame.page, frame.data.to_vec());
        let open = self.open.len() * self.header.frame_len();
        if self.transactions > 0 && self.writer.len() + open > UNIT {
            return ControlFlow::Break(());
        }
        let end = Commit { at: Cursor { frame: frame.number, sum: frame.after }, database: frame.database };
        if frame.database != 0 {
            self.close(end);
        } else if open > PART {
            self.part = true;
            self.close(end);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Ends a transaction with its commit, or a part of one.
    fn close(&mut self, commit: Commit) {
        if commit.database != 0 {
            // A transaction may have written pages that it cut off again before it ended.
            self.open.retain(|page, _| *page <= commit.database);
        }
        let pages = self.open.iter().map(|(page, image)| (*page, image.as_slice()));
        self.writer.add(lsn(self.ordinal, commit.at.frame), self.seen, commit.database, pages);
        for page in self.open.keys() {
            self.changed.insert(PageRun::new(u64::from(*page) - 1, 1));
        }
        self.images.extend(self.open.iter().map(|(page, image)| (*page, crc32fast::hash(image))));
        let mark = mark::of_log(self.header.salts, commit.at);
        self.states.push(MarkedState { lsn: lsn(self.ordinal, commit.at.frame), mark });
        self.open.clear();
        self.transactions += 1;
        self.last = commit;
    }

    /// Whether no transaction was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.transactions == 0
    }

    /// When its commits were seen; none when it ends before one.
    pub(crate) fn committed(&self) -> Option<Timestamp> {
        (!self.part).then_some(self.seen)
    }

    /// The end of the last transaction.
    pub(crate) fn last(&self) -> Commit {
        self.last
    }

    /// The pages of all transactions, counted from 1, and checksums of their newest images.
    pub(crate) fn images(&mut self) -> BTreeMap<u32, u32> {
        std::mem::take(&mut self.images)
    }

    /// The bytes of the unit, the pages that it changes, counted from 0, and the states that it leads to.
    pub(crate) fn finish(self) -> (Vec<u8>, PageSet, Vec<MarkedState>) {
        (self.writer.finish(self.last.at.sum), self.changed, self.states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::read_unit;

    /// Takes frames of pages until the batch breaks off: of each its page, and the size of the database if it commits.
    fn batch(from: u32, frames: impl Iterator<Item = (u32, u32)>) -> Batch {
        let header = WalHeader { big: false, page_size: 65536, salts: [1, 2], sum: [0, 0] };
        let mut batch = Batch::new(&header, 3, Cursor { frame: from, sum: [0, 0] });
        for ((page, database), number) in frames.zip(from + 1..) {
            let (before, after) = ([number - 1; 2], [number; 2]);
            let frame = Frame { number, page, database, before, after, data: &[page as u8; 65536] };
            if batch.take(&frame).is_break() {
                break;
            }
        }
        batch
    }

    #[test]
    fn a_large_transaction_is_cut_and_a_small_one_is_not() {
        let small = batch(0, (1..=100).map(|page| (page, if page == 100 { 100 } else { 0 })));
        assert_eq!((small.last().at.frame, small.committed().is_some()), (100, true));
        let large = || (1..=1000).map(|page| (page, if page == 1000 { 900 } else { 0 }));
        let part = batch(0, large());
        assert_eq!(part.committed(), None);
        let at = part.last().at.frame;
        assert!((250..260).contains(&at), "{at}");
        let bytes = part.finish().0;
        let unit = read_unit(&bytes).unwrap();
        assert_eq!((unit.transactions.len(), unit.transactions[0].database), (1, 0));
        assert_eq!(unit.transactions[0].pages().count() as u32, at);
        // The last part ends with the commit, and others may follow it.
        let tail = batch(900, large().skip(900).chain([(7, 900)]));
        assert_eq!((tail.last().at.frame, tail.committed().is_some()), (1001, true));
        assert_eq!(tail.transactions, 2);
    }
}
