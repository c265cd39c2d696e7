//! The pages of a file that joined changes name.

use setpiece_core::model::{PageRun, PageSet};
use setpiece_core::source::JoinedChanges;

use super::number;
use crate::wal::RelFork;

/// Which part of which fork a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub fork: RelFork,
    /// The number of its first block in the fork.
    pub first_block: u64,
}

/// The pages, counted within the file, which has `pages` of them.
pub(crate) fn pages_of(place: Place, pages: u64, changes: &JoinedChanges) -> PageSet {
    let directory = place.fork.directory();
    let whole = [number::directory(directory), number::tablespace(directory.tablespace)];
    if whole.iter().any(|number| changes.contains_key(number)) {
        return [PageRun::new(0, pages)].into_iter().collect();
    }
    let here = PageRun::new(place.first_block, pages);
    let named = changes.get(&number::fork(place.fork)).map(|named| named.within(here)).unwrap_or_default();
    named.runs().iter().map(|run| PageRun::new(run.first.0 - place.first_block, run.count)).collect()
}
