//! A real backup of a live database, killed with SIGKILL at every step and at random moments: what was published stays
//! whole, what was not is not there, its rests can be cleared away, and the next backup and a restore succeed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

const KEYS: [&str; 4] = ["--repo", "disk:repo", "--key-file", "key"];

fn command(dir: &Path, verb: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_setpiece"));
    command.args(verb).current_dir(dir).stdin(Stdio::null()).env("XDG_CACHE_HOME", dir.join("cache"));
    for variable in ["SETPIECE_REPO", "SETPIECE_KEY_FILE", "SETPIECE_PASSPHRASE_FILE"] {
        command.env_remove(variable);
    }
    command
}

fn ok(dir: &Path, verb: &[&str]) -> Value {
    let output = command(dir, verb).arg("--json").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{verb:?}: {text}");
    serde_json::from_str(&text).unwrap()
}

fn backup<'a>(level: &'a str) -> Vec<&'a str> {
    let mut args = vec!["backup", "--source", "sqlite:app.db", "--level", level, "--compress", "fast"];
    args.extend(KEYS);
    args
}

fn with_keys<'a>(verb: &[&'a str]) -> Vec<&'a str> {
    let mut args = verb.to_vec();
    args.extend(KEYS);
    args
}

/// A database of `rows` rows of half a page, and a repository.
fn place(rows: i64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(dir.path().join("app.db")).unwrap();
    connection.execute_batch("PRAGMA journal_mode = wal; PRAGMA synchronous = off; CREATE TABLE t (x)").unwrap();
    insert(dir.path(), rows);
    ok(dir.path(), &["key", "new", "--out", "key"]);
    ok(dir.path(), &with_keys(&["init"]));
    dir
}

fn insert(dir: &Path, rows: i64) {
    let mut connection = rusqlite::Connection::open(dir.join("app.db")).unwrap();
    let transaction = connection.transaction().unwrap();
    for _ in 0..rows {
        transaction.execute("INSERT INTO t VALUES (randomblob(2000))", ()).unwrap();
    }
    transaction.commit().unwrap();
}

fn count(db: &Path) -> i64 {
    let connection = rusqlite::Connection::open(db).unwrap();
    let state: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(state, "ok");
    connection.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Everything that has to hold after a crash. `sets` is how many may be there.
fn must_be_whole(dir: &Path, sets: std::ops::RangeInclusive<usize>, what: &str) {
    let listed = ok(dir, &with_keys(&["sets"]));
    let found = listed["sets"].as_array().unwrap().len();
    assert!(sets.contains(&found), "{what}: {found} sets");
    ok(dir, &with_keys(&["check", "--depth", "pages"]));
    ok(dir, &with_keys(&["expire"]));
    let left = ok(dir, &with_keys(&["sets"]));
    assert_eq!(left["orphans"].as_array().unwrap().len(), 0, "{what}");
    assert_eq!(left["sets"].as_array().unwrap().len(), found, "{what}");
    let temporary = walk(&dir.join("repo")).into_iter().filter(|name| name.contains(".tmp")).count();
    assert_eq!(temporary, 0, "{what}: temporary files stay");
}

fn walk(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(walk(&path))
        } else {
            names.push(path.file_name().unwrap().to_string_lossy().into_owned())
        }
    }
    names
}

fn restores_to(dir: &Path, rows: i64, what: &str) {
    let to = tempfile::tempdir_in(dir).unwrap();
    let target = to.path().join("out");
    ok(dir, &with_keys(&["restore", "--to", target.to_str().unwrap()]));
    assert_eq!(count(&target.join("app.db")), rows, "{what}");
}

#[test]
fn a_backup_killed_at_every_step_leaves_what_was_there_whole() {
    let dir = place(200);
    let dir = dir.path();
    ok(dir, &backup("full"));
    let mut rows = 200;
    let mut published = 1;
    for step in ["lock", "catalog", "begin", "pages", "end", "log", "publish", "published"] {
        insert(dir, 5);
        rows += 5;
        let mut child =
            command(dir, &backup("differential")).args(["--pause-at", step]).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said.trim(), format!("paused at {step}"));
        kill(child);
        published += usize::from(step == "published");
        must_be_whole(dir, published..=published, step);
        ok(dir, &backup("differential"));
        published += 1;
        restores_to(dir, rows, step);
    }
}

#[test]
fn a_backup_killed_at_any_moment_leaves_what_was_there_whole() {
    let dir = place(20_000);
    let dir = dir.path();
    ok(dir, &backup("full"));
    let mut sets = 1;
    for moment in 0..16 {
        insert(dir, 50);
        let child = command(dir, &backup("full")).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5 * moment));
        kill(child);
        let what = format!("killed after {} ms", 5 * moment);
        must_be_whole(dir, sets..=sets + 1, &what);
        sets = ok(dir, &with_keys(&["sets"]))["sets"].as_array().unwrap().len();
    }
    ok(dir, &backup("full"));
    restores_to(dir, 20_000 + 16 * 50, "after all");
}
