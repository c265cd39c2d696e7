//! A cluster of PostgreSQL that is dressed as one of KingbaseES: its files go by the names that KingbaseES gives them.
//! What a real server of it does is not shown by this. A running one in that dress is in the tests of the command.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::fs;
use std::path::Path;

use common::{Store, around, open, reachable};
use setpiece_core::model::{Level, Until};
use setpiece_core::pipeline::Cancel;
use setpiece_core::restore::{RestoreRequest, restore};
use setpiece_source_postgres::{Dialect, PostgresRecovery};
use setpiece_test_postgres::{Cluster, StopMode, Version};

/// Renames whatever begins with one of the prefixes, the contents of directories first.
fn rename(directory: &Path, prefixes: [(&str, &str); 3]) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            rename(&path, prefixes);
        }
        let other = prefixes.iter().find_map(|(from, to)| name.strip_prefix(from).map(|rest| format!("{to}{rest}")));
        other.into_iter().for_each(|other| fs::rename(&path, directory.join(other)).unwrap());
    }
}

const DRESS: [(&str, &str); 3] = [("pg_", "sys_"), ("PG_", "SYS_"), ("postgresql.", "kingbase.")];
const UNDRESS: [(&str, &str); 3] = [("sys_", "pg_"), ("SYS_", "PG_"), ("kingbase.", "postgresql.")];

#[test]
fn a_dressed_cluster_comes_back_by_its_own_names() {
    let mut cluster = Cluster::new(Version::V15).checksums(true).start();
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY, words text)");
    cluster.execute("INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
    let data = cluster.data_dir().to_owned();
    let store = Store::new();
    let mut bytes = Vec::new();
    let mut held = String::new();
    for level in [Level::Full, Level::Differential] {
        cluster.execute("UPDATE t SET words = 'changed' WHERE id % 97 = 1");
        held = cluster.dump_logged();
        cluster.stop(StopMode::Fast);
        rename(&data, DRESS);
        assert!(data.join("global/sys_control").is_file() && data.join("SYS_VERSION").is_file());
        let report = store.offline(&data, level);
        assert_eq!((report.summary.engine.as_str(), report.summary.level), ("kingbase", level));
        bytes.push(report.pages);
        rename(&data, UNDRESS);
        cluster.start();
    }
    assert!(bytes[1] < bytes[0] / 2, "{bytes:?}");

    let recovery = PostgresRecovery(Dialect::Kingbase);
    let dir = reachable();
    let back = dir.path().join("back");
    let mut request = RestoreRequest::default();
    request.target.until = Until::SetEnd;
    let cancel = Cancel::new();
    restore(&store.0, &[&recovery], &request, &back, around(&cancel)).unwrap();
    for made in ["global/sys_control", "SYS_VERSION", "sys_wal/archive_status", "sys_tblspc", "recovery.signal"] {
        assert!(back.join(made).exists(), "{made}");
    }
    let foreign = |path: &str| back.join(path).exists();
    assert!(!foreign("pg_wal") && !foreign("PG_VERSION") && !foreign("backup_manifest"));
    // Over what is there as well, and not over a cluster whose server runs.
    request.delta = true;
    let again = restore(&store.0, &[&recovery], &request, &back, around(&cancel)).unwrap();
    assert!(again.totals.write_bytes < 64 << 10, "{}", again.totals.write_bytes);
    fs::write(back.join("kingbase.pid"), "1").unwrap();
    let error = restore(&store.0, &[&recovery], &request, &back, around(&cancel)).unwrap_err();
    assert!(error.to_string().contains("the server runs"), "{error}");
    fs::remove_file(back.join("kingbase.pid")).unwrap();
    rename(&back, UNDRESS);
    assert_eq!(open(&cluster, &back).dump_logged(), held);
}
