//! What happens to one fork: single blocks, and everything from some block on.

use setpiece_core::model::{PageRun, PageSet};

use super::blocks;

/// What happened to one fork of a relation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForkChanges {
    /// The blocks that changed, none of them at or behind `from`.
    pub blocks: PageSet,
    /// The fork was made, cut or dropped: from this block on, everything is to be taken.
    pub from: Option<u32>,
}

impl ForkChanges {
    /// Whether `block` is to be taken.
    #[must_use]
    pub fn contains(&self, block: u32) -> bool {
        self.from.is_some_and(|from| block >= from) || self.blocks.contains(u64::from(block))
    }

    /// The blocks of `run` that are to be taken.
    #[must_use]
    pub fn within(&self, run: PageRun) -> PageSet {
        let mut taken = self.blocks.within(run);
        if let Some(from) = self.from.map(u64::from) {
            let first = run.first.0.max(from);
            taken.insert(PageRun::new(first, run.end().saturating_sub(first)));
        }
        taken
    }

    pub(super) fn add(&mut self, blocks: &PageSet) {
        self.blocks = blocks::join(&self.blocks, blocks);
        self.cut();
    }

    pub(super) fn add_from(&mut self, from: u32) {
        self.from = Some(self.from.map_or(from, |have| have.min(from)));
        self.cut();
    }

    fn cut(&mut self) {
        if let Some(from) = self.from
            && self.blocks.runs().last().is_some_and(|last| last.end() > u64::from(from))
        {
            self.blocks = blocks::below(&self.blocks, from);
        }
    }

    pub(super) fn merge(&mut self, later: &ForkChanges) {
        self.add(&later.blocks);
        if let Some(from) = later.from {
            self.add_from(from);
        }
    }
}
