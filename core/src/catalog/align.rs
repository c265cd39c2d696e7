//! Sets and the redo that holds their states: the LSN that both go by, and databases that were put back.

use std::collections::BTreeSet;

use super::Catalog;
use crate::model::mark::{MarkIndex, meet};
use crate::model::{BranchId, LogUnit, Lsn, SetSummary, SourceId, StateMark};

/// A state that redo on record goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeftBehind {
    /// The state.
    pub(crate) at: Lsn,
    /// The last LSN on record.
    pub(crate) upto: Lsn,
}

impl Catalog {
    /// Gives sets the LSN that captured redo has for their state, where their marks prove that they are one: a backup
    /// may have numbered it otherwise, when it could not know how far the capture had come. Where the database had been
    /// put back to a state, the backup knew more: it stays behind what was captured before.
    pub(super) fn align(&mut self) {
        let sources: BTreeSet<SourceId> = self.records.values().map(|record| record.summary.source).collect();
        for source in sources {
            let index = self.index(source);
            if index.is_empty() {
                continue;
            }
            for record in self.records.values_mut().filter(|record| record.summary.source == source) {
                place(&index, record.put_back, &mut record.summary);
            }
        }
    }

    /// As the catalog will show a set that is not in it yet.
    pub(crate) fn aligned(&self, mut set: SetSummary, put_back: Option<Lsn>) -> SetSummary {
        place(&self.index_of(set.source, [&set].into_iter()), put_back, &mut set);
        set
    }

    fn index(&self, source: SourceId) -> MarkIndex {
        self.index_of(source, self.of_source(source).map(|record| &record.summary))
    }

    /// Where redo of the source has the states of the sets.
    fn index_of<'s>(&self, source: SourceId, sets: impl Iterator<Item = &'s SetSummary>) -> MarkIndex {
        let marks = |set: &'s SetSummary| {
            let branch = set.branch.current;
            set.marks.iter().flatten().map(move |mark| (branch, *mark))
        };
        let mut index = MarkIndex::new(sets.flat_map(marks));
        if index.is_empty() {
            return index;
        }
        for unit in self.of_source(source).flat_map(|record| &record.log) {
            if let Some(links) = &unit.links {
                index.learn(unit.branch, unit.span.after, links);
            }
        }
        index
    }

    /// Where redo on record has the state with `marks` on `branch` and goes on from there. A database that is in that
    /// state now, after the redo was captured, was put back to it.
    pub(crate) fn left_behind(&self, source: SourceId, branch: BranchId, marks: &[StateMark]) -> Option<LeftBehind> {
        let units = self.of_source(source).flat_map(|record| &record.log).filter(|unit| unit.branch == branch);
        let at = units.filter_map(|unit| goes_on(unit, marks)).max()?;
        Some(LeftBehind { at, upto: self.highest(source) })
    }
}

/// The LSN at which the unit has the state with `marks`, if it goes on from it.
fn goes_on(unit: &LogUnit, marks: &[StateMark]) -> Option<Lsn> {
    let links = unit.links.as_ref()?;
    let from = meet(&links.from, marks).then_some(unit.span.after);
    let inside = links.states.iter().filter(|state| state.lsn < unit.span.upto && marks.contains(&state.mark));
    from.into_iter().chain(inside.map(|state| state.lsn)).max()
}

/// Moves a set to the LSN that redo has for its state.
fn place(index: &MarkIndex, put_back: Option<Lsn>, set: &mut SetSummary) {
    let marks = set.marks.as_deref().unwrap_or_default();
    let found = index.place(set.branch.current, marks, set.bak_end_lsn);
    if let Some(lsn) = found.filter(|lsn| put_back.is_none() || *lsn >= set.bak_end_lsn) {
        move_to(set, lsn);
    }
}

/// A snapshot, which begins and ends with one state, gets another LSN for it.
fn move_to(set: &mut SetSummary, lsn: Lsn) {
    let at = set.bak_end_lsn;
    if set.nodes.iter().all(|range| range.begin_lsn == at && range.end_lsn == at) {
        set.nodes.iter_mut().for_each(|range| (range.begin_lsn, range.end_lsn) = (lsn, lsn));
        set.bak_end_lsn = lsn;
    }
}
