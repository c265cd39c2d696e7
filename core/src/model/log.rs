//! Units of redo log and their continuity.

use std::fmt;

use minicbor::{Decode, Encode};

use super::id::{BranchId, FileId, NodeId};
use super::lsn::{Lsn, LsnSpan, Seq};
use super::mark::{StateMark, UnitLinks, meet};
use super::page::PageSet;
use super::time::Timestamp;

/// A self-describing piece of redo: a DM package, a PostgreSQL segment, a batch of SQLite transactions.
///
/// A parallel log may hold its records out of order; only the smallest and the largest LSN of a unit count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct LogUnit {
    /// The log stream.
    #[n(0)]
    pub node: NodeId,
    /// The branch it was written on.
    #[n(1)]
    pub branch: BranchId,
    /// Its number on that node and branch.
    #[n(2)]
    pub seq: Seq,
    /// The redo it holds: `after` is the last LSN of the unit before it on the same node.
    #[n(3)]
    pub span: LsnSpan,
    /// The moment of its first and of its last commit, as far as the source knows.
    #[n(4)]
    pub first_commit: Option<Timestamp>,
    /// See `first_commit`.
    #[n(5)]
    pub last_commit: Option<Timestamp>,
    /// Bytes of redo.
    #[n(6)]
    pub len: u64,
    /// The pages it changes, when the source could tell completely; the change map of later increments. The units of a
    /// node that follow each other name together all that their redo changes.
    #[n(7)]
    pub changes: Option<Vec<FileChanges>>,
    /// The engine's own name for it, such as a segment's file name.
    #[n(8)]
    pub name: Option<String>,
    /// What it joins, for engines whose LSNs alone do not prove that.
    #[n(9)]
    pub links: Option<UnitLinks>,
    /// Present when commits were found late.
    #[n(10)]
    pub timing: Option<Timing>,
    /// The points that users gave names to, when the source could tell of all, ascending by LSN: recovery to a name
    /// begins before it.
    #[n(11)]
    pub points: Option<Vec<NamedPoint>>,
}

/// A point of the log with a name, such as PostgreSQL's `pg_create_restore_point` makes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct NamedPoint {
    /// The name, which several points may have.
    #[n(0)]
    pub name: String,
    /// Recovery to it ends here.
    #[n(1)]
    pub lsn: Lsn,
}

/// What the name of a unit ends with that holds only the beginning of another: what was written of it when it was stored.
/// The other has the name before this ending; once it is there, its beginnings are of no use.
pub const BEGINNING: &str = ".partial";

/// What is known of the moments at which the transactions of a unit were committed, where that is less than usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Timing {
    /// They were found in the log some time after they were committed. `last_commit` is when they were found: they were
    /// committed then or before, nobody knows when, so no moment before is a target inside of the unit.
    #[n(0)]
    Late,
}

/// Pages of one file that a unit of redo changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct FileChanges {
    /// The file, or a number by which the source means several (see `BackupRun::changed_pages`).
    #[n(0)]
    pub file: FileId,
    /// The pages, or what the source counts below such a number.
    #[n(1)]
    pub pages: PageSet,
}

/// Redo that is missing between two units, or between a set and the first unit after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogGap {
    /// The log stream.
    pub node: NodeId,
    /// The branch.
    pub branch: BranchId,
    /// The last number before the gap, if known.
    pub last_seq: Option<Seq>,
    /// The first number after the gap; `None` when nothing follows.
    pub next_seq: Option<Seq>,
    /// The redo that is missing.
    pub missing: LsnSpan,
    /// Whether the LSNs would fit, but the two sides do not prove to be of one line of history.
    pub unproven: bool,
}

impl fmt::Display for LogGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unproven {
            let (node, branch, from) = (self.node, self.branch, self.missing.after);
            write!(f, "redo of node {node} on branch {branch} cannot be proven to go on from LSN {from}")?;
        } else {
            write!(f, "redo {} of node {} on branch {} is missing", self.missing, self.node, self.branch)?;
        }
        match (self.last_seq, self.next_seq) {
            (Some(last), Some(next)) => write!(f, ", between units {last} and {next}"),
            (Some(last), None) => write!(f, ", after unit {last}"),
            (None, Some(next)) => write!(f, ", before unit {next}"),
            (None, None) => Ok(()),
        }
    }
}

impl LogUnit {
    /// Whether this unit goes on where `previous` ends: the one rule of continuity.
    ///
    /// Same node and branch: consecutive numbers, ascending LSNs and no redo between. Where the branch changes, the
    /// numbers begin anew and only the redo counts. Where both have marks, they must join.
    ///
    /// # Errors
    /// The gap, when redo may be missing between the two.
    pub fn follows(&self, previous: &LogUnit) -> Result<(), LogGap> {
        let same_stream = self.node == previous.node;
        let numbered = self.branch != previous.branch || previous.seq.next() == Some(self.seq);
        let ascending = self.span.upto > previous.span.upto;
        let reached = previous.span.reaches(self.span);
        let joined = self.goes_on_from(previous.span.upto, previous.marks_at(previous.span.upto).as_deref());
        if same_stream && numbered && ascending && reached && joined {
            return Ok(());
        }
        Err(LogGap {
            unproven: numbered && ascending && reached,
            node: previous.node,
            branch: previous.branch,
            last_seq: Some(previous.seq),
            next_seq: Some(self.seq),
            missing: LsnSpan { after: previous.span.upto, upto: self.span.after.max(previous.span.upto) },
        })
    }
}

impl LogUnit {
    /// The name of the unit that this is only the beginning of; `None` for a whole unit.
    #[must_use]
    pub fn whole(&self) -> Option<&str> {
        self.name.as_deref()?.strip_suffix(BEGINNING)
    }

    /// Whether this unit says all of `other` again, which is the beginning of the same.
    #[must_use]
    pub fn supersedes(&self, other: &LogUnit) -> bool {
        let same = |unit: &LogUnit| (unit.node, unit.branch, unit.seq, unit.span.after);
        let named = other.whole().is_some_and(|whole| self.whole().or(self.name.as_deref()) == Some(whole));
        named && same(self) == same(other) && self.span.upto >= other.span.upto
    }

    /// Marks of the state at `lsn`, which is in the unit; `None` when the unit has no marks at all.
    #[must_use]
    pub fn marks_at(&self, lsn: Lsn) -> Option<Vec<StateMark>> {
        self.links.as_ref().map(|links| links.at(lsn))
    }

    /// Marks of the state at `lsn`, be it in the unit or the one that it goes on from.
    #[must_use]
    pub fn marks_around(&self, lsn: Lsn) -> Vec<StateMark> {
        let Some(links) = self.links.as_ref().filter(|_| self.span.after <= lsn && lsn <= self.span.upto) else {
            return Vec::new();
        };
        let mut marks = links.at(lsn);
        if self.span.after == lsn {
            marks.extend(&links.from);
        }
        marks
    }

    /// Whether redo of this unit may be applied to the state at `lsn` that has `marks`, as far as marks tell: when one
    /// side has none, they tell nothing.
    #[must_use]
    pub fn goes_on_from(&self, lsn: Lsn, marks: Option<&[StateMark]>) -> bool {
        let (Some(_), Some(marks)) = (&self.links, marks) else { return true };
        meet(&self.marks_around(lsn), marks)
    }
}

/// The redo of one node along one history, in order: what continuity is judged on.
///
/// Made once from units in any order and with duplicates, then asked from many starting points.
#[derive(Clone, Debug)]
pub struct LogTrack<'u> {
    node: NodeId,
    /// Ascending by both ends; nothing that another unit covers.
    steps: Vec<Step<'u>>,
}

#[derive(Clone, Copy, Debug)]
struct Step<'u> {
    unit: &'u LogUnit,
    /// The last LSN of the unit that belongs to the history.
    upto: Lsn,
    /// The index behind the last step that can be reached from this one without a gap.
    run_end: usize,
}

/// What a track has from some LSN on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch<'u> {
    /// The units, ascending, without a gap.
    pub units: Vec<&'u LogUnit>,
    /// The redo is complete up to here; where the stretch began when it has no unit.
    pub reached: Lsn,
    /// What is missing behind it, if more units follow.
    pub gap: Option<LogGap>,
}

impl<'u> LogTrack<'u> {
    /// The track of `node`. `reach` gives for each branch the last LSN that belongs to the history wanted, `None` for a
    /// branch outside of it.
    pub fn new(
        units: impl IntoIterator<Item = &'u LogUnit>,
        node: NodeId,
        reach: impl Fn(BranchId) -> Option<Lsn>,
    ) -> Self {
        let mut steps: Vec<Step<'u>> = units
            .into_iter()
            .filter(|unit| unit.node == node)
            .filter_map(|unit| reach(unit.branch).map(|limit| (unit, unit.span.upto.min(limit))))
            .filter(|(unit, upto)| *upto > unit.span.after)
            .map(|(unit, upto)| Step { unit, upto, run_end: 0 })
            .collect();
        // Of units that begin alike the one that reaches farther is of more use.
        steps.sort_by_key(|step| (step.unit.span.after, std::cmp::Reverse(step.upto), step.unit.branch, step.unit.seq));
        let mut covered = Lsn(0);
        steps.retain(|step| {
            let adds = step.upto > covered;
            covered = covered.max(step.upto);
            adds
        });
        let mut run_end = steps.len();
        for at in (0..steps.len()).rev() {
            if at + 1 < steps.len() && gap_between(&steps[at], &steps[at + 1]).is_some() {
                run_end = at + 1;
            }
            steps[at].run_end = run_end;
        }
        LogTrack { node, steps }
    }

    /// The redo behind `after`, as far as it goes without a gap.
    #[must_use]
    pub fn from(&self, after: Lsn) -> Stretch<'u> {
        self.from_state(after, None)
    }

    /// The redo behind the state at `after` that has `marks`, as far as it goes without a gap.
    #[must_use]
    pub fn from_state(&self, after: Lsn, marks: Option<&[StateMark]>) -> Stretch<'u> {
        let first = self.steps.partition_point(|step| step.upto <= after);
        let Some(next) = self.steps.get(first) else {
            return Stretch { units: Vec::new(), reached: after, gap: None };
        };
        let apart = next.unit.span.after > after;
        if apart || !next.unit.goes_on_from(after, marks) {
            let missing = LsnSpan { after, upto: next.unit.span.after.max(after) };
            let last_seq =
                first.checked_sub(1).map(|last| &self.steps[last].unit).filter(|last| last.branch == next.unit.branch);
            let gap = LogGap {
                node: self.node,
                branch: next.unit.branch,
                last_seq: last_seq.map(|last| last.seq),
                next_seq: Some(next.unit.seq),
                missing,
                unproven: !apart,
            };
            return Stretch { units: Vec::new(), reached: after, gap: Some(gap) };
        }
        let run = &self.steps[first..next.run_end];
        let last = &self.steps[next.run_end - 1];
        Stretch {
            units: run.iter().map(|step| step.unit).collect(),
            reached: last.upto,
            gap: self.steps.get(next.run_end).and_then(|behind| gap_between(last, behind)),
        }
    }

    /// The last LSN on the track; `None` when it is empty.
    #[must_use]
    pub fn last(&self) -> Option<Lsn> {
        self.steps.last().map(|step| step.upto)
    }
}

/// What is missing between two neighbours of a track. Where the branch changes, numbers begin anew and only the redo
/// counts.
fn gap_between(last: &Step<'_>, next: &Step<'_>) -> Option<LogGap> {
    let numbered = last.unit.branch != next.unit.branch || last.unit.seq.next() == Some(next.unit.seq);
    let fits = numbered && next.unit.span.after <= last.upto;
    if fits && next.unit.goes_on_from(last.upto, last.unit.marks_at(last.upto).as_deref()) {
        return None;
    }
    Some(LogGap {
        unproven: fits,
        node: next.unit.node,
        branch: next.unit.branch,
        last_seq: Some(last.unit.seq),
        next_seq: Some(next.unit.seq),
        missing: LsnSpan { after: last.upto, upto: next.unit.span.after.max(last.upto) },
    })
}

/// Picks from `units`, in any order and with duplicates, those that carry `node` from `after` on without a gap along
/// `reach`: for each branch the last LSN that belongs to the history wanted, `None` for a branch outside of it.
///
/// Returns the chain of units, ascending, and the gap behind it if more units follow one. For many questions about the
/// same units make a [`LogTrack`] once.
pub fn continuous<'u>(
    units: impl IntoIterator<Item = &'u LogUnit>,
    node: NodeId,
    after: Lsn,
    reach: impl Fn(BranchId) -> Option<Lsn>,
) -> (Vec<&'u LogUnit>, Option<LogGap>) {
    let stretch = LogTrack::new(units, node, reach).from(after);
    (stretch.units, stretch.gap)
}
