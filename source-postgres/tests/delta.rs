//! Restoring over a directory that is there: only what differs is written, and the result is what a restore into a new
//! directory is; what is not this cluster's is not touched, and what is not finished does not start.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use common::{RECOVERY, Store, open, reachable};
use setpiece_core::ErrorKind;
use setpiece_core::events::{Event, Observer};
use setpiece_core::model::{Level, RecoveryTarget, Until};
use setpiece_core::pipeline::Cancel;
use setpiece_core::restore::{RestoreRequest, restore};
use setpiece_core::source::UNFINISHED;
use setpiece_test_postgres::{Cluster, MayDiffer, StopMode, Version, assert_same_pages, every_version};

every_version!(a_directory_is_brought_back_to_the_set);

/// A cluster that was backed up twice and went on, and where a tablespace of it lies.
struct Scene {
    cluster: Cluster,
    store: Store,
    place: PathBuf,
    held: String,
}

fn scene(version: Version) -> Scene {
    let cluster = Cluster::new(version).checksums(true).start();
    let place = cluster.server_dir("other");
    cluster.execute(&format!("CREATE TABLESPACE other LOCATION '{}'", place.display()));
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY, words text)");
    cluster.execute("INSERT INTO t SELECT i, repeat(md5(i::text), 9) FROM generate_series(1, 20000) i");
    cluster.execute("CREATE TABLE elsewhere TABLESPACE other AS SELECT * FROM t WHERE id < 5000");
    let store = Store::new();
    store.online(&cluster, Level::Full);
    cluster.execute("UPDATE t SET words = 'changed' WHERE id % 89 = 3");
    store.online(&cluster, Level::Differential);
    let held = cluster.dump_logged();
    Scene { cluster, store, place, held }
}

impl Scene {
    fn map(&self) -> Vec<(String, PathBuf)> {
        vec![("other".into(), self.place.clone())]
    }

    fn verify(&self, directory: &Path) {
        self.cluster.run_tool("pg_verifybackup", &["--exit-on-error", &directory.display().to_string()]);
    }
}

/// Every file below a directory with its content, links not followed.
fn content(directory: &Path, of: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            content(&path, of, into);
        } else if entry.file_type().unwrap().is_file() && entry.file_name() != "backup_manifest" {
            into.push((path.strip_prefix(of).unwrap().to_owned(), fs::read(&path).unwrap()));
        }
    }
}

fn all(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    content(directory, directory, &mut found);
    found.sort();
    found
}

fn a_directory_is_brought_back_to_the_set(version: Version) {
    let mut scene = scene(version);
    let data = scene.cluster.data_dir().to_owned();
    // The life goes on: tables come, go and change, a database is made.
    scene.cluster.execute("DROP TABLE elsewhere; CREATE TABLE late TABLESPACE other AS SELECT * FROM t");
    scene.cluster.execute("DELETE FROM t WHERE id % 3 = 0; VACUUM t; TRUNCATE t; CREATE INDEX ON late (words)");
    scene.cluster.execute("CREATE DATABASE later");
    let running = scene.store.try_delta(&data, &scene.map()).unwrap_err();
    assert!(running.kind() == ErrorKind::Target && running.to_string().contains("the server runs"), "{running}");
    scene.cluster.stop(StopMode::Fast);
    fs::write(data.join("base/stray"), "x").unwrap();

    let dir = reachable();
    let (fresh, moved) = (dir.path().join("fresh"), dir.path().join("moved"));
    scene.store.try_restore(Until::SetEnd, &fresh, &[("other".into(), moved.clone())]).unwrap();
    let over = scene.store.try_delta(&data, &scene.map()).unwrap();
    let whole: u64 = over.totals.write_bytes;
    let (left, right) = (all(&data), all(&fresh));
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&left), names(&right));
    let other: Vec<_> = left.iter().zip(&right).filter(|(a, b)| a != b).map(|(a, _)| &a.0).collect();
    assert_eq!(other, [Path::new("tablespace_map")]);
    assert_eq!(all(&scene.place), all(&moved));
    scene.verify(&data);

    // Nothing to do, then one page of one file, and a file that is gone.
    let nothing = scene.store.try_delta(&data, &scene.map()).unwrap();
    assert_eq!(nothing.totals.write_bytes, 0);
    let table = right
        .iter()
        .filter(|(path, _)| path.starts_with("base"))
        .max_by_key(|(_, bytes)| bytes.len())
        .map(|(path, _)| data.join(path))
        .unwrap();
    let len = fs::metadata(&table).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&table).unwrap();
    file.write_all_at(b"damage", 3 * 8192 + 100).unwrap();
    let one = scene.store.try_delta(&data, &scene.map()).unwrap();
    assert_eq!(one.totals.write_bytes, 8192);
    // A file that is shared with another directory is not written through to that.
    let shared = dir.path().join("shared");
    fs::hard_link(&table, &shared).unwrap();
    fs::OpenOptions::new().write(true).open(&shared).unwrap().write_all_at(b"other", 0).unwrap();
    let damaged = fs::read(&shared).unwrap();
    let again = scene.store.try_delta(&data, &scene.map()).unwrap();
    assert_eq!(again.totals.write_bytes, len);
    assert_eq!(fs::read(&shared).unwrap(), damaged);
    fs::OpenOptions::new().write(true).open(&table).unwrap().set_len(5 * 8192).unwrap();
    let longer = scene.store.try_delta(&data, &scene.map()).unwrap();
    assert_eq!(longer.totals.write_bytes, len - 5 * 8192);
    assert!(whole > len, "{whole}");
    assert_same_pages(&data, &fresh, MayDiffer::default());
    scene.verify(&data);
    assert_eq!(open(&scene.cluster, &data).dump_logged(), scene.held);
}

#[test]
fn what_is_not_this_clusters_is_refused_and_stays() {
    let mut scene = scene(Version::V15);
    scene.cluster.stop(StopMode::Fast);
    let data = scene.cluster.data_dir().to_owned();
    let mut other = Cluster::new(Version::V15).start();
    other.stop(StopMode::Fast);
    let before = all(other.data_dir());
    let error = scene.store.try_delta(other.data_dir(), &scene.map()).unwrap_err();
    assert!(error.kind() == ErrorKind::Target && error.to_string().contains("another cluster"), "{error}");
    assert_eq!(all(other.data_dir()), before);

    let dir = reachable();
    let (papers, paper) = (dir.path().join("papers"), dir.path().join("papers/paper"));
    fs::create_dir(&papers).unwrap();
    fs::write(&paper, "kept").unwrap();
    let before = all(&data);
    let refuse = |to: &Path, map: &[(String, PathBuf)], said: &str| {
        let error = scene.store.try_delta(to, map).unwrap_err();
        assert!(error.kind() == ErrorKind::Target && error.to_string().contains(said), "{error}");
    };
    refuse(&papers, &[], "not known to be a data directory");
    refuse(&data, &[("other".into(), papers.clone())], "no tablespace of this database");
    symlink(&papers, data.join("base/out")).unwrap();
    refuse(&data, &scene.map(), "symbolic link");
    fs::remove_file(data.join("base/out")).unwrap();
    fs::rename(data.join("pg_wal"), papers.join("pg_wal")).unwrap();
    symlink(papers.join("pg_wal"), data.join("pg_wal")).unwrap();
    refuse(&data, &scene.map(), "symbolic link");
    fs::remove_file(data.join("pg_wal")).unwrap();
    fs::rename(papers.join("pg_wal"), data.join("pg_wal")).unwrap();
    assert_eq!(all(&data), before);
    assert_eq!(fs::read(&paper).unwrap(), b"kept");

    // A directory that does not exist is simply made.
    let new = dir.path().join("new");
    scene.store.try_delta(&new, &[]).unwrap();
    assert_eq!(open(&scene.cluster, &new).dump_logged(), scene.held);
}

/// Stops everything when a step begins.
struct StopAt<'c> {
    step: &'static str,
    cancel: &'c Cancel,
}

impl Observer for StopAt<'_> {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Step { name } if *name == self.step) {
            self.cancel.cancel();
        }
    }
}

#[test]
fn what_is_not_finished_does_not_start_and_is_finished_by_the_next_run() {
    let mut scene = scene(Version::V17);
    scene.cluster.execute("UPDATE t SET words = 'later'");
    scene.cluster.stop(StopMode::Fast);
    let data = scene.cluster.data_dir().to_owned();
    let mut request = RestoreRequest::default();
    request.target = RecoveryTarget { until: Until::SetEnd, ..RecoveryTarget::default() };
    (request.map, request.delta) = (scene.map(), true);
    for step in ["pages", "recover"] {
        let cancel = Cancel::new();
        let stop = StopAt { step, cancel: &cancel };
        let around = setpiece_core::backup::Surroundings { observer: &stop, cancel: &cancel, cache: None };
        let error = restore(&scene.store.0, &[&RECOVERY], &request, &data, around).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{step}");
        let mark = fs::read_to_string(data.join(UNFINISHED)).unwrap();
        assert!(mark.contains(scene.place.to_str().unwrap()), "{mark}");
        assert!(!data.join("global/pg_control").exists());
        let said = scene.cluster.try_start().unwrap_err();
        assert!(said.contains("pg_control"), "{said}");
    }
    // Another source's restore does not take it over.
    let other = Cluster::new(Version::V15).start();
    let stranger = Store::new();
    stranger.online(&other, Level::Full);
    let error = stranger.try_delta(&data, &[]).unwrap_err();
    assert!(error.to_string().contains("unfinished restore of source"), "{error}");

    scene.store.try_delta(&data, &scene.map()).unwrap();
    assert!(!data.join(UNFINISHED).exists());
    scene.verify(&data);
    assert_eq!(open(&scene.cluster, &data).dump_logged(), scene.held);
}
