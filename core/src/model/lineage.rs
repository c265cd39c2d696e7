//! The branches of a source as far as they are known: gathered from what its sets say of their own histories.

use std::collections::BTreeMap;

use super::branch::BranchHistory;
use super::id::BranchId;
use super::log::LogUnit;
use super::lsn::Lsn;
use super::set::SetSummary;
use super::time::Timestamp;

/// The histories of all branches that are known of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Branches(BTreeMap<BranchId, BranchHistory>);

impl Branches {
    /// Gathers the branches that the histories name, as current ones or as ancestors.
    pub fn gather<'a>(histories: impl IntoIterator<Item = &'a BranchHistory>) -> Self {
        let mut known = Branches::default();
        for history in histories {
            known.learn(history.clone());
            for (at, point) in history.points.iter().enumerate() {
                known.learn(BranchHistory { current: point.parent, points: history.points[..at].to_vec() });
            }
        }
        known
    }

    /// Of several accounts of a branch the one that goes back farthest is kept.
    fn learn(&mut self, history: BranchHistory) {
        let have = self.0.entry(history.current).or_insert_with(|| BranchHistory::first(history.current));
        if history.points.len() > have.points.len() {
            *have = history;
        }
    }

    /// For each branch that others came from, the last LSN at which one did.
    fn left(&self) -> BTreeMap<BranchId, Lsn> {
        let mut left = BTreeMap::new();
        for history in self.0.values() {
            for parent in history.points.iter().map(|point| point.parent) {
                let fork = history.reach(parent).unwrap_or_default();
                let last: &mut Lsn = left.entry(parent).or_default();
                *last = fork.max(*last);
            }
        }
        left
    }

    /// The history of `branch`; a branch that nothing is known of is taken for a first one.
    #[must_use]
    pub fn history(&self, branch: BranchId) -> BranchHistory {
        self.0.get(&branch).cloned().unwrap_or_else(|| BranchHistory::first(branch))
    }
}

/// Whether the state at `lsn` of `branch` is part of `history`.
#[must_use]
pub fn contains(history: &BranchHistory, branch: BranchId, lsn: Lsn) -> bool {
    history.reach(branch).is_some_and(|limit| lsn <= limit)
}

/// The branch that was worked on last: that of the set that ended last or of the unit with the last commit. Of two
/// that are equally young the one with the longer history counts.
///
/// A state that another branch went on from says nothing for its own branch, whatever the clock said when it was
/// recorded.
#[must_use]
pub fn newest_branch(sets: &[&SetSummary], units: &[LogUnit], branches: &Branches) -> Option<BranchId> {
    let of_sets = sets.iter().map(|set| (set.ended, set.branch.current, set.bak_end_lsn));
    let of_units =
        units.iter().map(|unit| (unit.last_commit.unwrap_or(Timestamp(i64::MIN)), unit.branch, unit.span.upto));
    let left = branches.left();
    let goes_on = |&(_, branch, lsn): &(_, BranchId, Lsn)| left.get(&branch).is_none_or(|fork| lsn > *fork);
    let age = |&(time, branch, _): &(Timestamp, BranchId, Lsn)| (time, branches.history(branch).points.len(), branch);
    of_sets.chain(of_units).filter(goes_on).max_by_key(age).map(|(_, branch, _)| branch)
}
