//! How far a restored set can be brought along one history: what the redo of all nodes together is good for.
//!
//! A state as of LSN x needs the redo of every node up to x. A node's redo is complete up to the last unit of an
//! unbroken row, and also up to the `bak_end_lsn` of any set that says the node wrote nothing since: otherwise an idle
//! node would hold all others back.

use std::collections::{BTreeMap, BTreeSet};

use super::branch::BranchHistory;
use super::id::NodeId;
use super::lineage;
use super::log::{LogGap, LogTrack, LogUnit, Timing};
use super::lsn::Lsn;
use super::mark::StateMark;
use super::set::{Consistency, Scope, SetSummary};
use super::time::Timestamp;

/// What is known of one source along one history.
pub(super) struct Evidence<'e, 'u> {
    pub(super) history: &'e BranchHistory,
    /// The sets of the source that lie in the history, without those that hold nothing but log.
    pub(super) sets: Vec<&'e SetSummary>,
    tracks: BTreeMap<NodeId, LogTrack<'u>>,
}

/// The redo of one node that was chosen for a recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLog<'u> {
    /// The log stream.
    pub node: NodeId,
    /// The redo behind this point is needed; what is before it is in the set or was never written.
    pub after: Lsn,
    /// The units, ascending and without a gap that matters.
    pub units: Vec<&'u LogUnit>,
}

/// How far one set can be brought.
#[derive(Clone, Debug)]
pub(super) struct Reach<'u> {
    /// The redo of all nodes is complete up to here. At least the set's `bak_end_lsn`.
    pub(super) upto: Lsn,
    pub(super) logs: Vec<NodeLog<'u>>,
    /// Up to each moment every commit is done by the LSN beside it: the ends of units that are reached whole.
    commits: Vec<Commits>,
    /// What stops the node that stops first, if it has more redo behind a gap.
    pub(super) gap: Option<LogGap>,
}

/// The end of a unit, and the moment by which all of it was committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commits {
    pub(super) by: Timestamp,
    pub(super) end: Lsn,
    /// Whether no more is known of when they were committed.
    late: bool,
}

impl Commits {
    /// Whether a target at `time`, which lies at or before the end, lies where the state is not known.
    fn hides(&self, time: Timestamp, exclusive: bool) -> bool {
        self.late && (time < self.by || exclusive)
    }
}

impl<'e, 'u> Evidence<'e, 'u> {
    /// `sets` and `units` are those of one source; what lies outside of `history` is left out here.
    pub(super) fn new(
        history: &'e BranchHistory,
        sets: impl IntoIterator<Item = &'e SetSummary>,
        units: &'u [LogUnit],
    ) -> Self {
        let inside = |set: &&SetSummary| lineage::contains(history, set.branch.current, set.bak_end_lsn);
        let nodes: BTreeSet<NodeId> = units.iter().map(|unit| unit.node).collect();
        let track = |node| (node, LogTrack::new(units, node, |branch| history.reach(branch)));
        Evidence {
            history,
            sets: sets.into_iter().filter(|set| set.scope != Scope::Log).filter(inside).collect(),
            tracks: nodes.into_iter().map(track).collect(),
        }
    }

    /// How far `set` can be brought.
    ///
    /// # Errors
    /// When the set left out its redo and the units do not make up for it: what is missing, where that is known.
    pub(super) fn reach(&self, set: &SetSummary) -> Result<Reach<'u>, Option<LogGap>> {
        let mut reach = Reach { upto: Lsn(u64::MAX), logs: Vec::new(), commits: Vec::new(), gap: None };
        for node in self.nodes(set) {
            let (after, marks) = first_needed(set, node);
            let (units, upto, gap) = self.node_reach(node, after, marks);
            if upto < reach.upto {
                (reach.upto, reach.gap) = (upto, gap);
            }
            reach.logs.push(NodeLog { node, after, units });
        }
        if reach.logs.is_empty() {
            reach.upto = set.bak_end_lsn;
        }
        if reach.upto < set.bak_end_lsn {
            return Err(reach.gap);
        }
        reach.commits =
            reach.logs.iter().flat_map(|log| &log.units).filter_map(|unit| self.commit(unit, reach.upto)).collect();
        Ok(reach)
    }

    /// How far the redo of one node is complete behind `set`, and what is missing there if more follows.
    pub(super) fn complete(&self, set: &SetSummary, node: NodeId) -> (Lsn, Option<LogGap>) {
        let (after, marks) = first_needed(set, node);
        let (_, upto, gap) = self.node_reach(node, after, marks);
        (upto, gap)
    }

    /// The last commit of a unit that lies in the history and before `upto` as a whole.
    fn commit(&self, unit: &LogUnit, upto: Lsn) -> Option<Commits> {
        let end = unit.span.upto;
        let whole = end <= upto && lineage::contains(self.history, unit.branch, end);
        let late = unit.timing == Some(Timing::Late);
        unit.last_commit.filter(|_| whole).map(|by| Commits { by, end, late })
    }

    /// The nodes whose redo matters to `set` and what comes after it.
    fn nodes(&self, set: &SetSummary) -> BTreeSet<NodeId> {
        let own = set.nodes.iter().map(|range| range.node);
        let writing =
            self.tracks.iter().filter(|(_, track)| track.last() > Some(set.bak_end_lsn)).map(|(node, _)| *node);
        let later = self.witnesses().flat_map(|other| &other.nodes).filter(|range| range.end_lsn > set.bak_end_lsn);
        own.chain(writing).chain(later.map(|range| range.node)).collect()
    }

    /// The units of `node` behind the state at `after` that has `marks`, and how far its redo is complete.
    fn node_reach(
        &self,
        node: NodeId,
        after: Lsn,
        mut marks: Option<Vec<StateMark>>,
    ) -> (Vec<&'u LogUnit>, Lsn, Option<LogGap>) {
        let (mut units, mut upto, mut gap) = (Vec::new(), after, None);
        loop {
            let before = upto;
            if let Some(track) = self.tracks.get(&node) {
                let stretch = track.from_state(upto, marks.as_deref());
                (upto, gap) = (stretch.reached, stretch.gap);
                if let Some(last) = stretch.units.last() {
                    marks = last.marks_at(upto);
                }
                units.extend(stretch.units);
            }
            let idle = self.idle_until(node, upto);
            if idle > upto {
                // Only engines with several nodes get here, and those number their log themselves.
                (upto, marks) = (idle, None);
            }
            if upto == before {
                return (units, upto, gap);
            }
        }
    }

    /// The sets whose positions say something of the whole source.
    fn witnesses(&self) -> impl Iterator<Item = &'e SetSummary> {
        self.sets.iter().copied().filter(|set| set.holds_pages())
    }

    /// The last LSN up to which some set proves that `node`, whose redo is complete up to `lsn`, wrote nothing more.
    fn idle_until(&self, node: NodeId, lsn: Lsn) -> Lsn {
        let idle = |set: &&SetSummary| set.nodes.iter().any(|range| range.node == node && range.end_lsn <= lsn);
        self.witnesses().filter(idle).map(|set| set.bak_end_lsn).fold(lsn, Lsn::max)
    }
}

/// Where the redo of `node` must begin that is not in the set itself, and the marks of the state there.
fn first_needed(set: &SetSummary, node: NodeId) -> (Lsn, Option<Vec<StateMark>>) {
    let range = set.nodes.iter().find(|range| range.node == node);
    match (set.consistency, range) {
        (Consistency::WithoutLog, Some(range)) if range.begin_lsn != set.bak_end_lsn => (range.begin_lsn, None),
        _ => (set.bak_end_lsn, set.marks.clone()),
    }
}

impl<'u> Reach<'u> {
    /// The last moment that is surely reached: that of the last commit.
    pub(super) fn last_commit(&self) -> Option<Timestamp> {
        self.commits.iter().map(|unit| unit.by).max()
    }

    /// An LSN by which every commit up to `time` is surely done; `None` when the redo may end before `time`, or when
    /// it is not known which commits those are.
    pub(super) fn done_by(&self, time: Timestamp, exclusive: bool) -> Option<Lsn> {
        self.deciding(time).filter(|unit| !unit.hides(time, exclusive)).map(|unit| unit.end)
    }

    /// The unit in which it is not known what was committed by `time`, if that is why `time` is no target, and the
    /// last one before it.
    pub(super) fn unknown_at(&self, time: Timestamp, exclusive: bool) -> Option<(Option<Commits>, Commits)> {
        let hiding = self.deciding(time).filter(|unit| unit.hides(time, exclusive))?;
        Some((self.commits.iter().filter(|unit| unit.end < hiding.end).max_by_key(|unit| unit.end).copied(), hiding))
    }

    /// The first unit all of which is surely committed by some moment at or behind `time`.
    fn deciding(&self, time: Timestamp) -> Option<Commits> {
        self.commits.iter().filter(|unit| unit.by >= time).min_by_key(|unit| unit.end).copied()
    }

    /// The same, cut off behind `lsn`: of each node the units that begin before it.
    pub(super) fn cut(mut self, lsn: Lsn) -> Reach<'u> {
        for log in &mut self.logs {
            log.units.retain(|unit| unit.span.after.max(log.after) < lsn);
        }
        self.upto = lsn;
        self
    }
}
