//! SQLite's log is numbered by whoever looks at it. Whatever observers there are, and whatever they know of each other:
//! what is restored is a state that was, that of the set or target asked for, or the restore is refused.
//!
//! What went wrong, in all of these: two records with LSNs that fit were taken for one line of history. Increments left
//! out pages, and redo was laid over states that it did not belong to, without a word. Now each record carries marks of
//! the states that it joins (`core/src/model/mark.rs`), and LSNs only order what the marks have proven.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use common::{init, open, quiet, take};
use rusqlite::Connection;
use setpiece_core::backup::log::{StreamOptions, StreamReport, stream};
use setpiece_core::backup::{BackupOptions, BackupReport, backup, new_repository_id};
use setpiece_core::catalog::Catalog;
use setpiece_core::copy::copy;
use setpiece_core::events::{Event, Observer};
use setpiece_core::media::layout::{self, SetObject};
use setpiece_core::media::memory::MemoryMedium;
use setpiece_core::media::repository::Repository;
use setpiece_core::model::window::Window;
use setpiece_core::model::{Level, LogUnit, Lsn, RecoveryTarget, SetId, Timestamp, Until};
use setpiece_core::pipeline::Cancel;
use setpiece_core::restore::{RestoreRequest, restore};
use setpiece_core::retain::remove;
use setpiece_core::source::{
    BackupRun, BeginRequest, CapturedPoint, CapturedUnit, IncrementRule, LogStream, NamedPosition, NodePosition,
    Source, SourceInfo,
};
use setpiece_core::transform::{Identity, Secret, SlotRequest, new_descriptor};
use setpiece_core::{ErrorKind, Result};
use setpiece_source_sqlite::{SqliteRecovery, SqliteSource};

/// Rows of the table; each is on a page of its own, nearly.
const ROWS: i64 = 40;

fn connect(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_millis(200)).unwrap();
    db.execute_batch("PRAGMA synchronous=OFF").unwrap();
    db
}

fn make(path: &Path) -> Connection {
    let db = connect(path);
    db.query_row("PRAGMA journal_mode=wal", [], |_| Ok(())).unwrap();
    db.execute_batch(
        "BEGIN; CREATE TABLE version(n INTEGER); INSERT INTO version VALUES (0);
         CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, filler BLOB); COMMIT",
    )
    .unwrap();
    for id in 1..=ROWS {
        db.execute("INSERT INTO t VALUES (?1, '', zeroblob(2500))", [id]).unwrap();
    }
    checkpoint(&db, "TRUNCATE");
    db
}

/// Whether nobody stood in its way.
fn checkpoint(db: &Connection, mode: &str) -> bool {
    let busy: i64 = db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0)).unwrap();
    busy == 0
}

/// One transaction: a row and the version.
fn put(db: &Connection, row: i64, value: &str) {
    db.execute_batch(&format!(
        "BEGIN IMMEDIATE; UPDATE t SET v = '{value}' WHERE id = {row}; UPDATE version SET n = n + 1; COMMIT"
    ))
    .unwrap();
}

/// The version and everything else.
fn state(db: &Connection) -> (i64, String) {
    let version = db.query_row("SELECT n FROM version", [], |row| row.get(0)).unwrap();
    let rows = db.query_row("SELECT group_concat(v) FROM (SELECT v FROM t ORDER BY id)", [], |row| row.get(0)).unwrap();
    (version, rows)
}

/// Rows of a restored database, after SQLite found no fault in it.
fn restored(to: &Path) -> (i64, String) {
    let db = connect(&to.join("app.db"));
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    state(&db)
}

type Hook = Box<dyn FnOnce() + Send>;

/// The source with two handles: something to be done before the next backup's snapshot, and a gate for its streams.
#[derive(Clone)]
struct Handled {
    inner: SqliteSource,
    before_begin: Arc<Mutex<Option<Hook>>>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
    /// Held while the stream looks at the log.
    busy: Mutex<()>,
}

impl Gate {
    /// The stream stands still from here on, as a process that was stopped.
    fn close(&self) {
        *self.closed.lock().unwrap() = true;
        drop(self.busy.lock().unwrap());
    }

    fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.changed.notify_all();
    }
}

impl Handled {
    fn new(path: &Path) -> Self {
        let inner = SqliteSource::open(path).unwrap();
        Handled { inner, before_begin: Arc::default(), gate: Arc::default() }
    }
}

impl Source for Handled {
    fn info(&self) -> Result<SourceInfo> {
        self.inner.info()
    }
    fn increment_rule(&self) -> IncrementRule {
        self.inner.increment_rule()
    }
    fn positions(&self) -> Result<Vec<NamedPosition>> {
        self.inner.positions()
    }
    fn checkpoint(&self) -> Result<Vec<NodePosition>> {
        self.inner.checkpoint()
    }
    fn begin(&self, request: &BeginRequest<'_>) -> Result<Box<dyn BackupRun + '_>> {
        if let Some(hook) = self.before_begin.lock().unwrap().take() {
            hook();
        }
        self.inner.begin(request)
    }
    fn log_stream(&self, last: Option<&CapturedPoint>) -> Result<Box<dyn LogStream + '_>> {
        self.log_stream_behind(last, None)
    }
    fn join_memories(&self, cookies: &[&[u8]]) -> Result<Option<Vec<u8>>> {
        self.inner.join_memories(cookies)
    }
    fn log_stream_behind(
        &self,
        last: Option<&CapturedPoint>,
        newest: Option<&[u8]>,
    ) -> Result<Box<dyn LogStream + '_>> {
        Ok(Box::new(Gated { inner: self.inner.log_stream_behind(last, newest)?, gate: self.gate.clone() }))
    }
}

struct Gated<'s> {
    inner: Box<dyn LogStream + 's>,
    gate: Arc<Gate>,
}

impl LogStream for Gated<'_> {
    fn next(&mut self, wait: Duration) -> Result<Option<CapturedUnit>> {
        let mut closed = self.gate.closed.lock().unwrap();
        while *closed {
            closed = self.gate.changed.wait(closed).unwrap();
        }
        let _busy = self.gate.busy.lock().unwrap();
        drop(closed);
        self.inner.next(wait)
    }
    fn durable(&mut self, lsn: Lsn) -> Result<()> {
        self.inner.durable(lsn)
    }
}

/// A database and a repository.
struct World {
    dir: tempfile::TempDir,
    db: Option<Connection>,
    repository: Arc<Repository>,
    restores: u32,
}

/// A stream that runs.
struct Running {
    thread: JoinHandle<Result<StreamReport>>,
    cancel: Arc<Cancel>,
    gate: Arc<Gate>,
}

impl Running {
    fn stop(self) {
        self.cancel.cancel();
        match self.end() {
            // It had not begun yet.
            Err(error) if error.kind() == ErrorKind::Cancelled => {}
            ended => drop(ended.unwrap()),
        }
    }

    /// Waits until the stream has ended.
    fn end(self) -> Result<StreamReport> {
        self.gate.open();
        let until = Instant::now() + Duration::from_secs(20);
        while !self.thread.is_finished() {
            assert!(Instant::now() < until, "the stream does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.thread.join().unwrap()
    }
}

/// The environment variable that makes a test executable the application: `path;step;step`.
const APPLICATION: &str = "SETPIECE_TEST_APPLICATION";

/// Nothing, except in a process of its own: in one process all connections share what SQLite knows of a file, so what is
/// done to a database behind its back has to be done from outside.
#[test]
fn application() {
    let Ok(text) = std::env::var(APPLICATION) else { return };
    let mut steps = text.split(';');
    let db = connect(Path::new(steps.next().unwrap()));
    for step in steps {
        match step.split_once(' ') {
            Some((row, value)) => put(&db, row.parse().unwrap(), value),
            None => assert!(checkpoint(&db, step) || step == "PASSIVE"),
        }
    }
}

/// Lets an application of another process do `steps`: `ROW VALUE` writes, a word makes a checkpoint. Whether it could.
fn apply(path: &Path, steps: &str) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "application"]).env(APPLICATION, format!("{};{steps}", path.display()));
    command.output().unwrap().status.success()
}

/// Runs a shell with the database's directory as its own.
fn shell(path: &Path, script: &str) {
    let done = Command::new("sh").args(["-ec", script]).current_dir(path.parent().unwrap()).status().unwrap();
    assert!(done.success(), "{script}");
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = Some(make(&dir.path().join("app.db")));
        World { dir, db, repository: Arc::new(init(Arc::new(MemoryMedium::new()), false).unwrap()), restores: 0 }
    }

    /// Goes on with a repository that this host may write to and not read; gives one that can be read.
    fn blind(&mut self) -> Repository {
        let medium = Arc::new(MemoryMedium::new());
        let identity = Identity::generate().unwrap();
        let slot = SlotRequest::Recipient { label: "vault".into(), recipient: identity.recipient() };
        let (descriptor, vault) = new_descriptor(new_repository_id().unwrap(), &[slot]).unwrap();
        drop(Repository::init(medium.clone(), descriptor, vault).unwrap());
        self.repository = Arc::new(open(medium.clone(), false).unwrap());
        Repository::open(medium, &[Secret::Identity(identity)]).unwrap()
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    fn db(&self) -> &Connection {
        self.db.as_ref().unwrap()
    }

    fn put(&self, row: i64, value: &str) {
        put(self.db(), row, value);
    }

    fn restart_application(&mut self) {
        self.db = None;
        self.db = Some(connect(&self.path()));
    }

    fn version(&self) -> i64 {
        state(self.db()).0
    }

    /// A source that remembers nothing, as in another process.
    fn source(&self) -> Handled {
        Handled::new(&self.path())
    }

    fn take(&self, name: &str, level: Level) -> BackupReport {
        take(&self.repository, &self.source(), level, |options| options.name = Some(name.into())).unwrap()
    }

    fn stream(&self) -> Running {
        let source = self.source();
        let (cancel, gate) = (Arc::new(Cancel::new()), source.gate.clone());
        let (inner, repository) = (cancel.clone(), self.repository.clone());
        let mut options = StreamOptions::default();
        options.poll = Duration::from_millis(5);
        let thread = std::thread::spawn(move || stream(&repository, &source, &options, quiet(&inner)));
        std::thread::sleep(Duration::from_millis(60));
        Running { thread, cancel, gate }
    }

    /// Captures what there is.
    fn capture(&self) {
        let mut options = StreamOptions::default();
        options.poll = Duration::from_millis(5);
        options.stop_when_idle = Some(Duration::from_millis(20));
        stream(&self.repository, &self.source(), &options, quiet(&Cancel::new())).unwrap();
    }

    fn catalog(&self) -> Catalog {
        Catalog::load(&self.repository, None).unwrap()
    }

    fn windows(&self) -> Vec<Window> {
        let catalog = self.catalog();
        catalog.windows(catalog.sources().into_keys().next().unwrap())
    }

    fn units(&self) -> Vec<LogUnit> {
        let mut units: Vec<LogUnit> = self.catalog().units().map(|(_, unit)| unit.clone()).collect();
        units.sort_by_key(|unit| unit.seq);
        units
    }

    /// Waits until redo is captured of the newest state.
    fn caught_up(&self, units: usize) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.units().len() < units {
            assert!(Instant::now() < until, "{} units, not {units}", self.units().len());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn restore_from(
        &mut self,
        repository: &Repository,
        set: Option<String>,
        until: Until,
        observer: &dyn Observer,
    ) -> Result<(i64, String)> {
        self.restores += 1;
        let to = self.dir.path().join(format!("to-{}", self.restores));
        let mut request = RestoreRequest::default();
        request.set = set;
        request.target = RecoveryTarget { until, ..RecoveryTarget::default() };
        let cancel = Cancel::new();
        let around = setpiece_core::backup::Surroundings { observer, ..quiet(&cancel) };
        restore(repository, &[&SqliteRecovery], &request, &to, around)?;
        let found = restored(&to);
        std::fs::remove_dir_all(&to).unwrap();
        Ok(found)
    }

    fn restore(&mut self, set: Option<&str>, until: Until) -> Result<(i64, String)> {
        let repository = self.repository.clone();
        self.restore_from(&repository, set.map(Into::into), until, &setpiece_core::events::Silent)
    }

    fn set(&mut self, name: &str) -> (i64, String) {
        self.restore(Some(name), Until::SetEnd).unwrap_or_else(|error| panic!("set {name}: {error:?}"))
    }

    /// Makes it seem that the clock was wrong when a set ended.
    fn shift_clock(&self, set: SetId, by: Duration, ahead: bool) {
        let mut meta = self.repository.open_set(set).unwrap().meta;
        let by = i64::try_from(by.as_micros()).unwrap() * if ahead { 1 } else { -1 };
        meta.summary.began.0 += by;
        meta.summary.ended.0 += by;
        let name = layout::object(set, SetObject::Meta).unwrap();
        self.repository.medium().remove(&name).unwrap();
        self.repository.publish(&meta, None).unwrap();
    }
}

#[derive(Debug, Default)]
struct Warnings(Mutex<Vec<String>>);

impl Observer for Warnings {
    fn event(&self, event: &Event) {
        if let Event::Warning { text } = event {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

/// The values of rows 1 to 5.
fn five((_, rows): &(i64, String)) -> Vec<&str> {
    rows.split(',').take(5).collect()
}

/// The differential knew the log from its first frame on. That was taken for proof for the full set's state as well,
/// although the file had been written to between the two.
#[test]
fn an_older_base_is_proven_for_itself() {
    let mut world = World::new();
    world.take("F", Level::Full);
    world.put(1, "A");
    checkpoint(world.db(), "TRUNCATE");
    world.put(2, "B");
    world.take("D", Level::Differential);
    world.take("C", Level::Cumulative);
    assert_eq!(five(&world.set("D")), ["A", "B", "", "", ""]);
    assert_eq!(five(&world.set("C")), ["A", "B", "", "", ""]);
}

/// The newest memory was chosen by the clock. A set from when it was ahead counted for ever: numbers were given twice,
/// and equal numbers were taken for "nothing changed".
#[test]
fn a_clock_that_was_wrong_gives_no_number_twice() {
    for ahead in [true, false] {
        let mut world = World::new();
        world.put(5, "F");
        let full = world.take("F", Level::Full);
        if ahead {
            world.shift_clock(full.summary.id, Duration::from_secs(10 * 86400), true);
        }
        let mut last = full.summary.bak_end_lsn;
        for (row, name) in [(1, "D1"), (2, "D2"), (3, "D3")] {
            world.restart_application();
            world.put(row, name);
            world.put(4, name);
            let report = world.take(name, Level::Differential);
            assert!(report.summary.bak_end_lsn > last, "{name}");
            last = report.summary.bak_end_lsn;
            if !ahead {
                world.shift_clock(report.summary.id, Duration::from_secs(3600), false);
            }
            assert_eq!(five(&world.set(name))[row as usize - 1], name);
        }
        assert_eq!(five(&world.set("D3")), ["D1", "D2", "D3", "D3", "F"]);
    }
}

/// The same when the log is emptied between, so that every state has frame 0 of some generation.
#[test]
fn a_clock_that_was_wrong_hides_no_change_of_an_empty_log() {
    let mut world = World::new();
    let full = world.take("F", Level::Full);
    world.shift_clock(full.summary.id, Duration::from_secs(86400), true);
    for (row, name) in [(1, "D1"), (2, "D2"), (3, "D3")] {
        world.put(row, name);
        checkpoint(world.db(), "TRUNCATE");
        world.take(name, Level::Differential);
    }
    assert_eq!(five(&world.set("D3")), ["D1", "D2", "D3", "", ""]);
}

/// A stream counted the logs that it saw, a backup counted by the salts, in which restarts of an empty log count too.
#[test]
fn a_stream_and_backups_number_one_log_alike() {
    let mut world = World::new();
    world.take("F", Level::Full);
    let running = world.stream();
    world.put(1, "A");
    world.caught_up(1);
    let until = Instant::now() + Duration::from_secs(20);
    while !checkpoint(world.db(), "TRUNCATE") {
        assert!(Instant::now() < until, "the stream does not let the log go");
        std::thread::sleep(Duration::from_millis(50));
    }
    running.gate.close();
    assert!((0..3).all(|_| checkpoint(world.db(), "TRUNCATE")));
    world.put(2, "B");
    world.take("D", Level::Differential);
    running.gate.open();
    world.caught_up(2);
    world.put(3, "C");
    world.caught_up(3);
    let catalog = world.catalog();
    let end = catalog.find("D").unwrap().summary.bak_end_lsn;
    assert!(world.units().iter().any(|unit| unit.span.upto == end), "the backup gave another number");
    assert_eq!(five(&world.restore(None, Until::Latest).unwrap()), ["A", "B", "C", "", ""]);
    world.put(4, "D");
    world.put(1, "E");
    world.take("D2", Level::Differential);
    running.stop();
    assert_eq!(five(&world.set("D2")), ["E", "B", "C", "D", ""]);
    assert_eq!(world.windows().len(), 1, "{:?}", world.windows());
}

/// The log was restarted after the backup had read what is on record and before its snapshot: the snapshot was given an
/// LSN of the log before, and stood for a state that it was not.
#[test]
fn a_restart_before_the_snapshot_makes_no_earlier_state_of_it() {
    let mut world = World::new();
    world.take("F", Level::Full);
    let running = world.stream();
    let source = world.source();
    let path = world.path();
    let gate = running.gate.clone();
    *source.before_begin.lock().unwrap() = Some(Box::new(move || {
        let db = connect(&path);
        put(&db, 1, "A");
        std::thread::sleep(Duration::from_millis(200));
        checkpoint(&db, "PASSIVE");
        std::thread::sleep(Duration::from_millis(500));
        checkpoint(&db, "TRUNCATE");
        gate.close();
        put(&db, 2, "B");
    }));
    let report = take(&world.repository, &source, Level::Full, |options| options.name = Some("G".into())).unwrap();
    running.gate.open();
    world.caught_up(2);
    running.stop();
    let first = world.units()[0].span.upto;
    assert!(world.catalog().find("G").unwrap().summary.bak_end_lsn > first);
    assert!(report.summary.bak_end_lsn > first);
    assert_eq!(five(&world.restore(None, Until::Lsn(first)).unwrap()), ["A", "", "", "", ""]);
    assert_eq!(five(&world.restore(Some("G"), Until::Latest).unwrap()), ["A", "B", "", "", ""]);
}

/// Two repositories number one database each for itself; `copy` puts the records of both side by side.
#[test]
fn redo_of_one_repository_is_not_laid_on_sets_of_another() {
    let mut world = World::new();
    let first = world.repository.clone();
    world.take("F1", Level::Full);
    world.put(1, "A");
    checkpoint(world.db(), "TRUNCATE");
    world.repository = Arc::new(init(Arc::new(MemoryMedium::new()), false).unwrap());
    let second = world.take("F2", Level::Full);
    world.put(2, "B");
    world.capture();
    copy(&first, &world.repository, &[], quiet(&Cancel::new())).unwrap();
    assert_eq!(five(&world.restore(Some("F2"), Until::Latest).unwrap()), ["A", "B", "", "", ""]);
    assert_eq!(five(&world.set("F1")), ["", "", "", "", ""]);
    assert_eq!(world.windows().len(), 2, "{:?}", world.windows());
    let end = world.units()[0].span.upto;
    assert_eq!(five(&world.restore(None, Until::Lsn(end)).unwrap()), ["A", "B", "", "", ""]);
    // Both were made within a second, so that they may have one number; then it must be said which is meant.
    let same = world.catalog().find("F1").unwrap().summary.bak_end_lsn == second.summary.bak_end_lsn;
    let by_number = world.restore(None, Until::Lsn(second.summary.bak_end_lsn));
    assert_eq!(by_number.is_err(), same, "{by_number:?}");
    remove(&world.repository, "F2", false, quiet(&Cancel::new())).unwrap();
    let refused = world.restore(None, Until::Lsn(end)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unreachable);
    assert!(same || refused.to_string().contains("missing") || refused.to_string().contains("proven"), "{refused}");
}

/// A host that may write and not read knows nothing of what it wrote before. It numbered each time from the beginning,
/// and old redo was laid over a newer full set.
#[test]
fn old_redo_is_not_laid_over_a_newer_set_of_a_host_that_cannot_read() {
    let mut world = World::new();
    let reader = world.blind();
    world.take("F1", Level::Full);
    let running = world.stream();
    // Such a host waits for its clock.
    std::thread::sleep(Duration::from_millis(300));
    (1..=3).for_each(|row| world.put(row, "old"));
    std::thread::sleep(Duration::from_millis(300));
    running.stop();
    world.put(2, "new");
    world.put(3, "new");
    world.restart_application();
    world.put(1, "new");
    world.take("F2", Level::Full);
    let set = world.restore_from(&reader, Some("F2".into()), Until::SetEnd, &setpiece_core::events::Silent).unwrap();
    assert_eq!(five(&set), ["new", "new", "new", "", ""]);
    let latest = world.restore_from(&reader, None, Until::Latest, &setpiece_core::events::Silent).unwrap();
    assert_eq!(five(&latest), ["new", "new", "new", "", ""]);
    let latest = world.restore_from(&reader, Some("F1".into()), Until::Latest, &setpiece_core::events::Silent).unwrap();
    assert_eq!(five(&latest), ["old", "old", "old", "", ""]);
}

/// What was committed while nobody captured got the moment of its capture, and a target before that left it out.
#[test]
fn moments_in_which_nobody_captured_are_refused() {
    let mut world = World::new();
    let now = || Timestamp::from(SystemTime::now());
    let pause = || std::thread::sleep(Duration::from_millis(1300));
    world.take("F", Level::Full);
    world.put(1, "one");
    world.capture();
    let before = world.units()[0].last_commit.unwrap();
    world.put(2, "two");
    pause();
    let between = now();
    pause();
    world.capture();
    let running = world.stream();
    world.put(3, "three");
    world.caught_up(3);
    running.stop();
    let refused = world.restore(None, Until::Time(between)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unreachable);
    assert!(refused.to_string().contains("while no redo was captured"), "{refused}");
    let units = world.units();
    assert_eq!(five(&world.restore(None, Until::Time(before)).unwrap()), ["one", "", "", "", ""]);
    let found = units[1].last_commit.unwrap();
    assert_eq!(five(&world.restore(None, Until::Time(found)).unwrap()), ["one", "two", "", "", ""]);
    assert_eq!(five(&world.restore(None, Until::Time(Timestamp(found.0 + 1))).unwrap()), ["one", "two", "", "", ""]);
    assert_eq!(five(&world.restore(None, Until::Latest).unwrap()), ["one", "two", "three", "", ""]);
}

/// The log was emptied while nobody captured: what is found then does not go on from what was captured before.
#[test]
fn a_gap_between_two_streams_is_a_gap() {
    let mut world = World::new();
    world.take("F", Level::Full);
    world.put(1, "one");
    world.capture();
    world.put(2, "two");
    checkpoint(world.db(), "TRUNCATE");
    world.put(3, "three");
    let running = world.stream();
    world.put(4, "four");
    world.caught_up(2);
    running.stop();
    let warnings = Warnings::default();
    let repository = world.repository.clone();
    let latest = world.restore_from(&repository, None, Until::Latest, &warnings).unwrap();
    assert_eq!(five(&latest), ["one", "", "", "", ""]);
    assert!(!warnings.0.lock().unwrap().is_empty(), "the redo behind the gap is not spoken of");
}

/// An older copy is put back over the database while the stream runs (it stands still meanwhile, so that nothing of it
/// falls between two of its looks) and the application does not. The stream took the log after that for the one before.
/// How the copy is put back, and whether that ends the stream.
const REPLACEMENTS: [(&str, &str, bool); 5] = [
    ("4 older", "cp old.db app.db; rm app.db-wal app.db-shm", true),
    ("4 older", "rm app.db-wal app.db-shm; cp old.db app.db", true),
    ("4 older", "cp old.db app.db; rm app.db-shm; : > app.db-wal", true),
    // What an application does that was closed with an empty log, or with one that was copied whole: SQLite takes the
    // copy for the database as well. Nothing shows on the outside, and no page 1 is another one.
    ("4 older;TRUNCATE", "cp old.db app.db", false),
    ("4 older;PASSIVE", "cp old.db app.db", false),
];

#[test]
fn a_copy_put_back_under_a_stream_is_another_line() {
    for (number, (before, replace, ends)) in REPLACEMENTS.into_iter().enumerate() {
        let what = format!("case {number}: {before}, {replace}");
        let mut world = World::new();
        world.db = None;
        let path = world.path();
        assert!(apply(&path, "5 first;TRUNCATE"));
        shell(&path, "cp app.db old.db");
        world.take("F", Level::Full);
        let running = world.stream();
        assert!(apply(&path, "1 lost;2 lost"));
        world.caught_up(1);
        world.take("D1", Level::Differential);
        let (written, checkpoint) = before.split_once(';').unwrap_or((before, ""));
        assert!(apply(&path, written), "{what}");
        let until = Instant::now() + Duration::from_secs(20);
        // The stream lets the log go when it has captured what was written.
        while !checkpoint.is_empty() && !apply(&path, checkpoint) {
            assert!(Instant::now() < until, "{what}: the stream does not let the log go");
            std::thread::sleep(Duration::from_millis(300));
        }
        std::thread::sleep(Duration::from_millis(700));
        if before.ends_with("PASSIVE") {
            assert!(apply(&path, "PASSIVE"));
            std::thread::sleep(Duration::from_millis(700));
        }
        running.gate.close();
        shell(&path, replace);
        assert!(apply(&path, "3 after"), "{what}");
        if ends {
            let error = running.end().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Source, "{what}: {error}");
            assert!(error.to_string().contains("replaced"), "{what}: {error}");
            world.take("D2", Level::Differential);
        } else {
            let captured = world.units().len();
            running.gate.open();
            world.caught_up(captured + 1);
            world.take("D2", Level::Differential);
            running.stop();
        }
        world.take("C2", Level::Cumulative);
        let now = ["", "", "after", "", "first"];
        assert_eq!(five(&world.set("D2")), now, "{what}");
        assert_eq!(five(&world.set("C2")), now, "{what}");
        assert_eq!(five(&world.restore(None, Until::Latest).unwrap()), now, "{what}");
        let before = world.restore(Some("D1"), Until::Latest).unwrap();
        assert_eq!(five(&before), ["lost", "lost", "", "older", "first"], "{what}");
    }
}

/// The machine was rolled back to a snapshot of its disk, and a backup was taken. It got the number that captured redo has
/// for that state, so what the rollback had undone was the latest state, and `expire` let the new set go before the old.
#[test]
fn what_a_database_is_after_it_was_put_back_is_the_latest() {
    let mut world = World::new();
    world.db = None;
    let path = world.path();
    world.take("F", Level::Full);
    let running = world.stream();
    assert!(apply(&path, "1 A"));
    world.caught_up(1);
    shell(&path, "mkdir snap; cp -a app.db app.db-wal snap");
    assert!(apply(&path, "2 BAD"));
    world.caught_up(2);
    let undone = world.take("D1", Level::Differential).summary.bak_end_lsn;
    running.stop();
    shell(&path, "rm app.db app.db-wal app.db-shm; cp -a snap/. .");
    let warnings = Warnings::default();
    let mut options = BackupOptions::default();
    (options.level, options.name) = (Level::Differential, Some("D2".into()));
    let cancel = Cancel::new();
    let around = setpiece_core::backup::Surroundings { observer: &warnings, ..quiet(&cancel) };
    let report = backup(&world.repository, &world.source(), &options, around).unwrap();
    assert!(warnings.0.lock().unwrap().iter().any(|text| text.contains("put back")), "{warnings:?}");
    let shown = world.catalog().find("D2").unwrap().summary.bak_end_lsn;
    assert_eq!(shown, report.summary.bak_end_lsn, "the catalog and the backup say the same");
    assert!(shown > undone);
    for set in ["D2", "latest"] {
        let until = if set == "latest" { Until::Latest } else { Until::SetEnd };
        let set = Some(set).filter(|set| *set != "latest");
        assert_eq!(five(&world.restore(set, until).unwrap()), ["A", "", "", "", ""]);
    }
    assert_eq!(five(&world.restore(None, Until::Lsn(undone)).unwrap()), ["A", "BAD", "", "", ""]);
    let running = world.stream();
    assert!(apply(&path, "4 next"));
    world.caught_up(3);
    running.stop();
    world.take("C3", Level::Cumulative);
    for set in [None, Some("D2"), Some("C3")] {
        assert_eq!(five(&world.restore(set, Until::Latest).unwrap()), ["A", "", "", "next", ""], "{set:?}");
    }
    assert_eq!(five(&world.restore(Some("F"), Until::Latest).unwrap()), ["A", "BAD", "", "", ""]);
    assert_eq!(world.windows().len(), 2, "{:?}", world.windows());
}

/// On a host that may not read what it writes, numbers are the clock's. A stream counted the logs, faster than the clock,
/// and the backup after it got a smaller number: the state before it was the latest. Two backups of one second had the
/// same number.
#[test]
fn a_host_that_cannot_read_is_never_ahead_of_its_clock() {
    let mut world = World::new();
    let reader = world.blind();
    let running = world.stream();
    world.take("F", Level::Full);
    for turn in 1..=8 {
        world.put(1, &format!("turn {turn}"));
        let until = Instant::now() + Duration::from_secs(20);
        while !checkpoint(world.db(), "TRUNCATE") {
            assert!(Instant::now() < until, "the stream does not let the log go");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    std::thread::sleep(Duration::from_millis(600));
    running.stop();
    for name in ["first", "second", "third"] {
        world.restart_application();
        world.put(2, name);
        checkpoint(world.db(), "TRUNCATE");
        world.put(3, name);
        world.take(name, Level::Full);
    }
    let latest = world.restore_from(&reader, None, Until::Latest, &setpiece_core::events::Silent).unwrap();
    assert_eq!(five(&latest), ["turn 8", "third", "third", "", ""]);
}

/// The usual case must stay usual: capture runs, backups are taken meanwhile, the application does what it wants with
/// its log, and everything is one window, to every state of which every set before it leads.
#[test]
fn a_stream_with_backups_in_between_is_one_window() {
    let mut world = World::new();
    world.take("S0", Level::Full);
    let running = world.stream();
    let (mut units, mut versions) = (0, vec![world.version()]);
    for round in 1..=8 {
        world.put(1 + round % 5, &format!("r{round}"));
        units += 1;
        world.caught_up(units);
        match round % 4 {
            0 => world.restart_application(),
            1 => {
                std::thread::sleep(Duration::from_millis(450));
                checkpoint(world.db(), "PASSIVE");
                std::thread::sleep(Duration::from_millis(450));
                checkpoint(world.db(), "TRUNCATE");
            }
            2 => {
                checkpoint(world.db(), "RESTART");
            }
            _ => {}
        }
        let level = [Level::Differential, Level::Cumulative, Level::Full][round as usize % 3];
        world.take(&format!("S{round}"), level);
        versions.push(world.version());
    }
    world.put(5, "end");
    world.caught_up(units + 1);
    running.stop();
    let windows = world.windows();
    assert_eq!(windows.len(), 1, "{windows:?}");
    assert_eq!((windows[0].sets.len(), windows[0].gap), (9, None), "{windows:?}");
    let (last, all) = state(world.db());
    for (round, version) in versions.iter().enumerate() {
        assert_eq!(world.set(&format!("S{round}")).0, *version);
        let latest = world.restore(Some(&format!("S{round}")), Until::Latest).unwrap();
        assert_eq!(latest, (last, all.clone()), "from set {round}");
    }
}

/// A small generator of random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// A random history of one database with several observers, and every state that it had.
struct Life {
    world: World,
    random: Random,
    seed: u64,
    truth: Arc<Mutex<BTreeMap<i64, String>>>,
    running: Option<Running>,
    sets: Vec<(SetId, i64)>,
    /// The repository as others read it, where this host may not.
    reader: Option<Repository>,
}

impl Life {
    fn write(db: &Connection, random: &mut Random, truth: &Mutex<BTreeMap<i64, String>>) {
        put(db, 1 + random.below(ROWS as u64) as i64, &format!("x{}", random.below(1000)));
        let (version, rows) = state(db);
        truth.lock().unwrap().insert(version, rows);
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..=4 => (0..=self.random.below(4)).for_each(|_| self.put()),
            5 | 6 => self.checkpoint(),
            7 => self.world.restart_application(),
            8..=10 => self.backup(),
            11 => match self.running.take() {
                Some(running) => running.stop(),
                None => self.running = Some(self.world.stream()),
            },
            12 => self.running.iter().for_each(|running| running.gate.close()),
            13 => self.running.iter().for_each(|running| running.gate.open()),
            14 => std::thread::sleep(Duration::from_millis(self.random.below(300))),
            _ if self.running.is_none() => self.world.capture(),
            _ => {}
        }
    }

    fn put(&mut self) {
        Life::write(self.world.db(), &mut self.random, &self.truth);
    }

    fn checkpoint(&mut self) {
        let mode = ["PASSIVE", "RESTART", "TRUNCATE", "TRUNCATE"][self.random.below(4) as usize];
        for _ in 0..=self.random.below(3) {
            checkpoint(self.world.db(), mode);
        }
    }

    fn backup(&mut self) {
        let source = self.world.source();
        if self.random.below(3) == 0 {
            let (path, truth) = (self.world.path(), self.truth.clone());
            let mut random = Random(self.random.below(u64::MAX));
            *source.before_begin.lock().unwrap() = Some(Box::new(move || {
                let db = connect(&path);
                (0..=random.below(2)).for_each(|_| Life::write(&db, &mut random, &truth));
                checkpoint(&db, "TRUNCATE");
                (0..random.below(3)).for_each(|_| Life::write(&db, &mut random, &truth));
            }));
        }
        let mut options = BackupOptions::default();
        options.level = [Level::Full, Level::Differential, Level::Cumulative][self.random.below(3) as usize];
        options.channels = 1;
        let report = backup(&self.world.repository, &source, &options, quiet(&Cancel::new()))
            .unwrap_or_else(|error| panic!("seed {}: {error:?}", self.seed));
        let set = report.summary.id;
        self.sets.push((set, self.world.version()));
        if self.random.below(4) == 0 && self.reader.is_none() {
            let by = Duration::from_secs(self.random.below(7200));
            self.world.shift_clock(set, by, self.random.below(2) == 0);
        }
    }

    /// Everything that can be restored is what it should be.
    fn judge(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.world.repository = Arc::new(reader);
        }
        let seed = self.seed;
        let truth = self.truth.lock().unwrap().clone();
        for (set, version) in self.sets.clone() {
            let found = self.world.set(&set.to_string());
            assert_eq!(found.0, version, "seed {seed}, set {set}");
            assert_eq!(Some(&found.1), truth.get(&version), "seed {seed}, set {set}");
        }
        let newest = self.sets.iter().map(|(_, version)| *version).max().unwrap_or_default();
        let latest = self.world.restore(None, Until::Latest).unwrap();
        assert_eq!(Some(&latest.1), truth.get(&latest.0), "seed {seed}, latest");
        assert!(latest.0 >= newest, "seed {seed}: the latest state is {}, a set has {newest}", latest.0);
        self.judge_targets(&truth);
    }

    fn judge_targets(&mut self, truth: &BTreeMap<i64, String>) {
        let seed = self.seed;
        let catalog = self.world.catalog();
        let ends: BTreeMap<Lsn, i64> =
            self.sets.iter().map(|(set, version)| (catalog.get(*set).unwrap().summary.bak_end_lsn, *version)).collect();
        let links = catalog.units().filter_map(|(_, unit)| unit.links.clone());
        let mut targets: Vec<Lsn> = links.flat_map(|links| links.states).map(|state| state.lsn).collect();
        targets.extend(ends.keys());
        targets.sort_unstable();
        targets.dedup();
        let (mut last, mut reached) = (0, 0);
        for target in targets {
            match self.world.restore(None, Until::Lsn(target)) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unreachable, "seed {seed}, LSN {target}: {error:?}"),
                Ok((version, rows)) => {
                    reached += 1;
                    assert_eq!(Some(&rows), truth.get(&version), "seed {seed}, LSN {target}");
                    assert!(version >= last, "seed {seed}, LSN {target}: {version} after {last}");
                    let expected = ends.get(&target).copied().unwrap_or(version);
                    assert_eq!(version, expected, "seed {seed}, LSN {target}");
                    last = version;
                }
            }
        }
        assert!(reached > 0 || self.sets.is_empty(), "seed {seed}");
    }
}

/// Which histories; `SETPIECE_TEST_SEEDS=100..200` asks for others.
fn seeds(upto: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SETPIECE_TEST_SEEDS") else { return 0..upto };
    let (from, to) = text.split_once("..").expect("FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn never_wrong_at_worst_refused() {
    seeds(6).for_each(|seed| live(seed, false));
}

#[test]
fn never_wrong_on_a_host_that_cannot_read() {
    seeds(4).for_each(|seed| live(seed, true));
}

fn live(seed: u64, blind: bool) {
    let mut world = World::new();
    let reader = blind.then(|| world.blind());
    let truth = Arc::new(Mutex::new(BTreeMap::from([state(world.db())])));
    let mut life = Life { world, random: Random(seed), seed, truth, running: None, sets: Vec::new(), reader };
    life.backup();
    for _ in 0..40 {
        life.step();
    }
    life.running.take().into_iter().for_each(Running::stop);
    life.judge();
}
