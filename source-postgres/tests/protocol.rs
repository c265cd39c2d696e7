//! Backups through the replication protocol: sets like any other, and bases for increments by either road.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use common::{Store, open, reachable};
use setpiece_core::ErrorKind;
use setpiece_core::backup::BackupReport;
use setpiece_core::model::{Level, Until};
use setpiece_source_postgres::PostgresSource;
use setpiece_test_postgres::{Cluster, StopMode, Version, every_version};

every_version!(a_set_comes_through_the_protocol_and_increments_stand_on_it);

fn through_protocol(store: &Store, cluster: &Cluster, level: Level) -> setpiece_core::Result<BackupReport> {
    let uri = format!("{}&via=protocol", cluster.uri());
    store.try_backup(&PostgresSource::open(&uri).unwrap(), level)
}

fn a_set_comes_through_the_protocol_and_increments_stand_on_it(version: Version) {
    let cluster = Cluster::new(version).checksums(true).setting("allow_in_place_tablespaces", "on").start();
    let place = cluster.server_dir("other");
    cluster.execute(&format!("CREATE TABLESPACE other LOCATION '{}'", place.display()));
    cluster.execute("CREATE TABLESPACE inside LOCATION ''");
    if version == Version::V15 {
        // It does not send this one, and a set without it would be no good.
        let error = through_protocol(&Store::new(), &cluster, Level::Full).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("inside"), "{error}");
        cluster.execute("DROP TABLESPACE inside");
    }
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY, words text)");
    cluster.execute("INSERT INTO t SELECT i, repeat(md5(i::text), 9) FROM generate_series(1, 20000) i");
    cluster.execute("CREATE TABLE elsewhere TABLESPACE other AS SELECT * FROM t WHERE id < 3000");
    let inside = if version == Version::V15 { "pg_default" } else { "inside" };
    cluster.execute(&format!("CREATE TABLE within TABLESPACE {inside} AS SELECT * FROM t WHERE id < 3000"));
    cluster.execute("CREATE UNLOGGED TABLE passing AS SELECT * FROM t WHERE id < 3000");
    let store = Store::new();
    let full = through_protocol(&store, &cluster, Level::Full).unwrap();
    let by_files = Store::new().online(&cluster, Level::Full);
    // The server's own segment is whole, of the stream only what the set needs is taken.
    let slack = by_files.raw_bytes / 20 + (16 << 20);
    assert!(full.raw_bytes.abs_diff(by_files.raw_bytes) < slack, "{} and {}", full.raw_bytes, by_files.raw_bytes);

    let change = |word: &str| {
        cluster
            .execute(&format!("UPDATE t SET words = '{word}' WHERE id % 89 = 3; DELETE FROM elsewhere WHERE id < 50"));
        cluster.execute(&format!("CREATE TABLE {word} AS SELECT * FROM within; TRUNCATE within"));
    };
    change("one");
    let second = through_protocol(&store, &cluster, Level::Differential).unwrap();
    assert_eq!(second.summary.base, Some(full.summary.id));
    change("two");
    let third = store.online(&cluster, Level::Differential);
    assert_eq!(third.summary.base, Some(second.summary.id));
    change("three");
    through_protocol(&store, &cluster, Level::Differential).unwrap();
    let held = cluster.dump_logged();
    store.check_pages();

    let dir = reachable();
    let (back, moved) = (dir.path().join("back"), dir.path().join("moved"));
    store.try_restore(Until::SetEnd, &back, &[("other".into(), moved)]).unwrap();
    cluster.run_tool("pg_verifybackup", &["--exit-on-error", &back.display().to_string()]);
    let mut restored = open(&cluster, &back);
    assert_eq!(restored.dump_logged(), held);
    assert_eq!(restored.psql("SELECT count(*) FROM passing"), "0");
    restored.run_tool("pg_amcheck", &["--all", "--install-missing", "--heapallindexed"]);
    restored.stop(StopMode::Fast);
    restored.run_tool("pg_checksums", &["--check", "-D", &back.display().to_string()]);
}

#[test]
fn a_standby_sends_its_files_too() {
    let primary = Cluster::new(Version::V17).checksums(true).start();
    primary.execute("CREATE TABLE t AS SELECT i, repeat(md5(i::text), 9) FROM generate_series(1, 20000) i");
    let standby = Cluster::standby_of(&primary);
    standby.catch_up_with(&primary);
    standby.execute("CHECKPOINT");
    primary.execute("DELETE FROM t WHERE i % 2 = 0");
    standby.catch_up_with(&primary);
    let held = primary.dump_logged();
    standby.promote();
    standby.execute("CREATE TABLE after_promotion AS SELECT 1 AS x");
    standby.execute("CHECKPOINT");
    let follower = Cluster::standby_of(&standby);
    follower.catch_up_with(&standby);
    let store = Store::new();
    let set = through_protocol(&store, &follower, Level::Full).unwrap();
    assert_eq!(set.summary.branch.current.0, 2);
    assert_eq!(set.summary.branch.points.len(), 1);
    let dir = reachable();
    let back = dir.path().join("back");
    store.try_restore(Until::SetEnd, &back, &[]).unwrap();
    let restored = open(&primary, &back);
    assert_eq!(restored.psql("SELECT x FROM after_promotion"), "1");
    restored.execute("DROP TABLE after_promotion");
    assert_eq!(restored.dump_logged(), held);
}

#[test]
fn a_damaged_page_is_seen_in_the_stream() {
    let mut cluster = Cluster::new(Version::V15).checksums(true).start();
    cluster.execute("CREATE TABLE t AS SELECT i, repeat(md5(i::text), 9) FROM generate_series(1, 2000) i");
    let path = cluster.data_dir().join(cluster.psql("SELECT pg_relation_filepath('t')"));
    cluster.stop(StopMode::Fast);
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"garbage", 2 * 8192 + 4000).unwrap();
    cluster.start();
    let error = through_protocol(&Store::new(), &cluster, Level::Full).unwrap_err();
    assert!(error.kind() == ErrorKind::BadPage && error.to_string().contains("page 2"), "{error}");
    let error = PostgresSource::open("postgres:///x?via=magic").map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}
