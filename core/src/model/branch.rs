//! Branches: what a source's history turned into after each point-in-time recovery.

use minicbor::{Decode, Encode};

use super::id::BranchId;
use super::lsn::Lsn;
use super::time::Timestamp;

/// Where one branch left another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct BranchPoint {
    /// The branch that begins here.
    #[n(0)]
    pub branch: BranchId,
    /// The branch it left.
    #[n(1)]
    pub parent: BranchId,
    /// The last LSN of the parent that is part of this branch's history.
    #[n(2)]
    pub fork: Lsn,
    /// When it was made, as far as known.
    #[n(3)]
    pub made: Option<Timestamp>,
}

/// The branch a source is on, and how it came to be there, back to the first branch that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct BranchHistory {
    /// The branch the source is on.
    #[n(0)]
    pub current: BranchId,
    /// The branches it came from, oldest first. The last one's `branch` is `current`; empty on a first branch.
    #[n(1)]
    pub points: Vec<BranchPoint>,
}

impl BranchHistory {
    /// A history that begins with `branch`.
    #[must_use]
    pub fn first(branch: BranchId) -> Self {
        BranchHistory { current: branch, points: Vec::new() }
    }

    /// The history after a recovery that ended at `fork` and went on as `branch`.
    #[must_use]
    pub fn fork(&self, branch: BranchId, fork: Lsn, made: Option<Timestamp>) -> Self {
        let mut points = self.points.clone();
        let mut parent = self.current;
        // A fork below an earlier one leaves the ancestor on which it lies; what came between is no part of the history.
        while let Some(last) = points.pop_if(|last| last.fork > fork) {
            parent = last.parent;
        }
        points.push(BranchPoint { branch, parent, fork, made });
        BranchHistory { current: branch, points }
    }

    /// Whether both tell the same of every branch that both know the fork of. Engines that number branches themselves may
    /// give a number twice: two databases that were brought back from one backup each begin the branch that comes next.
    #[must_use]
    pub fn agrees_with(&self, other: &BranchHistory) -> bool {
        let same = |one: &BranchPoint, two: &BranchPoint| (one.parent, one.fork) == (two.parent, two.fork);
        let known = |point: &BranchPoint| other.points.iter().find(|theirs| theirs.branch == point.branch);
        self.points.iter().all(|point| known(point).is_none_or(|theirs| same(point, theirs)))
    }

    /// The last LSN of `branch` that belongs to this history: everything on the current branch, up to the fork on an
    /// ancestor, `None` on a branch that is no ancestor.
    #[must_use]
    pub fn reach(&self, branch: BranchId) -> Option<Lsn> {
        if branch == self.current {
            return Some(Lsn(u64::MAX));
        }
        let mut limit = Lsn(u64::MAX);
        for point in self.points.iter().rev() {
            limit = limit.min(point.fork);
            if point.parent == branch {
                return Some(limit);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_given_twice_is_seen() {
        let first = BranchHistory::first(BranchId(1));
        let (one, other) = (first.fork(BranchId(2), Lsn(100), None), first.fork(BranchId(2), Lsn(101), None));
        let later = one.fork(BranchId(3), Lsn(150), None);
        for (left, right, agree) in
            [(&one, &other, false), (&later, &other, false), (&later, &one, true), (&first, &other, true)]
        {
            assert_eq!(left.agrees_with(right), agree);
            assert_eq!(right.agrees_with(left), agree);
        }
    }

    #[test]
    fn reach_ends_at_the_lowest_fork_on_the_way() {
        let first = BranchHistory::first(BranchId(1));
        let second = first.fork(BranchId(2), Lsn(100), None);
        let third = second.fork(BranchId(3), Lsn(150), None);
        assert_eq!(third.reach(BranchId(3)), Some(Lsn(u64::MAX)));
        assert_eq!(third.reach(BranchId(2)), Some(Lsn(150)));
        assert_eq!(third.reach(BranchId(1)), Some(Lsn(100)));
        assert_eq!(third.reach(BranchId(9)), None);
        assert_eq!(first.reach(BranchId(2)), None);
        let below = third.fork(BranchId(4), Lsn(90), None);
        assert_eq!(below.reach(BranchId(1)), Some(Lsn(90)));
        assert_eq!(below.reach(BranchId(2)), None);
    }
}
