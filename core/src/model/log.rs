//! Units of redo log and their continuity.

use std::fmt;

use minicbor::{Decode, Encode};

use super::id::{BranchId, FileId, NodeId};
use super::lsn::{Lsn, LsnSpan, Seq};
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
    /// The pages it changes, when the source could tell completely; the change map of later increments.
    #[n(7)]
    pub changes: Option<Vec<FileChanges>>,
    /// The engine's own name for it, such as a segment's file name.
    #[n(8)]
    pub name: Option<String>,
}

/// Pages of one file that a unit of redo changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct FileChanges {
    /// The file.
    #[n(0)]
    pub file: FileId,
    /// The pages.
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
}

impl fmt::Display for LogGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redo {} of node {} on branch {} is missing", self.missing, self.node, self.branch)?;
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
    /// numbers begin anew and only the redo counts.
    ///
    /// # Errors
    /// The gap, when redo may be missing between the two.
    pub fn follows(&self, previous: &LogUnit) -> Result<(), LogGap> {
        let same_stream = self.node == previous.node;
        let numbered = self.branch != previous.branch || previous.seq.next() == Some(self.seq);
        let ascending = self.span.upto > previous.span.upto;
        if same_stream && numbered && ascending && previous.span.reaches(self.span) {
            return Ok(());
        }
        Err(LogGap {
            node: previous.node,
            branch: previous.branch,
            last_seq: Some(previous.seq),
            next_seq: Some(self.seq),
            missing: LsnSpan { after: previous.span.upto, upto: self.span.after.max(previous.span.upto) },
        })
    }
}

/// Picks from `units`, in any order and with duplicates, those that carry `node` from `after` on without a gap along
/// `reach`: for each branch the last LSN that belongs to the history wanted, `None` for a branch outside of it.
///
/// Returns the chain of units, ascending, and the gap behind it if more units follow one.
pub fn continuous<'u>(
    units: impl IntoIterator<Item = &'u LogUnit>,
    node: NodeId,
    after: Lsn,
    reach: impl Fn(BranchId) -> Option<Lsn>,
) -> (Vec<&'u LogUnit>, Option<LogGap>) {
    let mut usable: Vec<(&LogUnit, Lsn)> = units
        .into_iter()
        .filter(|unit| unit.node == node)
        .filter_map(|unit| reach(unit.branch).map(|limit| (unit, unit.span.upto.min(limit))))
        .filter(|(unit, upto)| *upto > after && *upto > unit.span.after)
        .collect();
    // Of units that begin alike the one that reaches farther is of more use.
    usable.sort_by_key(|(unit, upto)| (unit.span.after, std::cmp::Reverse(*upto), unit.branch, unit.seq));
    let mut chain: Vec<&LogUnit> = Vec::new();
    let mut reached = after;
    for (unit, upto) in usable {
        if upto <= reached {
            continue;
        }
        if unit.span.after > reached {
            let gap = LogGap {
                node,
                branch: unit.branch,
                last_seq: chain.last().map(|last| last.seq),
                next_seq: Some(unit.seq),
                missing: LsnSpan { after: reached, upto: unit.span.after },
            };
            return (chain, Some(gap));
        }
        if let Some(last) = chain.last()
            && last.branch == unit.branch
            && last.seq.next() != Some(unit.seq)
        {
            let missing = LsnSpan { after: reached, upto: reached };
            let gap = LogGap { node, branch: unit.branch, last_seq: Some(last.seq), next_seq: Some(unit.seq), missing };
            return (chain, Some(gap));
        }
        reached = upto;
        chain.push(unit);
    }
    (chain, None)
}
