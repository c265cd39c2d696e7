//! Segments as units and the server's own log together name every record once, wherever it lies across a border.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use setpiece_core::model::log::FileChanges;
use setpiece_core::model::{BranchHistory, BranchId, Lsn, PageSet, Seq, Timestamp};
use tempfile::TempDir;

use super::{Follower, SegmentFiles, UnitFacts, file_changes, live_changes, unit_facts};
use crate::wal::sample::{SEGMENT, SampleBlock, SampleRecord, Writer};
use crate::wal::{Fork, RelFork, SegmentName, SegmentSize};

const BASE: u64 = 0x500_0000;
const SYSTEM: u64 = 77;
/// PostgreSQL's year 2000 in ours.
const EPOCH: i64 = 946_684_800_000_000;

/// A log whose records change a block each, numbered as they are; every third is a commit besides.
struct Log {
    directory: TempDir,
    /// Where each record begins; the last is where the log ends.
    starts: Vec<u64>,
    ends: Vec<u64>,
    segments: u64,
}

fn fork() -> RelFork {
    RelFork { tablespace: 1663, database: 5, relation: 16384, fork: Fork::Main }
}

fn is_commit(number: usize) -> bool {
    number.is_multiple_of(3)
}

impl Log {
    fn new(lengths: &[usize]) -> Self {
        let mut writer = Writer::new(15, BASE, SYSTEM);
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for (number, len) in lengths.iter().enumerate() {
            let block = SampleBlock {
                id: 0,
                fork: fork(),
                block: number as u32,
                image: None,
                data: 0,
                will_init: false,
                same: false,
            };
            let mut main = (number as i64).to_le_bytes().to_vec();
            main.resize(8 + len, 0);
            let rmgr = if is_commit(number) { 1 } else { 11 };
            let record = SampleRecord { blocks: vec![block], ..SampleRecord::plain(rmgr, 0, &main) };
            starts.push(writer.record(&record).0);
            ends.push(writer.lsn().0);
        }
        starts.push(writer.lsn().0);
        writer.fill_page();
        let mut bytes = writer.bytes;
        bytes.resize(bytes.len().next_multiple_of(SEGMENT as usize), 0);
        let directory = tempfile::tempdir().unwrap();
        for (segment, number) in bytes.chunks(SEGMENT as usize).zip(BASE / SEGMENT..) {
            std::fs::write(directory.path().join(name(number).to_string()), segment).unwrap();
        }
        Log { directory, starts, ends, segments: bytes.len() as u64 / SEGMENT }
    }

    fn files(&self) -> SegmentFiles {
        let (directory, size) = (self.directory.path().to_owned(), SegmentSize::new(SEGMENT).unwrap());
        SegmentFiles { directory, system_identifier: SYSTEM, size, block_size: 8192 }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.path().join(name(number).to_string())
    }

    fn unit(&self, number: u64) -> (Option<Vec<FileChanges>>, Option<(Timestamp, Timestamp)>) {
        let bytes = std::fs::read(self.path(number)).unwrap();
        let facts = unit_facts(&self.files(), Some(&history()), name(number), &bytes, Duration::ZERO);
        (facts.changes, facts.commits.map(|commits| (commits.first, commits.last)))
    }

    fn live(&self, since: u64, upto: u64) -> Result<Vec<FileChanges>, String> {
        file_changes(&live_changes(&self.files(), &history(), Lsn(since), Lsn(upto))?)
    }

    /// The records that begin in a stretch.
    fn beginning(&self, stretch: std::ops::Range<u64>) -> BTreeSet<u64> {
        let records = self.starts.iter().zip(0..).take(self.starts.len() - 1);
        records.filter(|(start, _)| stretch.contains(*start)).map(|(_, number)| number).collect()
    }
}

fn name(number: u64) -> SegmentName {
    SegmentName::new(1, Seq(number), SegmentSize::new(SEGMENT).unwrap()).unwrap()
}

fn history() -> BranchHistory {
    BranchHistory::first(BranchId(1))
}

/// The blocks that are named, which are the numbers of their records.
fn named(changes: &[FileChanges]) -> BTreeSet<u64> {
    let mut all = PageSet::new();
    changes.iter().for_each(|change| all.union(&change.pages));
    all.runs().iter().flat_map(|run| run.first.0..run.end()).collect()
}

/// A log that comes in pieces.
struct Coming {
    follower: Follower,
    pieces: Box<dyn Iterator<Item = usize>>,
    /// By the begin of the segment.
    facts: BTreeMap<u64, UnitFacts>,
}

impl Coming {
    fn new(pieces: Vec<usize>) -> Self {
        Coming { follower: Follower::new(8192), pieces: Box::new(pieces.into_iter().cycle()), facts: BTreeMap::new() }
    }

    /// What comes of a segment before it is whole.
    fn part(&mut self, start: u64, bytes: &[u8]) {
        let mut came = 0;
        while came < bytes.len() {
            came = bytes.len().min(came + self.pieces.next().unwrap());
            let told = self.follower.look(Lsn(start), &bytes[..came]);
            told.into_iter().for_each(|told| self.facts.get_mut(&told.start.0).unwrap().changes = told.changes);
        }
    }

    fn segment(&mut self, log: &Log, number: u64) {
        let (start, bytes) = (number * SEGMENT, std::fs::read(log.path(number)).unwrap());
        self.part(start, &bytes);
        let facts = self.follower.segment(&bytes);
        self.facts.insert(start, facts);
    }

    fn named(&self, number: u64) -> Option<BTreeSet<u64>> {
        self.facts[&(number * SEGMENT)].changes.as_deref().map(named)
    }
}

/// Records of a few bytes, of some pages, and of more than a segment.
fn lengths() -> impl Strategy<Value = Vec<usize>> {
    let len = prop_oneof![20 => 0usize..300, 20 => 4000usize..30_000, 2 => 400_000usize..600_000, 1 => Just(2_300_000)];
    prop::collection::vec(len, 150..350)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 8, failure_persistence: None, ..ProptestConfig::with_cases(8) })]

    #[test]
    fn every_record_counts_once(lengths in lengths(), pieces in prop::collection::vec(1usize..300_000, 1..20), from in any::<prop::sample::Index>(), upto in any::<prop::sample::Index>()) {
        let log = Log::new(&lengths);
        let first = BASE / SEGMENT;
        // Behind the last whole segment there is nothing that its last record could go on in.
        for number in first..first + log.segments - 1 {
            let (start, end) = (number * SEGMENT, (number + 1) * SEGMENT);
            let (changes, commits) = log.unit(number);
            let changes = changes.unwrap();
            prop_assert_eq!(named(&changes), log.beginning(start..end), "segment {}", number - first);
            // Commits count where they end; what begins too far before the segment is not looked for.
            let ended = (0..lengths.len()).filter(|at| is_commit(*at) && (start..end).contains(&(log.ends[*at] - 1)));
            let told = ended.filter(|at| log.starts[*at] + (256 << 10) >= start);
            let moments: Vec<Timestamp> = told.map(|at| Timestamp(EPOCH + at as i64)).collect();
            if !moments.is_empty() {
                prop_assert_eq!(commits, Some((moments[0], moments[moments.len() - 1])));
            }
        }
        // The same of segments that come one after the other, whether the log begins with the first or later.
        for begin in [first, first + log.segments / 2] {
            let mut coming = Coming::new(pieces.clone());
            (begin..first + log.segments).for_each(|number| coming.segment(&log, number));
            for number in begin..first + log.segments - 1 {
                let (start, end) = (number * SEGMENT, (number + 1) * SEGMENT);
                prop_assert_eq!(coming.named(number), Some(log.beginning(start..end)), "segment {}", number - first);
                let ended = (0..lengths.len()).filter(|at| is_commit(*at) && (start..end).contains(&(log.ends[*at] - 1)));
                let told: Vec<usize> = ended.filter(|at| log.starts[*at] >= begin * SEGMENT).collect();
                let moments = told.first().zip(told.last());
                let moments = moments.map(|(one, last)| [one, last].map(|at| Timestamp(EPOCH + *at as i64)));
                let commits = coming.facts[&start].commits.map(|commits| [commits.first, commits.last]);
                prop_assert_eq!(commits, moments, "segment {}", number - first);
            }
        }
        let (from, upto) = (from.index(lengths.len()), upto.index(lengths.len()));
        let (since, until) = (log.starts[from.min(upto)], log.starts[from.max(upto)]);
        prop_assert_eq!(named(&log.live(since, until).unwrap()), log.beginning(since..until));
        // From the begin of a segment on, with whatever record lies across it.
        let border = since - since % SEGMENT;
        prop_assert_eq!(named(&log.live(border, until).unwrap()), log.beginning(border..until));
    }
}

fn plain() -> Log {
    Log::new(&[9000; 500])
}

#[test]
fn a_log_that_is_not_all_there_tells_nothing() {
    let log = plain();
    let (since, upto, end) = (log.starts[3], log.starts[400], log.starts[500]);
    assert!(log.live(since, upto).is_ok());
    assert_eq!(named(&log.live(upto, upto).unwrap()).len(), 0);
    assert!(log.live(since + 8, upto).unwrap_err().contains("no record of the server's log begins at"));
    assert!(log.live(since, end + 8).unwrap_err().contains("can be read up to"));
    let middle = log.path(BASE / SEGMENT + 2);
    let bytes = std::fs::read(&middle).unwrap();
    let mut damaged = bytes.clone();
    damaged[500_000] ^= 1;
    std::fs::write(&middle, &damaged).unwrap();
    log.live(since, upto).unwrap_err();
    // A file that was made ahead, under a new name.
    std::fs::write(&middle, std::fs::read(log.path(BASE / SEGMENT)).unwrap()).unwrap();
    assert!(log.live(since, upto).unwrap_err().contains("no longer in the server's log directory"));
    std::fs::remove_file(&middle).unwrap();
    assert!(log.live(since, upto).unwrap_err().contains("no longer in the server's log directory"));
    std::fs::write(&middle, &bytes).unwrap();
    assert!(log.live(since, upto).is_ok());
}

#[test]
fn a_segment_whose_last_record_is_not_written_yet_has_unknown_changes() {
    let log = Log::new(&[60_000; 60]);
    let (first, next) = (BASE / SEGMENT, log.path(BASE / SEGMENT + 1));
    assert!(log.unit(first).0.is_some());
    let mut bytes = std::fs::read(&next).unwrap();
    bytes[8192..].fill(0);
    std::fs::write(&next, &bytes).unwrap();
    assert_eq!(log.unit(first).0, None, "the rest of the record is longer than a page");
    std::fs::remove_file(&next).unwrap();
    assert_eq!(log.unit(first).0, None);
    // The end of the log.
    assert_eq!(log.unit(first + log.segments - 1).0, None);
}

#[test]
fn a_segment_that_is_damaged_has_unknown_changes() {
    let log = plain();
    let number = BASE / SEGMENT + 1;
    let mut bytes = std::fs::read(log.path(number)).unwrap();
    bytes[700_000] ^= 1;
    std::fs::write(log.path(number), &bytes).unwrap();
    assert_eq!(log.unit(number).0, None);
}

/// The server crashes within a record, and gives it up when it starts again.
#[test]
fn a_record_that_was_given_up_changes_nothing() {
    let log = plain();
    let (first, next) = (BASE / SEGMENT, log.path(BASE / SEGMENT + 1));
    let lying_across = log.starts.iter().position(|start| *start >= (first + 1) * SEGMENT).unwrap() as u64 - 1;
    assert!(named(&log.unit(first).0.unwrap()).contains(&lying_across));
    let mut writer = Writer::new(15, (first + 1) * SEGMENT, SYSTEM);
    writer.prev = log.starts[lying_across as usize - 1];
    writer.overwrite();
    writer.record(&SampleRecord::plain(11, 0, &[0; 60]));
    writer.fill_segment();
    std::fs::write(&next, &writer.bytes).unwrap();
    let mut expected = log.beginning(BASE..BASE + SEGMENT);
    expected.remove(&lying_across);
    assert_eq!(named(&log.unit(first).0.unwrap()), expected);
}

/// A log whose records lie across every border, and the number of its first segment.
fn across() -> (Log, u64) {
    let (log, first) = (Log::new(&[60_000; 60]), BASE / SEGMENT);
    for border in (first + 1..first + log.segments).map(|number| number * SEGMENT) {
        assert!(!log.starts.contains(&border));
    }
    (log, first)
}

#[test]
fn a_stream_with_a_gap_does_not_tell_what_it_cannot_know() {
    let (log, first) = across();
    let mut coming = Coming::new(vec![100_000]);
    [first, first + 2].into_iter().for_each(|number| coming.segment(&log, number));
    assert_eq!(coming.named(first), None, "the rest did not come");
    coming.segment(&log, first + 3);
    assert_eq!(coming.named(first + 2), Some(log.beginning((first + 2) * SEGMENT..(first + 3) * SEGMENT)));
    // Another log goes on where the rest belongs.
    let other = Log::new(&[50_000; 60]);
    let mut coming = Coming::new(vec![100_000]);
    coming.segment(&log, first);
    [first + 1, first + 2].into_iter().for_each(|number| coming.segment(&other, number));
    let alone = other.beginning((first + 1) * SEGMENT..(first + 2) * SEGMENT);
    assert_eq!((coming.named(first), coming.named(first + 1)), (None, Some(alone)));
    assert_eq!(coming.facts[&((first + 1) * SEGMENT)].points, None, "it is read without what lay before");
    // What is damaged tells nothing, and nothing of it is gone on from.
    let mut bytes = std::fs::read(log.path(first + 1)).unwrap();
    bytes[700_000] ^= 1;
    std::fs::write(log.path(first + 1), &bytes).unwrap();
    let mut coming = Coming::new(vec![100_000]);
    (first..first + 3).for_each(|number| coming.segment(&log, number));
    assert_eq!((coming.named(first).is_some(), coming.named(first + 1)), (true, None));
    assert_eq!(coming.facts[&((first + 2) * SEGMENT)].points, None);
}

#[test]
fn a_connection_that_is_lost_within_a_record_loses_nothing() {
    let (log, first) = across();
    let mut coming = Coming::new(vec![10_000, 777]);
    coming.segment(&log, first);
    assert!(coming.follower.waits());
    let bytes = std::fs::read(log.path(first + 1)).unwrap();
    coming.part((first + 1) * SEGMENT, &bytes[..9_000]);
    assert!(coming.follower.waits(), "the rest is longer");
    coming.follower.again();
    coming.segment(&log, first + 1);
    assert_eq!(coming.named(first), Some(log.beginning(first * SEGMENT..(first + 1) * SEGMENT)));
    // Whoever waits no longer does not know.
    coming.follower.look(Lsn((first + 2) * SEGMENT), &[]);
    let told = coming.follower.give_up().unwrap();
    assert_eq!((told.start, told.changes), (Lsn((first + 1) * SEGMENT), None));
    assert!(!coming.follower.waits());
}

/// As [`a_record_that_was_given_up_changes_nothing`], in a stream.
#[test]
fn a_record_that_was_given_up_is_not_waited_for() {
    let log = plain();
    let (first, next) = (BASE / SEGMENT, log.path(BASE / SEGMENT + 1));
    let lying_across = log.starts.iter().position(|start| *start >= (first + 1) * SEGMENT).unwrap() as u64 - 1;
    let mut writer = Writer::new(15, (first + 1) * SEGMENT, SYSTEM);
    writer.prev = log.starts[lying_across as usize - 1];
    writer.overwrite();
    writer.record(&SampleRecord::plain(11, 0, &[0; 60]));
    writer.fill_segment();
    std::fs::write(&next, &writer.bytes).unwrap();
    let mut coming = Coming::new(vec![300]);
    (first..first + 2).for_each(|number| coming.segment(&log, number));
    let mut expected = log.beginning(BASE..BASE + SEGMENT);
    expected.remove(&lying_across);
    assert_eq!(coming.named(first), Some(expected));
}
