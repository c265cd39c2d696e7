//! Tests of what records change, kind by kind and version by version.

use setpiece_core::ErrorKind;
use setpiece_core::model::{Lsn, Timestamp};

use super::super::record::{BlockRef, Record};
use super::super::rel::{DatabaseDir, Fork, RelFork};
use super::super::version::Version;
use super::{Fact, WalLevel, facts};

const TABLE: RelFork = RelFork { tablespace: 1663, database: 5, relation: 100, fork: Fork::Main };
const MAP: RelFork = RelFork { fork: Fork::VisibilityMap, ..TABLE };
/// The first block of the heap whose bits are in the second block of the map.
const FAR: u32 = 32_672;

fn block(id: u8, fork: RelFork, block: u32) -> BlockRef {
    BlockRef { id, fork, block, image: None, will_init: false }
}

/// The facts of a record, or `None` when they cannot be told.
fn told<'r>(major: u16, rmgr: u8, info: u8, blocks: &'r [BlockRef], main: &'r [u8]) -> Option<Vec<Fact<'r>>> {
    let record = Record {
        version: Version::from_major(major).unwrap(),
        start: Lsn(0x100),
        end: Lsn(0x200),
        len: 100,
        xid: 77,
        rmgr,
        info,
        prev: Lsn(0x80),
        main,
        blocks,
    };
    let mut told = Vec::new();
    match facts(&record, 8192, &mut |fact| told.push(fact)) {
        Ok(()) => Some(told),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Damaged);
            assert!(error.to_string().contains("WAL record at 0/100"), "{error}");
            None
        }
    }
}

/// The blocks of the visibility map that a record of the heap clears.
fn cleared(rmgr: u8, info: u8, blocks: &[BlockRef], main: &[u8]) -> Vec<u32> {
    let told = told(15, rmgr, info, blocks, main).unwrap();
    let maps = told.iter().filter_map(|fact| match fact {
        Fact::Block(MAP, block) => Some(*block),
        _ => None,
    });
    maps.collect()
}

/// Main data of `len` bytes with `flags` at its place, and every bit but those of flags set elsewhere.
fn flagged(len: usize, at: usize, flags: u8) -> Vec<u8> {
    let mut main = vec![0xFF; len];
    main[at] = flags;
    main
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn each_record_of_the_heap_has_its_flags_in_their_place() {
    let near = [block(0, TABLE, 3)];
    let far = [block(0, TABLE, FAR)];
    // Resource manager, kind, bytes of main data, where the flags are, the bit that says the map is cleared.
    let kinds = [
        (10, 0x00, 3, 2, 0x01),
        (10, 0x10, 8, 7, 0x01),
        (10, 0x60, 8, 7, 0x01),
        (9, 0x50, 4, 0, 0x01),
        (9, 0x60, 8, 7, 0x01),
    ];
    for (rmgr, kind, len, at, bit) in kinds {
        for init in [0, 0x80] {
            assert_eq!(cleared(rmgr, kind | init, &near, &flagged(len, at, bit)), [0], "{rmgr} {kind:02X}");
            assert_eq!(cleared(rmgr, kind | init, &far, &flagged(len, at, 0xFF)), [1], "{rmgr} {kind:02X}");
            assert!(cleared(rmgr, kind | init, &near, &flagged(len, at, !bit)).is_empty(), "{rmgr} {kind:02X}");
        }
        assert_eq!(told(15, rmgr, kind, &near, &flagged(len, at, bit)[..at]), None, "too short");
        assert_eq!(told(15, rmgr, kind, &[], &flagged(len, at, bit)), None, "no block");
        assert_eq!(told(15, rmgr, kind, &[block(0, MAP, 0)], &flagged(len, at, bit)), None, "no block of the heap");
    }
    // The others of the heap clear nothing, whatever their bytes look like.
    for (rmgr, kind) in [(10, 0x30), (10, 0x50), (10, 0x70), (9, 0x00), (9, 0x10), (9, 0x20), (9, 0x30), (9, 0x70)] {
        assert!(cleared(rmgr, kind, &near, &[0xFF; 20]).is_empty(), "{rmgr} {kind:02X}");
    }
}

#[test]
fn an_update_clears_the_bits_of_the_old_and_of_the_new_block() {
    let both = [block(0, TABLE, FAR), block(1, TABLE, 3)];
    for kind in [0x20, 0x40] {
        let clears = |blocks: &[BlockRef], flags| cleared(10, kind, blocks, &flagged(14, 7, flags));
        assert_eq!(clears(&both, 0x02), [1], "new");
        assert_eq!(clears(&both, 0x01), [0], "old");
        assert_eq!(clears(&both, 0x03), [1, 0], "both");
        assert!(clears(&both, 0xFC).is_empty(), "neither");
        assert_eq!(clears(&both[..1], 0x01), [1], "the new block is the old one");
        // Later minor releases name blocks of the map besides, and not always the block of the old row.
        let named = [block(0, TABLE, FAR), block(2, MAP, 1)];
        assert_eq!(clears(&named, 0x01), [1, 1]);
    }
}

#[test]
fn blocks_are_named_by_every_resource_manager() {
    let blocks = [block(0, TABLE, 1), block(1, TABLE.with(Fork::Init), 2), block(7, MAP, 3)];
    let facts: Vec<Fact<'_>> = blocks.iter().map(|block| Fact::Block(block.fork, block.block)).collect();
    for rmgr in [3, 6, 8, 11, 15, 20, 21, 22, 127, 128, 255] {
        assert_eq!(told(18, rmgr, 0xF0, &blocks, &[]), Some(facts.clone()));
        assert_eq!(told(18, rmgr, 0xF1, &blocks, &[]), None, "it changes files in a way of its own");
    }
}

#[test]
fn files_are_made_and_cut() {
    let made = |fork: u32| told(15, 2, 0x11, &[], &numbers(&[1663, 5, 100, fork])).map(|told| told.len());
    assert_eq!(
        told(15, 2, 0x11, &[], &numbers(&[1663, 5, 100, 0])),
        Some(vec![Fact::From(TABLE, 0), Fact::From(MAP, 0)])
    );
    assert_eq!(told(15, 2, 0x11, &[], &numbers(&[1663, 5, 100, 3])), Some(vec![Fact::From(TABLE.with(Fork::Init), 0)]));
    assert_eq!((made(2), made(4)), (Some(1), None));
    let (heap, map) = (Fact::From(TABLE, FAR + 1), Fact::From(MAP, 1));
    let free_space = Fact::From(TABLE.with(Fork::FreeSpaceMap), 0);
    for (forks, facts) in [(1, vec![heap]), (2, vec![map]), (4, vec![free_space]), (7, vec![heap, map, free_space])] {
        let main = numbers(&[FAR + 1, 1663, 5, 100, forks]);
        assert_eq!(told(15, 2, 0x21, &[], &main), Some(facts));
    }
    for (kind, main) in
        [(0x10, numbers(&[1663, 5, 100])), (0x20, numbers(&[1, 1663, 5, 100])), (0x30, numbers(&[0; 9]))]
    {
        assert_eq!(told(15, 2, kind, &[], &main), None);
    }
}

#[test]
fn databases_are_made_and_dropped_as_each_version_says_it() {
    let directory = |tablespace| DatabaseDir { tablespace, database: 5 };
    let copied = numbers(&[5, 1663, 1, 1663]);
    let one = numbers(&[5, 1663]);
    let list = numbers(&[5, 2, 1663, 20000]);
    let dropped = vec![Fact::DirectoryDropped(directory(1663)), Fact::DirectoryDropped(directory(20000))];
    for major in 12..=18 {
        assert_eq!(told(major, 4, 0x01, &[], &copied), Some(vec![Fact::DirectoryCopied(directory(1663))]));
    }
    assert_eq!(told(12, 4, 0x11, &[], &one), Some(vec![Fact::DirectoryDropped(directory(1663))]));
    for major in [13, 14] {
        assert_eq!(told(major, 4, 0x11, &[], &list), Some(dropped.clone()));
        assert_eq!(told(major, 4, 0x21, &[], &list), None);
    }
    for major in 15..=18 {
        assert_eq!(told(major, 4, 0x11, &[], &one), Some(vec![Fact::DirectoryMade(directory(1663))]));
        assert_eq!(told(major, 4, 0x21, &[], &list), Some(dropped.clone()));
        assert_eq!(told(major, 4, 0x21, &[], &list[..12]), None);
        assert_eq!(told(major, 4, 0x30, &[], &list), None);
    }
}

#[test]
fn tablespaces_and_maps() {
    let mut made = numbers(&[20000]);
    made.extend(b"/srv/space\0");
    assert_eq!(
        told(15, 5, 0x00, &[], &made),
        Some(vec![Fact::TablespaceMade { tablespace: 20000, path: b"/srv/space" }])
    );
    assert_eq!(told(15, 5, 0x10, &[], &numbers(&[20000])), Some(vec![Fact::TablespaceDropped(20000)]));
    assert_eq!(told(15, 5, 0x20, &[], &made), None);
    assert_eq!(told(15, 5, 0x10, &[], &[1]), None);
    let map = numbers(&[5, 1663, 4, 0]);
    let changed = DatabaseDir { tablespace: 1663, database: 5 };
    assert_eq!(told(15, 7, 0x00, &[], &map), Some(vec![Fact::MapChanged(changed)]));
    assert_eq!(told(15, 7, 0x00, &[], &map[..7]), None);
}

/// The end of a transaction with every detail that a version knows.
fn ended(major: u16, committed: bool) -> Vec<u8> {
    let mut main = 1_000_000i64.to_le_bytes().to_vec();
    let statistics = if major >= 15 { 1 << 8 } else { 0 };
    let invalidations = if committed { 1 << 3 } else { 0 };
    main.extend(numbers(&[0b11_0111 | 1 << 7 | statistics | invalidations]));
    main.extend(numbers(&[5, 1663]));
    main.extend(numbers(&[2, 78, 79]));
    main.extend(numbers(&[2, 1663, 5, 100, 1663, 5, 101]));
    if major >= 15 {
        main.extend(numbers(&[1]));
        main.extend(vec![0xEE; if major >= 18 { 16 } else { 12 }]);
    }
    if committed {
        main.extend(numbers(&[2]));
        main.extend([0xEE; 32]);
    }
    main.extend(numbers(&[4242]));
    main.extend(b"name of it\0");
    main.extend([0xEE; 16]);
    main
}

#[test]
fn the_end_of_a_transaction_drops_files_in_every_version() {
    let time = Timestamp(946_684_801_000_000);
    let dropped = [Fact::Dropped(TABLE), Fact::Dropped(RelFork { relation: 101, ..TABLE })];
    for major in 12..=18 {
        for (kind, committed) in [(0x00, true), (0x30, true), (0x20, false), (0x40, false)] {
            let main = ended(major, committed);
            let mut expected = dropped.to_vec();
            expected.push(if committed { Fact::Commit { xid: 4242, time } } else { Fact::Abort { xid: 4242, time } });
            assert_eq!(told(major, 1, kind | 0x81, &[], &main), Some(expected), "{major} {kind:02X}");
            let upto_xid = main.len() - 16 - 11;
            for short in [4, 10, 19, 23, 30, 40, 60, upto_xid - 1] {
                assert_eq!(told(major, 1, kind | 0x81, &[], &main[..short]), None, "{major} {kind:02X} {short}");
            }
        }
    }
    let plain = told(15, 1, 0x00, &[], &1_000_000i64.to_le_bytes()).map(|told| told.len());
    assert_eq!(plain, Some(1));
    assert_eq!(told(15, 1, 0x00, &[], &1_000_000i64.to_le_bytes()), Some(vec![Fact::Commit { xid: 77, time }]));
    for other in [0x10, 0x50, 0x60] {
        assert_eq!(told(15, 1, other, &[], &[]), Some(Vec::new()));
    }
    // A count that claims more than there is, is no reason to look for it.
    let mut hostile = 0i64.to_le_bytes().to_vec();
    hostile.extend(numbers(&[1 << 1, u32::MAX, 1]));
    assert_eq!(told(15, 1, 0x80, &[], &hostile), None);
}

#[test]
fn the_server_says_what_it_does() {
    let checkpoint = |timeline: u32, previous: u32| {
        let mut main = 0x300u64.to_le_bytes().to_vec();
        main.extend(numbers(&[timeline, previous]));
        main.extend([0xEE; 48]);
        main.extend(1_000i64.to_le_bytes());
        main.extend([0xEE; 16]);
        main
    };
    let complete = |online| Fact::Checkpoint { redo: Lsn(0x300), online, time: Timestamp(1_000_000_000) };
    assert_eq!(told(15, 0, 0x10, &[], &checkpoint(1, 1)), Some(vec![complete(true)]));
    let turned = Fact::Timeline { timeline: 2, previous: 1 };
    assert_eq!(told(15, 0, 0x00, &[], &checkpoint(2, 1)), Some(vec![complete(false), turned]));
    assert_eq!(told(15, 0, 0x00, &[], &checkpoint(2, 1)[..71]), None);
    let recovered = numbers(&[0, 0, 2, 1]);
    assert_eq!(told(15, 0, 0x90, &[], &recovered), Some(vec![turned]));
    assert_eq!(told(15, 0, 0x40, &[], &[]), Some(vec![Fact::Switch]));
    assert_eq!(told(15, 0, 0x50, &[], &0x77u64.to_le_bytes()), Some(vec![Fact::BackupEnd(Lsn(0x77))]));
    for (number, level) in [(0, WalLevel::Minimal), (1, WalLevel::Replica), (2, WalLevel::Logical)] {
        let main = numbers(&[9, 9, 9, 9, 9, number, 0]);
        assert_eq!(told(15, 0, 0x60, &[], &main), Some(vec![Fact::WalLevel(level)]));
    }
    assert_eq!(told(15, 0, 0x60, &[], &numbers(&[9, 9, 9, 9, 9, 3])), None, "a level that is not known");
    let mut point = 0i64.to_le_bytes().to_vec();
    point.extend(b"here\0\0\0\0");
    let time = Timestamp(946_684_800_000_000);
    assert_eq!(told(15, 0, 0x70, &[], &point), Some(vec![Fact::RestorePoint { name: b"here", time }]));
    for other in [0x20, 0x30, 0x80, 0xA0, 0xB0, 0xD0, 0xE0] {
        assert_eq!(told(15, 0, other, &[], &[]), Some(Vec::new()));
    }
}
