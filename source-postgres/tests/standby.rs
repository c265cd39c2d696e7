//! Backups of standbys: what they hold, what follows them, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Store, archive_all, open, reachable};
use setpiece_core::model::{Level, Scope, Until};
use setpiece_core::source::{BeginRequest, Source};
use setpiece_source_postgres::PostgresSource;
use setpiece_test_postgres::{Cluster, StopMode, Version, every_version};

every_version!(a_standby_is_backed_up_while_its_primary_works);

fn primary(version: Version) -> Cluster {
    let cluster = Cluster::new(version).checksums(true).start();
    cluster.execute("CREATE TABLE t (id serial PRIMARY KEY, words text)");
    cluster.execute("INSERT INTO t (words) SELECT repeat(md5(i::text), 9) FROM generate_series(1, 20000) i");
    cluster
}

fn a_standby_is_backed_up_while_its_primary_works(version: Version) {
    let primary = primary(version);
    let standby = Cluster::standby_of(&primary);
    let store = Store::new();
    let full = store.online(&primary, Level::Full);
    primary.execute("UPDATE t SET words = 'before' WHERE id % 7 = 1");
    standby.catch_up_with(&primary);
    // Rows keep coming while the standby is backed up.
    let stop = AtomicBool::new(false);
    let differential = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                primary.execute("INSERT INTO t (words) SELECT 'meanwhile' FROM generate_series(1, 50)");
            }
        });
        let report = store.online(&standby, Level::Differential);
        stop.store(true, Ordering::Relaxed);
        writing.join().unwrap();
        report
    });
    assert_eq!(differential.summary.base, Some(full.summary.id));
    assert!(differential.raw_bytes < full.raw_bytes);
    let written: i64 = primary.psql("SELECT count(*) FROM t WHERE words = 'meanwhile'").parse().unwrap();

    let dir = reachable();
    let back = dir.path().join("back");
    store.try_restore(Until::SetEnd, &back, &[]).unwrap();
    primary.run_tool("pg_verifybackup", &["--exit-on-error", &back.display().to_string()]);
    let mut restored = open(&primary, &back);
    assert_eq!(restored.psql("SELECT count(*) FROM t WHERE words = 'before'"), "2858");
    assert_eq!(restored.psql("SELECT count(*) FROM t WHERE words <> 'meanwhile'"), "20000");
    let there: i64 = restored.psql("SELECT count(*) FROM t WHERE words = 'meanwhile'").parse().unwrap();
    assert!(there <= written && there % 50 == 0, "{there} of {written}");
    restored.run_tool("pg_amcheck", &["--all", "--install-missing", "--heapallindexed"]);
    restored.stop(StopMode::Fast);
    restored.run_tool("pg_checksums", &["--check", "-D", &back.display().to_string()]);

    // The segment that grew when the set was taken does not hide the whole one that the primary archives.
    primary.execute("INSERT INTO t (words) VALUES ('last')");
    let held = primary.dump_logged();
    archive_all(&store, &primary, |_| ());
    let latest = dir.path().join("latest");
    store.try_restore(Until::Latest, &latest, &[]).unwrap();
    assert_eq!(open(&primary, &latest).dump_logged(), held);
}

#[test]
fn a_standby_that_lags_behind_the_base_is_no_source_for_an_increment() {
    let primary = primary(Version::V15);
    let standby = Cluster::standby_of(&primary);
    standby.catch_up_with(&primary);
    standby.execute("SELECT pg_wal_replay_pause()");
    standby.wait_until("SELECT pg_get_wal_replay_pause_state() = 'paused'", Duration::from_secs(20));
    primary.execute("UPDATE t SET words = 'new'");
    let store = Store::new();
    store.online(&primary, Level::Full);
    let source = PostgresSource::open(&standby.uri()).unwrap();
    let error = store.try_backup(&source, Level::Differential).unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("behind"), "{error}");
    standby.execute("SELECT pg_wal_replay_resume()");
    standby.catch_up_with(&primary);
    // The standby takes over the end of the base when it next writes down how far it is.
    primary.execute("CHECKPOINT; INSERT INTO t (words) VALUES ('x')");
    standby.catch_up_with(&primary);
    standby.execute("CHECKPOINT");
    store.try_backup(&source, Level::Differential).unwrap();
    let dir = reachable();
    let back = dir.path().join("back");
    store.try_restore(Until::SetEnd, &back, &[]).unwrap();
    assert_eq!(open(&primary, &back).psql("SELECT count(*) FROM t WHERE words = 'new'"), "20000");
}

#[test]
fn a_standby_that_is_promoted_meanwhile_gives_no_set() {
    let primary = primary(Version::V17);
    let standby = Cluster::standby_of(&primary);
    standby.catch_up_with(&primary);
    let source = PostgresSource::open(&standby.uri()).unwrap();
    let request = BeginRequest { scope: &Scope::Database, level: Level::Full, without_log: false, cookie: None };
    let mut run = source.begin(&request).unwrap();
    standby.promote();
    let error = run.end().unwrap_err();
    assert!(error.to_string().contains("promoted"), "{error}");
    drop(run);
    // Taken again it is a backup of the new branch.
    let report = Store::new().online(&standby, Level::Full);
    assert_eq!(report.summary.branch.current.0, 2);
}

#[test]
fn the_server_says_when_its_log_lacks_whole_pages() {
    let primary = primary(Version::V15);
    let standby = Cluster::standby_of(&primary);
    primary.execute("ALTER SYSTEM SET full_page_writes = off");
    primary.execute("SELECT pg_reload_conf()");
    primary.wait_until("SELECT current_setting('full_page_writes') = 'off'", Duration::from_secs(20));
    primary.execute("CHECKPOINT");
    primary.execute("UPDATE t SET words = 'torn'");
    standby.catch_up_with(&primary);
    let source = PostgresSource::open(&standby.uri()).unwrap();
    let error = Store::new().try_backup(&source, Level::Full).unwrap_err();
    assert!(error.to_string().contains("full_page_writes"), "{error}");
}
