//! A standby takes over while both servers archive: what was written of the old timeline's last segment arrives as
//! `NAME.partial`, the history of the new one beside it, and recovery goes across as well as along the old timeline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use setpiece_test_postgres::{Cluster, StopMode, Version};

const LIMIT: Duration = Duration::from_secs(60);

struct World {
    primary: Cluster,
    program: PathBuf,
    repo: String,
    places: PathBuf,
}

impl World {
    /// A primary whose settings, which a standby of it gets as well, have everything archived.
    fn new() -> Self {
        let primary = Cluster::new(Version::V15).setting("archive_mode", "on").start();
        let program = primary.server_dir("bin").join("setpiece");
        fs::copy(env!("CARGO_BIN_EXE_setpiece"), &program).unwrap();
        let (repo, places) = (format!("disk:{}", primary.server_dir("repo").display()), primary.server_dir("places"));
        let world = World { primary, program, repo, places };
        world.run(&["init", "--no-encryption"]);
        let push = format!("{} log push --repo {} %p", world.program.display(), world.repo);
        world.primary.execute(&format!("ALTER SYSTEM SET archive_command = '{push}'"));
        world.primary.execute("SELECT pg_reload_conf()");
        world
    }

    fn run(&self, args: &[&str]) -> serde_json::Value {
        let mut command = self.primary.command(&self.program);
        command.args(args).args(["--repo", &self.repo, "--json"]).env("HOME", &self.places);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "setpiece {args:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The words that are there after a recovery.
    fn words_at(&self, name: &str, target: &[&str]) -> String {
        let to = self.places.join(name);
        self.run(&[&["restore", "--to", &to.display().to_string()], target].concat());
        let mut restored = Cluster::adopt(Version::V15, &to);
        restored.option("archive_mode", "off");
        restored.start();
        restored.wait_until("SELECT NOT pg_is_in_recovery()", LIMIT);
        let words = restored.psql("SELECT string_agg(word, ' ' ORDER BY id) FROM t");
        restored.stop(StopMode::Fast);
        words
    }
}

fn insert(cluster: &Cluster, word: &str) -> String {
    cluster.execute(&format!("INSERT INTO t (word) VALUES ('{word}')"));
    cluster.psql("SELECT pg_current_wal_insert_lsn()")
}

/// Ends the segment that is being written and waits until it is archived.
fn archive(cluster: &Cluster) -> String {
    let name = cluster.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    cluster.execute("SELECT pg_switch_wal()");
    wait_archived(cluster, &name);
    name
}

fn wait_archived(cluster: &Cluster, name: &str) {
    let done = format!("SELECT count(*) = 1 FROM pg_ls_archive_statusdir() WHERE name = '{name}.done'");
    cluster.wait_until(&done, LIMIT);
}

#[test]
fn recovery_goes_across_a_promotion_and_along_the_old_timeline() {
    let mut world = World::new();
    world.primary.execute("CREATE TABLE t (id serial PRIMARY KEY, word text)");
    insert(&world.primary, "one");
    world.run(&["backup", "--source", &world.primary.uri()]);
    let standby = Cluster::standby_of(&world.primary);
    let two = insert(&world.primary, "two");
    archive(&world.primary);
    let three = insert(&world.primary, "three");
    let last = world.primary.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    standby.catch_up_with(&world.primary);
    // The old server is lost with a segment that nobody archived.
    world.primary.kill9();
    standby.promote();
    wait_archived(&standby, &format!("{last}.partial"));
    wait_archived(&standby, "00000002.history");
    insert(&standby, "four");
    archive(&standby);

    let source = standby.data_dir().display().to_string();
    let get = |name: &str| {
        let to = world.places.join(name);
        world.run(&["log", "get", name, &to.display().to_string(), "--data-dir", &source]);
        fs::read(to).unwrap()
    };
    assert!(String::from_utf8(get("00000002.history")).unwrap().starts_with("1\t"));
    assert!(!get(&format!("{last}.partial")).is_empty());
    // Once more is no error, as after a crash of the server before it noted that the file was archived.
    let partial = format!("{source}/pg_wal/{last}.partial");
    assert_eq!(world.run(&["log", "push", &partial, "--data-dir", &source])["outcome"], "already there");

    assert_eq!(world.words_at("latest", &[]), "one two three four");
    assert_eq!(world.words_at("two", &["--until-lsn", &two]), "one two");
    assert_eq!(world.words_at("three", &["--until-lsn", &three, "--branch", "1"]), "one two three");

    // The next set goes on from that of the old timeline.
    let set = world.run(&["backup", "--source", &standby.uri(), "--level", "differential"]);
    assert_eq!(set.pointer("/set/branch").unwrap(), 2);
    assert!(set.pointer("/set/base").unwrap().is_string(), "{set}");

    // Somebody starts the old server once more, and it archives the segment as a whole, with another end.
    world.primary.start();
    insert(&world.primary, "old");
    assert_eq!(archive(&world.primary), last);
    assert_eq!(world.words_at("old", &["--branch", "1"]), "one two three old");
    assert_eq!(world.words_at("new", &["--branch", "2"]), "one two three four");
}
