//! Marks: names of states of a database, with which records prove that they lie on one line of history.
//!
//! An LSN says where something is in an order. For an engine whose log numbers itself it also says what is there. Where
//! the numbers are given from outside, by several observers that may not know of each other, two records with LSNs that
//! fit may have nothing to do with each other. Such an engine gives its states *marks*: a set records the marks of the
//! state it ends with, a unit of redo those of the state it goes on from and of the states it leads to. Records join
//! where they share a mark. The bytes behind a mark are the engine's; here marks are only compared.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};

use super::id::BranchId;
use super::lsn::Lsn;

/// A name of one state. Equal marks of one source mean the same state; a state can have several, and different marks
/// prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct StateMark(#[n(0)] pub u64);

/// A state that a unit of redo leads to, and one of its marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct MarkedState {
    /// Its LSN.
    #[n(0)]
    pub lsn: Lsn,
    /// Its mark.
    #[n(1)]
    pub mark: StateMark,
}

/// What a unit of redo joins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct UnitLinks {
    /// Marks of the state that it goes on from.
    #[n(0)]
    pub from: Vec<StateMark>,
    /// The states in it at which other records may join, ascending; the last is the one that it ends with.
    #[n(1)]
    pub states: Vec<MarkedState>,
}

impl UnitLinks {
    /// The marks of the state at `lsn`.
    #[must_use]
    pub fn at(&self, lsn: Lsn) -> Vec<StateMark> {
        self.states.iter().filter(|state| state.lsn == lsn).map(|state| state.mark).collect()
    }
}

/// Whether two lists of marks name one state.
#[must_use]
pub fn meet(one: &[StateMark], other: &[StateMark]) -> bool {
    one.iter().any(|mark| other.contains(mark))
}

/// Where marks are found in redo: what a set's LSN is along that redo, whoever numbered the set.
#[derive(Clone, Debug, Default)]
pub struct MarkIndex(BTreeMap<(BranchId, StateMark), BTreeSet<Lsn>>);

impl MarkIndex {
    /// An index for the marks of `wanted`, empty yet.
    pub fn new(wanted: impl IntoIterator<Item = (BranchId, StateMark)>) -> Self {
        MarkIndex(wanted.into_iter().map(|key| (key, BTreeSet::new())).collect())
    }

    /// Whether no mark is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Learns where a unit of `branch`, which goes on behind `after`, has the marks.
    pub fn learn(&mut self, branch: BranchId, after: Lsn, links: &UnitLinks) {
        let from = links.from.iter().map(|mark| MarkedState { lsn: after, mark: *mark });
        for state in from.chain(links.states.iter().copied()) {
            if let Some(found) = self.0.get_mut(&(branch, state.mark)) {
                found.insert(state.lsn);
            }
        }
    }

    /// The LSN that redo gives to the state with `marks`, which was numbered `own`; `own` if that is one of several.
    #[must_use]
    pub fn place(&self, branch: BranchId, marks: &[StateMark], own: Lsn) -> Option<Lsn> {
        let mut found: BTreeSet<Lsn> = BTreeSet::new();
        marks.iter().filter_map(|mark| self.0.get(&(branch, *mark))).for_each(|lsns| found.extend(lsns));
        if found.contains(&own) { Some(own) } else { found.last().copied() }
    }
}
