//! A relation of more than one file (131,072 pages each): what changes in the second one, is cut off and grows again
//! is found by each way, and every page comes back as the stopped server has it.
//!
//! Its pages are nearly empty, so that a gigabyte of them is cheap.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use common::ways::{Only, Way};
use common::{Store, open, reachable};
use setpiece_core::model::{Level, Until};
use setpiece_source_postgres::{PostgresDirectory, PostgresSource};
use setpiece_test_postgres::{Cluster, MayDiffer, PAGES_IN_FILE, StopMode, Version, assert_same_pages};

/// Pages in the second file.
const BEHIND: u32 = 700;
/// Where the relation is cut: a vacuum gives pages back from a thousand on.
const CUT: u32 = PAGES_IN_FILE - 600;

/// A table with a row on each page, loaded without a word in the log.
fn large() -> Cluster {
    let builder = Cluster::new(Version::V15).setting("wal_level", "minimal").setting("max_wal_senders", "0");
    let mut cluster = builder.setting("shared_buffers", "64MB").setting("wal_keep_size", "4GB").start();
    let rows = format!("seq -f \"%.0f,{}\" 1 {}", "0".repeat(500), PAGES_IN_FILE + BEHIND);
    cluster.execute(&format!(
        "BEGIN; CREATE TABLE t (n int, a text) WITH (fillfactor = 10); \
         COPY t FROM PROGRAM '{rows}' (DELIMITER ',', FREEZE); COMMIT"
    ));
    cluster.execute("ALTER SYSTEM SET wal_level = replica");
    cluster.execute("ALTER SYSTEM SET max_wal_senders = 8");
    cluster.restart();
    assert_eq!(pages(&cluster), PAGES_IN_FILE + BEHIND);
    cluster
}

fn pages(cluster: &Cluster) -> u32 {
    cluster.psql("SELECT pg_relation_size('t') / 8192").parse().unwrap()
}

/// Writes into some pages: the first ones of all, those around the border of the files, and the last ones.
fn update(cluster: &Cluster, word: &str) {
    let (before, behind, end) = (PAGES_IN_FILE - 2, PAGES_IN_FILE + 2, pages(cluster) - 2);
    cluster.execute(&format!(
        "UPDATE t SET a = repeat('{word}', 100) \
         WHERE ctid < '(2,0)' OR ctid >= '({before},0)' AND ctid < '({behind},0)' OR ctid >= '({end},0)'"
    ));
}

/// Leaves less than the first file.
fn cut(cluster: &Cluster) {
    cluster.execute(&format!("DELETE FROM t WHERE ctid >= '({CUT},0)'"));
    cluster.execute("VACUUM t");
    assert_eq!(pages(cluster), CUT);
}

/// Grows into the second file again.
fn grow(cluster: &Cluster, word: &str) {
    let rows = PAGES_IN_FILE - CUT + BEHIND;
    cluster.execute(&format!("INSERT INTO t SELECT n, repeat('{word}', 100) FROM generate_series(1, {rows}) n"));
    assert_eq!(pages(cluster), PAGES_IN_FILE + BEHIND);
}

#[test]
fn what_changes_in_the_second_file_of_a_relation_is_found() {
    let mut cluster = large();
    let store = Store::new();
    let back_up = |cluster: &Cluster, level, way: Way| {
        let report = store.try_backup(&Only(PostgresSource::open(&cluster.uri()).unwrap(), way), level).unwrap();
        if level != Level::Full {
            way.check(&report, true);
        }
        report.pages
    };
    back_up(&cluster, Level::Full, Way::Live);
    update(&cluster, "first");
    let written = back_up(&cluster, Level::Differential, Way::Live);
    assert!(written < 2000, "{written} pages for some that changed");
    update(&cluster, "second");
    cut(&cluster);
    back_up(&cluster, Level::Differential, Way::Live);
    grow(&cluster, "third");
    back_up(&cluster, Level::Differential, Way::Live);
    for (way, word) in [(Way::Live, "fourth"), (Way::Scan, "fifth")] {
        cut(&cluster);
        grow(&cluster, word);
        update(&cluster, "again");
        back_up(&cluster, Level::Differential, way);
    }
    let sum = "SELECT count(*), sum(n), sum(hashtext(a)) FROM t";
    let held = cluster.psql(sum);
    cluster.stop(StopMode::Fast);
    let source = Only(PostgresDirectory::open(cluster.data_dir()).unwrap(), Way::Live);
    store.try_backup(&source, Level::Differential).unwrap();
    let dir = reachable();
    let back = dir.path().join("back");
    store.try_restore(Until::SetEnd, &back, &[]).unwrap();
    assert_same_pages(cluster.data_dir(), &back, MayDiffer { hints: true, ..MayDiffer::default() });
    assert_eq!(open(&cluster, &back).psql(sum), held);
}
