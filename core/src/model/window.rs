//! Windows: where recovery is possible without a gap.
//!
//! Windows are computed from sets and log units whenever they are asked for, never stored as truth.

use std::collections::BTreeSet;

use super::chain::{ById, Usable, nearness, serves};
use super::id::{BranchId, SetId, SourceId};
use super::lineage::Branches;
use super::log::{LogGap, LogUnit};
use super::lsn::Lsn;
use super::mark::meet;
use super::reach::{Evidence, Reach};
use super::set::{Scope, SetSummary};
use super::time::Timestamp;

/// A stretch of a branch to every LSN of which the source can be recovered, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The branch. The stretch may begin on an ancestor, before the fork.
    pub branch: BranchId,
    /// The first LSN: the end of the first set.
    pub from: Lsn,
    /// The last LSN.
    pub to: Lsn,
    /// The first moment: when the first set had ended.
    pub from_time: Timestamp,
    /// The last moment that is surely in the window, by the commits in its redo; `None` when there is none behind
    /// `from_time`.
    pub to_time: Option<Timestamp>,
    /// The sets to start from, nearest to the begin first.
    pub sets: Vec<SetId>,
    /// The redo that is missing behind the window, where more follows.
    pub gap: Option<LogGap>,
}

/// The windows of `source`, branch by branch, ascending. No two of a branch overlap, except where observers that did not
/// know of each other gave one number to different states: those are windows of their own.
///
/// Starting points are database sets without damaged pages whose chain is whole. `sets` may be of several sources, and
/// those of scope log tell of branches that no other set is on; `units` must be those of this source, from wherever
/// they can be read (archived, or in the log pieces of sets), in any order.
#[must_use]
pub fn windows(source: SourceId, sets: &[SetSummary], usable: &Usable<'_>, units: &[LogUnit]) -> Vec<Window> {
    let of_source: Vec<&SetSummary> = sets.iter().filter(|set| set.source == source).collect();
    let branches = Branches::gather(of_source.iter().map(|set| &set.branch));
    let known = of_source.iter().map(|set| set.branch.current).chain(units.iter().map(|unit| unit.branch));
    let index = ById::new(sets);
    let starts: BTreeSet<SetId> = of_source
        .iter()
        .filter(|set| can_start(set, &Scope::Database) && index.whole_chain(set.id, usable).is_ok())
        .map(|set| set.id)
        .collect();
    let mut found = Vec::new();
    for branch in known.collect::<BTreeSet<_>>() {
        let history = branches.history(branch);
        let evidence = Evidence::new(&history, of_source.iter().copied(), units);
        found.extend(along(&evidence, |set| starts.contains(&set.id)));
    }
    found
}

/// Whether a recovery of `scope` may start from the set without being told to.
pub(super) fn can_start(set: &SetSummary, scope: &Scope) -> bool {
    holds(set, scope) && set.bad_pages == 0
}

/// Whether `scope` can be restored from the set.
pub(super) fn holds(set: &SetSummary, scope: &Scope) -> bool {
    match scope {
        Scope::Table(_) => set.scope == *scope,
        _ => serves(&set.scope, scope),
    }
}

/// The windows along one history, from the sets that `may_start`.
pub(super) fn along(evidence: &Evidence<'_, '_>, may_start: impl Fn(&SetSummary) -> bool) -> Vec<Window> {
    let mut starts: Vec<&SetSummary> = evidence.sets.iter().copied().filter(|set| may_start(set)).collect();
    starts.sort_by_key(|set| nearness(set));
    let mut windows: Vec<Window> = Vec::new();
    let mut inside: Option<Joint<'_, '_>> = None;
    for set in starts {
        let Ok(reach) = evidence.reach(set) else { continue };
        let units: Vec<&LogUnit> = reach.logs.iter().flat_map(|log| log.units.iter().copied()).collect();
        let next = from_set(evidence, set, reach);
        match windows.last_mut() {
            Some(last) if next.from <= last.to && inside.as_ref().is_none_or(|joint| joint.holds(set)) => {
                last.join(next)
            }
            _ => windows.push(next),
        }
        inside = Some(Joint { set, units });
    }
    windows
}

/// The set that was found last to be in a window, and the redo behind it.
struct Joint<'e, 'u> {
    set: &'e SetSummary,
    units: Vec<&'u LogUnit>,
}

impl Joint<'_, '_> {
    /// Whether the state of `other`, whose LSN is in the stretch, is one that this set can be brought to. Without marks
    /// the LSN says so.
    fn holds(&self, other: &SetSummary) -> bool {
        let (Some(marks), Some(own)) = (&other.marks, &self.set.marks) else { return true };
        let lsn = other.bak_end_lsn;
        let here = lsn == self.set.bak_end_lsn && meet(own, marks);
        here || self.units.iter().any(|unit| unit.links.is_none() || meet(&unit.marks_around(lsn), marks))
    }
}

fn from_set(evidence: &Evidence<'_, '_>, set: &SetSummary, reach: Reach<'_>) -> Window {
    Window {
        branch: evidence.history.current,
        from: set.bak_end_lsn,
        to: reach.upto,
        from_time: set.ended,
        to_time: reach.last_commit().filter(|last| *last >= set.ended),
        sets: vec![set.id],
        gap: reach.gap,
    }
}

impl Window {
    /// Takes in a window that begins in this one.
    fn join(&mut self, next: Window) {
        if next.to >= self.to {
            (self.to, self.gap) = (next.to, next.gap);
        }
        self.from_time = self.from_time.min(next.from_time);
        self.to_time = self.to_time.max(next.to_time);
        self.sets.extend(next.sets);
    }
}
