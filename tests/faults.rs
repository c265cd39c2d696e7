//! One failure of the medium at every call position: it must fail loudly or have no effect, nothing that was published
//! before may be damaged, and a clean run afterwards must succeed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::sync::Arc;

use common::faulty::{Countdown, Fault, FaultyMedium};
use common::tiny::{Tiny, TinyRecovery};
use common::{init, open, quiet, take};
use setpiece_core::ErrorKind;
use setpiece_core::catalog::Catalog;
use setpiece_core::copy::copy;
use setpiece_core::media::HeldLock;
use setpiece_core::media::memory::MemoryMedium;
use setpiece_core::media::repository::Repository;
use setpiece_core::model::retention::Policy;
use setpiece_core::model::{Level, SourceId};
use setpiece_core::pipeline::Cancel;
use setpiece_core::restore::{RestoreRequest, restore};
use setpiece_core::retain::{expire, remove};
use setpiece_core::verify::{Depth, check};

const FAULTS: [Fault; 4] = [Fault::Io, Fault::Full, Fault::Short, Fault::AnswerLost];

/// Everything on the medium restores, and what a failure left behind can be cleared away.
fn must_be_whole(medium: &MemoryMedium, encrypted: bool, sets: std::ops::RangeInclusive<usize>, what: &str) {
    let cancel = Cancel::new();
    let repository = open(Arc::new(medium.clone()), encrypted).unwrap();
    let catalog = Catalog::load(&repository, None).unwrap();
    assert!(catalog.damaged().is_empty(), "{what}");
    assert!(sets.contains(&catalog.records().count()), "{what}: {} sets", catalog.records().count());
    let report = check(&repository, &[&TinyRecovery], &[], Depth::Pages, 1, quiet(&cancel)).unwrap();
    assert!(report.findings.is_empty(), "{what}: {:?}", report.findings);
    expire(&repository, &Policy::default(), false, quiet(&cancel)).unwrap();
    let catalog = Catalog::load(&repository, None).unwrap();
    assert!(catalog.orphans().is_empty(), "{what}");
    assert!(sets.contains(&catalog.records().count()), "{what}");
}

/// Two sets, and a change that a third would hold.
fn prepared(encrypted: bool) -> (MemoryMedium, Tiny) {
    let medium = MemoryMedium::new();
    let repository = init(Arc::new(medium.clone()), encrypted).unwrap();
    let tiny = Tiny::new(8);
    take(&repository, &tiny, Level::Full, |_| {}).unwrap();
    tiny.write(1, 2, 77);
    take(&repository, &tiny, Level::Differential, |_| {}).unwrap();
    tiny.write(2, 3, 78);
    (medium, tiny)
}

#[test]
fn a_backup_survives_a_failure_at_every_call() {
    for encrypted in [false, true] {
        let (medium, tiny) = prepared(encrypted);
        for fault in FAULTS {
            let mut reached_the_end = false;
            for at in 1..200 {
                let scratch = medium.fork();
                let countdown = Countdown::new(at, fault);
                let faulty = Arc::new(FaultyMedium::new(Arc::new(scratch.clone()), countdown.clone()));
                let result = open(faulty, encrypted)
                    .and_then(|repository| take(&repository, &tiny, Level::Differential, |_| {}));
                let what = format!("{fault:?} at call {at}, encrypted {encrypted}");
                if countdown.calls() < at {
                    assert!(result.is_ok(), "{what}");
                    reached_the_end = true;
                    break;
                }
                let error = result.map(drop).expect_err(&what);
                assert!(format!("{error:?}").contains("injected"), "{what}: {error:?}");
                must_be_whole(&scratch, encrypted, 2..=3, &what);
                let repository = open(Arc::new(scratch.clone()), encrypted).unwrap();
                take(&repository, &tiny, Level::Differential, |_| {}).unwrap();
                let dir = tempfile::tempdir().unwrap();
                let to = dir.path().join("db");
                restore(&repository, &[&TinyRecovery], &RestoreRequest::default(), &to, quiet(&Cancel::new())).unwrap();
                assert_eq!(tiny.difference(&to), None, "{what}");
            }
            assert!(reached_the_end, "{fault:?}: the sweep did not get past the last call");
        }
    }
}

#[test]
fn a_restore_survives_a_failure_at_every_call() {
    let (medium, tiny) = prepared(true);
    let repository = open(Arc::new(medium.clone()), true).unwrap();
    take(&repository, &tiny, Level::Differential, |_| {}).unwrap();
    for at in 1..400 {
        let countdown = Countdown::new(at, Fault::Io);
        let faulty = Arc::new(FaultyMedium::new(Arc::new(medium.clone()), countdown.clone()));
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("db");
        let result = open(faulty, true).and_then(|repository| {
            restore(&repository, &[&TinyRecovery], &RestoreRequest::default(), &to, quiet(&Cancel::new()))
        });
        if countdown.calls() < at {
            assert!(result.is_ok());
            assert_eq!(tiny.difference(&to), None);
            return;
        }
        assert!(result.is_err(), "call {at} failed and nobody noticed");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "call {at} left something behind");
    }
    panic!("the sweep did not get past the last call");
}

#[test]
fn removal_survives_a_failure_at_every_call() {
    let (medium, _tiny) = prepared(false);
    for at in 1..200 {
        let scratch = medium.fork();
        let countdown = Countdown::new(at, Fault::Io);
        let faulty = Arc::new(FaultyMedium::new(Arc::new(scratch.clone()), countdown.clone()));
        let result =
            open(faulty, false).and_then(|repository| remove(&repository, "latest", false, quiet(&Cancel::new())));
        if countdown.calls() < at {
            assert!(result.is_ok());
            return;
        }
        assert!(result.is_err(), "call {at} failed and nobody noticed");
        must_be_whole(&scratch, false, 1..=2, &format!("removal, call {at}"));
    }
    panic!("the sweep did not get past the last call");
}

type Locking = fn(&Repository, SourceId) -> setpiece_core::Result<Box<dyn HeldLock>>;

/// Removal and copying were told to wait for others where a lock could not be taken at all, as on a read-only medium.
#[test]
fn a_lock_that_cannot_be_taken_is_not_one_that_another_holds() {
    let (medium, tiny) = prepared(false);
    let repository = open(Arc::new(medium.clone()), false).unwrap();
    let source = setpiece_core::source::Source::info(&tiny).unwrap().id;
    let countdown = Countdown::new(0, Fault::Io);
    let faulty = Arc::new(FaultyMedium::new(Arc::new(medium), countdown.clone()));
    let failing = open(faulty, false).unwrap();
    let locks: [Locking; 3] = [
        |repository, _| repository.lock_for_writing(),
        |repository, _| repository.lock_for_removal(),
        |repository, source| repository.lock_source(source, "backup"),
    ];
    for lock in locks {
        countdown.arm(1);
        let error = lock(&failing, source).map(|_| ()).unwrap_err();
        assert_eq!((error.kind(), error.remedy_text()), (ErrorKind::Medium, None));
        let _held = [repository.lock_for_removal().unwrap(), repository.lock_source(source, "backup").unwrap()];
        let error = lock(&failing, source).map(|_| ()).unwrap_err();
        assert!(error.kind() == ErrorKind::Locked && error.remedy_text().is_some(), "{error}");
    }
}

/// A copy that ran out of room left the pieces that it had written.
#[test]
fn a_copy_survives_a_failure_at_every_call() {
    for encrypted in [false, true] {
        let (medium, _tiny) = prepared(encrypted);
        let from = open(Arc::new(medium), encrypted).unwrap();
        let empty = MemoryMedium::new();
        init(Arc::new(empty.clone()), encrypted).unwrap();
        for fault in FAULTS {
            let sweep = (1..200).any(|at| {
                let scratch = empty.fork();
                let countdown = Countdown::new(at, fault);
                let faulty = Arc::new(FaultyMedium::new(Arc::new(scratch.clone()), countdown.clone()));
                let result = open(faulty, encrypted).and_then(|to| copy(&from, &to, &[], quiet(&Cancel::new())));
                let what = format!("{fault:?} at call {at}, encrypted {encrypted}");
                if countdown.calls() < at {
                    assert_eq!(result.expect(&what).copied.len(), 2);
                    return true;
                }
                assert!(result.is_err(), "{what}");
                let to = open(Arc::new(scratch.clone()), encrypted).unwrap();
                assert!(Catalog::load(&to, None).unwrap().orphans().is_empty(), "{what}: something stays");
                must_be_whole(&scratch, encrypted, 0..=2, &what);
                copy(&from, &to, &[], quiet(&Cancel::new())).expect(&what);
                must_be_whole(&scratch, encrypted, 2..=2, &what);
                false
            });
            assert!(sweep, "{fault:?}: the sweep did not get past the last call");
        }
    }
}
