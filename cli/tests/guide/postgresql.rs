//! The guide for PostgreSQL, with a server of Debian's version.

use std::fs;
use std::path::Path;

use serde_json::Value;
use setpiece_test_postgres::{Cluster, Installation, Version};

use crate::machine::{Machine, blocks, guide};

/// Stands for systemd. The server that is asked to stop does not end well: the machine loses its power, a moment after
/// the last transaction was committed.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
export PGDATA="$PLACE/var/lib/postgresql/15/main"
run="$PLACE/stream" unit="$PLACE/etc/systemd/system/setpiece-pg-log.service"
await() {
    for turn in $(seq 600); do "$@" && return 0; sleep 0.1; done
    cat "$run.log" >&2
    return 1
}
case "$*" in
"start postgresql") pg_ctl -w -l "$PLACE/server.log" start ;;
"restart postgresql") pg_ctl -w -m fast -l "$PLACE/server.log" restart ;;
"stop postgresql")
    psql -qc "INSERT INTO t VALUES ('the last')"
    pg_ctl -w -m immediate stop ;;
"enable --now setpiece-pg-log" | "start setpiece-pg-log")
    set -a; . "$(sed -n 's/^EnvironmentFile=//p' "$unit")"; set +a
    eval "command=\"$(sed -n 's/^ExecStart=//p' "$unit")\""
    : > "$run.log"
    (sh -c "echo \$\$ > '$run.pid'; exec $command" || true; echo > "$run.ended") >> "$run.log" 2>&1 < /dev/null &
    await grep -q capturing "$run.log" ;;
"stop setpiece-pg-log")
    kill -TERM "$(cat "$run.pid")"
    await test -e "$run.ended"
    rm "$run.ended" ;;
daemon-reload) ;;
*)
    echo "systemctl: $* is not in the play" >&2
    exit 1 ;;
esac
"#;

/// The server was started by the play, not by this process.
const AT_END: &str =
    r#"kill -KILL "$(cat "$PLACE/stream.pid")"; pg_ctl -D "$PLACE/var/lib/postgresql/15/main" -m immediate stop"#;

#[test]
fn the_guide_for_postgresql_works_as_it_stands() {
    let cluster = Cluster::new(Version::V15).checksums(true).init();
    let (root, made) = (cluster.server_dir("machine"), cluster.data_dir().to_owned());
    let programs = Installation::find(Version::V15).program("");
    let mut machine = Machine::of(root.clone(), SYSTEMCTL, move || {
        let mut shell = cluster.command(Path::new("/bin/sh"));
        shell.env("PGHOST", root.join("var/run/postgresql")).env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        shell.env("PROGRAMS", &programs);
        shell
    });
    machine.at_end = AT_END;
    let begin = r#"mkdir -p var/lib/postgresql/15 var/run/postgresql"#;
    assert!(machine.sh(begin).status().unwrap().success());
    fs::rename(made, machine.path("var/lib/postgresql/15/main")).unwrap();
    let begin = r#"cat >> var/lib/postgresql/15/main/postgresql.conf <<END
listen_addresses = ''
unix_socket_directories = '$PGHOST'
END
systemctl start postgresql
psql -qc "CREATE TABLE t (what text)" -c "INSERT INTO t VALUES ('the first')""#;
    let began = machine.sh(begin).output().unwrap();
    assert!(began.status.success(), "{}", String::from_utf8_lossy(&began.stderr));

    let text = guide("postgresql.md");
    assert!(blocks(&text).len() >= 8 && text.lines().count() <= 200);
    machine.run(&text).unwrap_or_else(|why| panic!("{why}"));

    let held = machine.sh("psql -qAtc 'SELECT string_agg(what, $$, $$) FROM t'").output().unwrap();
    let held = String::from_utf8_lossy(&held.stdout).into_owned();
    assert_eq!(held.trim(), "the first, the last", "the last transaction before the power went came back");
    let listed = machine.sh("setpiece-pg sets --json").output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let newest = listed["sets"].as_array().unwrap().iter().rfind(|set| set["level"] == "differential").unwrap();
    assert_eq!(newest["branch"], 2, "the newest set is on the new timeline: {listed}");
}
