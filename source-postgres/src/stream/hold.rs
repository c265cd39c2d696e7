//! Whole segments that wait to be handed over: what their last record changes is told by the next segment.

use std::time::{Duration, Instant};

use setpiece_core::model::Lsn;
use setpiece_core::source::CapturedUnit;

use crate::changes::{Follower, Told};

/// How long the server may take to write the rest of a record. Its parts are made durable several times a second.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of segments that are kept waiting behind the first.
const MOST: u64 = 64 << 20;

/// Segments that wait, in their order.
pub(super) struct Hold {
    follower: Follower,
    /// Each with the LSN that is durable with it.
    units: Vec<(CapturedUnit, Lsn)>,
    since: Option<Instant>,
}

impl Hold {
    pub(super) fn new(block_size: u32) -> Self {
        Hold { follower: Follower::new(block_size), units: Vec::new(), since: None }
    }

    /// What is known of the segments that came.
    pub(super) fn follower(&mut self) -> &mut Follower {
        &mut self.follower
    }

    /// Adds a segment that the follower has read.
    pub(super) fn add(&mut self, unit: CapturedUnit, upto: Lsn) {
        self.units.push((unit, upto));
        self.since.get_or_insert_with(Instant::now);
        let behind: u64 = self.units.iter().skip(1).map(|(captured, _)| captured.unit.len).sum();
        if behind > MOST {
            self.give_up();
        }
    }

    /// Looks at what came by now of the segment that begins at `start`.
    pub(super) fn look(&mut self, start: Lsn, bytes: &[u8]) {
        let told = self.follower.look(start, bytes);
        self.note(told);
    }

    /// The segment under way comes once more from its begin on.
    pub(super) fn again(&mut self) {
        self.follower.again();
    }

    /// Waits no longer: what the first segment changes stays unknown.
    pub(super) fn give_up(&mut self) {
        let told = self.follower.give_up();
        self.note(told);
    }

    fn note(&mut self, told: Option<Told>) {
        let Some(told) = told else { return };
        if let Some((captured, _)) = self.units.iter_mut().find(|(held, _)| held.unit.span.after == told.start) {
            captured.unit.changes = told.changes;
        }
    }

    /// Whether segments have waited long enough, where redo may wait for `limit`.
    pub(super) fn is_due(&self, limit: Option<Duration>) -> bool {
        let patience = limit.map_or(PATIENCE, |limit| limit.min(PATIENCE));
        self.since.is_some_and(|since| since.elapsed() >= patience)
    }

    /// The segments, if nothing is waited for any more.
    pub(super) fn take(&mut self) -> Vec<(CapturedUnit, Lsn)> {
        if self.follower.waits() {
            return Vec::new();
        }
        self.since = None;
        std::mem::take(&mut self.units)
    }
}

#[cfg(test)]
mod tests {
    use setpiece_core::model::log::FileChanges;
    use setpiece_core::model::{BranchHistory, BranchId, LogUnit, LsnSpan, NodeId, Seq};

    use super::*;
    use crate::wal::sample::{SEGMENT, SampleRecord, Writer};

    const START: u64 = 0x500_0000;

    fn unit(number: u64, len: u64, changes: Option<Vec<FileChanges>>) -> CapturedUnit {
        let after = START + number * SEGMENT;
        let unit = LogUnit {
            node: NodeId(0),
            branch: BranchId(1),
            seq: Seq(after / SEGMENT),
            span: LsnSpan { after: Lsn(after), upto: Lsn(after + SEGMENT) },
            first_commit: None,
            last_commit: None,
            len,
            changes,
            name: None,
            links: None,
            timing: None,
            points: None,
        };
        CapturedUnit { unit, bytes: Vec::new(), cookie: Vec::new(), branch: BranchHistory::first(BranchId(1)) }
    }

    /// A log of one record after the other, each of a page and a half, or of many segments.
    fn log(len: usize) -> Vec<u8> {
        let mut writer = Writer::new(15, START, 77);
        while writer.bytes.len() < 6 * SEGMENT as usize {
            writer.record(&SampleRecord::plain(11, 0, &vec![7; len]));
        }
        writer.bytes
    }

    fn segment(log: &[u8], number: usize) -> &[u8] {
        &log[number * SEGMENT as usize..(number + 1) * SEGMENT as usize]
    }

    fn add(hold: &mut Hold, log: &[u8], number: usize, len: u64) {
        let bytes = segment(log, number);
        hold.look(Lsn(START + number as u64 * SEGMENT), bytes);
        let changes = hold.follower().segment(bytes).changes;
        hold.add(unit(number as u64, len, changes), Lsn(0));
    }

    fn told(hold: &mut Hold) -> Vec<bool> {
        hold.take().iter().map(|(captured, _)| captured.unit.changes.is_some()).collect()
    }

    #[test]
    fn a_segment_waits_for_the_rest_of_its_last_record_and_not_for_ever() {
        let log = log(12_000);
        let mut hold = Hold::new(8192);
        add(&mut hold, &log, 0, SEGMENT);
        assert_eq!(told(&mut hold), []);
        let next = Lsn(START + SEGMENT);
        hold.look(next, &segment(&log, 1)[..50]);
        assert_eq!(told(&mut hold), []);
        hold.look(next, &segment(&log, 1)[..20_000]);
        assert_eq!(told(&mut hold), [true]);
        // Waits for nothing, so nothing is due.
        assert!(!hold.is_due(Some(Duration::ZERO)));

        add(&mut hold, &log, 1, SEGMENT);
        assert!(hold.is_due(Some(Duration::ZERO)) && !hold.is_due(None));
        hold.give_up();
        assert_eq!(told(&mut hold), [false]);
    }

    #[test]
    fn segments_within_a_record_wait_with_the_first_and_not_too_many_of_them() {
        let log = log(2_500_000);
        let mut hold = Hold::new(8192);
        (0..2).for_each(|number| add(&mut hold, &log, number, SEGMENT));
        assert_eq!(told(&mut hold), []);
        add(&mut hold, &log, 2, SEGMENT);
        assert_eq!(told(&mut hold), [], "the record ends in the third, whose last record goes on");

        let mut hold = Hold::new(8192);
        add(&mut hold, &log, 0, SEGMENT);
        add(&mut hold, &log, 1, MOST + 1);
        assert_eq!(told(&mut hold), [false, true]);
    }
}
