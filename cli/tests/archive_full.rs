//! The place that a server's log is archived to is full: the server keeps its log, nothing is said to be stored that is not,
//! and all of it arrives once there is room again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use setpiece_test_postgres::{Cluster, StopMode, Version};

const LIMIT: Duration = Duration::from_secs(60);

/// While the file `full` is there no file can grow beyond 64 KiB, as on a medium without room.
const PUSH: &str = "#!/bin/sh
if test -e @PLACES@/full; then trap '' XFSZ; ulimit -f 128; fi
exec @PROGRAM@ log push --repo @REPO@ --compress none \"$1\"
";

#[test]
fn a_full_archive_costs_nothing_but_time() {
    let mut cluster = Cluster::new(Version::V15).setting("archive_mode", "on").init();
    let (programs, places, repo) =
        (cluster.server_dir("bin"), cluster.server_dir("places"), cluster.server_dir("repo"));
    let program = programs.join("setpiece");
    fs::copy(env!("CARGO_BIN_EXE_setpiece"), &program).unwrap();
    let url = format!("disk:{}", repo.display());
    let replaced = [("@PLACES@", &places.display().to_string()), ("@PROGRAM@", &program.display().to_string())];
    let text = replaced.iter().fold(PUSH.replace("@REPO@", &url), |text, (name, value)| text.replace(name, value));
    fs::write(programs.join("push"), text).unwrap();
    fs::set_permissions(programs.join("push"), fs::Permissions::from_mode(0o755)).unwrap();
    cluster.option("archive_command", &format!("{} %p", programs.join("push").display()));
    let run = |cluster: &Cluster, args: &[&str]| {
        let mut command = cluster.command(&program);
        let output = command.args(args).args(["--repo", &url]).env("HOME", &places).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&cluster, &["init", "--no-encryption"]);
    cluster.start();
    cluster.execute("CREATE TABLE t (n int)");
    run(&cluster, &["backup", "--source", &cluster.uri()]);
    let archived = |cluster: &Cluster, name: &str| {
        let done = format!("SELECT count(*) = 1 FROM pg_ls_archive_statusdir() WHERE name = '{name}.done'");
        cluster.wait_until(&done, LIMIT);
    };
    let switch = |cluster: &Cluster| {
        let name = cluster.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
        cluster.execute("SELECT pg_switch_wal()");
        name
    };
    let first = switch(&cluster);
    archived(&cluster, &first);
    let before = run(&cluster, &["sets", "--json"]);

    fs::write(places.join("full"), "").unwrap();
    let failures = || cluster.psql("SELECT failed_count FROM pg_stat_archiver").parse::<u64>().unwrap();
    let failed = failures();
    cluster.execute("INSERT INTO t SELECT generate_series(1, 100000)");
    let kept = switch(&cluster);
    cluster.wait_until(&format!("SELECT failed_count > {failed} FROM pg_stat_archiver"), LIMIT);
    assert!(cluster.log().contains("File too large"), "the server's log says why: {}", cluster.log());
    cluster.execute("CHECKPOINT");
    assert!(cluster.data_dir().join("pg_wal").join(&kept).is_file(), "the server keeps its log");
    assert_eq!(run(&cluster, &["sets", "--json"]), before, "nothing is there that is not durable");

    fs::remove_file(places.join("full")).unwrap();
    archived(&cluster, &kept);
    run(&cluster, &["check"]);
    let to = places.join("back");
    run(&cluster, &["restore", "--to", &to.display().to_string()]);
    let mut restored = Cluster::adopt(Version::V15, &to);
    restored.option("archive_mode", "off");
    restored.start();
    restored.wait_until("SELECT NOT pg_is_in_recovery()", LIMIT);
    assert_eq!(restored.psql("SELECT count(*) FROM t"), "100000");
    restored.stop(StopMode::Fast);
}
