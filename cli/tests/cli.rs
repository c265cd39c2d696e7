//! The command as its users meet it: exit codes, documents, keys, and the whole road on a real database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

struct Place {
    dir: tempfile::TempDir,
}

/// What a run of the command came to.
struct Ran {
    code: i32,
    document: Value,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn repo(&self) -> String {
        format!("disk:{}", self.text("repo"))
    }

    fn source(&self) -> String {
        format!("sqlite:{}", self.text("app.db"))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_setpiece"));
        command.args(args).stdin(Stdio::null()).current_dir(self.dir.path());
        for variable in ["SETPIECE_REPO", "SETPIECE_KEY_FILE", "SETPIECE_PASSPHRASE_FILE"] {
            command.env_remove(variable);
        }
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).arg("--json").output().unwrap())
    }

    /// Runs what has to succeed.
    fn ok(&self, args: &[&str]) -> Value {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {} {}", ran.document, ran.stderr);
        assert!(ran.document["warnings"].is_array(), "{args:?}: {}", ran.document);
        ran.document
    }

    /// Runs what has to fail, with that exit code and kind.
    fn fails(&self, args: &[&str], code: i32, kind: u64) -> Value {
        let ran = self.run(args);
        assert_eq!(ran.code, code, "{args:?}: {} {}", ran.document, ran.stderr);
        assert_eq!(ran.document["error"]["code"], kind, "{args:?}: {}", ran.document);
        assert!(ran.document["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{args:?}");
        ran.document
    }

    fn database(&self, rows: i64) {
        let connection = rusqlite::Connection::open(self.path("app.db")).unwrap();
        connection.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE IF NOT EXISTS t (x, y)").unwrap();
        for row in 0..rows {
            connection.execute("INSERT INTO t VALUES (?1, randomblob(500))", [row]).unwrap();
        }
    }

    fn rows(&self, dir: &str) -> i64 {
        let connection = rusqlite::Connection::open(self.path(dir).join("app.db")).unwrap();
        connection.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).unwrap()
    }

    /// A repository with a key file, and a database.
    fn keyed() -> Self {
        let place = Place::new();
        place.database(50);
        place.ok(&["key", "new", "--out", "key"]);
        place.ok(&["init", "--repo", "disk:repo", "--key-file", "key"]);
        place
    }

    fn backup(&self, level: &str) -> Value {
        self.ok(&["backup", "--repo", "disk:repo", "--key-file", "key", "--source", "sqlite:app.db", "--level", level])
    }
}

fn ran(output: Output) -> Ran {
    let text = String::from_utf8(output.stdout).unwrap();
    let document = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    Ran { code: output.status.code().expect("not killed"), document, stderr: String::from_utf8(output.stderr).unwrap() }
}

#[test]
fn wrong_use_is_exit_code_2_and_a_document() {
    let place = Place::new();
    place.fails(&["frobnicate"], 2, 1);
    place.fails(&["backup"], 2, 1);
    place.fails(&["backup", "--repo", "disk:r", "--source", "sqlite:x", "--level", "huge"], 2, 1);
    place.fails(&["restore", "--repo", "disk:r", "--to", "x", "--until-lsn", "1", "--until-time", "2026-01-01"], 2, 1);
    place.fails(&["restore", "--repo", "disk:r", "--to", "x", "--exclusive"], 2, 1);
    place.fails(&["sets", "--repo", "/no/scheme"], 2, 1);
    let without_document = place.command(&["backup"]).output().unwrap();
    assert_eq!(without_document.status.code(), Some(2));
    assert!(without_document.stdout.is_empty() && !without_document.stderr.is_empty());
}

#[test]
fn kinds_of_url_that_are_not_here_are_refused_by_name() {
    let place = Place::new();
    let refused = place.fails(&["sets", "--repo", "s3://bucket/prefix?secret=hunter2"], 1, 8);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("s3") && message.contains("not in this build") && message.contains("disk:"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    place.fails(&["show", "--positions", "--source", "postgres:///db"], 1, 8);
}

#[test]
fn options_that_nothing_can_do_yet_are_refused_before_anything_is_opened() {
    let place = Place::new();
    for option in [&["--delta"][..], &["--open"], &["--until-name", "x"], &["--until-xid", "7"]] {
        let args = [&["restore", "--repo", "disk:nowhere", "--to", "x"], option].concat();
        let refused = place.fails(&args, 1, 8);
        assert_eq!(refused["error"]["object"], option[0]);
    }
    assert!(!place.path("x").exists());
}

#[test]
fn a_repository_wants_to_be_told_how_it_is_keyed() {
    let place = Place::new();
    let refused = place.fails(&["init", "--repo", "disk:repo"], 2, 1);
    assert!(refused["error"]["remedy"].as_str().unwrap().contains("--no-encryption"));
    place.fails(&["init", "--repo", "disk:repo", "--key-file"], 2, 1);
    place.fails(&["init", "--repo", "disk:repo", "--key-flie", "x"], 2, 1);
    place.fails(&["init", "--repo", "disk:repo", "--recipient", "spk1nonsense"], 2, 1);
    place.fails(&["init", "--repo", "disk:repo", "--no-encryption", "--key-file", "key"], 2, 1);
    place.fails(&["init", "--repo", "disk:repo", "--key-file", "missing"], 1, 9);
    let empty =
        place.command(&["init", "--repo", "disk:repo", "--json"]).env("SETPIECE_KEY_FILE", "").output().unwrap();
    assert_eq!(ran(empty).code, 2);
    let mut both = place.command(&["init", "--repo", "disk:repo", "--json"]);
    let both = both.env("SETPIECE_KEY_FILE", "a").env("SETPIECE_PASSPHRASE_FILE", "b").output().unwrap();
    assert_eq!(ran(both).code, 2);
    assert!(!place.path("repo").exists(), "nothing was made");
}

#[test]
fn keys_are_made_for_their_owner_only_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let made = place.ok(&["key", "new", "--out", "key"]);
    assert_eq!((made["kind"].as_str(), made["public_key"].is_null()), (Some("key-file"), true));
    assert_eq!(std::fs::metadata(place.path("key")).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(place.path("key")).unwrap();
    place.fails(&["key", "new", "--out", "key"], 1, 5);
    assert_eq!(std::fs::read(place.path("key")).unwrap(), before);
    let pair = place.ok(&["key", "new", "--out", "identity", "--x25519"]);
    assert!(pair["public_key"].as_str().unwrap().starts_with("spk1"));
    assert!(std::fs::read_to_string(place.path("identity")).unwrap().starts_with("sps1"));
}

#[test]
fn wrong_keys_open_nothing() {
    let place = Place::keyed();
    place.ok(&["key", "new", "--out", "other"]);
    place.fails(&["sets", "--repo", "disk:repo", "--key-file", "other"], 1, 9);
    place.fails(&["sets", "--repo", "disk:repo"], 1, 9);
    place.fails(&["sets", "--repo", "disk:repo", "--no-encryption"], 1, 9);
    place.fails(&["sets", "--repo", "disk:repo", "--passphrase-file", "key"], 1, 9);
    let mut by_environment = place.command(&["sets", "--json"]);
    by_environment.env("SETPIECE_REPO", place.repo()).env("SETPIECE_KEY_FILE", place.path("key"));
    assert_eq!(ran(by_environment.output().unwrap()).code, 0);
    place.ok(&["init", "--repo", "disk:plain", "--no-encryption"]);
    place.fails(&["sets", "--repo", "disk:plain", "--key-file", "key"], 1, 9);
}

#[test]
fn a_key_that_others_can_read_brings_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::keyed();
    std::fs::set_permissions(place.path("key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let listed = place.ok(&["sets", "--repo", "disk:repo", "--key-file", "key"]);
    assert!(listed["warnings"][0].as_str().unwrap().contains("chmod"), "{listed}");
}

#[test]
fn sets_are_taken_listed_shown_checked_and_restored() {
    let place = Place::keyed();
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    let with = |args: &[&'static str]| [args, &keyed].concat();
    let full = place.backup("full");
    assert_eq!(full["set"]["level"], "full");
    place.database(10);
    let increment = place.backup("differential");
    assert_eq!(increment["set"]["base"], full["set"]["id"]);
    assert!(increment["raw_bytes"].as_u64() < full["raw_bytes"].as_u64());

    let listed = place.ok(&with(&["sets"]));
    assert_eq!(listed["sets"].as_array().unwrap().len(), 2);
    assert_eq!(listed["sets"][0]["state"], "whole");
    assert_eq!(listed["sources"][0]["chains"][0].as_array().unwrap().len(), 2);
    assert_eq!(listed["sources"][0]["windows"].as_array().unwrap().len(), 2);

    let shown = place.ok(&with(&["show", "latest"]));
    assert_eq!(shown["set"]["id"], increment["set"]["id"]);
    assert_eq!(shown["cipher"], "aes-256-gcm");
    assert_eq!(shown["files"][0]["path"], "app.db");
    assert!(shown["parameters"].as_array().unwrap().iter().any(|pair| pair["name"] == "page_size"));
    assert!(!shown["pieces"].as_array().unwrap().is_empty());

    for depth in ["meta", "frames", "pages"] {
        let checked = place.ok(&[&with(&["check"])[..], &["--depth", depth]].concat());
        assert_eq!((checked["sets"].as_u64(), checked["findings"].as_array().unwrap().len()), (Some(2), 0));
    }

    let planned = place.ok(&with(&["restore", "--dry-run"]));
    assert_eq!(planned["chain"].as_array().unwrap().len(), 2);
    assert!(planned["totals"]["read_bytes"].as_u64() > Some(0));
    let restored = place.ok(&with(&["restore", "--to", "back"]));
    assert_eq!(restored["totals"]["frames"], planned["totals"]["frames"]);
    assert_eq!(place.rows("back"), 60);
    place.fails(&with(&["restore", "--to", "back"]), 1, 16);
    let first = full["set"]["name"].as_str().unwrap();
    place.ok(&[&with(&["restore", "--to", "first"])[..], &["--set", first]].concat());
    assert_eq!(place.rows("first"), 50);
}

#[test]
fn damage_is_exit_code_3_and_removal_respects_bases() {
    let place = Place::keyed();
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    let with = |args: &[&'static str]| [args, &keyed].concat();
    let full = place.backup("full");
    place.database(10);
    place.backup("differential");
    let name = full["set"]["name"].as_str().unwrap();
    place.fails(&[&with(&["remove"])[..], &[name]].concat(), 1, 17);

    let piece = place.path("repo/sets").join(full["set"]["id"].as_str().unwrap()).join("000001.bak");
    let mut bytes = std::fs::read(&piece).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut permissions = std::fs::metadata(&piece).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    std::fs::set_permissions(&piece, permissions).unwrap();
    std::fs::write(&piece, bytes).unwrap();
    let found = place.run(&with(&["check"]));
    assert_eq!(found.code, 3, "{}", found.document);
    assert_eq!(found.document["findings"][0]["id"], full["set"]["id"]);
    assert_eq!(found.document["findings"][0]["error"]["code"], 7);
    place.fails(&with(&["restore", "--to", "back"]), 3, 7);
    assert!(!place.path("back").exists());

    let removed = place.ok(&[&with(&["remove", "--cascade"])[..], &[name]].concat());
    assert_eq!(removed["removed"].as_array().unwrap().len(), 2);
    assert_eq!(place.ok(&with(&["sets"]))["sets"].as_array().unwrap().len(), 0);
    let expired = place.ok(&with(&["expire", "--keep-full", "1"]));
    assert_eq!(expired["orphans"].as_array().unwrap().len(), 0);
}

#[test]
fn keys_are_added_removed_and_rotated() {
    let place = Place::keyed();
    place.backup("full");
    std::fs::write(place.path("words"), "correct horse\n").unwrap();
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    let with = |args: &[&'static str]| [args, &keyed].concat();
    let added = place.ok(&with(&["key", "add", "--new-passphrase-file", "words", "--label", "a person"]));
    assert_eq!(added["repository"]["slots"].as_array().unwrap().len(), 2);
    let worded = ["--repo", "disk:repo", "--passphrase-file", "words"];
    let listed = place.ok(&[&["key", "list"][..], &worded].concat());
    let slot = listed["repository"]["slots"][0]["slot"].to_string();
    place.ok(&[&["key", "remove", "--slot", &slot][..], &worded].concat());
    place.fails(&with(&["sets"]), 1, 9);
    place.ok(&["key", "new", "--out", "new"]);
    let rotated = place.ok(&[&["key", "rotate", "--new-key-file", "new"][..], &worded].concat());
    assert_eq!(rotated["sets"], 1);
    place.fails(&[&["sets"][..], &worded].concat(), 1, 9);
    place.ok(&["restore", "--repo", "disk:repo", "--key-file", "new", "--to", "back"]);
    assert_eq!(place.rows("back"), 50);
}

#[test]
fn sets_are_copied_and_the_catalog_is_rebuilt() {
    let place = Place::keyed();
    place.backup("full");
    place.ok(&["key", "new", "--out", "there"]);
    place.ok(&["init", "--repo", "disk:other", "--key-file", "there"]);
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    let copy = [&["copy", "--to-repo", "disk:other", "--to-key-file", "there"][..], &keyed].concat();
    assert_eq!(place.ok(&copy)["copied"].as_array().unwrap().len(), 1);
    assert_eq!(place.ok(&copy)["present"].as_array().unwrap().len(), 1);
    place.ok(&["restore", "--repo", "disk:other", "--key-file", "there", "--to", "back"]);
    assert_eq!(place.rows("back"), 50);
    let rebuilt = place.ok(&[&["catalog", "rebuild"][..], &keyed].concat());
    assert_eq!((rebuilt["sets"].as_u64(), rebuilt["log_sets"].as_u64()), (Some(1), Some(0)));
}

/// Captures redo while `rows` rows are written one by one, and gives the answer.
fn capture(place: &Place, rows: i64) -> Value {
    let source = place.source();
    let args =
        ["log", "stream", "--repo", "disk:repo", "--key-file", "key", "--stop-when-idle", "1", "--source", &source];
    let stream = place.command(&args).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
    for _ in 0..rows {
        std::thread::sleep(std::time::Duration::from_millis(100));
        place.database(1);
    }
    let captured = ran(stream.wait_with_output().unwrap());
    assert_eq!(captured.code, 0, "{}", captured.document);
    assert!(captured.document["units"].as_u64() > Some(0), "{}", captured.document);
    captured.document
}

#[test]
fn redo_is_captured_and_comes_back_as_files() {
    let place = Place::keyed();
    // As long as somebody has the database open, its log stays.
    let open = rusqlite::Connection::open(place.path("app.db")).unwrap();
    open.query_row("SELECT count(*) FROM t", (), |_| Ok(())).unwrap();
    place.backup("full");
    place.database(5);
    let captured = capture(&place, 5);
    assert!(captured["warnings"].as_array().unwrap().is_empty(), "{captured}");
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    let got = place.ok(&[&["log", "get", "--to", "redo"][..], &keyed].concat());
    let units = got["units"].as_array().unwrap();
    assert!(!units.is_empty() && got["gaps"].as_array().unwrap().is_empty(), "{got}");
    for unit in units {
        let file = place.path("redo").join(unit["file"].as_str().unwrap());
        assert_eq!(std::fs::metadata(file).unwrap().len(), unit["bytes"].as_u64().unwrap());
    }
    place.fails(&[&["log", "get", "--to", "redo"][..], &keyed].concat(), 1, 5);
    place.fails(&[&["log", "get", "--to", "none", "--from-time", "2100-01-01T00:00:00Z"][..], &keyed].concat(), 1, 4);
    let restored = place.ok(&[&["restore", "--to", "back"][..], &keyed].concat());
    assert_eq!(place.rows("back"), 60);
    assert!(restored["warnings"].as_array().unwrap().is_empty(), "{restored}");
    // Written while nobody captured: known is by when, and no moment before that is a target.
    assert!(units[0]["first_commit"].is_null(), "{got}");
    let found = units[0]["last_commit"].as_str().unwrap();
    place.fails(&[&["restore", "--to", "none", "--exclusive", "--until-time", found][..], &keyed].concat(), 1, 13);
    place.ok(&[&["restore", "--to", "then", "--until-time", found][..], &keyed].concat());
    assert_eq!(place.rows("then"), 55);
    place.fails(&[&["restore", "--to", "never", "--until-time", "2100-01-01T00:00:00Z"][..], &keyed].concat(), 1, 13);
}

#[test]
fn a_gap_in_the_redo_is_told_wherever_it_matters() {
    let place = Place::keyed();
    place.backup("full");
    // The last user of the database closes it: SQLite throws its log away, and with it what nobody captured.
    place.database(5);
    capture(&place, 3);
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    let listed = place.ok(&[&["sets"][..], &keyed].concat());
    assert!(listed["sources"][0]["windows"][0]["gap"].is_object(), "{listed}");
    let restored = place.ok(&[&["restore", "--to", "back"][..], &keyed].concat());
    assert_eq!(place.rows("back"), 50);
    assert!(restored["warnings"][0].as_str().unwrap().contains("missing"), "{restored}");
}

#[test]
fn an_interrupted_backup_leaves_nothing() {
    let place = Place::keyed();
    let args =
        ["backup", "--repo", "disk:repo", "--key-file", "key", "--source", "sqlite:app.db", "--pause-at", "publish"];
    let mut child = place.command(&args).arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut stderr, &mut said).unwrap();
    assert_eq!(said, "paused at publish\n");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = ran(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.document["error"]["code"].as_u64()), (1, Some(11)), "{}", ended.document);
    let listed = place.ok(&["sets", "--repo", "disk:repo", "--key-file", "key"]);
    assert_eq!((listed["sets"].as_array().unwrap().len(), listed["orphans"].as_array().unwrap().len()), (0, 0));
}

#[test]
fn a_plugin_is_put_to_the_test() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    let tested = place.ok(&["media", "test", "disk:empty"]);
    assert_eq!(tested["failed"], 0, "{tested}");
    assert!(tested["passed"].as_u64() > Some(20), "{tested}");
    place.fails(&["media", "test", "sbt:/nowhere.so"], 1, 8);
}

#[test]
fn positions_completions_and_manual_pages() {
    let place = Place::new();
    place.database(1);
    let source = place.source();
    let positions = place.ok(&["show", "--positions", "--source", &source]);
    assert_eq!(positions["source"]["engine"], "sqlite");
    assert!(positions["positions"][0]["lsn"].as_u64() > Some(0));
    assert!(place.ok(&["completions", "bash"])["script"].as_str().unwrap().contains("setpiece"));
    let pages = place.ok(&["man", "--out", "man"]);
    let names: Vec<&str> = pages["files"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(names.iter().any(|name| name.ends_with("setpiece-key-rotate.1")), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("demo-writer")), "{names:?}");
}

#[test]
fn the_demo_proves_what_it_says() {
    let place = Place::new();
    let shown = place.ok(&["demo", "--dir", "stage"]);
    assert_eq!(shown["proven"], true);
    assert_eq!(shown["moment"]["content"], shown["recovered"]);
    assert!(shown["moment"]["content"]["transactions"].as_i64() > Some(0));
    assert!(shown["damage"].as_array().unwrap().len() >= 2);
    assert!(place.path("stage/recovered/app.db").exists());
    place.fails(&["demo", "--dir", "stage"], 1, 16);
}

#[test]
fn a_host_writes_what_it_cannot_read() {
    let place = Place::new();
    place.database(20);
    let pair = place.ok(&["key", "new", "--out", "identity", "--x25519"]);
    let stranger = place.ok(&["key", "new", "--out", "other", "--x25519"]);
    let public = pair["public_key"].as_str().unwrap();
    place.ok(&["init", "--repo", "disk:repo", "--recipient", public]);
    let backup = ["backup", "--repo", "disk:repo", "--source", "sqlite:app.db"];
    place.ok(&[&backup[..], &["--recipient", public]].concat());
    let wrong = stranger["public_key"].as_str().unwrap();
    place.fails(&[&backup[..], &["--recipient", wrong]].concat(), 1, 9);
    place.ok(&["init", "--repo", "disk:open", "--no-encryption"]);
    let open = ["backup", "--repo", "disk:open", "--source", "sqlite:app.db", "--recipient", public];
    place.fails(&open, 1, 9);
    place.fails(&["restore", "--repo", "disk:repo", "--to", "stolen"], 1, 9);
    place.fails(&["restore", "--repo", "disk:repo", "--identity-file", "other", "--to", "stolen"], 1, 9);
    assert!(!place.path("stolen").exists());
    place.ok(&["restore", "--repo", "disk:repo", "--identity-file", "identity", "--to", "back"]);
    assert_eq!(place.rows("back"), 20);
}
