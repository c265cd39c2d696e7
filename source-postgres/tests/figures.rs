//! Figures, not proofs: what an increment costs by each way of finding changed pages.
//!
//! `cargo test --release -p setpiece-source-postgres --test figures -- --ignored --nocapture`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod common;

use std::time::Instant;

use common::Store;
use common::ways::{Only, Way};
use setpiece_core::model::Level;
use setpiece_source_postgres::PostgresSource;
use setpiece_test_postgres::{Cluster, Version};

/// Figures of other versions and sizes by `SETPIECE_FIGURE_VERSION` and `SETPIECE_FIGURE_SCALE`.
#[test]
#[ignore = "prints how long backups take"]
fn increments() {
    let version = match std::env::var("SETPIECE_FIGURE_VERSION").as_deref() {
        Ok("17") => Version::V17,
        Ok("18") => Version::V18,
        _ => Version::V15,
    };
    let scale = std::env::var("SETPIECE_FIGURE_SCALE").unwrap_or_else(|_| "50".into());
    let builder = Cluster::new(version).setting("shared_buffers", "512MB").setting("max_wal_size", "4GB");
    let cluster = builder.setting("wal_keep_size", "4GB").start();
    cluster.run_tool("pgbench", &["-i", "-q", "-s", &scale]);
    cluster.execute("CHECKPOINT");
    let store = Store::new();
    let take = |what: &str, level: Level, way: Way| {
        let source = Only(PostgresSource::open(&cluster.uri()).unwrap(), way);
        let began = Instant::now();
        let report = store.try_backup(&source, level).unwrap();
        let wall = began.elapsed();
        eprintln!(
            "{what}: {wall:.2?}, read {} KiB, {} pages, raw {} KiB, stored {} KiB; {}",
            report.read_bytes >> 10,
            report.pages,
            report.raw_bytes >> 10,
            report.stored_bytes >> 10,
            report.decisions.last().unwrap()
        );
    };
    take("full", Level::Full, Way::Live);
    for round in 0..2 {
        for way in [Way::Live, Way::Record, Way::Scan] {
            take(&format!("{way:?}, nothing changed"), Level::Differential, way);
            let at = (round * 31 + 7 * way as u32) % 6100;
            cluster.execute(&format!("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 6100 = {at}"));
            take(&format!("{way:?}, 1 % of the pages"), Level::Differential, way);
        }
    }
}
