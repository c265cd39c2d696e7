//! Random lives of clusters, backed up again and again while they go on: a chain that ends with the stopped server has
//! every page as the server has it, and the chain before it opens with what was there.
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

use common::{Store, open, reachable};
use setpiece_core::model::{Level, Until};
use setpiece_test_postgres::workload::Workload;
use setpiece_test_postgres::{Cluster, MayDiffer, StopMode, Version, assert_same_pages, every_version};

every_version!(no_change_is_missed);

/// Other lives by `SETPIECE_TEST_SEEDS=FROM..UPTO`, for long runs.
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SETPIECE_TEST_SEEDS") else { return 1..2 };
    let (from, upto) = text.split_once("..").expect("SETPIECE_TEST_SEEDS=FROM..UPTO");
    from.parse().unwrap()..upto.parse().unwrap()
}

fn no_change_is_missed(version: Version) {
    for seed in seeds() {
        eprintln!("seed {seed}");
        history(version, seed);
    }
}

fn history(version: Version, seed: u64) {
    let mut cluster = Cluster::new(version).checksums(true).start();
    let store = Store::new();
    let mut life = Workload::new(seed);
    life.run(&cluster, 30);
    store.online(&cluster, Level::Full);
    for round in 0..5 {
        life.run(&cluster, 20 + seed % 7);
        if (seed + round).is_multiple_of(4) {
            cluster.crash_and_recover();
        }
        let level = if (seed + round).is_multiple_of(3) { Level::Cumulative } else { Level::Differential };
        store.online(&cluster, level);
    }
    life.run(&cluster, 15);
    life.settle(&cluster);
    let held = cluster.dump_logged();
    cluster.stop(StopMode::Fast);
    store.offline(cluster.data_dir(), Level::Differential);
    let dir = reachable();
    let back = dir.path().join("back");
    store.try_restore(Until::SetEnd, &back, &[]).unwrap();
    // A hint may be set without a new LSN while the page is being written; what it says, the server finds out again.
    let may_differ = MayDiffer { unlogged: true, hints: true, ..MayDiffer::default() };
    assert_same_pages(cluster.data_dir(), &back, may_differ);
    assert_eq!(open(&cluster, &back).dump_logged(), held, "seed {seed}");
}
