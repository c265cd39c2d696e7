//! Random lives of clusters, backed up again and again while they go on, by each way of finding what changed: a chain
//! that ends with the stopped server has every page as the server has it, and opens with what was there.
//!
//! Some clusters have checksums, some log hints without them, some do neither. Some backups are taken between two steps
//! of a life and some beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    reason = "a test"
)]

mod common;

use std::ops::Range;
use std::thread;

use common::ways::{Only, Way, archiving};
use common::{Store, open, reachable};
use setpiece_core::backup::BackupReport;
use setpiece_core::model::{Level, Until};
use setpiece_core::source::Source;
use setpiece_source_postgres::{PostgresDirectory, PostgresSource};
use setpiece_test_postgres::workload::Workload;
use setpiece_test_postgres::{Builder, Cluster, MayDiffer, StopMode, Version, assert_same_pages, every_version};

every_version!(
    no_change_is_missed_by_looking_at_pages,
    no_change_is_missed_in_the_log,
    no_change_is_missed_in_archived_segments,
    no_change_is_missed_in_streamed_segments,
    no_change_is_missed_in_summaries,
);

/// Other lives by `SETPIECE_TEST_SEEDS=FROM..UPTO`, for long runs.
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SETPIECE_TEST_SEEDS") else { return 1..2 };
    let (from, upto) = text.split_once("..").expect("SETPIECE_TEST_SEEDS=FROM..UPTO");
    from.parse().unwrap()..upto.parse().unwrap()
}

fn no_change_is_missed_by_looking_at_pages(version: Version) {
    seeds().for_each(|seed| history(version, seed, Way::Scan));
}

fn no_change_is_missed_in_the_log(version: Version) {
    seeds().for_each(|seed| history(version, 1000 + seed, Way::Live));
}

fn no_change_is_missed_in_archived_segments(version: Version) {
    seeds().for_each(|seed| history(version, 2000 + seed, Way::Record));
}

fn no_change_is_missed_in_streamed_segments(version: Version) {
    seeds().for_each(|seed| history(version, 4001 + seed, Way::Stream));
}

fn no_change_is_missed_in_summaries(version: Version) {
    if version >= Version::V17 {
        seeds().for_each(|seed| history(version, 3000 + seed, Way::Summaries));
    }
}

/// How the cluster of a history is made.
fn cluster_of(version: Version, seed: u64) -> Builder {
    // Segments of one MiB: many records lie across their borders.
    let builder = Cluster::new(version).segment_mib(if seed.is_multiple_of(2) { 1 } else { 16 });
    match (seed + u64::from(version.major())) % 3 {
        0 => builder.checksums(true),
        1 => builder.checksums(false).setting("wal_log_hints", "on"),
        _ => builder.checksums(false).setting("wal_log_hints", "off"),
    }
}

fn history(version: Version, seed: u64, way: Way) {
    eprintln!("history {seed} of PostgreSQL {version}, {way:?}");
    let (mut cluster, archiver) = way.prepare(cluster_of(version, seed));
    let store = Store::new();
    archiving(way, &archiver, &store, || live(&mut cluster, &store, seed, way));
}

/// A backup that goes one way.
fn back_up(store: &Store, source: impl Source, level: Level, way: Way) -> BackupReport {
    store.try_backup(&Only(source, way), level).unwrap()
}

/// A backup of the running server, while the life rests. It is known to have gone its way.
fn between(cluster: &Cluster, store: &Store, level: Level, way: Way) {
    way.forget_log(cluster);
    let report = back_up(store, PostgresSource::open(&cluster.uri()).unwrap(), level, way);
    if report.summary.level != Level::Full {
        way.check(&report, true);
    }
}

/// A backup of the running server, while the life goes on. What goes on may take the log away that its way needs.
fn beside(life: &mut Workload, cluster: &Cluster, store: &Store, level: Level, way: Way) {
    way.forget_log(cluster);
    thread::scope(|scope| {
        let lives = scope.spawn(|| life.run(cluster, 12));
        back_up(store, PostgresSource::open(&cluster.uri()).unwrap(), level, way);
        lives.join().unwrap();
    });
}

fn live(cluster: &mut Cluster, store: &Store, seed: u64, way: Way) {
    let mut life = Workload::new(seed);
    life.run(cluster, 30);
    between(cluster, store, Level::Full, way);
    for round in 0..5 {
        life.run(cluster, 20 + seed % 7);
        if (seed + round).is_multiple_of(4) {
            cluster.crash_and_recover();
        }
        let level = if (seed + round).is_multiple_of(3) { Level::Cumulative } else { Level::Differential };
        if (seed + round).is_multiple_of(2) {
            beside(&mut life, cluster, store, level, way);
        } else {
            between(cluster, store, level, way);
        }
    }
    life.run(cluster, 15);
    life.settle(cluster);
    let held = cluster.dump_logged();
    cluster.stop(StopMode::Fast);
    let last = back_up(store, PostgresDirectory::open(cluster.data_dir()).unwrap(), Level::Differential, way);
    way.check(&last, false);
    let dir = reachable();
    let back = dir.path().join("back");
    store.try_restore(Until::SetEnd, &back, &[]).unwrap();
    // A hint may be set without a new LSN while the page is being written; what it says, the server finds out again.
    let may_differ = MayDiffer { unlogged: true, hints: true, ..MayDiffer::default() };
    assert_same_pages(cluster.data_dir(), &back, may_differ);
    assert_eq!(open(cluster, &back).dump_logged(), held);
}
