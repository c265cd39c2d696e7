//! Repositories in which something is damaged, missing or closed: nothing more is lost, and everybody is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

struct Place {
    dir: tempfile::TempDir,
    keys: Vec<&'static str>,
}

impl Place {
    fn plain() -> Self {
        let place = Place { dir: tempfile::tempdir().unwrap(), keys: Vec::new() };
        place.ok(&["init", "--no-encryption", "--repo", "disk:repo"]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str]) -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_setpiece"));
        command.args(args).args(&self.keys).arg("--json").stdin(Stdio::null()).current_dir(self.dir.path());
        for variable in ["SETPIECE_REPO", "SETPIECE_KEY_FILE", "SETPIECE_PASSPHRASE_FILE"] {
            command.env_remove(variable);
        }
        let output = command.env("XDG_CACHE_HOME", self.path("cache")).output().unwrap();
        (output.status.code().expect("not killed"), serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    fn ok(&self, args: &[&str]) -> Value {
        let (code, answer) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {answer}");
        answer
    }

    /// Runs what has to be refused, with this exit code and kind.
    fn refused(&self, args: &[&str], code: i32, kind: u64) -> Value {
        let (ended, answer) = self.run(args);
        assert_eq!((ended, answer["error"]["code"].as_u64()), (code, Some(kind)), "{args:?}: {answer}");
        answer
    }

    /// A set of a database that got one more row; gives its identifier.
    fn backup(&self, level: &str) -> String {
        let database = rusqlite::Connection::open(self.path("app.db")).unwrap();
        database.execute_batch("CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t VALUES (1)").unwrap();
        drop(database);
        let made = self.ok(&["backup", "--repo", "disk:repo", "--source", "sqlite:app.db", "--level", level]);
        made["set"]["id"].as_str().unwrap().to_owned()
    }

    fn rows(&self, dir: &str) -> i64 {
        let database = rusqlite::Connection::open(self.path(dir).join("app.db")).unwrap();
        database.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).unwrap()
    }
}

/// Flips a bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

fn warned(answer: &Value, word: &str) -> bool {
    answer["warnings"].as_array().unwrap().iter().any(|text| text.as_str().unwrap().contains(word))
}

#[test]
fn a_set_whose_metadata_is_damaged_saves_the_one_before_from_expiry() {
    let place = Place::plain();
    let (first, second) = (place.backup("full"), place.backup("full"));
    // The copy of the metadata is good still.
    flip(&place.path("repo/sets").join(&second).join("set.meta"));
    let expired = place.ok(&["expire", "--repo", "disk:repo", "--keep-full", "1"]);
    assert_eq!(expired["removed"].as_array().unwrap().len(), 0, "{expired}");
    let restored = place.ok(&["restore", "--repo", "disk:repo", "--to", "back", "--no-cache"]);
    assert_eq!(place.rows("back"), 1);
    assert!(warned(&restored, &second), "{restored}");
    assert!(warned(&place.ok(&["restore", "--repo", "disk:repo", "--to", "x", "--dry-run", "--no-cache"]), &second));
    assert_eq!(place.ok(&["sets", "--repo", "disk:repo"])["sets"][0]["id"], *first);
}

#[test]
fn a_newer_set_that_cannot_be_used_is_named_by_a_restore() {
    let place = Place::plain();
    let (_, second) = (place.backup("full"), place.backup("full"));
    fs::remove_file(place.path("repo/sets").join(second).join("000001.bak")).unwrap();
    let restored = place.ok(&["restore", "--repo", "disk:repo", "--to", "back"]);
    assert_eq!(place.rows("back"), 1);
    assert!(warned(&restored, "holds a later state"), "{restored}");
}

#[test]
fn no_base_is_removed_that_an_unreadable_set_may_need() {
    let place = Place::plain();
    let (full, increment) = (place.backup("full"), place.backup("differential"));
    let meta = place.path("repo/sets").join(&increment).join("set.meta");
    let good = fs::read(&meta).unwrap();
    flip(&meta);
    for dry in [&["--dry-run"][..], &[]] {
        let args = [&["remove", &full, "--repo", "disk:repo", "--no-cache"][..], dry].concat();
        let refused = place.refused(&args, 1, 17);
        assert!(refused["error"]["message"].as_str().unwrap().contains(&increment), "{refused}");
    }
    fs::write(&meta, good).unwrap();
    place.ok(&["restore", "--repo", "disk:repo", "--to", "back"]);
    assert_eq!(place.rows("back"), 2);
    flip(&meta);
    place.ok(&["remove", &increment, "--repo", "disk:repo", "--no-cache"]);
    place.ok(&["remove", &full, "--repo", "disk:repo", "--no-cache"]);
}

#[test]
fn who_has_no_key_removes_and_judges_nothing() {
    let mut place = Place { dir: tempfile::tempdir().unwrap(), keys: Vec::new() };
    let pair = place.ok(&["key", "new", "--x25519", "--out", "identity"]);
    place.ok(&["init", "--repo", "disk:repo", "--recipient", pair["public_key"].as_str().unwrap()]);
    let full = place.backup("full");
    place.backup("differential");
    place.refused(&["remove", &full, "--repo", "disk:repo"], 1, 9);
    place.refused(&["remove", &full, "--repo", "disk:repo", "--dry-run"], 1, 9);
    place.refused(&["expire", "--keep-full", "1", "--repo", "disk:repo"], 1, 9);
    place.refused(&["check", "--repo", "disk:repo"], 1, 9);
    place.keys = vec!["--identity-file", "identity"];
    assert_eq!(place.ok(&["check", "--repo", "disk:repo"])["sets"], 2);
}

#[test]
fn copies_are_checked_on_their_way_and_replace_what_is_damaged() {
    let place = Place::plain();
    place.ok(&["init", "--no-encryption", "--repo", "disk:other"]);
    let set = place.backup("full");
    let copy = ["copy", "--repo", "disk:repo", "--to-repo", "disk:other"];
    let named = [&copy[..], &[&set]].concat();
    let (here, there) = (place.path("repo/sets").join(&set), place.path("other/sets").join(&set));
    let good = fs::read(here.join("000001.bak")).unwrap();

    flip(&here.join("000001.bak"));
    place.refused(&copy, 3, 7);
    assert!(!there.join("set.meta").exists() && !there.join("000001.bak").exists(), "nothing is published");
    fs::write(here.join("000001.bak"), &good).unwrap();
    assert_eq!(place.ok(&copy)["copied"], serde_json::json!([set]));

    for damage in ["set.meta", "000001.bak"] {
        flip(&there.join(damage));
        let repaired = place.ok(&named);
        assert_eq!(repaired["copied"], serde_json::json!([set]), "{damage}: {repaired}");
        assert!(warned(&repaired, "is replaced"), "{repaired}");
        place.ok(&["check", "--repo", "disk:other", "--depth", "pages"]);
        assert_eq!(place.ok(&named)["present"], serde_json::json!([set]));
    }
    fs::remove_file(there.join("000001.bak")).unwrap();
    assert_eq!(place.ok(&copy)["copied"], serde_json::json!([set]), "what is missing needs no name");
    place.ok(&["check", "--repo", "disk:other"]);

    // What is good in the target is not touched for a source that is not.
    flip(&here.join("set.meta"));
    let (_, answer) = place.run(&named);
    assert_ne!(answer["copied"], serde_json::json!([set]), "{answer}");
    place.ok(&["check", "--repo", "disk:other"]);
}
