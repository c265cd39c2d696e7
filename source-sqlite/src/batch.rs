//! Frames of the log on their way into a unit: whole transactions, each page once.

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

/// Transactions on their way into a unit.
pub(crate) struct Batch {
    /// The generation.
    pub(crate) header: WalHeader,
    ordinal: u32,
    /// When it was looked at.
    pub(crate) seen: Timestamp,
    writer: UnitWriter,
    transactions: u32,
    changed: PageSet,
    states: Vec<MarkedState>,
    last: Commit,
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
            changed: PageSet::new(),
            states: Vec::new(),
            last: Commit { at, database: 0 },
            open: BTreeMap::new(),
        }
    }

    /// Takes a frame; breaks off before the transaction that would make the unit too large.
    pub(crate) fn take(&mut self, frame: &Frame<'_>) -> ControlFlow<()> {
        self.open.insert(frame.page, frame.data.to_vec());
        let open = self.open.len() * self.header.frame_len();
        if self.transactions > 0 && self.writer.len() + open > UNIT {
            return ControlFlow::Break(());
        }
        if frame.database != 0 {
            self.commit(Commit { at: Cursor { frame: frame.number, sum: frame.after }, database: frame.database });
        }
        ControlFlow::Continue(())
    }

    fn commit(&mut self, commit: Commit) {
        // A transaction may have written pages that it cut off again before it ended.
        self.open.retain(|page, _| *page <= commit.database);
        let pages = self.open.iter().map(|(page, image)| (*page, image.as_slice()));
        self.writer.add(lsn(self.ordinal, commit.at.frame), self.seen, commit.database, pages);
        for page in self.open.keys() {
            self.changed.insert(PageRun::new(u64::from(*page) - 1, 1));
        }
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

    /// The end of the last transaction.
    pub(crate) fn last(&self) -> Cursor {
        self.last.at
    }

    /// The bytes of the unit, the pages that it changes, counted from 0, and the states that it leads to.
    pub(crate) fn finish(self) -> (Vec<u8>, PageSet, Vec<MarkedState>) {
        (self.writer.finish(self.last.at.sum), self.changed, self.states)
    }
}
