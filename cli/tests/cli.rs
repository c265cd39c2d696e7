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

    /// Runs what has to succeed, and gives what people see.
    fn text_of(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{args:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
        text
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
    let shown = place.command(&["show"]).output().unwrap();
    assert!(String::from_utf8(shown.stderr).unwrap().contains("show --positions --source"), "both ways of use");
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
    let refused = place.fails(&["show", "--positions", "--source", "oracle://host/db"], 1, 8);
    assert!(refused["error"]["message"].as_str().unwrap().contains("oracle"), "{refused}");
}

#[test]
fn a_repository_is_where_it_is_said_to_be() {
    let place = Place::new();
    let made = place.ok(&["init", "--no-encryption", "--repo", "disk:n1?create=yes"]);
    assert_eq!(made["repository"]["url"], format!("disk:{}", place.text("n1")));
    assert!(place.path("n1/repo").is_dir());
    place.ok(&["sets", "--repo", "disk:n1"]);
    let refused = place.fails(&["init", "--no-encryption", "--repo", "disk:n2?craete=yes"], 2, 1);
    assert!(refused["error"]["message"].as_str().unwrap().contains("craete"), "{refused}");
    let refused = place.fails(&["sets", "--repo", "disk:n3"], 1, 4);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("setpiece init") && !message.contains("create=yes"), "{message}");
    assert!(!place.path("n2").exists() && !place.path("n3").exists());
}

#[test]
fn options_that_nothing_can_do_yet_are_refused() {
    let place = Place::new();
    place.ok(&["init", "--no-encryption", "--repo", "disk:r"]);
    place.database(1);
    place.fails(&["backup", "--repo", "disk:r", "--source", "sqlite:app.db", "--scope", "table:t"], 2, 1);
}

#[test]
fn sqlite_is_not_restored_over_what_is_there() {
    let place = Place::new();
    place.ok(&["init", "--no-encryption", "--repo", "disk:r"]);
    place.database(1);
    place.ok(&["backup", "--repo", "disk:r", "--source", "sqlite:app.db"]);
    place.ok(&["restore", "--repo", "disk:r", "--to", "x"]);
    let before = std::fs::read(place.path("x/app.db")).unwrap();
    for more in [&["--dry-run"][..], &[]] {
        let args = [&["restore", "--repo", "disk:r", "--to", "x", "--delta"], more].concat();
        let refused = place.fails(&args, 2, 1);
        assert!(refused["error"]["remedy"].as_str().unwrap().contains("new directory"), "{refused}");
    }
    assert_eq!(std::fs::read(place.path("x/app.db")).unwrap(), before);
    assert_eq!(std::fs::read_dir(place.path("x")).unwrap().count(), 2);
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
    let pages = place.ok(&with(&["check", "--depth", "pages"]))["pages"].as_u64().unwrap();
    let said = place.text_of(&with(&["check", "--depth", "pages"]));
    assert!(pages > 0 && said.contains(&format!("{pages} pages")), "{said}");

    let planned = place.ok(&with(&["restore", "--dry-run"]));
    assert_eq!(planned["chain"].as_array().unwrap().len(), 2);
    assert!(planned["totals"]["read_bytes"].as_u64() > Some(0));
    let restored = place.ok(&with(&["restore", "--to", "back"]));
    assert_eq!(restored["totals"]["frames"], planned["totals"]["frames"]);
    assert_eq!(place.rows("back"), 60);
    place.fails(&with(&["restore", "--to", "back"]), 1, 16);
    place.fails(&with(&["restore", "--to", "back", "--dry-run"]), 1, 16);
    place.fails(&with(&["restore", "--to", "key", "--dry-run"]), 1, 16);
    place.fails(&with(&["restore", "--to", "repo/back", "--dry-run"]), 1, 16);
    place.ok(&with(&["restore", "--to", "not/there", "--dry-run"]));
    let first = full["set"]["name"].as_str().unwrap();
    place.ok(&[&with(&["restore", "--to", "first"])[..], &["--set", first]].concat());
    assert_eq!(place.rows("first"), 50);
}

/// Two databases of one file name looked the same in every list, and a restore wanted an identifier that none showed.
#[test]
fn databases_of_one_name_are_told_apart() {
    let place = Place::keyed();
    place.backup("full");
    std::fs::create_dir(place.path("other")).unwrap();
    std::fs::copy(place.path("app.db"), place.path("other/app.db")).unwrap();
    place.database(10);
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    let run = |args: &[&str]| place.ok(&[args, &keyed].concat());
    run(&["backup", "--source", "sqlite:other/app.db"]);
    run(&["backup", "--source", "sqlite:app.db", "--level", "differential"]);
    let listed = run(&["sets"]);
    let ids: Vec<&str> = listed["sources"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
    let text = place.text_of(&[&["sets"][..], &keyed].concat());
    for id in &ids {
        let short = &id[..13];
        assert!(text.contains(&format!("chains of app.db ({short})")), "{text}");
        assert!(text.lines().any(|line| line.starts_with("app.db-full-") && line.contains(short)), "{text}");
    }
    let refused = place.fails(&[&["restore", "--to", "x", "--source", "app.db"][..], &keyed].concat(), 2, 1);
    assert!(ids.iter().all(|id| refused["error"]["remedy"].as_str().unwrap().contains(id)), "{refused}");
    place.fails(&[&["restore", "--to", "x", "--source", "00000000"][..], &keyed].concat(), 1, 4);
    let shown = place.ok(&["show", "--positions", "--source", "sqlite:other/app.db"]);
    let other = shown["source"]["id"].as_str().unwrap();
    let own = ids.iter().find(|id| **id != other).unwrap();
    run(&["restore", "--to", "back", "--source", &own[..13]]);
    run(&["restore", "--to", "that", "--source", &other[..8]]);
    assert_eq!((place.rows("back"), place.rows("that")), (60, 50));
    place.fails(&[&["log", "get", "--to", "x", "--source", &own[..8]][..], &keyed].concat(), 1, 4);
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

/// Help and documents said that recipients stay when the key is renewed; they went, and hosts that only write found out
/// at their next backup. Now every key has to be named again, the last public key does not go unasked, and it is told
/// what opens no more.
#[test]
fn a_rotation_keeps_the_keys_that_are_named_and_no_others() {
    let place = Place::keyed();
    let pair = place.ok(&["key", "new", "--out", "identity", "--x25519"]);
    let public = pair["public_key"].as_str().unwrap();
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    place.ok(&[&["key", "add", "--new-recipient", public][..], &keyed].concat());
    let without_secret = ["backup", "--repo", "disk:repo", "--source", "sqlite:app.db"];
    place.ok(&without_secret);
    place.ok(&["key", "new", "--out", "new"]);

    let rotate = [&["key", "rotate", "--new-key-file", "new"][..], &keyed].concat();
    let refused = place.fails(&rotate, 2, 1);
    assert_eq!(refused["error"]["object"], public, "{refused}");
    assert!(words(&refused).1.contains("--drop-recipients"), "{refused}");
    place.ok(&[&["sets"][..], &keyed].concat());

    let kept = place.ok(&[&rotate[..], &["--new-recipient", public]].concat());
    let dropped = kept["dropped"].as_array().unwrap();
    assert_eq!((dropped.len(), dropped[0]["kind"].as_str()), (1, Some("key-file")), "{kept}");
    place.ok(&without_secret);

    let newer = ["key", "rotate", "--repo", "disk:repo", "--key-file", "new", "--new-key-file", "new"];
    let dropped = place.ok(&[&newer[..], &["--drop-recipients"]].concat());
    assert_eq!(dropped["dropped"][0]["public_key"], public, "{dropped}");
    assert_eq!(dropped["dropped"].as_array().unwrap().len(), 1, "{dropped}");
    place.fails(&without_secret, 1, 9);
    place.ok(&["restore", "--repo", "disk:repo", "--key-file", "new", "--to", "back"]);
}

/// The advice for a key that does not fit was to list the keys, which took a key that fits.
#[test]
fn keys_are_listed_without_a_key() {
    let place = Place::keyed();
    place.ok(&["key", "new", "--out", "other"]);
    let list = ["key", "list", "--repo", "disk:repo"];
    let proven = place.ok(&[&list[..], &["--key-file", "key"]].concat());
    let unproven = place.ok(&list);
    let wrong = place.ok(&[&list[..], &["--key-file", "other"]].concat());
    assert_eq!(
        (&proven["proven"], &unproven["proven"], &wrong["proven"]),
        (&true.into(), &false.into(), &false.into())
    );
    assert_eq!(proven["repository"], unproven["repository"]);
    assert!(wrong["warnings"][0].as_str().unwrap().contains("does not open"), "{wrong}");
    place.fails(&[&list[..], &["--no-encryption"]].concat(), 1, 9);
    place.fails(&["key", "list", "--repo", "disk:none"], 1, 4);
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
    let listed = place.ok(&[&["sets"][..], &keyed].concat());
    let log = listed["sets"].as_array().unwrap().iter().find(|set| set["scope"] == "log").unwrap();
    let shown = place.text_of(&[&["show", log["id"].as_str().unwrap()][..], &keyed].concat());
    assert!(shown.contains("captured as it was written"), "{shown}");
    assert!(!shown.contains("\nlevel") && !shown.contains("\nconsistency"), "{shown}");
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
    assert_eq!(restored["totals"]["log_units"], units.len() as u64);
    assert!(restored["warnings"].as_array().unwrap().is_empty(), "{restored}");
    // Written while nobody captured: known is by when, and no moment before that is a target.
    assert!(units[0]["first_commit"].is_null(), "{got}");
    let found = units[0]["last_commit"].as_str().unwrap();
    place.fails(&[&["restore", "--to", "none", "--exclusive", "--until-time", found][..], &keyed].concat(), 1, 13);
    place.ok(&[&["restore", "--to", "then", "--until-time", found][..], &keyed].concat());
    assert_eq!(place.rows("then"), 55);
    let never = [&["restore", "--to", "never", "--until-time", "2100-01-01T00:00:00Z"][..], &keyed].concat();
    let (message, remedy) = words(&place.fails(&never, 1, 13));
    assert!(remedy.contains("leave out --until-time"), "{message}");
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

/// Sets went, and with them moments that could be reached before, without a word.
#[test]
fn removal_says_what_can_no_longer_be_reached() {
    let place = Place::keyed();
    place.backup("full");
    let open = rusqlite::Connection::open(place.path("app.db")).unwrap();
    open.query_row("SELECT count(*) FROM t", (), |_| Ok(())).unwrap();
    place.database(5);
    let increment = place.backup("differential");
    let units = capture(&place, 3)["units"].as_u64().unwrap();
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    let name = increment["set"]["name"].as_str().unwrap();
    let remove = [&["remove", name][..], &keyed].concat();

    let planned = place.ok(&[&remove[..], &["--dry-run"]].concat());
    assert_eq!((planned["dry_run"].as_bool(), planned["removed"].as_array().unwrap().len()), (Some(true), 1));
    assert_eq!(planned["removed"][0]["name"], name);
    let windows = &planned["windows"][0];
    assert_eq!(windows["name"], "app.db");
    assert_eq!((windows["before"].as_array().unwrap().len(), windows["after"].as_array().unwrap().len()), (2, 1));
    assert_eq!(windows["stranded_units"], units);
    let said = place.text_of(&[&remove[..], &["--dry-run"]].concat());
    assert!(said.contains("would remove") && said.contains("and would be"), "{said}");
    assert!(said.contains("of redo left over"), "{said}");

    let listed = place.ok(&[&["sets"][..], &keyed].concat());
    let log = listed["sets"].as_array().unwrap().iter().find(|set| set["scope"] == "log").unwrap();
    let first = log["id"].as_str().unwrap();
    let planned = place.ok(&[&["remove", first, "--dry-run"][..], &keyed].concat());
    assert_eq!(planned["windows"][0]["stranded_units"], units - 1, "{planned}");
    assert_eq!(place.ok(&[&["sets"][..], &keyed].concat())["sources"], listed["sources"], "nothing was removed");

    let removed = place.ok(&remove);
    assert_eq!((removed["dry_run"].as_bool(), &removed["windows"][0]["after"]), (Some(false), &windows["after"]));
    let listed = place.ok(&[&["sets"][..], &keyed].concat());
    assert_eq!(&listed["sources"][0]["windows"], &windows["after"]);
}

#[test]
fn what_expires_is_told_by_rows_and_what_stays_by_reasons() {
    let place = Place::keyed();
    let open = rusqlite::Connection::open(place.path("app.db")).unwrap();
    open.query_row("SELECT count(*) FROM t", (), |_| Ok(())).unwrap();
    place.backup("full");
    let twice = || (0..2).map(|_| capture(&place, 1)["units"].as_u64().unwrap()).sum::<u64>();
    let old = twice();
    let newer = place.backup("full")["set"]["name"].as_str().unwrap().to_owned();
    let new = twice();
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    let said = place.text_of(&[&["expire", "--keep-full", "1", "--dry-run"][..], &keyed].concat());
    let lines = |word: &str| said.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!((lines("would remove"), lines("would keep")), (3, 2), "{said}");
    assert!(said.contains(&format!("({old} sets)")) && said.contains(&format!("({new} sets)")), "{said}");
    assert!(said.contains(&format!("log that {newer} needs")), "{said}");
    let expired = place.ok(&[&["expire", "--keep-full", "1"][..], &keyed].concat());
    assert_eq!(expired["removed"].as_array().unwrap().len() as u64, old + 1);
    assert_eq!(expired["kept"].as_array().unwrap().len() as u64, new + 1);
}

#[test]
fn positions_are_numbered_as_the_record_is() {
    let place = Place::keyed();
    let open = rusqlite::Connection::open(place.path("app.db")).unwrap();
    open.execute("INSERT INTO t VALUES (-1, 'x')", ()).unwrap();
    place.backup("full");
    open.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).unwrap();
    open.execute("INSERT INTO t VALUES (-2, 'x')", ()).unwrap();
    let here = ["show", "--positions", "--source", "sqlite:app.db"];
    let keyed = [&here[..], &["--repo", "disk:repo", "--key-file", "key"]].concat();
    let numbered = place.ok(&keyed);
    let set = place.backup("full");
    assert_eq!(numbered["positions"][0]["lsn"], set["set"]["bak_end_lsn"], "{numbered}");
    let listed = place.ok(&["sets", "--repo", "disk:repo", "--key-file", "key"]);
    assert_eq!(numbered["repository"], listed["repository"]);
    let alone = place.ok(&here);
    assert!(
        alone["repository"].is_null() && alone["positions"][0]["lsn"] != numbered["positions"][0]["lsn"],
        "{alone}"
    );
    place.fails(&[&here[..], &["--repo", "disk:repo"]].concat(), 1, 9);
}

/// `latest` was the newest set of all sources, whatever source was asked for.
#[test]
fn latest_is_the_newest_set_of_the_source_asked_for() {
    let place = Place::keyed();
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    let with = |args: &[&str]| args.iter().chain(&keyed).map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let run = |args: &[&str]| place.run(&with(args).iter().map(String::as_str).collect::<Vec<_>>());
    let full = place.backup("full");
    std::fs::copy(place.path("app.db"), place.path("other.db")).unwrap();
    let other = run(&["backup", "--source", "sqlite:other.db"]).document;
    let (id, other_id) =
        (full["set"]["source"]["id"].as_str().unwrap(), other["set"]["source"]["id"].as_str().unwrap());

    for (source, set) in [("app.db", &full), ("other.db", &other), (id, &full), ("sqlite:other.db", &other)] {
        let planned = run(&["restore", "--dry-run", "--set", "latest", "--source", source]);
        assert_eq!(planned.document["start"]["id"], set["set"]["id"], "{source}: {}", planned.document);
    }
    for unclear in [&["restore", "--dry-run", "--set", "latest"][..], &["show", "latest"], &["remove", "latest"]] {
        let refused = run(unclear);
        let (message, remedy) = words(&refused.document);
        assert_eq!((refused.code, remedy.contains(id), remedy.contains(other_id)), (2, true, true), "{message}");
    }
    let on = run(&["backup", "--source", "sqlite:app.db", "--level", "differential", "--base", "latest"]).document;
    assert_eq!(on["set"]["base"], full["set"]["id"], "{on}");

    // A lost database is known by where it was; one of which nothing was backed up is not.
    std::fs::remove_file(place.path("other.db")).unwrap();
    assert_eq!(run(&["restore", "--source", "sqlite:other.db", "--to", "back"]).code, 0);
    let unknown = run(&["restore", "--dry-run", "--source", "sqlite:third.db"]);
    let (message, remedy) = words(&unknown.document);
    assert_eq!(unknown.code, 1, "{message}");
    assert!(message.contains("sqlite:third.db") && remedy.contains("app.db ("), "{message}");
}

/// What an error says about where and what to do.
fn words(failed: &Value) -> (String, String) {
    let text = |field: &str| failed["error"][field].as_str().unwrap_or_default().to_owned();
    (text("message"), text("remedy"))
}

#[test]
fn failures_name_the_place_and_say_what_to_do() {
    let place = Place::keyed();
    let (message, remedy) = words(&place.fails(&["key", "new", "--out", "no/such/key"], 1, 2));
    assert!(message.contains("there is no directory no/such") && remedy.contains("make it first"), "{message}");
    let backup = |path: &str, kind: u64| {
        let source = format!("sqlite:{}", place.text(path));
        words(&place.fails(&["backup", "--repo", "disk:repo", "--key-file", "key", "--source", &source], 1, kind))
    };
    let (message, remedy) = backup("none.db", 2);
    assert!(message.contains("there is no database") && remedy.contains("correct the path"), "{message}");
    assert!(backup("no/such.db", 2).0.contains("there is no directory"));
    assert!(backup("repo", 14).1.contains("file of the database"));
    place.ok(&["init", "--repo", "disk:plain", "--no-encryption"]);
    let copied = place.fails(&["copy", "--repo", "disk:repo", "--key-file", "key", "--to-repo", "disk:plain"], 1, 9);
    assert!(!words(&copied).1.is_empty(), "{copied}");
}

#[test]
fn reasons_and_locks_are_told_once() {
    let place = Place::keyed();
    place.backup("full");
    // Closing the database empties its log, so that what changed is no longer in it.
    place.database(1);
    let increment = place.backup("differential");
    let how = increment["decisions"][1].as_str().unwrap();
    assert_eq!(how.matches("since").count(), 0, "{how}");
    assert!(how.contains("because the write-ahead log does not hold all"), "{how}");

    let source = place.source();
    let stream = ["log", "stream", "--repo", "disk:repo", "--key-file", "key", "--source", &source];
    let mut first = place.command(&stream).args(["--stop-when-idle", "30"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(first.stderr.take().unwrap()), &mut said).unwrap();
    let second = place.fails(&stream, 1, 10);
    let pid = rustix::process::Pid::from_raw(i32::try_from(first.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    first.wait().unwrap();
    let (message, remedy) = words(&second);
    assert_eq!(message.matches("locks/log-").count(), 1, "{message}");
    assert!(second["error"]["causes"].as_array().unwrap().is_empty(), "{second}");
    assert!(message.contains("holds the lock") && remedy.contains("another log stream"), "{message}");
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
    assert!(std::fs::read_dir(place.path("empty")).unwrap().next().is_none(), "something is left");
    place.fails(&["media", "test", "sbt:/nowhere.so"], 1, 8);
}

/// An answer that could not be written was a success.
#[test]
fn an_answer_that_cannot_be_written_is_a_failure_unless_nobody_reads_it() {
    let place = Place::keyed();
    let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let sets = ["sets", "--repo", "disk:repo", "--key-file", "key"];
    for args in [&[&sets[..], &["--json"]].concat()[..], &sets, &["--help"], &["completions", "bash"]] {
        let ran = place.command(args).stdout(full()).output().unwrap();
        let words = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1), "{args:?}: {words}");
        assert!(words.contains("standard output"), "{args:?}: {words}");
    }
    // What failed is said elsewhere then.
    let ran = place.command(&["sets", "--repo", "disk:no", "--json"]).stdout(full()).output().unwrap();
    let words = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.code() == Some(1) && words.contains("no such directory"), "{words}");
    // The reader has gone before the first byte, as `| true` does.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = place.command(&sets).stdout(writer).output().unwrap();
    assert_eq!((ran.status.code(), ran.stderr.as_slice()), (Some(0), &[][..]));
}

#[test]
fn nothing_is_written_into_the_repository_but_by_itself() {
    let place = Place::keyed();
    place.backup("full");
    std::os::unix::fs::symlink("repo/sets", place.path("link")).unwrap();
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    for to in ["repo/r", "repo/sets/deep/r", "link/r", "./link/../repo/r"] {
        let refused = place.fails(&[&["restore", "--to", to][..], &keyed].concat(), 1, 16);
        assert!(refused["error"]["message"].as_str().unwrap().contains("inside of the repository"), "{refused}");
    }
    capture(&place, 1);
    place.fails(&[&["log", "get", "--to", "repo/redo"][..], &keyed].concat(), 1, 16);
    assert!(!place.path("repo/redo").exists());
    place.ok(&[&["restore", "--to", "repo-2"][..], &keyed].concat());
}

/// A repository that was copied by other means than ours and used on was refused, as if it were the same place.
#[test]
fn sets_go_from_a_copied_repository_to_its_twin() {
    let place = Place::keyed();
    place.backup("full");
    let copied = Command::new("cp").args(["-a", "repo", "twin"]).current_dir(place.dir.path()).status().unwrap();
    assert!(copied.success());
    let newer = place.backup("full");
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    let report = place.ok(&[&["copy", "--to-repo", "disk:twin"][..], &keyed].concat());
    assert_eq!(report["copied"], serde_json::json!([newer["set"]["id"]]));
    assert_eq!(report["present"].as_array().unwrap().len(), 1);
    let checked = place.ok(&["check", "--repo", "disk:twin", "--key-file", "key"]);
    assert_eq!(checked["sets"], 2);
    std::os::unix::fs::symlink("repo", place.path("same")).unwrap();
    for same in ["disk:repo", "disk:./repo/", "disk:same"] {
        place.fails(&[&["copy", "--to-repo", same][..], &keyed].concat(), 2, 1);
    }
}

#[test]
fn a_place_that_is_no_place_for_a_test_is_refused_at_once() {
    let place = Place::keyed();
    let refused = place.fails(&["media", "test", "./nothing.so"], 1, 4);
    assert!(refused["error"]["message"].as_str().unwrap().contains("no such file"), "{refused}");
    let refused = place.fails(&["media", "test", "disk:/not/there"], 1, 4);
    assert!(refused["error"]["message"].as_str().unwrap().contains("/not/there"), "{refused}");
    let before = std::fs::read_dir(place.path("repo")).unwrap().count();
    place.fails(&["media", "test", "disk:repo"], 1, 16);
    assert_eq!(std::fs::read_dir(place.path("repo")).unwrap().count(), before);
    place.fails(&["media", "test", "key"], 1, 8);
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

/// Capture was silent when its redo joined no backup: the log had been reset between the backup and the stream, and
/// what was captured could not be reached by any recovery. Now the stream says so when it begins.
#[test]
fn a_stream_that_joins_no_backup_says_so_at_once() {
    let place = Place::keyed();
    let stream = ["log", "stream", "--repo", "disk:repo", "--key-file", "key", "--source", "sqlite:app.db"];
    let stream = [&stream[..], &["--stop-when-idle", "0"]].concat();
    let first = place.ok(&stream);
    assert!(first["warnings"][0].as_str().unwrap().contains("no backup yet"), "{first}");
    place.backup("full");
    place.backup("differential");
    assert_eq!(place.ok(&stream)["warnings"].as_array().unwrap().len(), 0);
    // The last user of the database closes it, which empties its log.
    place.database(1);
    let late = place.ok(&stream);
    assert_eq!(late["units"], 0, "{late}");
    let warning = late["warnings"][0].as_str().unwrap();
    for words in ["is missing", "when the last connection closes", "take one now"] {
        assert!(warning.contains(words), "{warning}");
    }
    let captured = capture(&place, 2);
    assert_eq!(captured["warnings"].as_array().unwrap().len(), 1, "told once: {captured}");
}

/// The warning came although a backup had just been taken at the end of the gap: earlier units were looked at, sets
/// were not.
#[test]
fn a_stream_behind_a_fresh_backup_does_not_warn() {
    let place = Place::keyed();
    place.backup("full");
    capture(&place, 2);
    place.database(3);
    place.backup("full");
    let rows = place.rows(".");
    let captured = capture(&place, 2);
    assert_eq!(captured["warnings"].as_array().unwrap().len(), 0, "{captured}");
    let restored = place.ok(&["restore", "--repo", "disk:repo", "--key-file", "key", "--to", "back"]);
    assert_eq!(place.rows("back"), rows + 2, "{restored}");
}

/// Keys that do not open a set which another host has written to a recipient: which set, and which key does.
#[test]
fn a_rotation_says_whose_private_key_it_misses() {
    let place = Place::keyed();
    let pair = place.ok(&["key", "new", "--out", "identity", "--x25519"]);
    let public = pair["public_key"].as_str().unwrap();
    place.ok(&["key", "add", "--repo", "disk:repo", "--key-file", "key", "--new-recipient", public]);
    let written = place.ok(&["backup", "--repo", "disk:repo", "--source", "sqlite:app.db", "--recipient", public]);
    let keyed = ["--repo", "disk:repo", "--key-file", "key"];
    let refused = place.fails(
        &[&["key", "rotate", "--new-key-file", "key", "--new-recipient", public][..], &keyed].concat(),
        1,
        9,
    );
    let said = refused["error"]["message"].as_str().unwrap();
    for part in [written["set"]["id"].as_str().unwrap(), "private key", public] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}
