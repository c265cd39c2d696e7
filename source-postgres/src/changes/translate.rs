//! What a stretch of redo changes, in the numbers under which it is recorded.

use std::collections::BTreeMap;

use setpiece_core::model::log::FileChanges;
use setpiece_core::model::{FileId, PageRun, PageSet};

use super::number;
use crate::wal::{Changes, Fork, Happening, WalLevel};

/// Blocks that a fork can have.
const BLOCKS: u64 = 1 << 32;

/// Everything from a block on.
pub(super) fn from(block: u32) -> PageRun {
    PageRun::new(u64::from(block), BLOCKS - u64::from(block))
}

/// The numbers and pages, ascending.
///
/// # Errors
/// Why the stretch does not tell all that changed.
pub(crate) fn file_changes(changes: &Changes) -> Result<Vec<FileChanges>, String> {
    let is_minimal = |what: &Happening| matches!(what, Happening::WalLevel(WalLevel::Minimal));
    if changes.events().iter().any(|event| is_minimal(&event.what)) {
        return Err("the server ran with wal_level = minimal, at which its log does not tell everything".into());
    }
    let mut named: BTreeMap<FileId, PageSet> = BTreeMap::new();
    for (fork, changed) in changes.forks().filter(|(fork, _)| fork.fork != Fork::FreeSpaceMap) {
        let pages = named.entry(number::fork(fork)).or_default();
        pages.union(&changed.blocks);
        changed.from.into_iter().for_each(|block| pages.insert(from(block)));
    }
    // Made, dropped or copied: what was there before under the same path says nothing any more. Files that were not
    // there before are taken whole without this.
    let touched = changes.directories().filter(|(_, what)| what.copied || what.made || what.dropped);
    let directories = touched.map(|(directory, _)| number::directory(directory));
    let tablespaces = changes.tablespaces().map(|(tablespace, _)| number::tablespace(tablespace));
    directories.chain(tablespaces).for_each(|whole| named.entry(whole).or_default().insert(from(0)));
    Ok(named.into_iter().map(|(file, pages)| FileChanges { file, pages }).collect())
}
