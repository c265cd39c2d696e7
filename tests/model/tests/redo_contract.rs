//! A naive copy of all files while the engine is busy, plus the redo that the source hands over, is the database as the
//! oracle knows it: at the end of the backup, at any later LSN that was captured, and on every branch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{Ask, Backup, Choice, backup, backup_onto, capture, copy_dir};
use proptest::prelude::*;
use setpiece_core::ErrorKind;
use setpiece_core::model::{BranchId, Lsn, Scope, Timestamp, Until};
use setpiece_core::source::Source;
use setpiece_model_engine::{Config, Model};

fn busy_model(seed: u64, dir: &Path) -> Model {
    let model = Model::new(Config::random(seed), seed, &dir.join("db")).unwrap();
    model.run(150 + (seed % 100) as usize).unwrap();
    model
}

fn check(model: &Model, branch: BranchId, lsn: Lsn, dir: &Path) {
    let difference = model.oracle().at(branch, lsn).difference(dir).unwrap();
    assert_eq!(difference.map(|d| d.to_string()), None, "at {lsn} on branch {branch}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The end of the set, every kind of engine.
    #[test]
    fn a_fuzzy_copy_and_its_redo_are_the_database(seed in any::<u64>(), busy in 0u32..12) {
        let dir = tempfile::tempdir().unwrap();
        let model = busy_model(seed, dir.path());
        model.busy_while_read(busy);
        let copy = dir.path().join("copy");
        let set = backup(&model, &copy);
        let done = Ask::new(&set, Until::SetEnd).recover(&copy).unwrap();
        prop_assert_eq!(done.lsn, set.end);
        check(&model, model.branch(), set.end, &copy);
    }

    /// Any later moment, from redo that was captured in two goes; then the recovered database goes on as a branch,
    /// which is backed up and recovered in turn.
    #[test]
    fn captured_redo_reaches_every_lsn(seed in any::<u64>(), ahead in 1u64..200, by_time in any::<bool>(), exclusive in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let model = busy_model(seed, dir.path());
        model.busy_while_read(2);
        let copy = dir.path().join("copy");
        let set = backup(&model, &copy);
        let (mut redo, point) = capture(&model, None);
        model.run(200).unwrap();
        model.flush_logs(true).unwrap();
        redo.extend(capture(&model, point.as_ref()).0);
        let complete = model.complete_lsn();
        prop_assert_eq!(complete, model.lsn());
        let lsn = Lsn((set.end.0 + ahead).min(complete.0));
        let mut ask = Ask::new(&set, if by_time { Until::Time(Timestamp(lsn.0 as i64 * 1_000_000)) } else { Until::Lsn(lsn) }).redo(&redo);
        ask.exclusive = exclusive && lsn > set.end;
        let stop = if ask.exclusive { Lsn(lsn.0 - 1) } else { lsn };
        ask.highest = complete;
        prop_assert_eq!(ask.recover(&copy).unwrap().lsn, stop);
        check(&model, model.branch(), stop, &copy);

        let next = Model::open(Config { log_dir: None, ..Config::random(seed) }, seed ^ 7, &copy, &model.oracle()).unwrap();
        prop_assert_eq!(next.branch(), BranchId(99));
        prop_assert_eq!(next.difference_from_oracle().unwrap(), None);
        next.run(120).unwrap();
        next.crash().unwrap();
        next.restart().unwrap();
        next.busy_while_read(2);
        let again = dir.path().join("again");
        let second = backup(&next, &again);
        let mut ask = Ask::new(&second, Until::Latest);
        ask.new_branch = BranchId(100);
        let reached = ask.recover(&again).unwrap().lsn;
        prop_assert!(reached >= second.end && second.end > complete || next.oracle().lsns(BranchId(99)).is_empty());
        check(&next, BranchId(99), reached, &again);
    }

    /// Increments: pages behind the base's begin by their LSN, or those that redo names, on top of the base's pages.
    #[test]
    fn an_increment_on_its_base_is_the_database(seed in any::<u64>(), named in any::<bool>(), crash in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let model = busy_model(seed, dir.path());
        model.busy_while_read(2);
        let copy = dir.path().join("copy");
        let mut set = backup(&model, &copy);
        for _ in 0..3 {
            model.run(60).unwrap();
            if crash {
                model.crash().unwrap();
                model.restart().unwrap();
            }
            model.source().checkpoint().unwrap();
            let since = set.nodes.iter().map(|node| node.begin_lsn).min().unwrap();
            let choice = if named { Choice::Named(since) } else { Choice::Behind(since) };
            set = backup_onto(&model, &Scope::Database, &copy, Some(&set), choice).unwrap();
        }
        prop_assert_eq!(Ask::new(&set, Until::SetEnd).recover(&copy).unwrap().lsn, set.end);
        check(&model, model.branch(), set.end, &copy);
    }

    /// One tablespace, from its own backup: only its files, and no control file.
    #[test]
    fn a_tablespace_alone(seed in any::<u64>(), which in 0usize..8) {
        let dir = tempfile::tempdir().unwrap();
        let model = busy_model(seed, dir.path());
        model.add_tablespace("SHOP", 20).unwrap();
        model.run(50).unwrap();
        model.busy_while_read(4);
        let names: Vec<String> = model.tablespaces().into_iter().map(|space| space.name).filter(|name| name != "TEMP" && !model.paths(name).is_empty()).collect();
        let name = &names[which % names.len()];
        let copy = dir.path().join("copy");
        let set = backup_onto(&model, &Scope::Tablespace(name.clone()), &copy, None, Choice::All).unwrap();
        std::fs::create_dir_all(&copy).unwrap();
        Ask::new(&set, Until::SetEnd).recover(&copy).unwrap();
        let content = model.oracle().at(model.branch(), set.end);
        if content.spaces.values().any(|space| space.name == *name) {
            prop_assert_eq!(content.difference_of_tablespace(&copy, name).unwrap(), None);
        }
    }
}

/// Redo of two branches: a set of the first, recovered along the fork to a moment on the second.
#[test]
fn redo_leads_over_a_fork() {
    for seed in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let model = busy_model(seed, dir.path());
        let (copy, kept) = (dir.path().join("copy"), dir.path().join("kept"));
        let set = backup(&model, &copy);
        copy_dir(&copy, &kept);
        model.run(100).unwrap();
        model.flush_logs(true).unwrap();
        let (mut redo, _) = capture(&model, None);
        let fork = Lsn(set.end.0 + (model.lsn().0 - set.end.0) / 2);
        let mut ask = Ask::new(&set, Until::Lsn(fork)).redo(&redo);
        ask.highest = model.lsn();
        ask.recover(&copy).unwrap();

        let next = Model::open(Config::random(seed), seed + 1, &copy, &model.oracle()).unwrap();
        next.run(150).unwrap();
        next.flush_logs(true).unwrap();
        let reached = next.complete_lsn();
        assert!(reached > model.lsn());
        redo.extend(capture(&next, None).0);
        let mut ask = Ask::new(&set, Until::Lsn(reached)).redo(&redo);
        ask.branch = next.history();
        ask.new_branch = BranchId(100);
        ask.recover(&kept).unwrap();
        check(&model, BranchId(99), reached, &kept);
    }
}

/// A database that was closed cleanly needs no redo; one that died needs what its last checkpoint left.
#[test]
fn offline_backups() {
    for seed in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let model = busy_model(seed, dir.path());
        model.shutdown().unwrap();
        let copy = dir.path().join("closed");
        let set = backup(&model, &copy);
        assert!(!set.online && !set.needs_log);
        assert!(set.nodes.iter().all(|node| node.begin_lsn == node.end_lsn));
        let mut bare = Ask::new(&set, Until::SetEnd);
        bare.redo.clear();
        bare.recover(&copy).unwrap();
        check(&model, model.branch(), set.end, &copy);

        model.restart().unwrap();
        model.run(80).unwrap();
        model.crash().unwrap();
        let copy = dir.path().join("crashed");
        let set = backup(&model, &copy);
        assert!(!set.online && set.needs_log);
        assert_eq!(model.source().checkpoint().unwrap_err().kind(), ErrorKind::Source);
        Ask::new(&set, Until::SetEnd).recover(&copy).unwrap();
        check(&model, model.branch(), set.end, &copy);
    }
}

/// Targets that cannot be reached are refused, with the files left for the next try to be restored anew.
#[test]
fn unreachable_targets_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = busy_model(3, dir.path());
    let copy = dir.path().join("copy");
    let set = backup(&model, &copy);
    let refused = |until: Until| Ask::new(&set, until).recover(&copy).unwrap_err().kind();
    assert_eq!(refused(Until::Lsn(Lsn(set.end.0 + 1))), ErrorKind::Unreachable);
    assert_eq!(refused(Until::Lsn(Lsn(set.end.0 - 1))), ErrorKind::Unreachable);
    assert_eq!(refused(Until::Time(Timestamp(i64::MAX))), ErrorKind::Unreachable);
    assert_eq!(refused(Until::Name("here".into())), ErrorKind::Usage);
    let bare = Backup { redo: Vec::new(), ..set.clone() };
    assert_eq!(Ask::new(&bare, Until::SetEnd).recover(&copy).unwrap_err().kind(), ErrorKind::Unreachable);
    Ask::new(&set, Until::SetEnd).recover(&copy).unwrap();
    check(&model, model.branch(), set.end, &copy);
}
