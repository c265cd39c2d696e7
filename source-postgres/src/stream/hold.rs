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
