//! What is wrong is found: redo that was skipped, pages that are stale, files that are missing or too many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{Ask, Backup, backup, copy_dir};
use setpiece_core::ErrorKind;
use setpiece_core::model::{FileKind, LogUnit, Lsn, Until};
use setpiece_core::source::{PageState, Recovery};
use setpiece_model_engine::{Config, FileContent, Model, ModelRecovery, Package};

fn made(seed: u64, dir: &Path) -> (Model, Backup) {
    let config = Config { nodes: 2, parallel_log: 2, ..Config::default() };
    let model = Model::new(config, seed, &dir.join("db")).unwrap();
    model.run(250).unwrap();
    model.busy_while_read(2);
    let set = backup(&model, &dir.join("copy"));
    (model, set)
}

fn header_lsn(page: &[u8]) -> Lsn {
    Lsn(u64::from_le_bytes(page[..8].try_into().unwrap()))
}

/// Recovers a copy of the files with `redo`, and says whether anything is found to be wrong.
fn found(model: &Model, set: &Backup, redo: &[(LogUnit, Vec<u8>)], from: &Path, to: &Path) -> bool {
    fs::remove_dir_all(to).ok();
    copy_dir(from, to);
    match Ask::new(set, Until::SetEnd).redo(redo).recover(to) {
        Err(error) => error.kind() == ErrorKind::Damaged,
        Ok(_) => model.oracle().at(model.branch(), set.end).difference(to).unwrap().is_some(),
    }
}

fn without(redo: &[(LogUnit, Vec<u8>)], skipped: Lsn) -> Vec<(LogUnit, Vec<u8>)> {
    let cut = |(unit, bytes): &(LogUnit, Vec<u8>)| {
        let (mut package, _) = Package::decode(bytes).unwrap();
        package.transactions.retain(|ptx| ptx.lsn != skipped);
        (unit.clone(), package.encode().unwrap())
    };
    redo.iter().map(cut).collect()
}

/// The transactions without which some page in use would not be what it is: they wrote it last, and the copy is older.
fn needed(file: &FileContent, dir: &Path) -> BTreeSet<Lsn> {
    let Ok(restored) = fs::read(file.entry.path.below(dir)) else { return BTreeSet::new() };
    let size = file.entry.page_size as usize;
    let newest = |page: u64| file.in_use(page).then(|| header_lsn(&file.page(page)));
    let have = |page: u64| restored.get(page as usize * size..(page as usize + 1) * size).map_or(Lsn(0), header_lsn);
    (0..file.entry.pages()).filter_map(|page| newest(page).filter(|lsn| *lsn > have(page))).collect()
}

/// A recovery that forgets one transaction is always found out, by the redo that follows or by the oracle.
#[test]
fn skipped_redo_is_found() {
    let mut tried = 0;
    for seed in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let (model, set) = made(seed, dir.path());
        let (copy, work) = (dir.path().join("copy"), dir.path().join("work"));
        assert!(!found(&model, &set, &set.redo, &copy, &work), "the whole redo must do");
        let content = model.oracle().at(model.branch(), set.end);
        let paged = content.files.values().filter(|file| file.entry.kind == FileKind::Paged);
        for lsn in paged.flat_map(|file| needed(file, &copy)).take(8) {
            assert!(found(&model, &set, &without(&set.redo, lsn), &copy, &work), "seed {seed}, redo {lsn}");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried}");
}

/// Redo with a package missing is refused before anything is changed.
#[test]
fn a_missing_package_is_refused() {
    let mut tried = 0;
    for seed in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let (_, set) = made(seed, dir.path());
        for at in 0..set.redo.len() {
            let mut redo = set.redo.clone();
            redo.remove(at);
            let error = Ask::new(&set, Until::SetEnd).redo(&redo).recover(&dir.path().join("copy")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

/// Pages that a restore left out, or took from an older set, are found even if no redo touches them.
#[test]
fn stale_pages_are_found() {
    let mut tried = 0;
    for seed in 20..30 {
        let dir = tempfile::tempdir().unwrap();
        let (model, set) = made(seed, dir.path());
        let (copy, work) = (dir.path().join("copy"), dir.path().join("work"));
        let (begin, end) = (set.nodes.iter().map(|node| node.begin_lsn).min().unwrap(), set.end);
        let now = model.oracle().at(model.branch(), end);
        let old = model.oracle().at(model.branch(), Lsn(begin.0 / 2));
        for (path, file) in now.files.iter().filter(|(_, file)| file.entry.kind == FileKind::Paged) {
            let Some(before) = old.files.get(path).filter(|old| old.entry.generation == file.entry.generation) else {
                continue;
            };
            // A page of zeros has no LSN: it may be one that redo makes so.
            let quiet = |page: &u64| (Lsn(1)..=begin).contains(&header_lsn(&file.page(*page)));
            let stale = |page: &u64| file.in_use(*page) && quiet(page);
            let differs = |page: &u64| *page < before.entry.pages() && before.page(*page) != file.page(*page);
            for page in (0..file.entry.pages()).filter(stale).filter(differs).take(3) {
                fs::remove_dir_all(&work).ok();
                copy_dir(&copy, &work);
                let mut bytes = fs::read(path.below(&work)).unwrap();
                let at = file.entry.offset(page) as usize;
                let older = before.page(page);
                bytes[at..at + older.len()].copy_from_slice(&older);
                let wrong = dir.path().join("wrong");
                fs::write(path.below(&work), bytes).unwrap();
                assert!(found(&model, &set, &set.redo, &work, &wrong), "seed {seed}, page {page} of {path}");
                tried += 1;
            }
        }
    }
    assert!(tried > 10, "{tried}");
}

/// What the comparison looks at besides pages.
#[test]
fn other_differences_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (model, set) = made(1, dir.path());
    let copy = dir.path().join("copy");
    Ask::new(&set, Until::SetEnd).recover(&copy).unwrap();
    let content = model.oracle().at(model.branch(), set.end);
    let why = || content.difference(&copy).unwrap().map(|difference| difference.why);
    assert_eq!(why(), None);

    fs::write(copy.join("TEMP.DBF"), [0; 512]).unwrap();
    assert_eq!(why().as_deref(), Some("must not be there"));
    fs::remove_file(copy.join("TEMP.DBF")).unwrap();

    let main = fs::read(copy.join("MAIN.DBF")).unwrap();
    fs::write(copy.join("MAIN.DBF"), &main[..main.len() - 512]).unwrap();
    assert!(why().unwrap().contains("bytes instead of"));
    fs::remove_file(copy.join("MAIN.DBF")).unwrap();
    assert_eq!(why().as_deref(), Some("is missing"));
    fs::write(copy.join("MAIN.DBF"), &main).unwrap();
    assert_eq!(why(), None);

    let control = fs::read(copy.join("control.mdl")).unwrap();
    fs::write(copy.join("control.mdl"), &control[..control.len() - 1]).unwrap();
    assert_eq!(content.difference(&copy).unwrap_err().kind(), ErrorKind::Damaged);
}

/// A flipped bit in a page in use is seen by `inspect`, by a recovery that needs the page, and by the comparison.
#[test]
fn damage_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (model, set) = made(2, dir.path());
    let copy = dir.path().join("copy");
    let entry = set.files.iter().find(|entry| entry.path.as_str() == "MAIN.DBF").unwrap();
    let mut page0 = fs::read(copy.join("MAIN.DBF")).unwrap()[..entry.page_size as usize].to_vec();
    assert!(matches!(ModelRecovery.inspect(entry, 0, &page0), PageState::At(_)));
    assert!(matches!(ModelRecovery.inspect(entry, 1, &page0), PageState::Bad(_)));
    page0[100] ^= 1;
    assert_eq!(ModelRecovery.inspect(entry, 0, &page0), PageState::Torn);

    model.checkpoint(1000).unwrap();
    model.shutdown().unwrap();
    model.damage("MAIN.DBF", 100).unwrap();
    let content = model.oracle().at(model.branch(), model.lsn());
    let difference = content.difference_in_use(&model.dir()).unwrap().unwrap();
    assert_eq!((difference.path.as_str(), difference.page), ("MAIN.DBF", Some(0)));
}
