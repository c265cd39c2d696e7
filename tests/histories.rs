//! Random histories of a model engine (writes, flushes, checkpoints, crashes, files that come and go, several nodes, redo
//! packages out of order) with backups of every level, captured redo, removals and recoveries between: every page that
//! comes back is the one that the oracle knows for that LSN.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{init, open, quiet, take};
use setpiece_core::ErrorKind;
use setpiece_core::backup::Surroundings;
use setpiece_core::backup::log::{StreamOptions, stream};
use setpiece_core::catalog::Catalog;
use setpiece_core::events::Event;
use setpiece_core::media::memory::MemoryMedium;
use setpiece_core::media::repository::Repository;
use setpiece_core::model::join::{Place, joins};
use setpiece_core::model::{BranchId, Level, LogUnit, Lsn, Scope, SetSummary, TablespaceKind, Until};
use setpiece_core::pipeline::Cancel;
use setpiece_core::restore::{RestoreReport, RestoreRequest, restore};
use setpiece_core::retain::remove;
use setpiece_core::verify::{Depth, check};
use setpiece_model_engine::{Config, Model, ModelRecovery, Rng, State};

struct World {
    seed: u64,
    rng: Rng,
    model: Model,
    repository: Repository,
    dir: tempfile::TempDir,
    restores: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::new(Config::random(seed), seed, &dir.path().join("db-0")).unwrap();
        let repository = init(Arc::new(MemoryMedium::new()), seed.is_multiple_of(2)).unwrap();
        World { seed, rng: Rng::new(seed), model, repository, dir, restores: 0 }
    }

    fn step(&mut self) {
        let busy = self.rng.below(4) as u32;
        self.model.busy_while_read(busy);
        match self.rng.below(20) {
            0..=7 => self.model.run(20).unwrap(),
            8..=11 => self.backup(),
            12..=14 => self.capture(),
            15 => self.crash(),
            16 => self.remove_one(),
            17..=18 => self.restore_somewhere(false),
            _ => self.restore_somewhere(true),
        }
    }

    fn backup(&mut self) {
        let levels = [Level::Full, Level::Differential, Level::Differential, Level::Cumulative];
        let level = levels[self.rng.index(levels.len())];
        let channels = 1 + self.rng.below(2) as u16;
        let without_log = self.rng.chance(150);
        let report = take(&self.repository, &self.model.source(), level, |options| {
            options.channels = channels;
            options.without_log = without_log;
        });
        let report = report.unwrap_or_else(|error| panic!("seed {}: {error:?}", self.seed));
        if report.summary.consistency == setpiece_core::model::Consistency::WithoutLog {
            return;
        }
        let name = report.summary.name;
        let restored = self.restore(&self.dir.path().join("set-end"), |request| {
            request.set = Some(report.summary.id.to_string());
            request.target.until = Until::SetEnd;
        });
        let done = restored.unwrap_or_else(|error| panic!("seed {} set {name}: {error:?}", self.seed));
        self.compare(&self.dir.path().join("set-end"), &done, report.summary.branch.current);
        std::fs::remove_dir_all(self.dir.path().join("set-end")).unwrap();
    }

    fn capture(&mut self) {
        let mut options = StreamOptions::default();
        options.poll = Duration::ZERO;
        options.stop_when_idle = Some(Duration::ZERO);
        let before = Catalog::load(&self.repository, None).unwrap();
        let warnings = AtomicUsize::new(0);
        let observer = |event: &Event| {
            warnings.fetch_add(usize::from(matches!(event, Event::Warning { .. })), Ordering::Relaxed);
        };
        let cancel = Cancel::new();
        let around = Surroundings { observer: &observer, ..quiet(&cancel) };
        stream(&self.repository, &self.model.source(), &options, around)
            .unwrap_or_else(|error| panic!("seed {}: {error:?}", self.seed));
        assert_eq!(self.captured_in_vain(&before), warnings.into_inner() > 0, "seed {}", self.seed);
    }

    /// Whether a unit was captured since `before` that no set can be brought up to.
    fn captured_in_vain(&self, before: &Catalog) -> bool {
        let catalog = Catalog::load(&self.repository, None).unwrap();
        let units: Vec<LogUnit> = catalog.units().map(|(_, unit)| unit.clone()).collect();
        let usable = |set| catalog.whole(set).map_err(|error| error.to_string());
        let new = catalog.records().filter(|record| record.captured && before.get(record.summary.id).is_none());
        new.into_iter().any(|record| {
            let (unit, SetSummary { source, branch: history, .. }) = (&record.log[0], &record.summary);
            let place = Place { source: *source, history, node: unit.node, upto: unit.span.upto };
            joins(&place, &catalog.summaries(), &usable, &units).is_err()
        })
    }

    fn crash(&mut self) {
        self.model.crash().unwrap();
        self.model.restart().unwrap();
        assert_eq!(self.model.difference_from_oracle().unwrap(), None, "the engine itself, seed {}", self.seed);
    }

    fn remove_one(&mut self) {
        let catalog = Catalog::load(&self.repository, None).unwrap();
        let sets: Vec<_> = catalog.records().filter(|record| record.summary.holds_pages()).collect();
        if sets.len() > 4 {
            let word = sets[self.rng.index(sets.len())].summary.id.to_string();
            let cascade = self.rng.chance(500);
            if let Err(error) = remove(&self.repository, &word, cascade, quiet(&Cancel::new())) {
                assert!(!cascade && error.kind() == ErrorKind::InUse, "seed {}: {error:?}", self.seed);
            }
        }
    }

    /// Recovers to a random point of a random window; `go_on` makes the recovered database the one that lives.
    fn restore_somewhere(&mut self, go_on: bool) {
        let catalog = Catalog::load(&self.repository, None).unwrap();
        let Some(source) = catalog.sources().into_keys().next() else { return };
        let windows = catalog.windows(source);
        let Some(window) = self.rng.pick(&windows).cloned() else { return };
        let lsn = Lsn(window.from.0 + self.rng.below(window.to.0 - window.from.0 + 1));
        self.restores += 1;
        let to = self.dir.path().join(format!("db-{}", self.restores));
        let done = self.restore(&to, |request| {
            request.target.until = Until::Lsn(lsn);
            request.target.branch = Some(window.branch);
        });
        let done = done.unwrap_or_else(|error| panic!("seed {} LSN {lsn} in {window:?}: {error:?}", self.seed));
        assert!(done.recovered.as_ref().unwrap().lsn <= lsn, "seed {}", self.seed);
        self.compare(&to, &done, window.branch);
        if go_on {
            if self.model.state() == State::Running {
                self.model.shutdown().unwrap();
            }
            let oracle = self.model.oracle();
            self.model =
                Model::open(Config::random(self.seed), self.seed + u64::from(self.restores), &to, &oracle).unwrap();
        }
    }

    fn restore(&self, to: &Path, change: impl FnOnce(&mut RestoreRequest)) -> setpiece_core::Result<RestoreReport> {
        let mut request = RestoreRequest::default();
        change(&mut request);
        restore(&self.repository, &[&ModelRecovery], &request, to, quiet(&Cancel::new()))
    }

    /// Holds a restored directory against the oracle of the branch that it was on, at the LSN that was reached.
    fn compare(&self, to: &Path, done: &RestoreReport, branch: BranchId) {
        let recovered = done.recovered.as_ref().unwrap();
        let content = self.model.oracle().at(branch, recovered.lsn);
        let difference = content.difference(to).unwrap();
        assert_eq!(difference, None, "seed {}, LSN {}, set {}", self.seed, recovered.lsn, done.start.name);
    }
}

fn live(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..40 {
        world.step();
    }
    let report = check(&world.repository, &[&ModelRecovery], &[], Depth::Pages, 1, quiet(&Cancel::new())).unwrap();
    assert!(report.findings.is_empty(), "seed {seed}: {:?}", report.findings);
}

/// How many histories; `SETPIECE_TEST_SEEDS=100..200` asks for others.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SETPIECE_TEST_SEEDS") else { return 0..24 };
    let (from, to) = text.split_once("..").expect("FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn every_page_comes_back_as_the_oracle_knows_it() {
    seeds().for_each(live);
}

#[test]
fn a_tablespace_comes_back_from_a_set_of_the_database_and_temporary_ones_never_go_in() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::new(Config::default(), 7, &dir.path().join("db")).unwrap();
    model.run(200).unwrap();
    let repository = init(Arc::new(MemoryMedium::new()), true).unwrap();
    take(&repository, &model.source(), Level::Full, |_| {}).unwrap();
    let temp = model.tablespaces().into_iter().find(|space| space.kind == TablespaceKind::Temp).unwrap();
    let main = model.tablespaces().into_iter().find(|space| space.kind == TablespaceKind::Data).unwrap();
    let mut request = RestoreRequest::default();
    request.tablespace = Some(main.name.clone());
    let to = dir.path().join("main");
    let done = restore(&repository, &[&ModelRecovery], &request, &to, quiet(&Cancel::new())).unwrap();
    assert!(done.recovered.is_none());
    assert!(done.totals.pages > 0 && std::fs::read_dir(&to).unwrap().count() > 0);
    request.tablespace = Some(temp.name);
    let refused = restore(&repository, &[&ModelRecovery], &request, &dir.path().join("temp"), quiet(&Cancel::new()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage);
    let report = take(&repository, &model.source(), Level::Full, |options| {
        options.scope = Scope::Tablespace(main.name.clone());
    })
    .unwrap();
    assert_eq!(report.summary.scope, Scope::Tablespace(main.name));
}

#[test]
fn online_backup_without_archive_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { archive: false, ..Config::default() };
    let model = Model::new(config, 7, &dir.path().join("db")).unwrap();
    model.run(20).unwrap();
    let repository = init(Arc::new(MemoryMedium::new()), false).unwrap();
    let error = take(&repository, &model.source(), Level::Full, |_| {}).unwrap_err();
    assert!(error.remedy_text().is_some(), "{error}");
    model.shutdown().unwrap();
    let offline = take(&repository, &model.source(), Level::Full, |_| {}).unwrap();
    assert!(!offline.summary.online);
    assert_eq!(Catalog::load(&open(repository.medium().clone(), false).unwrap(), None).unwrap().records().count(), 1);
}
