//! Dumps, pages and standbys: what is equal is found equal, and one flipped byte is found.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use setpiece_test_postgres::{
    Cluster, MayDiffer, PAGE, StopMode, Version, What, assert_same_pages, compare, damaged_pages, every_version, pages,
};

every_version!(checksums_are_postgresqls, one_flipped_byte_is_found, a_standby_has_the_same_pages);

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn file_of(cluster: &Cluster, relation: &str) -> String {
    cluster.psql(&format!("SELECT pg_relation_filepath('{relation}')"))
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(done.success());
}

/// All pages of a cluster with every kind of index, and then a damaged one, against `pg_checksums`.
fn checksums_are_postgresqls(version: Version) {
    let mut cluster = Cluster::new(version).start();
    cluster.execute("CREATE TABLE t AS SELECT n, md5(n::text) AS s, point(n, n) AS p FROM generate_series(1, 5000) n");
    for index in ["btree (n)", "hash (s)", "gist (p)", "spgist (p)", "brin (n)", "gin ((ARRAY[n]))"] {
        cluster.execute(&format!("CREATE INDEX ON t USING {index}"));
    }
    let file = file_of(&cluster, "t");
    let written = cluster.current_lsn();
    cluster.stop(StopMode::Fast);
    assert_eq!(damaged_pages(cluster.data_dir()), []);
    assert!(cluster.run_tool("pg_checksums", &["--check"]).contains("Bad checksums:  0"));

    let path = cluster.data_dir().join(&file);
    let table = pages(&path);
    assert!(table.len() > 20 && table.iter().all(|page| page.lsn().0 > 0 && page.lsn() <= written));
    flip(&path, 7 * PAGE as u64 + 4000);
    assert_eq!(damaged_pages(cluster.data_dir()), [(file.clone(), 7)]);
    let said = cluster.try_tool("pg_checksums", &["--check"]).unwrap_err();
    assert!(said.contains(&file) && said.contains("Bad checksums:  1"), "{said}");
    // The number of the block is in the checksum: a page at another's place does not fit.
    flip(&path, 7 * PAGE as u64 + 4000);
    let file_handle = OpenOptions::new().write(true).open(&path).unwrap();
    file_handle.write_all_at(&table[3].bytes, 9 * PAGE as u64).unwrap();
    assert_eq!(damaged_pages(cluster.data_dir()), [(file, 9)]);
}

fn one_flipped_byte_is_found(version: Version) {
    let mut cluster = Cluster::new(version).start();
    let space = cluster.server_dir("space");
    cluster.execute(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display()));
    cluster.execute("CREATE TABLE t TABLESPACE space AS SELECT generate_series(1, 2000) AS n");
    cluster.execute("CREATE UNLOGGED TABLE u AS SELECT generate_series(1, 2000) AS n");
    cluster.execute("CREATE SEQUENCE q");
    let (dump, logged) = (cluster.dump(), cluster.dump_logged());
    assert_eq!(cluster.dump(), dump);
    assert!(dump.contains("\n1999\n") && dump.contains("CREATE TABLESPACE space OWNER postgres\n"));
    cluster.execute("UPDATE u SET n = 0 WHERE n = 77");
    let changed = cluster.dump();
    assert_ne!(changed, dump);
    cluster.execute("SELECT nextval('q')");
    assert_ne!(cluster.dump(), changed);
    assert_eq!(cluster.dump_logged(), logged);
    cluster.execute("UPDATE t SET n = 0 WHERE n = 77");
    assert_ne!(cluster.dump_logged(), logged);
    let (table, unlogged) = (file_of(&cluster, "t"), file_of(&cluster, "u"));
    cluster.stop(StopMode::Fast);

    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other");
    copy(cluster.data_dir(), &other);
    let strict = MayDiffer::default();
    let found = |may_differ| compare(cluster.data_dir(), &other, may_differ);
    assert_eq!(found(strict), []);
    assert_same_pages(cluster.data_dir(), &other, strict);

    flip(&other.join(&unlogged), PAGE as u64 + 8000);
    let [difference] = &found(strict)[..] else { panic!("{:?}", found(strict)) };
    assert_eq!((&difference.file, difference.block), (&unlogged, Some(1)));
    assert!(matches!(difference.what, What::Bytes { at: 8000, left, right } if left == right));
    assert_eq!(found(MayDiffer { unlogged: true, ..strict }), []);
    fs::remove_file(other.join(format!("{unlogged}_init"))).unwrap();
    assert_eq!(found(MayDiffer { unlogged: true, ..strict })[0].what, What::OnlyLeft);
    copy(&cluster.data_dir().join(format!("{unlogged}_init")), &other.join(format!("{unlogged}_init")));
    flip(&other.join(&unlogged), PAGE as u64 + 8000);

    // In a tablespace, by the link; the copy has its own from here on.
    let link = other.join(Path::new(&table).ancestors().nth(3).unwrap());
    fs::remove_file(&link).unwrap();
    copy(&space, &link);
    assert_eq!(found(strict), []);
    flip(&other.join(&table), 5);
    let [difference] = &found(strict)[..] else { panic!("{:?}", found(strict)) };
    assert_eq!((&difference.file, difference.block), (&table, Some(0)));
    assert!(matches!(difference.what, What::Bytes { at: 5, left, right } if left != right));
    flip(&other.join(&table), 5);

    let free_space = format!("{}_fsm", one_with_free_space(&other));
    flip(&other.join(&free_space), 100);
    assert_eq!(found(strict).len(), 1);
    assert_eq!(found(MayDiffer { free_space: true, ..strict }), []);
    flip(&other.join(&free_space), 100);

    let shorter = OpenOptions::new().write(true).open(other.join(&table)).unwrap();
    shorter.set_len(shorter.metadata().unwrap().len() - PAGE as u64).unwrap();
    assert_eq!(found(strict).len(), 1);
    assert_eq!(found(strict)[0].what, What::OnlyLeft);
    assert_eq!(compare(&other, cluster.data_dir(), strict)[0].what, What::OnlyRight);
    fs::remove_file(other.join("base/5/PG_VERSION")).unwrap();
    assert_eq!(found(strict).len(), 2);
    let [first, _] = &compare(&other, cluster.data_dir(), strict)[..] else { panic!("{:?}", found(strict)) };
    assert_eq!((first.file.as_str(), &first.what), ("base/5/PG_VERSION", &What::OnlyRight));
}

/// One of the relations that have a map of their free space.
fn one_with_free_space(data: &Path) -> String {
    let fsm = fs::read_dir(data.join("base/5")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let first = fsm.filter(|name| name.ends_with("_fsm")).min().unwrap();
    format!("base/5/{}", first.trim_end_matches("_fsm"))
}

/// Replay makes the same pages, but for what is not logged.
fn a_standby_has_the_same_pages(version: Version) {
    let mut primary = Cluster::new(version).checksums(false).start();
    primary.execute("CREATE TABLE t (n int PRIMARY KEY, s text)");
    let space = primary.server_dir("space");
    primary.execute(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display()));
    primary.execute("CREATE TABLE moved TABLESPACE space AS SELECT generate_series(1, 100) AS n");
    let mut standby = Cluster::standby_of(&primary);
    assert_eq!(standby.psql("SELECT pg_is_in_recovery()"), "t");
    primary
        .execute("INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 3000) n; DELETE FROM t WHERE n % 7 = 0");
    primary
        .execute("INSERT INTO moved SELECT generate_series(101, 200); BEGIN; INSERT INTO moved VALUES (0); ROLLBACK");
    // Readers leave marks in the rows and in the index, which is asked for each entry.
    primary.execute("SELECT count(*) FROM t; SELECT count(*) FROM moved; CHECKPOINT");
    primary.execute(
        "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT sum(n) FROM t WHERE n < 900; CHECKPOINT",
    );
    standby.catch_up_with(&primary);
    standby.execute("CHECKPOINT");
    assert_eq!(standby.dump(), primary.dump());
    let table = file_of(&primary, "t");
    primary.stop(StopMode::Fast);
    standby.stop(StopMode::Fast);
    let (left, right) = (primary.data_dir(), standby.data_dir());
    let free_space = MayDiffer { free_space: true, ..MayDiffer::default() };
    assert!(!compare(left, right, free_space).is_empty(), "hints were logged");
    let hints = MayDiffer { hints: true, ..free_space };
    assert_same_pages(left, right, hints);

    // The last byte of a row is no hint; behind it there are three without a meaning.
    let len = right.join(&table).metadata().unwrap().len();
    flip(&right.join(&table), len - 4);
    assert_eq!(compare(left, right, hints).len(), 1);
    flip(&right.join(&table), len - 4);
    flip(&right.join(&table), len - 3);
    assert_same_pages(left, right, hints);

    standby.start();
    standby.promote();
    standby.execute("INSERT INTO moved VALUES (1000)");
    assert!(standby.psql("SELECT pg_walfile_name(pg_current_wal_lsn())").starts_with("00000002"));
}
