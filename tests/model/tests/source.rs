//! What the source says of itself: positions, packages, change maps, refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use common::{Ask, backup, capture};
use setpiece_core::ErrorKind;
use setpiece_core::model::log::{FileChanges, continuous};
use setpiece_core::model::{FileKind, Level, LogUnit, Lsn, NodeId, Scope, Seq, Until};
use setpiece_core::source::{BeginRequest, ChangeMap, PageState, Source};
use setpiece_model_engine::{ChangeMapMode, Config, Content, FileKey, Model, Package};

fn cluster() -> Config {
    let change_map = ChangeMapMode::Complete;
    Config { nodes: 3, parallel_log: 3, change_map, lazy_checkpoint: true, ..Config::default() }
}

fn model(config: Config, seed: u64, dir: &Path) -> Model {
    let model = Model::new(config, seed, &dir.join("db")).unwrap();
    model.run(300).unwrap();
    model
}

fn request(scope: &Scope) -> BeginRequest<'_> {
    BeginRequest { scope, level: Level::Full, without_log: false, cookie: None }
}

/// CKPT_LSN <= FILE_LSN <= FLUSH_LSN <= CUR_LSN on each node, and they do differ.
#[test]
fn positions_stand_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(Config::default(), 4, dir.path());
    let mut apart = BTreeSet::new();
    for _ in 0..200 {
        model.run(3).unwrap();
        let positions = model.source().positions().unwrap();
        let at: BTreeMap<&str, Lsn> = positions.iter().map(|position| (position.name.as_str(), position.lsn)).collect();
        let order = [at["CKPT"], at["FILE"], at["FLUSH"], at["CUR"]];
        assert!(order.is_sorted(), "{order:?}");
        apart.extend((0..3).filter(|step| order[*step] < order[step + 1]));
    }
    assert_eq!(apart.len(), 3);
}

/// Checkpoints, asked for again and again, come to the newest LSN.
#[test]
fn checkpoints_make_progress() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(cluster(), 4, dir.path());
    let wanted = model.lsn();
    let calls = (1..50).find(|_| model.source().checkpoint().unwrap().iter().all(|node| node.lsn >= wanted));
    assert!(calls.is_some_and(|calls| calls > 1), "{calls:?}");
}

/// Packages of each node follow one another; LSNs are out of order within and spread over the nodes.
#[test]
fn packages_are_continuous() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(cluster(), 5, dir.path());
    let (mut units, point) = capture(&model, None);
    model.run(300).unwrap();
    model.flush_logs(true).unwrap();
    let (rest, _) = capture(&model, point.as_ref());
    assert!(!units.is_empty() && !rest.is_empty());
    units.extend(rest);
    let mut seen: BTreeMap<Lsn, NodeId> = BTreeMap::new();
    let (mut unordered, mut empty) = (0, 0);
    for node in (0..3).map(NodeId) {
        let own: Vec<&(LogUnit, Vec<u8>)> = units.iter().filter(|(unit, _)| unit.node == node).collect();
        assert!(own.windows(2).all(|pair| pair[1].0.follows(&pair[0].0).is_ok()));
        let (chain, gap) = continuous(own.iter().map(|(unit, _)| unit), node, Lsn(0), |_| Some(Lsn(u64::MAX)));
        assert_eq!((chain.len(), gap), (own.len(), None));
        assert_eq!(chain.last().unwrap().span.upto, model.lsn());
        for (unit, bytes) in own {
            let (package, _) = Package::decode(bytes).unwrap();
            let lsns: Vec<Lsn> = package.transactions.iter().map(|ptx| ptx.lsn).collect();
            unordered += usize::from(!lsns.is_sorted());
            empty += usize::from(lsns.is_empty());
            assert!(lsns.iter().all(|lsn| unit.span.contains(*lsn) && seen.insert(*lsn, node).is_none()));
        }
    }
    assert!(unordered > 5 && empty > 0, "{unordered} {empty}");
    let all: Vec<Lsn> = model.oracle().lsns(model.branch());
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), all);
    assert!(all.windows(2).any(|pair| seen[&pair[0]] != seen[&pair[1]]));
}

fn covers(map: &[FileChanges], old: &Content, new: &Content) {
    for file in new.files.values() {
        let same = |other: &&setpiece_model_engine::FileContent| FileKey::of(&other.entry) == FileKey::of(&file.entry);
        let before = old.files.values().find(same);
        let named = map.iter().find(|changes| changes.file == file.entry.id).map(|changes| &changes.pages);
        for page in (0..file.entry.pages()).filter(|page| file.in_use(*page)) {
            let (have, was) = (file.page(page), before.map(|before| before.page(page)).unwrap_or_default());
            let cut = file.entry.kind == FileKind::Plain && was.starts_with(&have);
            if have != was && !cut {
                assert!(named.is_some_and(|pages| pages.contains(page)), "page {page} of {}", file.entry.path);
            }
        }
    }
}

/// Every page that differs is named: by the change map of a backup, and by the units captured meanwhile.
#[test]
fn change_maps_are_complete() {
    for seed in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let model = model(cluster(), seed, dir.path());
        model.flush_logs(true).unwrap();
        let (since, point) = (model.complete_lsn(), capture(&model, None).1);
        model.run(100).unwrap();
        model.flush_logs(true).unwrap();
        let oracle = model.oracle();
        let (old, new) = (oracle.at(model.branch(), since), oracle.at(model.branch(), model.lsn()));

        let source = model.source();
        let run = source.begin(&request(&Scope::Database)).unwrap();
        let map = run.change_map(since, None).unwrap();
        let ChangeMap::Complete { changes: map, .. } = map else { panic!("must be complete") };
        covers(&map, &old, &new);

        let mut units: BTreeMap<_, FileChanges> = BTreeMap::new();
        for changes in capture(&model, point.as_ref()).0.into_iter().flat_map(|(unit, _)| unit.changes.unwrap()) {
            let all = units
                .entry(changes.file)
                .or_insert_with(|| FileChanges { file: changes.file, pages: Default::default() });
            all.pages.union(&changes.pages);
        }
        covers(&units.into_values().collect::<Vec<_>>(), &old, &new);
    }
}

/// Where the engine cannot tell, it says so.
#[test]
fn unknown_changes_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(cluster(), 1, dir.path());
    let unknown = |since| {
        let source = model.source();
        let run = source.begin(&request(&Scope::Database)).unwrap();
        matches!(run.change_map(since, None).unwrap(), ChangeMap::Unknown(_))
    };
    assert!(!unknown(Lsn(10)));
    model.configure(|config| config.change_map = ChangeMapMode::Since(50));
    assert!(unknown(Lsn(49)) && !unknown(Lsn(50)));
    model.configure(|config| config.change_map = ChangeMapMode::Never);
    assert!(unknown(model.lsn()));
    model.configure(|config| config.change_map = ChangeMapMode::Complete);
    model.source().checkpoint().unwrap();
    model.checkpoint(1000).unwrap();
    model.purge_redo(Lsn(u64::MAX)).unwrap();
    assert!(unknown(Lsn(10)));
}

/// A lost package is a gap in a capture, an error in a backup that needs it, and unknown changes.
#[test]
fn lost_redo_is_never_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(Config { change_map: ChangeMapMode::Complete, ..Config::default() }, 6, dir.path());
    let source = model.source();
    let mut run = source.begin(&request(&Scope::Database)).unwrap();
    let begin = run.begin()[0];
    for _ in 0..4 {
        model.run(30).unwrap();
        model.flush_logs(true).unwrap();
    }
    let lost = Seq(begin.seq.unwrap().0 + 2);
    assert!(model.lose_redo(NodeId(0), lost));
    run.end().unwrap();
    assert_eq!(run.log(&mut |_, _| Ok(())).unwrap_err().kind(), ErrorKind::Source);
    assert!(matches!(run.change_map(begin.lsn, None).unwrap(), ChangeMap::Unknown(_)));
    let (units, _) = capture(&model, None);
    let units: Vec<LogUnit> = units.into_iter().map(|(unit, _)| unit).collect();
    let (_, gap) = continuous(&units, NodeId(0), Lsn(0), |_| Some(Lsn(u64::MAX)));
    assert_eq!(gap.unwrap().last_seq, Some(Seq(lost.0 - 1)));
}

/// Captured redo may go; a capture goes on behind it, and a new one shows the gap.
#[test]
fn captured_redo_may_be_purged() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(cluster(), 8, dir.path());
    let (_, point) = capture(&model, None);
    model.checkpoint(1000).unwrap();
    model.purge_captured().unwrap();
    assert_eq!(capture(&model, None).0[0].0.span.after, Lsn(0), "nothing was said to be durable");
    let captured = model.complete_lsn();
    model.source().log_stream(None).unwrap().durable(captured).unwrap();
    model.purge_captured().unwrap();
    model.run(100).unwrap();
    model.crash().unwrap();
    model.restart().unwrap();
    model.run(100).unwrap();
    model.flush_logs(true).unwrap();
    let after = |point| capture(&model, point).0.iter().map(|(unit, _)| unit.span.after).min().unwrap();
    assert!(after(None) > Lsn(0));
    assert!(after(point.as_ref()) <= captured);
    assert_eq!(model.difference_from_oracle().unwrap(), None);
}

/// States and scopes in which there is no backup.
#[test]
fn refusals() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(Config { archive: false, ..Config::default() }, 1, dir.path());
    let begin = |scope: Scope| model.source().begin(&request(&scope)).err().map(|error| error.kind());
    assert_eq!(begin(Scope::Database), Some(ErrorKind::Source));
    assert!(model.source().log_stream(None).is_err());
    model.configure(|config| config.archive = true);
    assert_eq!(begin(Scope::Database), None);
    assert_eq!(begin(Scope::Tablespace("MAIN".into())), None);
    assert_eq!(begin(Scope::Tablespace("TEMP".into())), Some(ErrorKind::Usage));
    assert_eq!(begin(Scope::Tablespace("NONE".into())), Some(ErrorKind::NotFound));
    assert_eq!(begin(Scope::Table("T".into())), Some(ErrorKind::Unsupported));
    model.configure(|config| config.archive = false);
    model.shutdown().unwrap();
    assert_eq!(begin(Scope::Database), None);
}

/// Without archive the log holds what a restart needs and not much more.
#[test]
fn without_archive_redo_is_reused() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(Config { archive: false, ..Config::default() }, 2, dir.path());
    let size = || -> u64 {
        let files = std::fs::read_dir(dir.path().join("db.redo")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    let before = size();
    model.run(500).unwrap();
    model.flush_logs(false).unwrap();
    model.checkpoint(1000).unwrap();
    assert!(size() < before + 1, "{} {before}", size());
    model.crash().unwrap();
    model.restart().unwrap();
    assert_eq!(model.difference_from_oracle().unwrap(), None);
}

/// A backup ends with the life of the engine in which it was begun.
#[test]
fn a_crash_ends_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(Config::default(), 1, dir.path());
    let source = model.source();
    let mut run = source.begin(&request(&Scope::Database)).unwrap();
    let file = run.files()[1].id;
    run.read(file, 0, 1, &mut Vec::new()).unwrap();
    model.crash().unwrap();
    model.restart().unwrap();
    assert_eq!(run.read(file, 0, 1, &mut Vec::new()).unwrap_err().kind(), ErrorKind::Source);
    assert_eq!(run.end().unwrap_err().kind(), ErrorKind::Source);
}

/// Torn reads do happen, and the second read of the same page is good.
#[test]
fn torn_reads_heal() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(Config { torn_per_mille: 900, ..Config::default() }, 3, dir.path());
    model.checkpoint(1000).unwrap();
    let source = model.source();
    let run = source.begin(&request(&Scope::Database)).unwrap();
    let (mut torn, mut bytes) = (0, Vec::new());
    for entry in run.files() {
        assert_ne!(entry.path.as_str(), "TEMP.DBF");
        for page in 0..entry.pages() {
            run.read(entry.id, page, 1, &mut bytes).unwrap();
            if run.inspect(entry.id, page, &bytes) == PageState::Torn {
                torn += 1;
                run.read(entry.id, page, 1, &mut bytes).unwrap();
                assert_ne!(run.inspect(entry.id, page, &bytes), PageState::Torn);
            }
        }
    }
    assert!(torn > 5, "{torn}");
}

/// Several threads read while another works; the copy is as good as any.
#[test]
fn reads_from_several_threads() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(cluster(), 9, dir.path());
    let source = model.source();
    let mut run = source.begin(&request(&Scope::Database)).unwrap();
    let copy = dir.path().join("copy");
    let work: Vec<_> = run.files().to_vec();
    let queue = Mutex::new(work.clone());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(entry) = queue.lock().unwrap().pop() else { break };
                    let mut content = Vec::new();
                    for page in 0..entry.pages() {
                        content.extend(common::read_page(run.as_ref(), &entry, page).0);
                    }
                    let path = entry.path.below(&copy);
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, content).unwrap();
                }
            });
        }
        scope.spawn(|| model.run(300).unwrap());
    });
    let end = run.end().unwrap();
    let mut redo = Vec::new();
    run.log(&mut |unit, bytes| {
        redo.push((unit, bytes));
        Ok(())
    })
    .unwrap();
    let template = backup(&model, &dir.path().join("other"));
    let set = common::Backup { files: work, nodes: end.nodes, end: end.bak_end_lsn, redo, ..template };
    Ask::new(&set, Until::SetEnd).recover(&copy).unwrap();
    let difference = model.oracle().at(model.branch(), set.end).difference(&copy).unwrap();
    assert_eq!(difference.map(|d| d.to_string()), None);
}
