//! A random life: valid on every version, survives a crash, and replays to the same pages.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;

use setpiece_test_postgres::workload::{Tablespaces, Workload};
use setpiece_test_postgres::{Cluster, StopMode, Version, damaged_pages, every_version};

every_version!(a_life_goes_on_after_a_crash);

fn a_life_goes_on_after_a_crash(version: Version) {
    let steps: u64 = std::env::var("STEPS").unwrap().parse().unwrap();
    let seed: u64 = std::env::var("SEED").unwrap().parse().unwrap();
    let mut cluster = Cluster::new(version).start();
    let mut life = Workload::new(seed);
    let began = std::time::Instant::now();
    let mut done = life.run(&cluster, steps);
    println!("{:?} for {steps}", began.elapsed());
    let logged = cluster.dump_logged();
    cluster.crash_and_recover();
    assert_eq!(cluster.dump_logged(), logged);
    done.extend(life.run(&cluster, steps));
    println!("{:?} for {steps}", began.elapsed());
    let names: BTreeSet<&str> = done.iter().map(|done| done.name).collect();
    println!("{names:?} {}", names.len());
    assert!(done.is_sorted_by_key(|done| done.lsn));
    cluster.run_tool("pg_amcheck", &["--install-missing", "--all", "--heapallindexed"]);
    cluster.stop(StopMode::Fast);
    assert_eq!(damaged_pages(cluster.data_dir()), []);
    let _ = Tablespaces::None;
}
