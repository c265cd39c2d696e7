//! Tests of gathering, joining and storing changes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use setpiece_core::ErrorKind;
use setpiece_core::model::{Lsn, PageRun};

use super::changes::{Changes, Happening};
use super::gather::Gatherer;
use super::record::{BlockRef, Record};
use super::rel::{DatabaseDir, Fork, RelFork};
use super::version::Version;

/// What a test record does.
#[derive(Clone, Debug)]
enum Deed {
    Block(RelFork, u32),
    Make(RelFork),
    Cut(RelFork, u32),
    Drop(RelFork),
    Copy(u32),
    DropDatabase(u32),
    Map(u32),
    Commit(i64),
    Tablespace(u32, bool),
    Point(String),
    Checkpoint,
    Level(u32),
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

impl Deed {
    /// Resource manager, kind, blocks and main data of a record that does this.
    fn record(&self) -> (u8, u8, Vec<BlockRef>, Vec<u8>) {
        let relation = |fork: RelFork| [fork.tablespace, fork.database, fork.relation];
        let main = |rmgr, info, main| (rmgr, info, Vec::new(), main);
        match self {
            Deed::Block(fork, block) => {
                let named = BlockRef { id: 0, fork: *fork, block: *block, image: None, will_init: false };
                (11, 0, vec![named], Vec::new())
            }
            Deed::Make(fork) => {
                let [tablespace, database, number] = relation(*fork);
                main(2, 0x10, numbers(&[tablespace, database, number, fork.fork as u32]))
            }
            Deed::Cut(fork, block) => {
                let [tablespace, database, number] = relation(*fork);
                main(2, 0x20, numbers(&[*block, tablespace, database, number, 1]))
            }
            Deed::Drop(fork) => {
                let mut bytes = 5i64.to_le_bytes().to_vec();
                bytes.extend(numbers(&[1 << 2, 1]));
                bytes.extend(numbers(&relation(*fork)));
                main(1, 0x80, bytes)
            }
            Deed::Copy(database) => main(4, 0x00, numbers(&[*database, 1663, 1, 1663])),
            Deed::DropDatabase(database) => main(4, 0x20, numbers(&[*database, 1, 1663])),
            Deed::Map(database) => main(7, 0, numbers(&[*database, 1663, 0])),
            Deed::Commit(time) => main(1, 0, time.to_le_bytes().to_vec()),
            Deed::Tablespace(tablespace, made) => main(5, if *made { 0 } else { 0x10 }, numbers(&[*tablespace])),
            Deed::Point(name) => {
                let mut bytes = vec![0; 8];
                bytes.extend(name.as_bytes());
                main(0, 0x70, bytes)
            }
            Deed::Checkpoint => main(0, 0x10, vec![1; 88]),
            Deed::Level(level) => main(0, 0x60, numbers(&[0, 0, 0, 0, 0, *level])),
        }
    }
}

fn fork() -> impl Strategy<Value = RelFork> {
    (5u32..7, 100u32..103, prop::sample::select(&Fork::ALL[..])).prop_map(|(database, relation, fork)| RelFork {
        tablespace: 1663,
        database,
        relation,
        fork,
    })
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        20 => (fork(), 0u32..60).prop_map(|(fork, block)| Deed::Block(fork, block)),
        1 => fork().prop_map(Deed::Make),
        2 => (fork(), 0u32..60).prop_map(|(fork, block)| Deed::Cut(fork, block)),
        1 => fork().prop_map(Deed::Drop),
        1 => (5u32..7).prop_map(Deed::Copy),
        1 => (5u32..7).prop_map(Deed::DropDatabase),
        1 => (5u32..7).prop_map(Deed::Map),
        2 => any::<i32>().prop_map(|time| Deed::Commit(time.into())),
        1 => (1u32..3, any::<bool>()).prop_map(|(tablespace, made)| Deed::Tablespace(tablespace, made)),
        1 => "[a-z]{1,5}".prop_map(Deed::Point),
        1 => Just(Deed::Checkpoint),
        1 => (0u32..3).prop_map(Deed::Level),
    ]
}

/// The changes of deeds, each a record of eight bytes behind the one before.
fn gather(after: u64, deeds: &[Deed]) -> Changes {
    let mut gatherer = Gatherer::new(Lsn(after), 8192);
    let mut at = after;
    for deed in deeds {
        let (rmgr, info, blocks, main) = deed.record();
        let record = Record {
            version: Version::from_major(15).unwrap(),
            start: Lsn(at),
            end: Lsn(at + 8),
            len: 8,
            xid: 3,
            rmgr,
            info,
            prev: Lsn(0),
            main: &main,
            blocks: &blocks,
        };
        gatherer.add(&record).unwrap();
        at += 8;
    }
    gatherer.finish(Lsn(at))
}

/// The blocks below 100 that are to be taken of each fork, worked out the slow way.
fn oracle(deeds: &[Deed]) -> BTreeMap<RelFork, BTreeSet<u64>> {
    let mut taken: BTreeMap<RelFork, BTreeSet<u64>> = BTreeMap::new();
    let mut add = |fork: RelFork, blocks: std::ops::Range<u64>| taken.entry(fork).or_default().extend(blocks);
    for deed in deeds {
        match deed {
            Deed::Block(fork, block) => add(*fork, u64::from(*block)..u64::from(*block) + 1),
            Deed::Make(fork) => {
                add(*fork, 0..100);
                if fork.fork == Fork::Main {
                    add(fork.with(Fork::VisibilityMap), 0..100);
                }
            }
            Deed::Cut(fork, block) => add(fork.with(Fork::Main), u64::from(*block)..100),
            Deed::Drop(fork) => Fork::ALL.into_iter().for_each(|each| add(fork.with(each), 0..100)),
            Deed::Copy(database) => {
                for relation in 100..103 {
                    for fork in Fork::ALL {
                        add(RelFork { tablespace: 1663, database: *database, relation, fork }, 0..100);
                    }
                }
            }
            _ => {}
        }
    }
    taken
}

fn check_pages(changes: &Changes, deeds: &[Deed], exact: bool) -> Result<(), TestCaseError> {
    let oracle = oracle(deeds);
    for database in 5..7 {
        for relation in 100..103 {
            for fork in Fork::ALL.into_iter().filter(|fork| *fork != Fork::FreeSpaceMap) {
                let fork = RelFork { tablespace: 1663, database, relation, fork };
                let pages = changes.pages(fork, PageRun::new(0, 100));
                let told: BTreeSet<u64> = pages.runs().iter().flat_map(|run| run.first.0..run.end()).collect();
                let expected = oracle.get(&fork).cloned().unwrap_or_default();
                prop_assert!(told.is_superset(&expected));
                prop_assert!(!exact || told == expected, "{fork}: {told:?} {expected:?}");
                if let Some(changed) = changes.fork(fork) {
                    let copied = changes.directory(fork.directory()).copied;
                    prop_assert!(
                        copied || (0..100).all(|block| changed.contains(block) == pages.contains(block.into()))
                    );
                    let blocks = &changed.blocks;
                    prop_assert!(blocks.is_valid());
                    let cut =
                        changed.from.is_none_or(|from| blocks.runs().last().is_none_or(|run| run.end() <= from.into()));
                    prop_assert!(cut, "{changed:?}");
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_block_is_told_and_no_other(deeds in proptest::collection::vec(deed(), 0..120)) {
        let changes = gather(1000, &deeds);
        check_pages(&changes, &deeds, true)?;
        let commits = deeds.iter().filter(|deed| matches!(deed, Deed::Commit(_) | Deed::Drop(_))).count();
        prop_assert_eq!(changes.commits().map_or(0, |commits| commits.count), commits as u64);
        let moments = || deeds.iter().filter_map(|deed| match deed {
            Deed::Commit(time) => Some(time + 946_684_800_000_000),
            Deed::Drop(_) => Some(5 + 946_684_800_000_000),
            _ => None,
        });
        prop_assert_eq!(changes.commits().map(|commits| commits.first.0), moments().min());
        prop_assert_eq!(changes.commits().map(|commits| commits.last.0), moments().max());
        for database in 5..7 {
            let directory = changes.directory(DatabaseDir { tablespace: 1663, database });
            let has = |wanted: fn(&Deed, u32) -> bool| deeds.iter().any(|deed| wanted(deed, database));
            prop_assert_eq!(directory.copied, has(|deed, database| matches!(deed, Deed::Copy(it) if *it == database)));
            prop_assert_eq!(directory.map, has(|deed, database| matches!(deed, Deed::Map(it) if *it == database)));
            prop_assert_eq!(
                directory.dropped,
                has(|deed, database| matches!(deed, Deed::DropDatabase(it) if *it == database))
            );
        }
        for (tablespace, told) in changes.tablespaces() {
            let has = |wanted| deeds.iter().any(|deed| matches!(deed, Deed::Tablespace(it, made) if *it == tablespace && *made == wanted));
            prop_assert_eq!((told.made, told.dropped), (has(true), has(false)));
        }
        let names: Vec<String> = changes.events().iter().filter_map(|event| match &event.what {
            Happening::RestorePoint { name, .. } => Some(name.clone()),
            _ => None,
        }).collect();
        let given: Vec<String> = deeds.iter().filter_map(|deed| match deed {
            Deed::Point(name) => Some(name.clone()),
            _ => None,
        }).collect();
        prop_assert_eq!(names, given);
    }

    /// However a stretch is cut into parts, and in whatever order the parts are joined, it is the same.
    #[test]
    fn joining_parts_gives_the_whole(
        deeds in proptest::collection::vec(deed(), 0..120),
        (one, two) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let (one, two) = (one.index(deeds.len() + 1), two.index(deeds.len() + 1));
        let (one, two) = (one.min(two), one.max(two));
        let at = |deed: usize| 1000 + deed as u64 * 8;
        let parts = [gather(at(0), &deeds[..one]), gather(at(one), &deeds[one..two]), gather(at(two), &deeds[two..])];
        let join = |left: &Changes, right: &Changes| {
            let mut joined = left.clone();
            joined.merge(right).unwrap();
            joined
        };
        let whole = gather(at(0), &deeds);
        prop_assert_eq!(&join(&join(&parts[0], &parts[1]), &parts[2]), &whole);
        prop_assert_eq!(&join(&parts[0], &join(&parts[1], &parts[2])), &whole);
        prop_assert_eq!(&join(&Changes::none(Lsn(at(0))), &whole), &whole);
        prop_assert_eq!(&join(&whole, &Changes::none(whole.span().upto)), &whole);
        prop_assert_eq!(&Changes::decode(&whole.encode().unwrap()).unwrap(), &whole);
    }

    /// With less room there are more blocks, never fewer, and the rest is as it was.
    #[test]
    fn less_room_means_more_blocks(deeds in proptest::collection::vec(deed(), 0..200), most in 0usize..40) {
        let exact = gather(1000, &deeds);
        let mut bounded = exact.clone();
        bounded.bound(most);
        prop_assert!(bounded.runs() <= most.max(bounded.forks().count()));
        check_pages(&bounded, &deeds, false)?;
        prop_assert_eq!(bounded.events(), exact.events());
        let room = exact.encode().unwrap().len() * 3 / 4;
        if let Some(bytes) = exact.clone().encode_within(room).unwrap() {
            prop_assert!(bytes.len() <= room);
            check_pages(&Changes::decode(&bytes).unwrap(), &deeds, false)?;
        }
    }

    /// Damaged bytes are refused or read as something that is in order in itself.
    #[test]
    fn damaged_bytes_are_survived(
        deeds in proptest::collection::vec(deed(), 0..60),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let good = gather(1000, &deeds).encode().unwrap();
        let mut bad = good.clone();
        for (at, value) in flips {
            let at = at.index(bad.len());
            bad[at] = value;
        }
        let mut prefixed = vec![0x82, 0x01];
        prefixed.extend(&noise);
        for bytes in [&bad, &noise, &prefixed] {
            if let Ok(changes) = Changes::decode(bytes) {
                prop_assert!(changes.forks().all(|(_, fork)| fork.blocks.is_valid()));
                prop_assert_eq!(&Changes::decode(&changes.encode().unwrap()).unwrap(), &changes);
            }
        }
        prop_assert!(Changes::decode(&good[..cut.index(good.len())]).is_err());
    }
}

#[test]
fn stretches_that_do_not_adjoin_are_not_joined() {
    let mut first = gather(1000, &[Deed::Checkpoint]);
    for after in [1000, 1007, 1009] {
        let error = first.merge(&Changes::none(Lsn(after))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
    first.merge(&gather(1008, &[])).unwrap();
    assert_eq!(first.span().upto, Lsn(1008));
}

#[test]
fn records_before_the_stretch_are_passed_over() {
    let fork = RelFork { tablespace: 1663, database: 5, relation: 100, fork: Fork::Main };
    let mut gatherer = Gatherer::new(Lsn(1000), 8192);
    for (end, block) in [(992, 1), (1000, 2), (1008, 3)] {
        let named = BlockRef { id: 0, fork, block, image: None, will_init: false };
        let version = Version::from_major(15).unwrap();
        let (start, end, prev) = (Lsn(end - 40), Lsn(end), Lsn(0));
        let record =
            Record { version, start, end, len: 8, xid: 3, rmgr: 11, info: 0, prev, main: &[], blocks: &[named] };
        gatherer.add(&record).unwrap();
    }
    let changes = gatherer.finish(Lsn(0));
    assert_eq!(changes.pages(fork, PageRun::new(0, 9)).runs(), [PageRun::new(3, 1)]);
    assert_eq!((changes.span().after, changes.span().upto), (Lsn(1000), Lsn(1008)));
}

#[test]
fn the_free_space_map_is_always_taken() {
    let fork = RelFork { tablespace: 1663, database: 5, relation: 100, fork: Fork::FreeSpaceMap };
    let run = PageRun::new(2, 5);
    assert_eq!(Changes::none(Lsn(1)).pages(fork, run).runs(), [run]);
}

#[test]
fn many_scattered_blocks_stay_within_bounds() {
    let fork = |relation| RelFork { tablespace: 1663, database: 5, relation, fork: Fork::Main };
    let mut gatherer = Gatherer::new(Lsn(0), 8192);
    gatherer.most_runs = 1000;
    let version = Version::from_major(15).unwrap();
    for number in (0..30_000u32).map(|number| number * 7919 % 30_000) {
        let named = BlockRef { id: 0, fork: fork(number % 3), block: number, image: None, will_init: false };
        let (start, end, prev) = (Lsn(8), Lsn(16), Lsn(0));
        let record =
            Record { version, start, end, len: 8, xid: 3, rmgr: 11, info: 0, prev, main: &[], blocks: &[named] };
        gatherer.add(&record).unwrap();
    }
    let changes = gatherer.finish(Lsn(0));
    assert!(changes.runs() <= 1000);
    for number in 0..30_000 {
        assert!(changes.fork(fork(number % 3)).unwrap().contains(number));
    }
}

#[test]
fn a_newer_layout_is_refused_and_unknown_keys_are_passed_over() {
    let changes = gather(1000, &[Deed::Map(5)]);
    let mut bytes = changes.encode().unwrap();
    assert_eq!(bytes[..2], [0x82, 1]);
    bytes[1] = 2;
    assert_eq!(Changes::decode(&bytes).unwrap_err().kind(), ErrorKind::Unsupported);
    // A map of one more entry: key 23, and a text.
    let mut wider = changes.encode().unwrap();
    assert_eq!(wider[2] & 0xE0, 0xA0);
    wider[2] += 1;
    wider.extend([23, 0x61, b'x']);
    assert_eq!(Changes::decode(&wider).unwrap(), changes);
    wider.push(0);
    assert_eq!(Changes::decode(&wider).unwrap_err().kind(), ErrorKind::Damaged, "bytes behind the end");
}

#[test]
fn the_same_block_of_many_forks_is_told_of_each() {
    let fork = |relation| RelFork { tablespace: 1663, database: 5, relation, fork: Fork::Main };
    let deeds: Vec<Deed> = (1..=3000).map(|relation| Deed::Block(fork(relation), 7)).collect();
    let changes = gather(1000, &deeds);
    assert!((1..=3000).all(|relation| changes.fork(fork(relation)).unwrap().contains(7)));
    assert_eq!(changes.runs(), 3000);
}

#[test]
fn runs_that_no_fork_can_have_are_refused() {
    let fork = RelFork { tablespace: 1663, database: 5, relation: 100, fork: Fork::Main };
    for (run, fits) in [
        (PageRun::new(u32::MAX.into(), 1), true),
        (PageRun::new(u32::MAX.into(), 2), false),
        (PageRun::new(1, u64::MAX), false),
    ] {
        let mut changes = Changes::none(Lsn(1));
        changes.forks.entry(fork).or_default().blocks.insert(run);
        assert_eq!(Changes::decode(&changes.encode().unwrap()).is_ok(), fits, "{run:?}");
    }
    let mut backwards = Changes::none(Lsn(9));
    backwards.span.upto = Lsn(8);
    assert_eq!(Changes::decode(&backwards.encode().unwrap()).unwrap_err().kind(), ErrorKind::Damaged);
}
