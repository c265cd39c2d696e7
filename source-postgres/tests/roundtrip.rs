//! Clusters come back: from a chain of online backups what their dumps say, from one that ends with a backup of the
//! stopped server every page as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use common::{Store, open, reachable};
use setpiece_core::model::{Level, Until};
use setpiece_test_postgres::{Cluster, MayDiffer, StopMode, Version, assert_same_pages, every_version};

every_version!(
    a_chain_of_online_backups_holds_what_the_server_held,
    a_chain_ends_with_every_page_of_the_stopped_server
);

fn filled(version: Version) -> Cluster {
    let cluster = Cluster::new(version).checksums(true).start();
    let place = cluster.server_dir("other");
    cluster.execute(&format!("CREATE TABLESPACE other LOCATION '{}'", place.display()));
    let empty = cluster.server_dir("empty");
    cluster.execute(&format!("CREATE TABLESPACE empty LOCATION '{}'", empty.display()));
    cluster.execute("CREATE TABLE plain (id int PRIMARY KEY, words text)");
    cluster.execute("INSERT INTO plain SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
    cluster.execute("CREATE TABLE elsewhere TABLESPACE other AS SELECT * FROM plain WHERE id <= 3000");
    cluster.execute("CREATE UNLOGGED TABLE passing AS SELECT * FROM plain");
    cluster.execute("CREATE DATABASE second");
    cluster
}

fn change(cluster: &Cluster, round: u32) {
    cluster.execute(&format!("UPDATE plain SET words = 'round {round}' WHERE id % 97 = {round}"));
    cluster.execute("INSERT INTO elsewhere SELECT * FROM plain ORDER BY id LIMIT 50");
    cluster.execute(&format!("CREATE INDEX i{round} ON plain (words)"));
    cluster.execute("DELETE FROM plain WHERE id % 501 = 7; VACUUM plain");
    cluster.execute(&format!("CREATE TABLE made{round} AS SELECT * FROM plain WHERE id < 900"));
    if round > 1 {
        cluster.execute(&format!("TRUNCATE made{}; DROP INDEX i{}", round - 1, round - 1));
    }
}

fn a_chain_of_online_backups_holds_what_the_server_held(version: Version) {
    let cluster = filled(version);
    let store = Store::new();
    let full = store.online(&cluster, Level::Full);
    change(&cluster, 1);
    let differential = store.online(&cluster, Level::Differential);
    assert_eq!(differential.summary.base, Some(full.summary.id));
    assert!(differential.raw_bytes < full.raw_bytes, "{} of {}", differential.raw_bytes, full.raw_bytes);
    change(&cluster, 2);
    store.online(&cluster, Level::Cumulative);
    change(&cluster, 3);
    store.online(&cluster, Level::Differential);
    let held = cluster.dump_logged();
    store.check_pages();

    let dir = reachable();
    let (back, moved) = (dir.path().join("back"), dir.path().join("moved"));
    store.try_restore(Until::SetEnd, &back, &[("other".into(), moved.clone())]).unwrap();
    let mut restored = open(&cluster, &back);
    assert_eq!(restored.dump_logged(), held);
    assert_eq!(restored.psql("SELECT count(*) FROM passing"), "0");
    restored.execute("CREATE TABLE first_there TABLESPACE empty AS SELECT 1 AS n");
    let place = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'other'";
    assert_eq!(restored.psql(place), moved.display().to_string());
    assert_eq!(restored.psql("SELECT timeline_id FROM pg_control_checkpoint()"), "2");
    restored.stop(StopMode::Fast);
    restored.run_tool("pg_checksums", &["--check", "-D", &back.display().to_string()]);
}

fn a_chain_ends_with_every_page_of_the_stopped_server(version: Version) {
    let mut cluster = filled(version);
    let store = Store::new();
    store.online(&cluster, Level::Full);
    for round in 1..4 {
        change(&cluster, round);
        store.online(&cluster, Level::Differential);
    }
    change(&cluster, 4);
    cluster.stop(StopMode::Fast);
    store.offline(cluster.data_dir(), Level::Differential);
    let dir = reachable();
    let back = dir.path().join("back");
    store.try_restore(Until::SetEnd, &back, &[]).unwrap();
    assert_same_pages(cluster.data_dir(), &back, MayDiffer { unlogged: true, ..MayDiffer::default() });
    cluster.start();
    let held = cluster.dump_logged();
    cluster.stop(StopMode::Fast);
    assert_eq!(open(&cluster, &back).dump_logged(), held);
}
