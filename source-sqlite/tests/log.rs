//! Capture of the log and recovery: no transaction is lost, whatever checkpoints do, and each one can be gone back to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Random, back_up, begin, connect, dump, make_bank, prove, spawn_writer, transact, transact_times};
use setpiece_core::ErrorKind;
use setpiece_core::model::{
    BranchHistory, BranchId, FileEntry, LogUnit, Lsn, NodeRange, RecoveryTarget, StateMark, Timestamp, Until,
};
use setpiece_core::source::{
    CapturedPoint, CapturedUnit, LogFeed, LogStream, RecoverRequest, Recovered, Recovery, Source,
};
use setpiece_source_sqlite::{SqliteRecovery, SqliteSource};

#[test]
#[ignore = "the other process of tests here"]
fn writer() {
    common::writer_main();
}

/// Transactions of the other process.
const TRANSACTIONS: u64 = 100;

/// Two random histories; `SETPIECE_TEST_SEEDS=FROM..UPTO` chooses others, for long runs.
fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("SETPIECE_TEST_SEEDS").ok();
    let given = given.as_deref().and_then(|text| text.split_once(".."));
    given.map_or(1..3, |(from, upto)| from.parse().unwrap()..upto.parse().unwrap())
}

/// A backup with what is needed to recover from it.
struct Base {
    path: std::path::PathBuf,
    files: Vec<FileEntry>,
    branch: BranchHistory,
    nodes: Vec<NodeRange>,
    lsn: Lsn,
    cookie: Vec<u8>,
    marks: Option<Vec<StateMark>>,
}

fn take_base(source: &SqliteSource, cookie: Option<&[u8]>, path: &Path) -> Base {
    let mut run = begin(source, cookie);
    common::copy(run.as_ref(), path);
    let end = run.end().unwrap();
    Base {
        path: path.to_owned(),
        files: run.files().to_vec(),
        branch: run.branch().clone(),
        nodes: end.nodes,
        lsn: end.bak_end_lsn,
        cookie: end.cookie,
        marks: end.marks,
    }
}

struct Feed<'u>(std::slice::Iter<'u, CapturedUnit>);

impl LogFeed for Feed<'_> {
    fn next(&mut self) -> setpiece_core::Result<Option<(LogUnit, Vec<u8>)>> {
        Ok(self.0.next().map(|one| (one.unit.clone(), one.bytes.clone())))
    }
}

fn recover(base: &Base, units: &[CapturedUnit], target: RecoveryTarget, to: &Path) -> setpiece_core::Result<Recovered> {
    std::fs::create_dir_all(to).unwrap();
    std::fs::copy(&base.path, base.files[0].path.below(to)).unwrap();
    let request = RecoverRequest {
        tablespaces: &[],
        histories: &[],
        directory: to,
        published: to,
        files: &base.files,
        written: &[],
        carried: &[],
        from: &base.nodes,
        consistent_from: base.lsn,
        complete_upto: units.last().map_or(base.lsn, |last| last.unit.span.upto),
        branch: &base.branch,
        target: &target,
        new_branch: BranchId(77),
        source: Default::default(),
        highest: units.last().map_or(base.lsn, |last| last.unit.span.upto),
        marks: base.marks.as_deref(),
    };
    SqliteRecovery.recover(&request, &mut Feed(units.iter()))
}

fn until(until: Until) -> RecoveryTarget {
    RecoveryTarget { until, ..RecoveryTarget::default() }
}

/// The commits of a unit, read by the table in the description of the format alone.
fn commits(unit: &CapturedUnit) -> Vec<(Lsn, Timestamp)> {
    let number = |at: usize, len: usize| {
        unit.bytes[at..at + len].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    assert_eq!(&unit.bytes[..8], b"SPSQLOG\n");
    let (page_size, count) = (number(12, 4) as usize, number(16, 4));
    let (mut at, mut all) = (48, Vec::new());
    for _ in 0..count {
        if number(at + 16, 4) > 0 {
            all.push((Lsn(number(at, 8)), Timestamp(number(at + 8, 8) as i64)));
        }
        at += 24 + number(at + 20, 4) as usize * (4 + page_size);
    }
    assert_eq!(at, unit.bytes.len());
    all
}

fn check_chain(units: &[CapturedUnit], after: Lsn) {
    assert_eq!(units[0].unit.span.after, after, "the first unit does not go on where the base ends");
    for pair in units.windows(2) {
        pair[1].unit.follows(&pair[0].unit).unwrap();
    }
    for unit in units {
        let last = commits(unit).last().copied();
        assert!(last.is_none_or(|(lsn, _)| lsn == unit.unit.span.upto));
        assert_eq!(last.is_some(), unit.unit.last_commit.is_some(), "a part of a transaction has no commit");
        assert_eq!(unit.unit.len, unit.bytes.len() as u64);
    }
}

fn journal(path: &Path) -> HashMap<i64, u64> {
    let lines = std::fs::read_to_string(path).unwrap();
    lines
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(n, d)| (n.parse().unwrap(), d.parse().unwrap()))
        .collect()
}

fn drain(stream: &mut dyn LogStream, into: &mut Vec<CapturedUnit>, wait: Duration) {
    while let Some(unit) = stream.next(wait).unwrap() {
        stream.durable(unit.unit.span.upto).unwrap();
        into.push(unit);
    }
}

/// Another process writes with checkpoints of all kinds, vacuums and reconnects. Every transaction is captured; each
/// is a target, and what is recovered is what the writer saw after that commit. Backups taken meanwhile fit the log.
#[test]
fn every_transaction_can_be_gone_back_to() {
    for seed in seeds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bank.db");
        let db = make_bank(&path, 1024 << (seed % 4), "wal");
        let first = dump(&db);
        drop(db);
        let base = take_base(&SqliteSource::open(&path).unwrap(), None, &dir.path().join("base"));
        let source = SqliteSource::open(&path).unwrap();
        let mut stream = source.log_stream_behind(None, Some(&base.cookie)).unwrap();
        let mut writer = spawn_writer(&path, seed, TRANSACTIONS, Some(&dir.path().join("journal")));
        let (mut units, mut sets): (Vec<CapturedUnit>, Vec<Base>) = (Vec::new(), Vec::new());
        while writer.try_wait().unwrap().is_none() {
            drain(stream.as_mut(), &mut units, Duration::from_millis(20));
            if sets.len() < 8 {
                // A source that remembers nothing, as in another process that knows the newest record.
                let other = SqliteSource::open(&path).unwrap();
                let cookie = units.last().map_or(&base.cookie, |last| &last.cookie);
                sets.push(take_base(&other, Some(cookie), &dir.path().join(format!("set{}", sets.len()))));
            }
        }
        assert!(writer.wait().unwrap().success());
        drain(stream.as_mut(), &mut units, Duration::from_millis(300));
        drop(stream);
        check_chain(&units, base.lsn);

        let mut hashes = journal(&dir.path().join("journal"));
        hashes.insert(0, first);
        let all: Vec<(Lsn, Timestamp)> = units.iter().flat_map(commits).collect();
        let mut counts = BTreeSet::new();
        for (at, (lsn, _)) in all.iter().enumerate() {
            let to = dir.path().join("to");
            let got = recover(&base, &units, until(Until::Lsn(*lsn)), &to).unwrap();
            assert_eq!((got.lsn, got.branch), (*lsn, Some(BranchId(77))));
            let (count, hash) = match at % 10 {
                0 => prove(&to.join("bank.db")),
                _ => {
                    let db = connect(&to.join("bank.db"));
                    (db.query_row("SELECT n FROM count", [], |row| row.get(0)).unwrap(), dump(&db))
                }
            };
            assert_eq!(Some(&hash), hashes.get(&count), "seed {seed}: LSN {lsn} with count {count}");
            counts.insert(count);
            std::fs::remove_dir_all(&to).unwrap();
        }
        // The first count may be missing where the vacuum of an empty bank is the first commit; the rest is whole.
        counts.insert(0);
        assert_eq!(counts, (0..=TRANSACTIONS as i64).collect(), "seed {seed}: a transaction is missing");
        for set in &sets {
            let to = dir.path().join("to");
            let target = all[all.partition_point(|(lsn, _)| *lsn <= set.lsn)..].iter().map(|(lsn, _)| *lsn).next();
            recover(set, &units, until(target.map_or(Until::SetEnd, Until::Lsn)), &to).unwrap();
            let (count, hash) = prove(&to.join("bank.db"));
            assert_eq!(Some(&hash), hashes.get(&count), "seed {seed}: the commit after the set at {}", set.lsn);
            recover(set, &units, until(Until::Latest), &to).unwrap();
            assert_eq!(prove(&to.join("bank.db")).0, TRANSACTIONS as i64);
            std::fs::remove_dir_all(&to).unwrap();
        }
    }
}

/// Writers that never pause, checkpoint by themselves only, and would make the log grow for ever under a reader.
#[test]
fn the_log_does_not_grow_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "wal");
    let base = take_base(&SqliteSource::open(&path).unwrap(), None, &dir.path().join("base"));
    let source = SqliteSource::open(&path).unwrap();
    let mut stream = source.log_stream_behind(None, Some(&base.cookie)).unwrap();
    let done = AtomicBool::new(false);
    let mut units = Vec::new();
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            for _ in 0..800 {
                db.execute("INSERT INTO filler(x) VALUES (randomblob(60000))", []).unwrap();
                db.execute_batch("DELETE FROM filler; UPDATE count SET n = n + 1").unwrap();
                // Capture without optimisation is slower than a writer that does nothing else.
                std::thread::sleep(Duration::from_millis(5));
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            drain(stream.as_mut(), &mut units, Duration::from_millis(10));
        }
    });
    drain(stream.as_mut(), &mut units, Duration::from_millis(200));
    check_chain(&units, base.lsn);
    let captured: usize = units.iter().map(|unit| unit.bytes.len()).sum();
    let log = std::fs::metadata(dir.path().join("bank.db-wal")).unwrap().len();
    assert!(captured > 50 << 20, "{captured} bytes are too few to prove anything");
    assert!(log < 40 << 20, "the log has {log} bytes");
    recover(&base, &units, until(Until::Latest), &dir.path().join("to")).unwrap();
    assert_eq!(prove(&dir.path().join("to/bank.db")).0, 800);
}

/// A transaction of more than a unit may hold ended the stream, now and whenever it was begun again; and all of it lay
/// in memory twice. Now it is cut into parts, and nothing of it is there before its commit.
#[test]
fn a_transaction_of_any_size_is_captured_in_parts_and_recovered_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "wal");
    let mut random = Random(4);
    let source = SqliteSource::open(&path).unwrap();
    let base = take_base(&source, None, &dir.path().join("base"));
    let mut stream = source.log_stream_behind(None, Some(&base.cookie)).unwrap();
    let mut units = Vec::new();
    transact(&db, &mut random);
    drain(stream.as_mut(), &mut units, Duration::from_millis(50));
    let before = dump(&db);
    // Pages are written more than once, and some are cut off again.
    db.execute_batch(
        "BEGIN; UPDATE count SET n = n + 1; PRAGMA cache_size = 100;
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 700)
         INSERT INTO filler(x) SELECT randomblob(50000) FROM i;
         DELETE FROM filler WHERE id % 2; COMMIT",
    )
    .unwrap();
    let after = dump(&db);
    let only_first = stream.next(Duration::from_secs(5)).unwrap().unwrap();
    assert!(commits(&only_first).is_empty() && only_first.bytes.len() < 20 << 20);
    // A stream that has captured nothing of it yet.
    let second = SqliteSource::open(&path).unwrap();
    let (mut late, mut others) = (second.log_stream_behind(None, Some(&base.cookie)).unwrap(), Vec::new());
    drain(late.as_mut(), &mut others, Duration::from_millis(100));
    let resumed = SqliteSource::open(&path).unwrap();
    drop(stream);
    units.push(only_first);
    // Another stream goes on in the middle of the transaction.
    let mut stream = resumed.log_stream_behind(Some(&point(&units[1])), Some(&base.cookie)).unwrap();
    drain(stream.as_mut(), &mut units, Duration::from_millis(100));
    drop(late);
    transact(&db, &mut random);
    drain(stream.as_mut(), &mut units, Duration::from_millis(100));
    check_chain(&units, base.lsn);
    assert!(units.len() >= 5 && units.iter().all(|unit| unit.bytes.len() < 20 << 20), "{} units", units.len());
    let whole = units.iter().rposition(|unit| commits(unit).is_empty()).unwrap() + 1;
    let (commit, ends) = (commits(&units[whole])[0], units[whole].unit.span.upto);

    let state = |units: &[CapturedUnit], target: Until| {
        let to = dir.path().join("to");
        let got = recover(&base, units, until(target), &to).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["bank.db", "bank.db-setpiece"]);
        let proven = prove(&to.join("bank.db"));
        std::fs::remove_dir_all(&to).unwrap();
        (got.lsn, proven)
    };
    let first = units[0].unit.span.upto;
    assert_eq!(state(&units, Until::Lsn(commit.0)), (commit.0, (2, after)));
    assert_eq!(state(&units, Until::Time(commit.1)).1, (2, after));
    assert_eq!(state(&units, Until::Latest).1.0, 3);
    // Whatever is missing of it, it is as if it had not been.
    assert_eq!(state(&units, Until::Lsn(Lsn(commit.0.0 - 1))), (first, (1, before)));
    assert_eq!(state(&units, Until::Lsn(units[2].unit.span.upto)), (first, (1, before)));
    assert_eq!(state(&units[..whole], Until::Latest), (first, (1, before)));
    let error = recover(&base, &units[..whole], until(Until::Lsn(ends)), &dir.path().join("cut")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    // Parts that were captured twice.
    let mixed: Vec<CapturedUnit> = units[..3].iter().chain(&others).cloned().collect();
    assert_eq!(state(&mixed, Until::Lsn(commit.0)), (commit.0, (2, after)));
}

/// A host that empties its log itself is not kept waiting by a stream.
#[test]
fn checkpoints_of_the_host_get_through() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "wal");
    let source = SqliteSource::open(&path).unwrap();
    let mut stream = source.log_stream(None).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            let mut random = Random(1);
            for _ in 0..6 {
                transact(&db, &mut random);
                let began = Instant::now();
                let busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
                assert_eq!(busy, 0);
                assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
            }
            done.store(true, Ordering::Release);
        });
        let mut units = Vec::new();
        while !done.load(Ordering::Acquire) {
            drain(stream.as_mut(), &mut units, Duration::from_millis(100));
        }
        drain(stream.as_mut(), &mut units, Duration::from_millis(100));
        let all: usize = units.iter().map(|unit| commits(unit).len()).sum();
        assert_eq!(all, 6);
    });
}

fn point(unit: &CapturedUnit) -> CapturedPoint {
    CapturedPoint { unit: unit.unit.clone(), cookie: unit.cookie.clone() }
}

/// What is committed between two streams is captured by the second, as long as the log was not restarted; if it was,
/// the first unit says so. No other process has the database open, so the log must also survive our own closing.
#[test]
fn a_stream_goes_on_where_the_last_one_ended_or_shows_the_gap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    drop(make_bank(&path, 0, "wal"));
    let db = connect(&path);
    let mut random = Random(2);
    let base = take_base(&SqliteSource::open(&path).unwrap(), None, &dir.path().join("base"));
    let mut units = Vec::new();
    let once = |units: &mut Vec<CapturedUnit>, newest: Option<&[u8]>| {
        let source = SqliteSource::open(&path).unwrap();
        let last = units.last().map(point);
        let mut stream = source.log_stream_behind(last.as_ref(), newest).unwrap();
        drain(stream.as_mut(), units, Duration::from_millis(50));
    };
    transact(&db, &mut random);
    once(&mut units, Some(&base.cookie));
    assert_eq!(units.len(), 1);
    transact(&db, &mut random);
    transact(&db, &mut random);
    once(&mut units, None);
    transact(&db, &mut random);
    // A backup that has seen more than was captured takes nothing away from the stream.
    let source = SqliteSource::open(&path).unwrap();
    let newer = take_base(&source, Some(&units.last().unwrap().cookie), &dir.path().join("newer"));
    once(&mut units, Some(&newer.cookie));
    check_chain(&units, base.lsn);
    assert_eq!(units.iter().map(|unit| commits(unit).len()).sum::<usize>(), 4);
    assert_eq!(units.last().unwrap().unit.span.upto, newer.lsn);
    recover(&base, &units, until(Until::Latest), &dir.path().join("to")).unwrap();
    assert_eq!(prove(&dir.path().join("to/bank.db")).0, 4);

    transact(&db, &mut random);
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    transact(&db, &mut random);
    let source = SqliteSource::open(&path).unwrap();
    let last = units.last().map(point);
    let mut stream = source.log_stream_behind(last.as_ref(), None).unwrap();
    transact(&db, &mut random);
    drain(stream.as_mut(), &mut units, Duration::from_millis(100));
    let gap = units[3].unit.follows(&units[2].unit).unwrap_err();
    assert!(gap.missing.upto > gap.missing.after);
    let error = recover(&base, &units, until(Until::Latest), &dir.path().join("gap")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}

#[test]
fn targets_are_met_exactly_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "wal");
    let mut random = Random(3);
    let source = SqliteSource::open(&path).unwrap();
    let base = take_base(&source, None, &dir.path().join("base"));
    let mut stream = source.log_stream_behind(None, Some(&base.cookie)).unwrap();
    let mut units = Vec::new();
    for _ in 0..5 {
        transact(&db, &mut random);
        drain(stream.as_mut(), &mut units, Duration::from_millis(5));
    }
    let all: Vec<(Lsn, Timestamp)> = units.iter().flat_map(commits).collect();
    assert_eq!((units.len(), all.len()), (5, 5));
    let to = dir.path().join("to");
    let reach = |target: Until, exclusive: bool| {
        let target = RecoveryTarget { until: target, exclusive, branch: None };
        recover(&base, &units, target, &to)
            .map(|got| (got.lsn, prove(&to.join("bank.db")).0))
            .map_err(|error| error.kind())
    };
    assert_eq!(reach(Until::Lsn(all[2].0), false), Ok((all[2].0, 3)));
    assert_eq!(reach(Until::Lsn(all[2].0), true), Ok((all[1].0, 2)));
    assert_eq!(reach(Until::Time(all[3].1), false), Ok((all[3].0, 4)));
    assert_eq!(reach(Until::Time(all[3].1), true), Ok((all[2].0, 3)));
    assert_eq!(reach(Until::Time(Timestamp(all[3].1.0 - 1)), false), Ok((all[2].0, 3)));
    assert_eq!(reach(Until::Latest, false), Ok((all[4].0, 5)));
    assert_eq!(reach(Until::SetEnd, false), Ok((base.lsn, 0)));
    assert_eq!(reach(Until::Lsn(base.lsn), false), Ok((base.lsn, 0)));
    assert_eq!(reach(Until::Lsn(base.lsn), true), Err(ErrorKind::Unreachable));
    assert_eq!(reach(Until::Lsn(Lsn(base.lsn.0 - 1)), false), Err(ErrorKind::Unreachable));
    assert_eq!(reach(Until::Lsn(Lsn(all[4].0.0 + 1)), false), Err(ErrorKind::Unreachable));
    assert_eq!(reach(Until::Time(Timestamp(all[4].1.0 + 1)), false), Err(ErrorKind::Unreachable));
    assert_eq!(reach(Until::Name("x".into()), false), Err(ErrorKind::Usage));

    let refused = |change: &dyn Fn(&mut Vec<CapturedUnit>)| {
        let mut wrong = units.clone();
        change(&mut wrong);
        recover(&base, &wrong, until(Until::Latest), &to).map_err(|error| error.kind()).unwrap_err()
    };
    assert_eq!(refused(&|units| drop(units.remove(2))), ErrorKind::Unreachable, "a gap");
    assert_eq!(refused(&|units| drop(units.remove(0))), ErrorKind::Unreachable, "a gap at the begin");
    assert_eq!(refused(&|units| units[1].unit.branch = BranchId(5)), ErrorKind::Unreachable, "another branch");
    assert_eq!(refused(&|units| units[1].bytes.truncate(100)), ErrorKind::Damaged, "cut short");
    assert_eq!(refused(&|units| units[1].bytes = units[2].bytes.clone()), ErrorKind::Damaged, "mixed up");
    assert_eq!(refused(&|units| units[2].bytes[32] ^= 1), ErrorKind::Unreachable, "checksums that do not go on");
    assert_eq!(refused(&|units| units[2].bytes[24] ^= 1), ErrorKind::Unreachable, "another generation");
    let other = |units: &mut Vec<CapturedUnit>| units[0].bytes[12..16].copy_from_slice(&8192u32.to_le_bytes());
    assert!(matches!(refused(&other), ErrorKind::Damaged | ErrorKind::Unreachable), "another page size");
}

/// A recovered database is the same source on another branch, with larger LSNs, and its files are plain.
#[test]
fn what_is_recovered_lives_on_as_a_branch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "wal");
    let mut random = Random(4);
    let source = SqliteSource::open(&path).unwrap();
    let base = take_base(&source, None, &dir.path().join("base"));
    let mut stream = source.log_stream_behind(None, Some(&base.cookie)).unwrap();
    transact_times(&db, &mut random, 0..5);
    let mut units = Vec::new();
    drain(stream.as_mut(), &mut units, Duration::from_millis(50));
    let target = commits(&units[0])[1].0;
    let to = dir.path().join("to");
    recover(&base, &units, until(Until::Lsn(target)), &to).unwrap();
    let names: BTreeSet<_> = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["bank.db", "bank.db-setpiece"].map(Into::into).into());

    let back = SqliteSource::open(to.join("bank.db")).unwrap();
    assert_eq!(back.info().unwrap().id, Default::default(), "the source given to the recovery");
    let cookie = &units.last().unwrap().cookie;
    let mut run = begin(&back, Some(cookie));
    assert_eq!(run.branch().current, BranchId(77));
    assert_eq!(run.branch().reach(BranchId(1)), Some(target));
    assert!(run.begin()[0].lsn > units.last().unwrap().unit.span.upto);
    let end = run.end().unwrap();
    drop(run);
    // Both branches go on; each keeps its own numbers, whosever cookie is the newest.
    let copy = connect(&to.join("bank.db"));
    transact(&copy, &mut random);
    let one = back_up(&back, Some(&end.cookie), &dir.path().join("one"));
    let two = back_up(&SqliteSource::open(&path).unwrap(), Some(&one.cookie), &dir.path().join("two"));
    assert_eq!(two.bak_end_lsn, units.last().unwrap().unit.span.upto);
    let three = back_up(&SqliteSource::open(to.join("bank.db")).unwrap(), Some(&two.cookie), &dir.path().join("three"));
    assert_eq!(three.bak_end_lsn, one.bak_end_lsn);
    assert!(one.bak_end_lsn > end.bak_end_lsn);

    std::fs::write(to.join("bank.db-setpiece"), b"setpiece sqlite 1\nnonsense").unwrap();
    assert_eq!(SqliteSource::open(to.join("bank.db")).unwrap().info().unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn a_database_that_vanishes_ends_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "wal");
    let source = SqliteSource::open(&path).unwrap();
    let mut stream = source.log_stream(None).unwrap();
    assert_eq!(stream.next(Duration::ZERO).unwrap(), None);
    drop(db);
    std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    let error = stream.next(Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source, "{error}");
    drop(make_bank(&path, 0, "wal"));
    assert_eq!(stream.next(Duration::from_millis(200)).unwrap_err().kind(), ErrorKind::Source, "another in its place");
}

/// Appends to the log a transaction that is whole in every byte, as a writer leaves it that dies before it tells the
/// index of the log: SQLite does not know it, and the next writer puts another one in its place.
fn forge_commit(log: &Path, page: u32, database: u32) {
    let mut bytes = std::fs::read(log).unwrap();
    let number =
        |bytes: &[u8], at: usize| bytes[at..at + 4].iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    let big = number(&bytes, 0) & 1 == 1;
    let frame_len = 24 + number(&bytes, 8) as usize;
    let frames = (bytes.len() - 32) / frame_len;
    // The last frame that belongs to this generation.
    let last = (0..frames)
        .rev()
        .map(|frame| 32 + frame * frame_len)
        .find(|at| bytes[at + 8..at + 16] == bytes[16..24])
        .unwrap();
    let mut sum = [number(&bytes, last + 16), number(&bytes, last + 20)];
    let mut frame = vec![0xab; frame_len];
    for (at, value) in [(0, page), (4, database), (8, number(&bytes, 16)), (12, number(&bytes, 20))] {
        (0..4).for_each(|byte| frame[at + byte] = (value >> (24 - 8 * byte)) as u8);
    }
    for pair in [&frame[..8], &frame[24..]].concat().chunks(8) {
        let word = |at: usize| if big { number(pair, at) } else { number(pair, at).swap_bytes() };
        sum[0] = sum[0].wrapping_add(word(0)).wrapping_add(sum[1]);
        sum[1] = sum[1].wrapping_add(word(4)).wrapping_add(sum[0]);
    }
    for (at, value) in [(16, sum[0]), (20, sum[1])] {
        (0..4).for_each(|byte| frame[at + byte] = (value >> (24 - 8 * byte)) as u8);
    }
    bytes.truncate(last + frame_len);
    bytes.extend_from_slice(&frame);
    std::fs::write(log, bytes).unwrap();
}

/// A frame that says "commit" is not yet a commit. If one that SQLite never acknowledged were taken for real, its LSN
/// would be given again to the transaction that overwrites it, and backups before and after would not fit.
#[test]
fn what_a_crashed_writer_left_is_not_taken_for_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "wal");
    let mut random = Random(8);
    transact(&db, &mut random);
    let source = SqliteSource::open(&path).unwrap();
    let base = take_base(&source, None, &dir.path().join("base"));
    let mut stream = source.log_stream_behind(None, Some(&base.cookie)).unwrap();
    transact(&db, &mut random);
    forge_commit(&dir.path().join("bank.db-wal"), 3, 500);
    let mut units = Vec::new();
    drain(stream.as_mut(), &mut units, Duration::from_millis(120));
    assert_eq!(units.iter().map(|unit| commits(unit).len()).sum::<usize>(), 1);
    let set = take_base(&source, Some(&units[0].cookie), &dir.path().join("set"));
    assert_eq!(set.lsn, units[0].unit.span.upto);
    assert_eq!(prove(&dir.path().join("set")).0, 2);
    transact(&db, &mut random);
    drain(stream.as_mut(), &mut units, Duration::from_millis(120));
    check_chain(&units, base.lsn);
    recover(&base, &units, until(Until::Latest), &dir.path().join("to")).unwrap();
    assert_eq!(prove(&dir.path().join("to/bank.db")).0, 3);
}

/// Capture lags far behind, and the host checkpoints all the time: what was not captured yet must not be overwritten.
#[test]
fn redo_that_was_not_captured_yet_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "wal");
    let base = take_base(&SqliteSource::open(&path).unwrap(), None, &dir.path().join("base"));
    let source = SqliteSource::open(&path).unwrap();
    let mut stream = source.log_stream_behind(None, Some(&base.cookie)).unwrap();
    let checkpoint = || drop(db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
    let write = |bytes: u32| {
        let text = format!("UPDATE count SET n = n + 1; INSERT INTO filler(x) VALUES (randomblob({bytes}))");
        db.execute_batch(&text).unwrap();
        checkpoint();
    };
    // Each is a unit of its own. Together they are less than what makes the stream stop writers to catch up.
    (0..6).for_each(|_| write(5_000_000));
    let mut units = Vec::new();
    for round in 1..=12 {
        units.extend(stream.next(Duration::ZERO).unwrap());
        stream.durable(units.last().unwrap().unit.span.upto).unwrap();
        std::thread::sleep(Duration::from_millis(220));
        // Now and then a pause, in which the log can be copied as a whole: then the next transaction restarts it.
        if round % 4 == 0 { write(10) } else { checkpoint() }
    }
    drain(stream.as_mut(), &mut units, Duration::from_millis(50));
    check_chain(&units, base.lsn);
    assert!(units.len() > 6, "{} units: capture did not lag", units.len());
    recover(&base, &units, until(Until::Latest), &dir.path().join("to")).unwrap();
    assert_eq!(prove(&dir.path().join("to/bank.db")).0, 9);
}

/// Everybody else has closed the database, and the stream goes without having captured all: SQLite would copy and
/// delete the log when the last connection closes, and the redo in it would be gone.
#[test]
fn closing_as_the_last_leaves_the_log_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "wal");
    let base = take_base(&SqliteSource::open(&path).unwrap(), None, &dir.path().join("base"));
    let mut units = Vec::new();
    let source = SqliteSource::open(&path).unwrap();
    let stream = source.log_stream_behind(None, Some(&base.cookie)).unwrap();
    transact(&db, &mut Random(9));
    drop(db);
    drop(stream);
    let between = take_base(&SqliteSource::open(&path).unwrap(), Some(&base.cookie), &dir.path().join("between"));
    let source = SqliteSource::open(&path).unwrap();
    let mut stream = source.log_stream_behind(None, Some(&base.cookie)).unwrap();
    drain(stream.as_mut(), &mut units, Duration::from_millis(20));
    check_chain(&units, base.lsn);
    assert_eq!(units[0].unit.span.upto, between.lsn);
}

/// The log had been copied as a whole when the stream began, so the host may restart it at once, before the stream
/// has read what it meant to. That loss must be seen.
#[test]
fn a_restart_before_the_stream_has_caught_up_shows_as_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "wal");
    let mut random = Random(10);
    let base = take_base(&SqliteSource::open(&path).unwrap(), None, &dir.path().join("base"));
    transact_times(&db, &mut random, 0..3);
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    let source = SqliteSource::open(&path).unwrap();
    let mut stream = source.log_stream_behind(None, Some(&base.cookie)).unwrap();
    transact(&db, &mut random);
    let mut units = Vec::new();
    drain(stream.as_mut(), &mut units, Duration::from_millis(20));
    assert_eq!(units.len(), 1);
    assert!(units[0].unit.span.after > base.lsn, "redo is missing, and {:?} does not show it", units[0].unit.span);
}

/// A transaction spills into a new log and is rolled back; the next one writes the log anew, with other salts. That is
/// no generation of its own, or the stream's numbers would not be those of a backup that saw nothing of it.
#[test]
fn a_log_in_which_nothing_was_committed_gets_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "wal");
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let other = connect(&path);
    let base = take_base(&SqliteSource::open(&path).unwrap(), None, &dir.path().join("base"));
    let source = SqliteSource::open(&path).unwrap();
    let mut stream = source.log_stream_behind(None, Some(&base.cookie)).unwrap();
    let salts = || std::fs::read(dir.path().join("bank.db-wal")).unwrap().get(16..24).map(<[u8]>::to_vec);
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        other.execute_batch("PRAGMA cache_size=2; BEGIN; INSERT INTO filler(x) VALUES (randomblob(900000))").unwrap();
        assert_eq!(stream.next(Duration::from_millis(10)).unwrap(), None);
        seen.insert(salts());
        other.execute_batch("ROLLBACK").unwrap();
    }
    assert!(seen.len() > 1 && !seen.contains(&None), "the log was not written anew, so this test tests nothing");
    transact(&other, &mut Random(11));
    let mut units = Vec::new();
    drain(stream.as_mut(), &mut units, Duration::from_millis(20));
    let set = take_base(&SqliteSource::open(&path).unwrap(), Some(&base.cookie), &dir.path().join("set"));
    assert_eq!(units[0].unit.span.upto, set.lsn);
    check_chain(&units, base.lsn);
}
