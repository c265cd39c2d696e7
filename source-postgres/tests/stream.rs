//! Streams of the log: begun again, with a gap, and from servers that are no longer those that they were.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::ways::{Only, Way};
use common::{Store, around, open, reachable};
use setpiece_core::backup::log::{StreamOptions, stream};
use setpiece_core::catalog::Catalog;
use setpiece_core::model::{Level, Until};
use setpiece_core::pipeline::Cancel;
use setpiece_core::source::Source;
use setpiece_core::{ErrorKind, Result};
use setpiece_source_postgres::{PostgresDirectory, PostgresSource};
use setpiece_test_postgres::{Cluster, MayDiffer, StopMode, Version, assert_same_pages, every_version};

every_version!(increments_follow_a_stream_that_is_begun_again_and_not_across_a_gap);

const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";

/// Captures until nothing more comes; gives how many units.
fn capture(store: &Store, source: &PostgresSource) -> Result<u64> {
    let mut options = StreamOptions::default();
    options.stop_when_idle = Some(Duration::from_millis(1500));
    Ok(stream(&store.0, source, &options, around(&Cancel::new()))?.units)
}

/// How many sets there are of a source.
fn sets(store: &Store, source: &PostgresSource) -> usize {
    let id = source.info().unwrap().id;
    Catalog::load(&store.0, None).unwrap().of_source(id).count()
}

/// Puts another cluster where one was: the address stays.
fn replace(there: &mut Cluster, other: &mut Cluster) {
    // A stream that nobody asks acknowledges nothing, which a server that shuts down waits for.
    there.stop(StopMode::Immediate);
    other.stop(StopMode::Fast);
    let aside = there.data_dir().with_extension("aside");
    fs::rename(there.data_dir(), &aside).unwrap();
    fs::rename(other.data_dir(), there.data_dir()).unwrap();
    fs::rename(&aside, other.data_dir()).unwrap();
    there.start();
}

#[test]
fn another_cluster_at_the_same_address_is_refused_before_anything_is_stored() {
    let mut cluster = Cluster::new(Version::V15).start();
    let mut other = Cluster::new(Version::V15).start();
    let store = Store::new();
    let source = PostgresSource::open(&cluster.uri()).unwrap();
    store.try_backup(&source, Level::Full).unwrap();
    cluster.execute("CREATE TABLE t AS SELECT 1 AS n; SELECT pg_switch_wal()");
    assert!(capture(&store, &source).unwrap() >= 1);
    let stored = sets(&store, &source);

    // While it is captured from.
    let mut under_way = source.log_stream(None).unwrap();
    replace(&mut cluster, &mut other);
    cluster.execute("CREATE TABLE t AS SELECT 1 AS n; SELECT pg_switch_wal()");
    let begun = Instant::now();
    let error = loop {
        match under_way.next(Duration::from_millis(100)) {
            Err(error) => break error,
            Ok(unit) => assert!(unit.is_none_or(|unit| unit.unit.seq.0 > 0) && begun.elapsed().as_secs() < 60),
        }
    };
    assert!(error.kind() == ErrorKind::Source && error.to_string().contains("here is the cluster"), "{error}");
    drop(under_way);

    // And by one who knows the address as that of the first.
    let error = capture(&store, &source).unwrap_err();
    assert!(error.to_string().contains("here is the cluster"), "{error}");
    assert_eq!((sets(&store, &source), cluster.psql(SLOTS)), (stored, "0".into()), "nothing was made or stored");

    // Its redo is that of another source, on which nothing of the first depends.
    let fresh = PostgresSource::open(&cluster.uri()).unwrap();
    assert_ne!(fresh.info().unwrap().id, source.info().unwrap().id);
    cluster.execute("INSERT INTO t VALUES (2)");
    capture(&store, &fresh).unwrap();
    assert_eq!((sets(&store, &source), cluster.psql(SLOTS)), (stored, "1".into()));
}

/// What is stored while nobody streams is told when the stream goes on, as long as the server has it. What it no longer
/// has leaves a gap, across which no increment trusts the record.
fn increments_follow_a_stream_that_is_begun_again_and_not_across_a_gap(version: Version) {
    let mut cluster = Cluster::new(version).segment_mib(1).start();
    let store = Store::new();
    let source = PostgresSource::open(&cluster.uri()).unwrap();
    cluster.execute("CREATE TABLE t AS SELECT n, repeat('a', 500) AS a FROM generate_series(1, 9000) n");
    let change = |word: &str| {
        cluster.execute(&format!("UPDATE t SET a = repeat('{word}', 500) WHERE n % 9 = 0"));
        cluster.execute("INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 2000) n");
    };
    // Of segments that are whole the server keeps none that was captured.
    let capture = || {
        cluster.execute("SELECT pg_switch_wal()");
        capture(&store, &source).unwrap();
        cluster.execute("CHECKPOINT");
        cluster.execute("CHECKPOINT");
    };
    let increment = || {
        let only = Only(PostgresSource::open(&cluster.uri()).unwrap(), Way::Stream);
        store.try_backup(&only, Level::Differential).unwrap().decisions.join("\n")
    };
    capture();
    store.try_backup(&Only(PostgresSource::open(&cluster.uri()).unwrap(), Way::Stream), Level::Full).unwrap();
    change("b");
    // The stream ends within a segment, and begins again with the same.
    self::capture(&store, &source).unwrap();
    change("c");
    capture();
    let said = increment();
    assert!(said.contains("from the redo on record up to LSN"), "{said}");

    change("d");
    capture();
    cluster.execute("SELECT pg_drop_replication_slot('setpiece')");
    change("e");
    cluster.execute("SELECT pg_switch_wal(); CHECKPOINT");
    change("f");
    cluster.execute("SELECT pg_switch_wal()");
    cluster.execute("CHECKPOINT");
    cluster.execute("CHECKPOINT");
    capture();
    change("g");
    capture();
    let said = increment();
    assert!(said.contains("by looking at every page, because"), "{said}");
    change("h");
    capture();
    let said = increment();
    assert!(said.contains("from the redo on record up to LSN"), "behind the gap: {said}");

    let held = cluster.dump_logged();
    cluster.stop(StopMode::Fast);
    store.try_backup(&PostgresDirectory::open(cluster.data_dir()).unwrap(), Level::Differential).unwrap();
    let dir = reachable();
    let back = dir.path().join("back");
    store.try_restore(Until::SetEnd, &back, &[]).unwrap();
    assert_same_pages(cluster.data_dir(), &back, MayDiffer { unlogged: true, hints: true, ..MayDiffer::default() });
    assert_eq!(open(&cluster, &back).dump_logged(), held);
}
