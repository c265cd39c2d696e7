//! Whether redo that is being captured is of use: some set must be there that can be brought up to it.

use super::branch::BranchHistory;
use super::chain::{ById, Usable};
use super::id::{NodeId, SourceId};
use super::log::{LogGap, LogUnit};
use super::lsn::{Lsn, LsnSpan};
use super::reach::Evidence;
use super::set::{Scope, SetSummary};
use super::window::can_start;

/// A place in the redo of one node.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The source.
    pub source: SourceId,
    /// The history of the branch that is captured.
    pub history: &'a BranchHistory,
    /// The log stream.
    pub node: NodeId,
    /// The last LSN of the redo in question.
    pub upto: Lsn,
}

/// Whether the redo of the node is complete up to the place, beginning with a set that a recovery may start from. A set
/// that ends behind the place is as good: redo that goes on from there reaches it.
///
/// `sets` and `units` are as for [`windows`](super::window::windows).
///
/// # Errors
/// What is missing behind the set that gets farthest; nothing when there is no set to start from.
pub fn joins(
    place: &Place<'_>,
    sets: &[SetSummary],
    usable: &Usable<'_>,
    units: &[LogUnit],
) -> Result<(), Option<LogGap>> {
    let index = ById::new(sets);
    let evidence = Evidence::new(place.history, sets.iter().filter(|set| set.source == place.source), units);
    let starts = evidence
        .sets
        .iter()
        .filter(|set| can_start(set, &Scope::Database) && index.whole_chain(set.id, usable).is_ok());
    let farthest = starts.map(|set| evidence.complete(set, place.node)).max_by_key(|(upto, _)| *upto);
    match farthest {
        Some((upto, _)) if upto >= place.upto => Ok(()),
        Some((upto, gap)) => Err(Some(gap.unwrap_or_else(|| gap_behind(place, upto)))),
        None => Err(None),
    }
}

fn gap_behind(place: &Place<'_>, upto: Lsn) -> LogGap {
    let missing = LsnSpan { after: upto, upto: place.upto };
    LogGap { node: place.node, branch: place.history.current, last_seq: None, next_seq: None, missing, unproven: false }
}
