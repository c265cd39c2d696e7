//! Beginnings of units: stored while the unit is still being written, out of the way when more of it is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use setpiece_core::backup::archive::{Archived, archive};
use setpiece_core::backup::log::{StreamOptions, stream};
use setpiece_core::backup::{Surroundings, new_repository_id};
use setpiece_core::catalog::Catalog;
use setpiece_core::events::Silent;
use setpiece_core::format::Compression;
use setpiece_core::media::memory::MemoryMedium;
use setpiece_core::media::repository::Repository;
use setpiece_core::model::retention::Policy;
use setpiece_core::model::{BranchHistory, BranchId, LogUnit, Lsn, LsnSpan, NodeId, Seq, SetId, SourceId, Uuid};
use setpiece_core::pipeline::Cancel;
use setpiece_core::restore::feed::Feed;
use setpiece_core::restore::fetch;
use setpiece_core::retain::expire;
use setpiece_core::source::{
    BackupRun, BeginRequest, CapturedPoint, CapturedUnit, IncrementRule, LogFeed, LogStream, NamedPosition,
    NodePosition, Source, SourceInfo,
};
use setpiece_core::transform::plain_descriptor;
use setpiece_core::{Error, ErrorKind, Result};

const LEN: u64 = 16;

fn around(cancel: &Cancel) -> Surroundings<'_> {
    Surroundings { observer: &Silent, cancel, cache: None }
}

fn repository() -> Repository {
    let (descriptor, vault) = plain_descriptor(new_repository_id().unwrap());
    Repository::init(Arc::new(MemoryMedium::new()), descriptor, vault).unwrap()
}

fn info() -> SourceInfo {
    SourceInfo {
        id: SourceId(Uuid([5; 16])),
        name: "server".into(),
        engine: "test".into(),
        version: "1".into(),
        tablespace_scope: false,
    }
}

/// What there is of unit `seq`: a whole one has [`LEN`] bytes.
fn unit(seq: u64, bytes: &[u8]) -> CapturedUnit {
    let len = bytes.len() as u64;
    let after = Lsn(seq * LEN);
    let name = if len == LEN { format!("S{seq}") } else { format!("S{seq}.partial") };
    let unit = LogUnit {
        node: NodeId(0),
        branch: BranchId(1),
        seq: Seq(seq),
        span: LsnSpan { after, upto: Lsn(after.0 + len) },
        first_commit: None,
        last_commit: None,
        len,
        changes: None,
        name: Some(name),
        links: None,
        timing: None,
        points: None,
    };
    let branch = BranchHistory::first(BranchId(1));
    CapturedUnit { unit, bytes: bytes.to_vec(), cookie: Vec::new(), branch }
}

/// A source that has nothing but redo.
struct Redo {
    units: Mutex<VecDeque<CapturedUnit>>,
    rest: Vec<CapturedUnit>,
    durable: Arc<Mutex<Vec<Lsn>>>,
}

struct Flow<'s>(&'s Redo, Vec<CapturedUnit>);

impl LogStream for Flow<'_> {
    fn next(&mut self, _wait: Duration) -> Result<Option<CapturedUnit>> {
        Ok(self.0.units.lock().unwrap().pop_front())
    }

    fn durable(&mut self, lsn: Lsn) -> Result<()> {
        self.0.durable.lock().unwrap().push(lsn);
        Ok(())
    }

    fn rest(&mut self) -> Result<Option<CapturedUnit>> {
        Ok(self.1.pop())
    }
}

impl Source for Redo {
    fn info(&self) -> Result<SourceInfo> {
        Ok(info())
    }

    fn increment_rule(&self) -> IncrementRule {
        IncrementRule::KeepFromBaseBegin
    }

    fn positions(&self) -> Result<Vec<NamedPosition>> {
        Ok(Vec::new())
    }

    fn checkpoint(&self) -> Result<Vec<NodePosition>> {
        Ok(Vec::new())
    }

    fn begin(&self, _request: &BeginRequest<'_>) -> Result<Box<dyn BackupRun + '_>> {
        Err(Error::new(ErrorKind::Unsupported, "redo only"))
    }

    fn log_stream(&self, _last: Option<&CapturedPoint>) -> Result<Box<dyn LogStream + '_>> {
        Ok(Box::new(Flow(self, self.rest.clone())))
    }
}

/// Captures units until there are no more; gives what was said to be durable.
fn capture(repository: &Repository, units: Vec<CapturedUnit>, rest: Vec<CapturedUnit>) -> Result<Vec<u64>> {
    let durable = Arc::default();
    let source = Redo { units: Mutex::new(units.into()), rest, durable: Arc::clone(&durable) };
    let mut options = StreamOptions::default();
    options.stop_when_idle = Some(Duration::ZERO);
    let done = stream(repository, &source, &options, around(&Cancel::new()));
    let durable = durable.lock().unwrap().iter().map(|lsn| lsn.0).collect();
    done.map(|_| durable)
}

/// The sets on record and where the redo of each ends.
fn on_record(repository: &Repository) -> Vec<(SetId, LogUnit)> {
    let catalog = Catalog::load(repository, None).unwrap();
    let mut units: Vec<_> = catalog.units().map(|(set, unit)| (set, unit.clone())).collect();
    units.sort_by_key(|(_, unit)| (unit.seq, unit.span.upto));
    units
}

fn ends(repository: &Repository) -> Vec<u64> {
    on_record(repository).iter().map(|(_, unit)| unit.span.upto.0).collect()
}

fn store(repository: &Repository, captured: &CapturedUnit) -> Archived {
    archive(repository, &info(), captured, Compression::None, around(&Cancel::new())).unwrap()
}

const WHOLE: &[u8; LEN as usize] = b"0123456789abcdef";

#[test]
fn a_longer_beginning_takes_the_place_of_a_shorter_and_the_whole_that_of_all() {
    let repository = repository();
    let some = vec![unit(1, &WHOLE[..3]), unit(1, &WHOLE[..7]), unit(1, &WHOLE[..7])];
    assert_eq!(capture(&repository, some, vec![unit(1, &WHOLE[..9])]).unwrap(), [19, 23, 23, 25]);
    assert_eq!(ends(&repository), [25]);
    assert_eq!(fetch(&repository, info().id, "S1", around(&Cancel::new())).unwrap_err().kind(), ErrorKind::NotFound);
    // Begun anew, from the begin of the unit on.
    let more = vec![unit(1, &WHOLE[..4]), unit(1, WHOLE), unit(2, &WHOLE[..1])];
    assert_eq!(capture(&repository, more, Vec::new()).unwrap(), [20, 32, 33]);
    assert_eq!(ends(&repository), [32, 33]);
    assert_eq!(fetch(&repository, info().id, "S1", around(&Cancel::new())).unwrap(), WHOLE);
}

#[test]
fn what_begins_otherwise_is_refused_and_nothing_of_it_is_durable() {
    let repository = repository();
    capture(&repository, vec![unit(1, &WHOLE[..9])], Vec::new()).unwrap();
    for other in [&b"0123x5678abc"[..], &b"0123x56789abcdef"[..]] {
        let error = capture(&repository, vec![unit(1, other)], Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists);
    }
    assert_eq!(ends(&repository), [25]);
}

#[test]
fn beginnings_wait_for_a_writer_and_expire_takes_what_is_left() {
    let repository = repository();
    let writer = repository.lock_for_writing().unwrap();
    capture(&repository, vec![unit(1, &WHOLE[..3]), unit(1, &WHOLE[..7]), unit(1, WHOLE)], Vec::new()).unwrap();
    assert_eq!(ends(&repository), [19, 23, 32]);
    drop(writer);
    store(&repository, &unit(2, &WHOLE[..3]));
    store(&repository, &unit(2, &WHOLE[..5]));
    let cancel = Cancel::new();
    let report = expire(&repository, &Policy::default(), true, around(&cancel)).unwrap();
    assert_eq!((report.removed.len(), ends(&repository).len()), (3, 5));
    let report = expire(&repository, &Policy::default(), false, around(&cancel)).unwrap();
    assert_eq!((report.removed.len(), report.kept.len()), (3, 2));
    assert_eq!(ends(&repository), [32, 37]);
}

/// A restore plans with a beginning, and the capture that goes on takes it away before it is read.
#[test]
fn redo_that_was_planned_is_read_from_what_took_its_place() {
    let repository = repository();
    store(&repository, &unit(1, &WHOLE[..3]));
    let planned = on_record(&repository);
    let cancel = Cancel::new();
    let read = || Feed::new(&repository, info().id, &planned, &cancel).next().map(|found| found.unwrap());
    assert_eq!(read().unwrap().1, &WHOLE[..3]);
    capture(&repository, vec![unit(1, &WHOLE[..7])], Vec::new()).unwrap();
    let (found, bytes) = read().unwrap();
    assert_eq!((found.span.upto, &bytes[..]), (Lsn(23), &WHOLE[..7]));
    capture(&repository, vec![unit(1, WHOLE)], Vec::new()).unwrap();
    assert_eq!(read().unwrap().1, WHOLE);
    let (set, _) = on_record(&repository)[0];
    repository.remove_set(set, &repository.set_objects(set).unwrap()).unwrap();
    assert_eq!(read().unwrap_err().kind(), ErrorKind::NotFound);
}
