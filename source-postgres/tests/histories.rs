//! Random lives of clusters, backed up again and again while they go on, by each way of finding what changed: a chain
//! that ends with the stopped server has every page as the server has it, and opens with what was there.
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

use common::ways::{Only, Way, archiving};
use common::{Store, open, reachable};
use setpiece_core::backup::BackupReport;
use setpiece_core::model::{Level, Until};
use setpiece_core::source::Source;
use setpiece_source_postgres::{PostgresDirectory, PostgresSource};
use setpiece_test_postgres::workload::Workload;
use setpiece_test_postgres::{Cluster, MayDiffer, StopMode, Version, assert_same_pages, every_version};

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

/// A backup that goes one way, and is known to have gone it.
fn back_up(store: &Store, source: impl Source, level: Level, way: Way, online: bool) -> BackupReport {
    let report = store.try_backup(&Only(source, way), level).unwrap();
    if report.summary.level != Level::Full {
        way.check(&report, online);
    }
    report
}

fn history(version: Version, seed: u64, way: Way) {
    // Segments of one MiB: many records lie across their borders.
    let builder = Cluster::new(version).segment_mib(if seed.is_multiple_of(2) { 1 } else { 16 });
    let (mut cluster, archiver) = way.prepare(builder.checksums(true));
    let store = Store::new();
    archiving(way, &archiver, &store, || live(&mut cluster, &store, seed, way));
}

fn live(cluster: &mut Cluster, store: &Store, seed: u64, way: Way) {
    let online = |cluster: &Cluster, level| {
        way.forget_log(cluster);
        back_up(store, PostgresSource::open(&cluster.uri()).unwrap(), level, way, true)
    };
    let mut life = Workload::new(seed);
    life.run(cluster, 30);
    online(cluster, Level::Full);
    for round in 0..5 {
        life.run(cluster, 20 + seed % 7);
        if (seed + round).is_multiple_of(4) {
            cluster.crash_and_recover();
        }
        let level = if (seed + round).is_multiple_of(3) { Level::Cumulative } else { Level::Differential };
        online(cluster, level);
    }
    life.run(cluster, 15);
    life.settle(cluster);
    let held = cluster.dump_logged();
    cluster.stop(StopMode::Fast);
    back_up(store, PostgresDirectory::open(cluster.data_dir()).unwrap(), Level::Differential, way, false);
    let dir = reachable();
    let back = dir.path().join("back");
    store.try_restore(Until::SetEnd, &back, &[]).unwrap();
    // A hint may be set without a new LSN while the page is being written; what it says, the server finds out again.
    let may_differ = MayDiffer { unlogged: true, hints: true, ..MayDiffer::default() };
    assert_same_pages(cluster.data_dir(), &back, may_differ);
    assert_eq!(open(cluster, &back).dump_logged(), held, "seed {seed} {way:?}");
}
