//! The guide for SQLite.

use std::path::Path;

use serde_json::Value;

use crate::machine::{Machine, blocks, guide};

/// Stands for systemd: runs the command of the one unit that is ours. The application, when it is asked to stop, writes
/// a last transaction first.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
run="$PLACE/stream" unit="$PLACE/etc/systemd/system/setpiece-log.service"
await() {
    for turn in $(seq 600); do "$@" && return 0; sleep 0.1; done
    cat "$run.log" >&2
    return 1
}
case "$*" in
"stop app")
    sqlite3 "$PLACE/srv/app/app.db" "INSERT INTO t VALUES ('the last')"
    sleep 1 ;;
"enable --now setpiece-log" | "start setpiece-log")
    set -a; . "$(sed -n 's/^EnvironmentFile=//p' "$unit")"; set +a
    eval "command=\"$(sed -n 's/^ExecStart=//p' "$unit")\""
    rm -f "$run.ended"
    : > "$run.log"
    (
        code=0
        sh -c "echo \$\$ > '$run.pid'; exec $command" || code=$?
        echo $code > "$run.ended"
    ) >> "$run.log" 2>&1 < /dev/null &
    await grep -q capturing "$run.log" ;;
"stop setpiece-log")
    kill -TERM "$(cat "$run.pid")"
    await test -s "$run.ended"
    exit "$(cat "$run.ended")" ;;
"start app" | "daemon-reload") ;;
*)
    echo "systemctl: $* is not in the play" >&2
    exit 1 ;;
esac
"#;

/// A guide that fails may leave its stream; the number is that of a process that the play has started.
const AT_END: &str = r#"[ -e "$PLACE/stream.ended" ] || kill -KILL "$(cat "$PLACE/stream.pid")""#;

fn rows(database: &Path) -> i64 {
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).unwrap()
}

#[test]
fn the_guide_for_sqlite_works_as_it_stands() {
    let mut machine = Machine::new(SYSTEMCTL);
    machine.at_end = AT_END;
    let database = machine.path("srv/app/app.db");
    let made = rusqlite::Connection::open(&database).unwrap();
    made.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES ('the first')").unwrap();
    drop(made);
    let text = guide("sqlite.md");
    assert!(blocks(&text).len() >= 7 && text.lines().count() <= 130);
    machine.run(&text).unwrap_or_else(|why| panic!("{why}"));

    assert_eq!(rows(&database), 2, "the last transaction was captured and came back");
    assert!(machine.path("srv/app/app.db-setpiece").exists() && machine.path("srv/app/broken/app.db").exists());
    let listed = machine.sh("set -a; . etc/setpiece/app.env; setpiece sets --json").output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let newest = listed["sets"].as_array().unwrap().iter().rfind(|set| set["level"] == "full").unwrap();
    assert_ne!(newest["branch"], 1, "both files were moved: {listed}");
    let windows = listed["sources"][0]["windows"].as_array().unwrap();
    assert!(!windows.is_empty() && windows.iter().all(|window| window["gap"].is_null()), "{listed}");
    machine.run("```sh run\nsystemctl stop setpiece-log\n```").unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_guide_fails_with_its_first_command_that_fails() {
    let machine = Machine::new(SYSTEMCTL);
    let around =
        |block: &str| format!("# A guide\n```sh\nexit 1\n```\n```sh run\n{block}\n```\n```sh run\ntrue\n```\n");
    assert!(machine.run(&around("setpiece --version")).unwrap().contains("--- block 2"));
    for wrong in ["setpiece frobnicate", "setpiece sets --repo disk:/backup/none", "test 1 = 2", "exit 0", "$UNSET"] {
        let why = machine.run(&around(wrong)).unwrap_err();
        assert!(why.contains("--- block 1") && !why.contains("--- block 2"), "{wrong}: {why}");
    }
    let why = machine.run(&around("systemctl restart setpiece-log")).unwrap_err();
    assert!(why.contains("not in the play"), "{why}");
}
