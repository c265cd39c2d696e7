//! Unbroken rows of captured redo: many small sets that lists show as one.

use std::collections::BTreeMap;

use setpiece::catalog::SetRecord;
use setpiece::model::{BranchId, NodeId, Scope, SourceId};

/// Takes sets of redo together that follow each other, source by source; sets come in the order of their making. Every
/// other set is a row of its own, before those of redo.
pub(crate) fn rows<'r>(records: impl IntoIterator<Item = &'r SetRecord>) -> Vec<Vec<&'r SetRecord>> {
    let (logs, sets): (Vec<&SetRecord>, Vec<&SetRecord>) =
        records.into_iter().partition(|record| record.summary.scope == Scope::Log);
    let mut rows: Vec<Vec<&SetRecord>> = sets.into_iter().map(|set| vec![set]).collect();
    let mut streams: BTreeMap<(SourceId, BranchId, NodeId), Vec<&SetRecord>> = BTreeMap::new();
    for log in logs {
        let node = log.log.first().map(|unit| unit.node).unwrap_or_default();
        streams.entry((log.summary.source, log.summary.branch.current, node)).or_default().push(log);
    }
    for stream in streams.into_values() {
        rows.extend(stream.chunk_by(|last, next| goes_on(last, next)).map(<[_]>::to_vec));
    }
    rows
}

/// What a row is called: the name of its only set, or of the first and the number of the last unit.
pub(crate) fn name(row: &[&SetRecord]) -> String {
    let (Some(first), Some(last)) = (row.first(), row.last()) else { return String::new() };
    match (row.len(), last.log.last()) {
        (1, _) | (_, None) => first.summary.name.clone(),
        (_, Some(unit)) => format!("{} .. {}", first.summary.name, unit.seq),
    }
}

/// Whether `next` holds the redo right behind that of `last`.
fn goes_on(last: &SetRecord, next: &SetRecord) -> bool {
    let follows = match (last.log.last(), next.log.first()) {
        (Some(last), Some(next)) => next.follows(last).is_ok(),
        _ => false,
    };
    follows && last.missing.is_empty() == next.missing.is_empty()
}
