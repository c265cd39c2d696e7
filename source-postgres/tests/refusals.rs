//! What a backup or a restore is refused for before anything is touched, and a server that is gone in the middle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::fs;
use std::path::Path;

use common::{Store, archive_all, around, open, reachable};
use setpiece_core::backup::archive::archive;
use setpiece_core::backup::{BackupOptions, backup};
use setpiece_core::format::Compression;
use setpiece_core::model::{Level, Lsn, Scope, Until};
use setpiece_core::pipeline::Cancel;
use setpiece_core::source::{BeginRequest, Source};
use setpiece_core::{Error, ErrorKind};
use setpiece_source_postgres::{LogFile, LogHome, PostgresSource};
use setpiece_test_postgres::{Cluster, StopMode, Version};

fn filled() -> Cluster {
    let cluster = Cluster::new(Version::V15).start();
    cluster.execute("CREATE TABLE t AS SELECT i AS id, repeat('x', 100) AS word FROM generate_series(1, 5000) i");
    cluster
}

fn refused(store: &Store, cluster: &Cluster, without_log: bool) -> Error {
    let mut options = BackupOptions::default();
    options.without_log = without_log;
    let source = PostgresSource::open(&cluster.uri()).unwrap();
    refused_of(store, &source, &options)
}

fn refused_of(store: &Store, source: &PostgresSource, options: &BackupOptions) -> Error {
    let error = backup(&store.0, source, options, around(&Cancel::new())).unwrap_err();
    assert!(error.remedy_text().is_some(), "{error:?}");
    assert_eq!(store.0.sets().unwrap().len(), 0, "nothing was begun");
    error
}

#[test]
fn a_server_whose_log_is_of_no_use_is_refused() {
    let mut cluster = Cluster::new(Version::V15).setting("max_wal_senders", "0").init();
    cluster.option("wal_level", "minimal");
    cluster.start();
    let error = refused(&Store::new(), &cluster, false);
    assert!(error.to_string().contains("wal_level is minimal"), "{error}");
}

#[test]
fn a_set_without_its_log_is_refused_where_nobody_keeps_the_log() {
    let mut cluster = filled();
    let store = Store::new();
    let error = refused(&store, &cluster, true);
    assert!(error.to_string().contains("nobody archives the log"), "{error}");
    // With its log a set needs no archive.
    store.online(&cluster, Level::Full);
    let mut options = BackupOptions::default();
    options.without_log = true;
    let taken = |cluster: &Cluster| {
        let source = PostgresSource::open(&cluster.uri()).unwrap();
        backup(&store.0, &source, &options, around(&Cancel::new())).unwrap()
    };
    // A stream keeps it as well as an archive command does.
    cluster.execute("SELECT pg_create_physical_replication_slot('kept', true)");
    taken(&cluster);
    cluster.execute("SELECT pg_drop_replication_slot('kept')");
    cluster.option("archive_mode", "on");
    cluster.option("archive_command", "true");
    cluster.restart();
    taken(&cluster);
}

#[test]
fn a_target_behind_a_gap_in_the_log_is_refused() {
    let cluster = filled();
    let store = Store::new();
    store.online(&cluster, Level::Full);
    cluster.execute("UPDATE t SET word = 'kept'");
    archive_all(&store, &cluster, |_| ());
    // Two more segments, of which the first gets lost.
    let mut names = Vec::new();
    for word in ["lost", "behind"] {
        cluster.execute(&format!("UPDATE t SET word = '{word}'"));
        names.push(cluster.psql("SELECT pg_walfile_name(pg_switch_wal())"));
    }
    let home = LogHome::open(cluster.data_dir()).unwrap();
    let path = cluster.data_dir().join("pg_wal").join(&names[1]);
    let LogFile::Keep(info, unit) = home.file(&path).unwrap() else { panic!("a segment is kept") };
    archive(&store.0, &info, &unit, Compression::Zstd(1), around(&Cancel::new())).unwrap();
    let dir = reachable();
    let behind = Lsn(unit.unit.span.upto.0 - 1);
    let error = store.try_restore(Until::Lsn(behind), &dir.path().join("back"), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("is missing") && error.remedy_text().is_some(), "{error:?}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    // As far as it goes, it goes.
    let back = dir.path().join("back");
    store.try_restore(Until::Latest, &back, &[]).unwrap();
    assert_eq!(open(&cluster, &back).psql("SELECT DISTINCT word FROM t"), "kept");
}

#[test]
fn a_server_that_is_killed_in_the_middle_gives_no_set() {
    let mut cluster = filled();
    let store = Store::new();
    let source = PostgresSource::open(&cluster.uri()).unwrap();
    let request = BeginRequest { scope: &Scope::Database, level: Level::Full, without_log: false, cookie: None };
    let mut run = source.begin(&request).unwrap();
    cluster.kill9();
    let error = run.end().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source, "{error}");
    drop(run);
    assert_eq!(store.0.sets().unwrap().len(), 0);
    cluster.start();
    store.try_backup(&source, Level::Full).unwrap();
    let slots = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!(cluster.psql(slots), "0", "nothing is left behind in the server");
}

#[test]
fn places_that_hold_something_are_refused_and_stay() {
    let mut cluster = filled();
    let store = Store::new();
    store.online(&cluster, Level::Full);
    let dir = reachable();
    let used = dir.path().join("used");
    fs::create_dir(&used).unwrap();
    fs::write(used.join("mine"), "stays").unwrap();
    let target = |to: &Path, words: &str| {
        let error = store.try_restore(Until::SetEnd, to, &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Target, "{error}");
        assert!(error.to_string().contains(words) && error.remedy_text().is_some(), "{error:?}");
    };
    target(&used, "is not empty");
    // The source itself, while its server runs and while it does not.
    let data = cluster.data_dir().to_owned();
    let control = fs::read(data.join("global/pg_control")).unwrap();
    target(&data, "is not empty");
    let error = store.try_delta(&data, &[]).unwrap_err();
    assert!(error.kind() == ErrorKind::Target && error.to_string().contains("the server runs"), "{error}");
    assert_eq!(fs::read(data.join("global/pg_control")).unwrap(), control);
    cluster.stop(StopMode::Fast);
    target(&data, "is not empty");
    assert_eq!(fs::read(used.join("mine")).unwrap(), b"stays");
    cluster.start();
    assert_eq!(cluster.psql("SELECT count(*) FROM t"), "5000");
}

#[test]
fn a_data_directory_of_another_cluster_is_refused() {
    let (cluster, other) = (filled(), Cluster::new(Version::V15).init());
    // The server said who it is; where its directory should be there is another one, as on another machine.
    let source = PostgresSource::open(&cluster.uri()).unwrap();
    source.info().unwrap();
    let (data, aside) = (cluster.data_dir().join("global"), cluster.server_dir("aside").join("global"));
    fs::rename(&data, &aside).unwrap();
    std::os::unix::fs::symlink(other.data_dir().join("global"), &data).unwrap();
    let error = refused_of(&Store::new(), &source, &BackupOptions::default());
    fs::remove_file(&data).unwrap();
    fs::rename(&aside, &data).unwrap();
    assert!(error.to_string().contains("another cluster's"), "{error}");
}
