//! From records to pages of files: what changes are recorded as names, for files of any size, what the records changed.

use std::collections::BTreeSet;

use proptest::prelude::*;
use setpiece_core::model::{Lsn, PageRun, PageSet};
use setpiece_core::source::JoinedChanges;

use super::{Place, file_changes, pages_of};
use crate::wal::{BlockRef, Changes, Fork, Gatherer, Record, RelFork, Version};

const SMGR: u8 = 2;
const XACT: u8 = 1;
const DATABASE: u8 = 4;
const TABLESPACE: u8 = 5;
const XLOG: u8 = 0;
const BTREE: u8 = 11;
/// Blocks of the relation that is looked at.
const BLOCKS: u32 = 40;

fn relation(fork: Fork) -> RelFork {
    RelFork { tablespace: 16400, database: 5, relation: 16384, fork }
}

#[derive(Clone, Debug)]
enum Step {
    Blocks(Fork, Vec<u32>),
    Cut(u32),
    Made,
    Dropped,
    DirectoryCopied(u32),
    DirectoryDropped(u32),
    TablespaceMade(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let fork = prop::sample::select(vec![Fork::Main, Fork::Main, Fork::VisibilityMap, Fork::Init]);
    let blocks = (fork, prop::collection::vec(0..BLOCKS, 1..6)).prop_map(|(fork, blocks)| Step::Blocks(fork, blocks));
    prop_oneof![
        20 => blocks,
        3 => (0..BLOCKS).prop_map(Step::Cut),
        1 => Just(Step::Made),
        1 => Just(Step::Dropped),
        1 => (4u32..6).prop_map(Step::DirectoryCopied),
        1 => (4u32..6).prop_map(Step::DirectoryDropped),
        1 => (16399u32..16401).prop_map(Step::TablespaceMade),
    ]
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A record of a kind, as PostgreSQL 15 lays its main data out.
fn add(gatherer: &mut Gatherer, number: u64, step: &Step) {
    let RelFork { tablespace, database, relation: number_of_relation, .. } = relation(Fork::Main);
    let its = [tablespace, database, number_of_relation];
    let (rmgr, info, main) = match step {
        Step::Blocks(..) => (BTREE, 0, Vec::new()),
        Step::Cut(block) => (SMGR, 0x20, words(&[&[*block][..], &its, &[7]].concat())),
        Step::Made => (SMGR, 0x10, words(&[&its[..], &[0]].concat())),
        // A commit: a moment, what else there is, the number of relations and the relation.
        Step::Dropped => (XACT, 0x80, words(&[&[0, 0, 4, 1][..], &its].concat())),
        Step::DirectoryCopied(database) => (DATABASE, 0x00, words(&[*database, 16400, 1, 1663])),
        Step::DirectoryDropped(database) => (DATABASE, 0x20, words(&[*database, 1, 16400])),
        Step::TablespaceMade(tablespace) => (TABLESPACE, 0x00, [words(&[*tablespace]), b"/there\0".to_vec()].concat()),
    };
    let mut blocks = Vec::new();
    if let Step::Blocks(fork, changed) = step {
        let distinct: BTreeSet<u32> = changed.iter().copied().collect();
        blocks.extend(distinct.into_iter().zip(0..).map(|(block, id)| BlockRef {
            id,
            fork: relation(*fork),
            block,
            image: None,
            will_init: false,
        }));
    }
    gatherer.add(&record(number, rmgr, info, &main, &blocks)).unwrap();
}

fn record<'r>(number: u64, rmgr: u8, info: u8, main: &'r [u8], blocks: &'r [BlockRef]) -> Record<'r> {
    let version = Version::from_major(15).unwrap();
    let (start, prev) = (Lsn(1000 + number * 100), Lsn(900 + number * 100));
    Record { version, start, end: Lsn(start.0 + 100), len: 100, xid: 7, rmgr, info, prev, main, blocks }
}

/// All pages of a fork that the recorded changes name, where each file has `per_file` pages.
fn resolved(changes: &Changes, fork: Fork, per_file: u64) -> PageSet {
    let mut joined = JoinedChanges::new();
    for change in file_changes(changes).unwrap() {
        joined.entry(change.file).or_default().union(&change.pages);
    }
    let mut all = PageSet::new();
    let mut first_block = 0;
    while first_block < u64::from(BLOCKS) {
        let pages = per_file.min(u64::from(BLOCKS) - first_block);
        let named = pages_of(Place { fork: relation(fork), first_block }, pages, &joined);
        named.runs().iter().for_each(|run| {
            assert!(run.end() <= pages);
            all.insert(PageRun::new(first_block + run.first.0, run.count));
        });
        first_block += per_file;
    }
    all
}

proptest! {
    /// However many files a fork has, they name together what its records changed.
    #[test]
    fn files_of_any_size_name_what_changed(steps in prop::collection::vec(step(), 0..12), per_file in 1u64..50) {
        let mut gatherer = Gatherer::new(Lsn(1000), 8192);
        steps.iter().zip(0..).for_each(|(step, number)| add(&mut gatherer, number, step));
        let changes = gatherer.finish(Lsn(0));
        let whole = steps.iter().any(|step| {
            matches!(step, Step::DirectoryCopied(5) | Step::DirectoryDropped(5) | Step::TablespaceMade(16400))
        });
        let all = PageRun::new(0, u64::from(BLOCKS));
        for fork in [Fork::Main, Fork::VisibilityMap, Fork::Init] {
            let expected = if whole { [all].into_iter().collect() } else { changes.pages(relation(fork), all) };
            prop_assert_eq!(resolved(&changes, fork, per_file), expected, "{:?}", fork);
        }
    }
}

#[test]
fn what_is_cut_within_one_file_is_taken_in_all_that_follow() {
    let mut gatherer = Gatherer::new(Lsn(1000), 8192);
    add(&mut gatherer, 0, &Step::Cut(13));
    let changes = gatherer.finish(Lsn(0));
    let runs = |per_file| resolved(&changes, Fork::Main, per_file).runs().to_vec();
    assert_eq!(runs(10), [PageRun::new(13, 27)]);
    assert_eq!(runs(131_072), [PageRun::new(13, 27)]);
}

#[test]
fn another_relation_or_database_changes_nothing_here() {
    let mut gatherer = Gatherer::new(Lsn(1000), 8192);
    add(&mut gatherer, 0, &Step::DirectoryCopied(4));
    add(&mut gatherer, 1, &Step::TablespaceMade(16399));
    let changes = gatherer.finish(Lsn(0));
    assert!(resolved(&changes, Fork::Main, 10).is_empty());
}

#[test]
fn a_server_that_logged_less_leaves_the_changes_unknown() {
    for (level, known) in [(0, false), (1, true), (2, true)] {
        let mut gatherer = Gatherer::new(Lsn(1000), 8192);
        let main = words(&[100, 8, 10, 0, 64, level, 0, 0]);
        gatherer.add(&record(0, XLOG, 0x60, &main, &[])).unwrap();
        assert_eq!(file_changes(&gatherer.finish(Lsn(0))).is_ok(), known, "level {level}");
    }
}
