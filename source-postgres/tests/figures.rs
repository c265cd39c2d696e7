//! Figures, not proofs: what an increment costs by each way of finding changed pages.
//!
//! `cargo test --release -p setpiece-source-postgres --test figures -- --ignored --nocapture`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod common;

use std::time::Instant;

use common::Store;
use common::ways::{Only, Way};
use setpiece_core::model::Level;
use setpiece_source_postgres::{LogFile, LogHome, PostgresSource};
use setpiece_test_postgres::{Cluster, Version};

/// How long a segment takes to be read and understood, as for an archive command.
fn archived(cluster: &Cluster) {
    let home = LogHome::open(cluster.data_dir()).unwrap();
    let log = cluster.data_dir().join("pg_wal");
    let names = cluster.rows(
        "SELECT name FROM pg_ls_waldir() WHERE name < pg_walfile_name(pg_current_wal_lsn()) ORDER BY 1 DESC LIMIT 6",
    );
    for name in names.iter().map(|row| &row[0]) {
        let began = Instant::now();
        let file = home.file(&log.join(name)).unwrap();
        let wall = began.elapsed();
        let LogFile::Keep(_, captured) = file else { continue };
        let runs =
            captured.unit.changes.map(|changes| changes.iter().map(|change| change.pages.runs().len()).sum::<usize>());
        eprintln!("segment {name}: {wall:.2?}, {runs:?} runs of blocks");
    }
}

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
    archived(&cluster);
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
