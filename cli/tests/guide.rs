//! What the guides tell people to type works: every block marked `sh run` is run, in order, by one shell that ends at
//! the first command that fails. Only the places are others: `/etc`, `/srv` and so on lie below a temporary directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Directories of the machine that the guides name, and that are moved.
const MOVED: [&str; 4] = ["/etc/", "/srv/", "/backup/", "/usr/local/"];

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

/// The blocks of a guide that are to be run.
fn blocks(guide: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut inside = false;
    for line in guide.lines() {
        match line.trim_end() {
            "```sh run" => {
                inside = true;
                blocks.push(String::new());
            }
            "```" => inside = false,
            line if inside => blocks.last_mut().unwrap().extend([line, "\n"]),
            _ => {}
        }
    }
    blocks
}

/// A machine that the guide may do with as it likes.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Machine { dir: tempfile::tempdir().unwrap() };
        for made in ["etc/systemd/system", "etc/cron.d", "srv/app", "backup", "usr/local/bin", "home"] {
            fs::create_dir_all(machine.path(made)).unwrap();
        }
        let bin = machine.path("usr/local/bin");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_setpiece"), bin.join("setpiece")).unwrap();
        fs::write(bin.join("systemctl"), SYSTEMCTL).unwrap();
        fs::set_permissions(bin.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sh(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(self.dir.path()).stdin(Stdio::null());
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.path("usr/local/bin").display()));
        for variable in ["SETPIECE_REPO", "SETPIECE_KEY_FILE", "SETPIECE_PASSPHRASE_FILE", "XDG_CACHE_HOME"] {
            command.env_remove(variable);
        }
        command.env("PLACE", self.dir.path()).env("HOME", self.path("home"));
        command
    }

    /// Runs a guide to its end, or says what it was about and what was printed when a command failed.
    fn run(&self, guide: &str) -> Result<String, String> {
        let mut script = String::new();
        for (number, block) in blocks(guide).iter().enumerate() {
            script += &format!("echo '--- block {}'\n{block}", number + 1);
        }
        // In two steps, for the temporary directory may lie below one of them.
        for place in MOVED {
            script = script.replace(place, &format!("\0{place}"));
        }
        let script = script.replace('\0', &self.dir.path().display().to_string());
        let output = self.sh(&format!("exec 2>&1\n{script}echo '--- the end'\n")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let ended = output.status.success() && said.ends_with("--- the end\n");
        if ended { Ok(said) } else { Err(format!("{}: {said}", output.status)) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A guide that fails may leave its stream; the number is that of a process that this test has started.
        let pid = fs::read_to_string(self.path("stream.pid")).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw).filter(|_| !self.path("stream.ended").exists())
        {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn guide(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides").join(name)).unwrap()
}

fn rows(database: &Path) -> i64 {
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).unwrap()
}

#[test]
fn the_guide_for_sqlite_works_as_it_stands() {
    let machine = Machine::new();
    let database = machine.path("srv/app/app.db");
    let made = rusqlite::Connection::open(&database).unwrap();
    made.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES ('the first')").unwrap();
    drop(made);
    let text = guide("sqlite.md");
    assert!(blocks(&text).len() >= 7 && text.lines().count() <= 120);
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
    let machine = Machine::new();
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
