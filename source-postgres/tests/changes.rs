//! What increments must not miss, one case after the other, by each way of finding changed pages: a chain that ends
//! with the stopped server has every page as the server has it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::path::PathBuf;

use common::ways::{Archiver, Only, Way, archiving};
use common::{Store, open, reachable};
use setpiece_core::backup::BackupReport;
use setpiece_core::model::{Level, Until};
use setpiece_source_postgres::{PostgresDirectory, PostgresSource};
use setpiece_test_postgres::{Cluster, MayDiffer, StopMode, Version, assert_same_pages, every_version};
use tempfile::TempDir;

every_version!(
    what_was_cut_and_has_grown_again_is_taken,
    a_directory_that_another_database_was_given_is_taken_whole,
    the_visibility_map_is_always_whole,
    a_page_that_became_all_visible_says_so_when_it_comes_back,
    records_across_the_ends_of_segments_are_taken,
    increments_go_on_along_a_new_timeline,
);

const WAYS: [Way; 5] = [Way::Live, Way::Record, Way::Stream, Way::Summaries, Way::Scan];

fn back_up(cluster: &Cluster, store: &Store, level: Level, way: Way) -> BackupReport {
    way.forget_log(cluster);
    let report = store.try_backup(&Only(PostgresSource::open(&cluster.uri()).unwrap(), way), level).unwrap();
    if level != Level::Full {
        way.check(&report, true);
    }
    report
}

/// Stops the server, adds an increment of what it left, and holds what comes back against it.
fn prove(cluster: &mut Cluster, store: &Store, way: Way) {
    let held = cluster.dump_logged();
    let (_dir, back) = prove_pages(cluster, store, way);
    assert_eq!(open(cluster, &back).dump_logged(), held);
}

/// The same without a look at what the server holds, which changes pages: a reader leaves hints.
fn prove_pages(cluster: &mut Cluster, store: &Store, way: Way) -> (TempDir, PathBuf) {
    cluster.stop(StopMode::Fast);
    let source = Only(PostgresDirectory::open(cluster.data_dir()).unwrap(), way);
    store.try_backup(&source, Level::Differential).unwrap();
    let dir = reachable();
    let back = dir.path().join("back");
    store.try_restore(Until::SetEnd, &back, &[]).unwrap();
    let may_differ = MayDiffer { unlogged: true, hints: true, ..MayDiffer::default() };
    assert_same_pages(cluster.data_dir(), &back, may_differ);
    (dir, back)
}

/// A full backup, what `change` does, an increment by each way, and the proof.
fn by_each_way(ways: &[Way], version: Version, make: impl Fn(&Cluster), change: impl Fn(&Cluster)) {
    for way in ways.iter().copied().filter(|way| version >= Version::V17 || *way != Way::Summaries) {
        let (mut cluster, archiver) = way.prepare(Cluster::new(version));
        let store = Store::new();
        archiving(way, &archiver, &store, || {
            make(&cluster);
            back_up(&cluster, &store, Level::Full, way);
            change(&cluster);
            back_up(&cluster, &store, Level::Differential, way);
            prove(&mut cluster, &store, way);
        });
    }
}

fn what_was_cut_and_has_grown_again_is_taken(version: Version) {
    let make = |cluster: &Cluster| {
        cluster.execute("CREATE TABLE t AS SELECT n, repeat('a', 500) AS a FROM generate_series(1, 3000) n");
        cluster.execute("CREATE INDEX ON t (n)");
    };
    let change = |cluster: &Cluster| {
        let size = || cluster.psql("SELECT pg_relation_size('t')");
        let before = size();
        cluster.execute("DELETE FROM t WHERE n > 800; VACUUM t");
        assert_ne!(size(), before);
        cluster.execute("INSERT INTO t SELECT n, repeat('b', 500) FROM generate_series(801, 3000) n");
        assert_eq!(size(), before, "as long as it was");
    };
    by_each_way(&WAYS, version, make, change);
}

/// A database that is copied file by file has pages whose LSNs are those of its template, older than the base. It may
/// be in a place where the base has another database of the same number, whose files have the same names.
fn a_directory_that_another_database_was_given_is_taken_whole(version: Version) {
    let make = |cluster: &Cluster| {
        let place = cluster.server_dir("other");
        cluster.execute(&format!("CREATE TABLESPACE other LOCATION '{}'", place.display()));
        for (name, word) in [("one", "first"), ("two", "second")] {
            cluster.execute(&format!("CREATE DATABASE {name}"));
            let rows = format!("CREATE TABLE t AS SELECT n, '{word}' AS w FROM generate_series(1, 900) n");
            cluster.try_psql_in(name, &rows).unwrap();
        }
        cluster.execute("CREATE DATABASE moving OID 700001 TEMPLATE one STRATEGY file_copy");
        cluster.execute("CREATE DATABASE same OID 700000 TEMPLATE one STRATEGY file_copy");
        cluster.execute("CHECKPOINT");
    };
    let change = |cluster: &Cluster| {
        cluster.execute("DROP DATABASE same");
        cluster.execute("CREATE DATABASE same OID 700000 TEMPLATE two STRATEGY file_copy");
        cluster.execute("ALTER DATABASE moving SET TABLESPACE other");
        cluster.try_psql_in("moving", "UPDATE t SET w = 'moved' WHERE n % 90 = 0").unwrap();
        cluster.execute("ALTER DATABASE moving SET TABLESPACE pg_default");
        cluster.execute("CREATE TABLE filling (n int) TABLESPACE other");
    };
    by_each_way(&[Way::Live, Way::Summaries, Way::Scan], version, make, change);
}

/// PostgreSQL 17.10 lost changes of the map in its own increments: a flag of a record clears bits of it without naming
/// its block, and summaries of the log have blocks that are named. Rows came back that nobody could see.
fn the_visibility_map_is_always_whole(version: Version) {
    let make = |cluster: &Cluster| {
        cluster.execute("CREATE TABLE t AS SELECT n, repeat('a', 100) AS a FROM generate_series(1, 20000) n");
        cluster.execute("VACUUM (FREEZE) t");
    };
    let change = |cluster: &Cluster| cluster.execute("UPDATE t SET a = 'changed' WHERE n % 1000 = 0");
    by_each_way(&[Way::Live, Way::Summaries, Way::Scan], version, make, change);
}

/// Increments by page LSN of clusters without checksums lost that a vacuum had found a page all visible, for it leaves
/// the page's LSN alone then, while the map of visibility came back with it. Rows that were deleted later were still
/// counted, as nothing on the page said that the map had to be told.
fn a_page_that_became_all_visible_says_so_when_it_comes_back(version: Version) {
    for hints in ["off", "on"] {
        let (way, builder) = (Way::Scan, Cluster::new(version).checksums(false).setting("wal_log_hints", hints));
        let (mut cluster, _) = way.prepare(builder);
        let store = Store::new();
        cluster.execute("CREATE TABLE t AS SELECT n FROM generate_series(1, 20000) n; CREATE INDEX ON t (n)");
        // Hints are set before, so that the vacuum has nothing else to change.
        cluster.execute("SELECT count(*) FROM t");
        back_up(&cluster, &store, Level::Full, way);
        cluster.execute("VACUUM t");
        back_up(&cluster, &store, Level::Differential, way);
        cluster.stop(StopMode::Fast);
        let dir = reachable();
        let back = dir.path().join("back");
        store.try_restore(Until::SetEnd, &back, &[]).unwrap();
        let may_differ = MayDiffer { unlogged: true, hints: true, ..MayDiffer::default() };
        assert_same_pages(cluster.data_dir(), &back, may_differ);
        let restored = open(&cluster, &back);
        restored.execute("DELETE FROM t WHERE n % 2 = 0");
        let by_index = "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM t WHERE n > 0";
        assert_eq!(restored.psql(by_index), "10000", "wal_log_hints = {hints}");
    }
}

/// Each page is changed by one record alone, and one of them lies across the end of each segment.
fn records_across_the_ends_of_segments_are_taken(version: Version) {
    let make = |cluster: &Cluster| {
        cluster.execute("CREATE TABLE t (n int, a text); ALTER TABLE t ALTER a SET STORAGE PLAIN");
        cluster.execute("INSERT INTO t SELECT n, repeat('a', 4100) FROM generate_series(1, 2000) n");
        cluster.execute("VACUUM (FREEZE) t");
        assert_eq!(cluster.psql("SELECT pg_relation_size('t') / 8192"), "2000", "a page for each row");
    };
    for way in [Way::Record, Way::Stream] {
        let (mut cluster, archiver) = way.prepare(Cluster::new(version).segment_mib(1));
        let store = Store::new();
        archiving(way, &archiver, &store, || {
            make(&cluster);
            back_up(&cluster, &store, Level::Full, way);
            cluster.execute("DELETE FROM t");
            back_up(&cluster, &store, Level::Differential, way);
            prove_pages(&mut cluster, &store, way);
        });
    }
}

/// A cluster is brought back to before the end of its log and goes on as a new timeline, while the old one goes on as
/// well. What the old one writes behind the fork is not what the new one changes.
fn increments_go_on_along_a_new_timeline(version: Version) {
    for way in [Way::Record, Way::Stream, Way::Live] {
        let (mut old, archiver) = way.prepare(Cluster::new(version));
        let store = Store::new();
        let rows = |cluster: &Cluster, from: u32, word: &str| {
            cluster.execute(&format!(
                "INSERT INTO t SELECT n, repeat('{word}', 30) FROM generate_series({from}, {}) n",
                from + 4000
            ));
        };
        let dir = reachable();
        let back = dir.path().join("back");
        let full = archiving(way, &archiver, &store, || {
            old.execute("CREATE TABLE t (n int, w text); CREATE TABLE untouched AS SELECT 1 AS n");
            rows(&old, 0, "full");
            let full = back_up(&old, &store, Level::Full, way);
            rows(&old, 10_000, "both");
            let fork = old.psql("SELECT pg_current_wal_lsn()");
            way.forget_log(&old);
            if matches!(way, Way::Record | Way::Stream) {
                let fork = setpiece_source_postgres::wal::parse_lsn(&fork).unwrap();
                store.try_restore(Until::Lsn(fork), &back, &[]).unwrap();
            } else {
                store.try_restore(Until::SetEnd, &back, &[]).unwrap();
            }
            rows(&old, 20_000, "old");
            old.execute("UPDATE t SET w = 'old' WHERE n % 7 = 0");
            way.forget_log(&old);
            old.stop(StopMode::Fast);
            full
        });
        let mut new = Cluster::adopt(version, &back);
        let archiver = Archiver::of(&mut new, way);
        new.start();
        archiving(way, &archiver, &store, || {
            new.wait_until("SELECT NOT pg_is_in_recovery()", std::time::Duration::from_secs(60));
            rows(&new, 30_000, "new");
            new.execute("UPDATE t SET w = 'new' WHERE n % 11 = 0; DELETE FROM t WHERE n % 501 = 0");
            let report = back_up(&new, &store, Level::Differential, way);
            assert_eq!(report.summary.base, Some(full.summary.id));
            assert_eq!(report.summary.branch.current.0, 2);
            new.execute("UPDATE t SET w = 'newer' WHERE n % 13 = 0");
            back_up(&new, &store, Level::Differential, way);
            prove(&mut new, &store, way);
        });
    }
}
