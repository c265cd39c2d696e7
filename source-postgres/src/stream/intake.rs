//! What was received, as units: whole segments, and what there is of one that fills up slowly.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use setpiece_core::model::{BranchHistory, BranchId, Lsn, Seq};
use setpiece_core::source::{CapturedUnit, NodePosition};
use setpiece_core::{Error, ErrorKind, Result};

use super::hold::Hold;
use super::segment::Segment;
use crate::segments::{Around, LogDirectory, NODE};
use crate::wal::{SegmentName, SegmentSize, lsn_text};

/// What was received and not handed over.
pub(super) struct Intake {
    log: LogDirectory,
    size: SegmentSize,
    /// Of the timeline that is received.
    branch: BranchHistory,
    segment: Segment,
    /// Whole segments that wait for what comes behind them.
    held: Hold,
    /// Units that wait to be asked for, each with the LSN that is durable with it.
    ready: VecDeque<(CapturedUnit, Option<Lsn>)>,
    /// The server waits for all that it sent to be durable.
    urgent: bool,
}

impl Intake {
    /// Units of this log; its directory is not looked at.
    pub(super) fn new(log: LogDirectory, size: SegmentSize) -> Self {
        let (segment, held) = (Segment::at(size, Lsn(0)), Hold::new(log.block_size));
        let branch = BranchHistory::first(BranchId(1));
        Intake { log, size, branch, segment, held, ready: VecDeque::new(), urgent: false }
    }

    /// Begins with the segment that the byte at `lsn` is in, on the newest timeline of `branch`. What there was of it is
    /// received once more.
    pub(super) fn begin(&mut self, lsn: Lsn, branch: BranchHistory) {
        self.segment.begin(lsn);
        self.held.again();
        self.branch = branch;
    }

    pub(super) fn branch(&self) -> &BranchHistory {
        &self.branch
    }

    pub(super) fn timeline(&self) -> BranchId {
        self.branch.current
    }

    /// Where the segment under way begins.
    pub(super) fn start(&self) -> Lsn {
        self.segment.start()
    }

    /// Where the segment begins that holds `lsn`.
    pub(super) fn start_of(&self, lsn: Lsn) -> Lsn {
        Lsn(lsn.0 - self.size.offset(lsn))
    }

    /// Where the segment under way begins, with its number.
    pub(super) fn node(&self) -> NodePosition {
        let lsn = self.start();
        NodePosition { node: NODE, lsn, seq: Some(Seq(self.size.number(lsn).0)) }
    }

    /// Where the next byte belongs.
    pub(super) fn position(&self) -> Lsn {
        self.segment.position()
    }

    /// Takes what was received.
    pub(super) fn take(&mut self, start: Lsn, received: &[u8]) -> Result<()> {
        let (mut at, mut rest) = (start, received);
        while !rest.is_empty() {
            let left = self.segment.take(at, rest)?;
            at = Lsn(at.0.saturating_add((rest.len() - left.len()) as u64));
            rest = left;
            self.held.look(self.segment.start(), self.segment.bytes());
            self.let_go();
            if self.segment.is_whole() {
                self.turn()?;
            }
        }
        Ok(())
    }

    /// Goes on with the next segment.
    fn turn(&mut self) -> Result<()> {
        let (name, upto, branch) = (self.name()?, self.segment.position(), self.branch.clone());
        let around = Around::Behind(self.held.follower());
        let unit = self.log.whole_unit(name, self.segment.bytes(), around)?;
        let bytes = self.segment.turn();
        self.held.add(CapturedUnit { unit, bytes, cookie: Vec::new(), branch }, upto);
        self.let_go();
        Ok(())
    }

    /// Puts whole segments among the units that wait for nothing.
    fn let_go(&mut self) {
        self.ready.extend(self.held.take().into_iter().map(|(unit, upto)| (unit, Some(upto))));
    }

    /// Puts whole segments among the units, whatever is not known of them.
    pub(super) fn let_all_go(&mut self) {
        self.held.give_up();
        self.let_go();
    }

    /// Puts what there is of the segment among the units, if not all of it was handed over.
    pub(super) fn hand_over_beginning(&mut self) -> Result<()> {
        self.urgent = false;
        self.let_all_go();
        if self.segment.waiting_since().is_none() {
            return Ok(());
        }
        let (name, bytes) = (self.name()?, self.segment.bytes().to_vec());
        let unit = self.log.beginning(name, &bytes, Around::Behind(self.held.follower()))?;
        let captured = CapturedUnit { unit, bytes, cookie: Vec::new(), branch: self.branch.clone() };
        self.ready.push_back((captured, Some(self.segment.position())));
        self.segment.handed_over();
        Ok(())
    }

    /// Hands over a unit that has no redo.
    pub(super) fn add(&mut self, unit: CapturedUnit) {
        self.ready.push_back((unit, None));
    }

    /// The server waits for all that it sent to be durable.
    pub(super) fn hurry(&mut self) {
        self.urgent |= self.segment.waiting_since().is_some();
    }

    /// Hands over what has waited long enough: the rest of a record, in segments that are whole, for `delay` at most, and
    /// redo for its segment to be whole for `limit`.
    pub(super) fn hand_over_due(&mut self, delay: Option<Duration>, limit: Option<Duration>) -> Result<()> {
        let long = |since: Instant| limit.is_some_and(|limit| since.elapsed() >= limit);
        let due = self.segment.waiting_since().is_some_and(|since| self.urgent || long(since));
        if self.ready.is_empty() && due {
            self.hand_over_beginning()?;
        }
        if self.held.is_due(delay) {
            self.let_all_go();
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// The next unit, with the LSN that is durable with it.
    pub(super) fn next(&mut self) -> Option<(CapturedUnit, Option<Lsn>)> {
        self.ready.pop_front()
    }

    fn name(&self) -> Result<SegmentName> {
        let timeline = u32::try_from(self.timeline().0).ok();
        let number = self.size.number(self.segment.start());
        timeline.and_then(|timeline| SegmentName::new(timeline, number, self.size)).ok_or_else(|| {
            Error::new(ErrorKind::Source, format!("no segment begins at {}", lsn_text(self.segment.start())))
        })
    }
}
