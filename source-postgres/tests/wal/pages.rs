//! The proof that changes are complete: files of relations before and after, page by page.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use setpiece_core::model::PageRun;
use setpiece_source_postgres::wal::{Changes, FileLayout, Fork, RelFile};

const PAGE: usize = 8192;

/// Files of a data directory: those of relations, and the maps of catalogs.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Reads the files below `data` that belong to databases.
pub(crate) fn files(data: &Path) -> Files {
    let mut files = Files::new();
    for root in ["base", "global", "pg_tblspc"] {
        collect(data, root, &mut files);
    }
    files
}

fn collect(data: &Path, below: &str, files: &mut Files) {
    for entry in fs::read_dir(data.join(below)).unwrap() {
        let path = format!("{below}/{}", entry.unwrap().file_name().into_string().unwrap());
        // Tablespaces are links.
        if fs::metadata(data.join(&path)).unwrap().is_dir() {
            collect(data, &path, files);
        } else {
            files.insert(path.clone(), fs::read(data.join(&path)).unwrap());
        }
    }
}

/// How much there was to prove.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Pages that were there before and differ.
    pub(crate) differ: u64,
    /// Those of them in visibility maps.
    pub(crate) maps: u64,
    /// Pages that were there before and are to be taken.
    pub(crate) taken: u64,
    /// Pages that were there before and after.
    pub(crate) pages: u64,
    /// Files that are new, shorter or gone.
    pub(crate) files: u64,
    /// Maps of catalogs that differ.
    pub(crate) catalogs: u64,
}

/// Holds the difference between two states of a cluster against the changes that WAL tells. Every page that differs must
/// be named; every file that is new, shorter or gone must be explained.
pub(crate) fn prove(layout: &FileLayout, before: &Files, after: &Files, changes: &Changes) -> Tally {
    let mut tally = Tally::default();
    for (path, now) in after {
        let then = before.get(path);
        if path.ends_with("pg_filenode.map") {
            let directory = layout.parse_directory(path.rsplit_once('/').unwrap().0).unwrap();
            let told = changes.directory(directory);
            tally.catalogs += u64::from(then != Some(now));
            assert!(then == Some(now) || told.map || told.copied, "{path} differs");
        } else if let Some(file) = layout.parse(path).filter(|file| is_logged(layout, *file, before, after)) {
            prove_file(path, file, then, now, layout, changes, &mut tally);
        }
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        if let Some(file) = layout.parse(path).filter(|file| is_logged(layout, *file, before, after)) {
            let from = changes.fork(file.fork).and_then(|fork| fork.from);
            let first = layout.first_block(file).unwrap();
            let dropped = changes.directory(file.fork.directory()).dropped;
            assert!(dropped || from.is_some_and(|from| from <= first), "{path} is gone");
            tally.files += 1;
        }
    }
    tally
}

/// Changes of the free space map are not logged, nor is anything of an unlogged relation but its init fork.
fn is_logged(layout: &FileLayout, file: RelFile, before: &Files, after: &Files) -> bool {
    let init = layout.path(RelFile { fork: file.fork.with(Fork::Init), part: 0 });
    let unlogged = before.contains_key(&init) || after.contains_key(&init);
    match file.fork.fork {
        Fork::FreeSpaceMap => false,
        Fork::Init => true,
        _ => !unlogged,
    }
}

fn prove_file(
    path: &str,
    file: RelFile,
    then: Option<&Vec<u8>>,
    now: &[u8],
    layout: &FileLayout,
    changes: &Changes,
    tally: &mut Tally,
) {
    let first = layout.first_block(file).unwrap();
    let old = then.map_or(0, |then| then.len() / PAGE) as u64;
    let run = PageRun::new(first.into(), old.max((now.len() / PAGE) as u64));
    let taken = changes.pages(file.fork, run);
    let told = changes.fork(file.fork).cloned().unwrap_or_default();
    let copied = changes.directory(file.fork.directory()).copied;
    if then.is_none() {
        tally.files += 1;
        // A visibility map is begun without a word.
        let made = told.from == Some(0) || copied || file.part > 0 || file.fork.fork == Fork::VisibilityMap;
        assert!(made, "{path} is new");
    }
    if old > (now.len() / PAGE) as u64 {
        tally.files += 1;
        let end = first + (now.len() / PAGE) as u32;
        assert!(copied || told.from.is_some_and(|from| from <= end), "{path} is shorter");
    }
    for (number, page) in now.chunks(PAGE).enumerate() {
        let block = u64::from(first) + number as u64;
        let was = then.and_then(|then| then.get(number * PAGE..(number + 1) * PAGE));
        let named = taken.contains(block);
        match was {
            Some(was) => {
                tally.pages += 1;
                tally.taken += u64::from(named);
                if was != page && !is_cache(page) {
                    tally.differ += 1;
                    tally.maps += u64::from(file.fork.fork == Fork::VisibilityMap);
                    assert!(named, "block {block} of {path} differs: {}", difference(was, page));
                }
            }
            None => assert!(named || is_empty(page), "block {block} of {path} is new and not empty"),
        }
    }
}

/// Nothing, or a page header and nothing.
fn is_empty(page: &[u8]) -> bool {
    page[24..].iter().all(|byte| *byte == 0)
}

/// The first page of an SP-GiST index, whose list of pages with room is kept up without WAL; standbys have an old one,
/// too. Recognized by what its last bytes say: a mark of the page as such, the mark of such an index.
fn is_cache(page: &[u8]) -> bool {
    page[PAGE - 8] & 1 == 1 && page[PAGE - 2..] == [0x82, 0xFF]
}

fn difference(was: &[u8], is: &[u8]) -> String {
    let places: Vec<usize> = (0..PAGE).filter(|at| was[*at] != is[*at]).collect();
    let lsn = |page: &[u8]| u32::from_le_bytes(page[4..8].try_into().unwrap());
    format!("{} bytes from {} on, LSN {:X} and {:X}", places.len(), places[0], lsn(was), lsn(is))
}
