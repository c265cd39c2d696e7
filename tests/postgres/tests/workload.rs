//! A random life: valid on every version, survives a crash, and replays to the same pages.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::ops::Range;

use setpiece_test_postgres::workload::{Tablespaces, Workload, run};
use setpiece_test_postgres::{
    Cluster, MayDiffer, StopMode, Version, assert_same_pages, compare, damaged_pages, every_version,
};

every_version!(a_life_goes_on_after_a_crash, a_standby_lives_the_same_life);

/// The life that is lived; `SETPIECE_TEST_SEEDS=FROM..UPTO` chooses others, for long runs.
fn seeds(usual: u64) -> Range<u64> {
    let Ok(text) = std::env::var("SETPIECE_TEST_SEEDS") else { return usual..usual + 1 };
    let (from, upto) = text.split_once("..").expect("SETPIECE_TEST_SEEDS=FROM..UPTO");
    from.parse().unwrap()..upto.parse().unwrap()
}

fn a_life_goes_on_after_a_crash(version: Version) {
    seeds(7).for_each(|seed| a_life_with_a_crash(version, seed));
}

fn a_standby_lives_the_same_life(version: Version) {
    seeds(11).for_each(|seed| a_life_with_a_standby(version, seed));
}

fn a_life_with_a_crash(version: Version, seed: u64) {
    let mut cluster = Cluster::new(version).start();
    let mut life = Workload::new(seed);
    let mut done = life.run(&cluster, 90);
    let logged = cluster.dump_logged();
    cluster.crash_and_recover();
    assert_eq!(cluster.dump_logged(), logged);
    done.extend(life.run(&cluster, 90));
    assert_ne!(cluster.dump_logged(), logged);
    assert!(done.is_sorted_by_key(|done| (done.number, done.lsn)));
    assert!(done.iter().filter_map(|done| done.restore_point()).all(|name| name.starts_with("point_")));
    assert!(done.last().unwrap().lsn <= cluster.current_lsn());
    life.settle(&cluster);
    assert_eq!(cluster.psql("SELECT count(*) FROM pg_prepared_xacts"), "0");
    cluster.run_tool("pg_amcheck", &["--install-missing", "--all", "--heapallindexed"]);
    cluster.stop(StopMode::Smart);
    assert_eq!(damaged_pages(cluster.data_dir()), []);
}

/// The log holds all of it, and what is masked in the comparison is really no more than hints.
fn a_life_with_a_standby(version: Version, seed: u64) {
    let mut primary = Cluster::new(version).start();
    let mut life = Workload::new(seed).tablespaces(Tablespaces::InPlace);
    life.run(&primary, 40);
    let mut standby = Cluster::standby_of(&primary);
    life.run(&primary, 120);
    life.settle(&primary);
    primary.execute("CHECKPOINT");
    standby.catch_up_with(&primary);
    standby.execute("CHECKPOINT");
    assert_eq!(standby.dump_logged(), primary.dump_logged());
    primary.stop(StopMode::Fast);
    standby.stop(StopMode::Fast);
    let allowed = MayDiffer { free_space: true, visibility: true, hints: true, unlogged: true };
    assert_same_pages(primary.data_dir(), standby.data_dir(), allowed);
    assert!(!compare(primary.data_dir(), standby.data_dir(), MayDiffer { hints: false, ..allowed }).is_empty());

    // It goes on where the primary was.
    standby.start();
    standby.promote();
    life.from_here().run(&standby, 20);
}

/// Two lives with one seed take the same steps; the log of the second is its own.
#[test]
fn a_seed_is_a_life() {
    let clusters = [Version::V15, Version::V17].map(|version| Cluster::new(version).start());
    let space = |done: &setpiece_test_postgres::workload::Done| done.name == "create tablespace";
    let [first, second] = clusters.each_ref().map(|cluster| run(cluster, 23, 60));
    for (first, second) in first.iter().zip(&second).filter(|(first, _)| !space(first)) {
        assert_eq!(first.statements, second.statements);
    }
    assert_ne!(first[59].lsn, second[59].lsn);
}
