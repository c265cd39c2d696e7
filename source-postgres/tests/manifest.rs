//! A restored directory is one that the server's own tools take for a good backup, and one that was damaged is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::{Store, open, reachable};
use setpiece_core::model::{Level, Until};
use setpiece_test_postgres::{Cluster, StopMode, Version, every_version};

every_version!(the_servers_tools_prove_what_is_restored, a_set_of_a_stopped_server_is_proven_as_well);

/// What the version's own tool says of a directory that was restored and not started yet.
fn verify(cluster: &Cluster, directory: &Path) -> Result<String, String> {
    cluster.try_tool("pg_verifybackup", &["--exit-on-error", &directory.display().to_string()])
}

fn the_servers_tools_prove_what_is_restored(version: Version) {
    let cluster = Cluster::new(version).checksums(true).start();
    for name in ["inside", "outside"] {
        let place = cluster.server_dir(name);
        cluster.execute(&format!("CREATE TABLESPACE {name} LOCATION '{}'", place.display()));
        cluster.execute(&format!("CREATE TABLE t_{name} TABLESPACE {name} AS SELECT generate_series(1, 5000) AS id"));
    }
    cluster.execute("CREATE TABLE t (id int PRIMARY KEY, words text)");
    cluster.execute("INSERT INTO t SELECT i, repeat(md5(i::text), 9) FROM generate_series(1, 30000) i");
    let store = Store::new();
    store.online(&cluster, Level::Full);
    cluster.execute("UPDATE t SET words = 'changed' WHERE id % 89 = 3");
    store.online(&cluster, Level::Differential);

    let dir = reachable();
    let (back, moved) = (dir.path().join("back"), dir.path().join("moved"));
    store.try_restore(Until::SetEnd, &back, &[("outside".into(), moved.clone())]).unwrap();
    let manifest = fs::read_to_string(back.join("backup_manifest")).unwrap();
    assert!(manifest.contains("\"Checksum-Algorithm\": \"CRC32C\"") && manifest.contains("backup_label"));
    assert_eq!(manifest.contains("System-Identifier"), version >= Version::V17);
    verify(&cluster, &back).unwrap();

    // Any damage is found: in a file of the database, of a tablespace, in the redo that the set needs, and a lost one.
    let relation = cluster.psql("SELECT pg_relation_filepath('t')");
    let outside = cluster.psql("SELECT pg_relation_filepath('t_outside')");
    let lsn = manifest.split("\"Start-LSN\": \"").nth(1).unwrap().split('"').next().unwrap();
    let segment = format!("pg_wal/{}", cluster.psql(&format!("SELECT pg_walfile_name('{lsn}')")));
    let offset: u64 =
        cluster.psql(&format!("SELECT file_offset FROM pg_walfile_name_offset('{lsn}')")).parse().unwrap();
    for (name, at, said) in [(relation, 70_000, "checksum"), (outside, 100, "checksum"), (segment, offset + 20, "WAL")]
    {
        let file = fs::OpenOptions::new().read(true).write(true).open(back.join(&name)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let error = verify(&cluster, &back).unwrap_err();
        assert!(error.contains(said), "{name}: {error}");
        file.write_all_at(&byte, at).unwrap();
    }
    fs::rename(back.join("global/1260"), dir.path().join("1260")).unwrap();
    assert!(verify(&cluster, &back).unwrap_err().contains("1260"));
    fs::rename(dir.path().join("1260"), back.join("global/1260")).unwrap();
    verify(&cluster, &back).unwrap();

    let mut restored = open(&cluster, &back);
    restored.run_tool("pg_amcheck", &["--all", "--install-missing", "--heapallindexed"]);
    restored.stop(StopMode::Fast);
    restored.run_tool("pg_checksums", &["--check", "-D", &back.display().to_string()]);
}

fn a_set_of_a_stopped_server_is_proven_as_well(version: Version) {
    let mut cluster = Cluster::new(version).checksums(true).start();
    cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 5000) AS id");
    cluster.stop(StopMode::Fast);
    let store = Store::new();
    store.offline(cluster.data_dir(), Level::Full);
    let dir = reachable();
    let back = dir.path().join("back");
    store.try_restore(Until::SetEnd, &back, &[]).unwrap();
    verify(&cluster, &back).unwrap();
    let manifest = fs::read_to_string(back.join("backup_manifest")).unwrap();
    assert!(manifest.contains("Start-LSN"), "{manifest}");
}
