//! The command with a PostgreSQL server: its log archived by the server itself, recovery to every kind of target.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use setpiece_test_postgres::{Cluster, StopMode, Version};

/// A server that archives, its repository, and the command where the server's user can run it.
struct World {
    cluster: Cluster,
    program: PathBuf,
    repo: String,
    places: PathBuf,
}

impl World {
    fn new() -> Self {
        let mut cluster = Cluster::new(Version::V15).setting("archive_mode", "on").checksums(true).init();
        let program = cluster.server_dir("bin").join("setpiece");
        fs::copy(env!("CARGO_BIN_EXE_setpiece"), &program).unwrap();
        let repo = format!("disk:{}", cluster.server_dir("repo").display());
        let places = cluster.server_dir("places");
        cluster.option("archive_command", &format!("{} log push --repo {repo} %p", program.display()));
        let world = World { cluster, program, repo, places };
        world.run(&["init", "--no-encryption"]);
        world
    }

    fn start(&mut self) {
        self.cluster.start();
    }

    fn try_run(&self, args: &[&str]) -> Result<String, String> {
        let output = self
            .cluster
            .command(&self.program)
            .args(args)
            .args(["--repo", &self.repo, "--json"])
            .env("HOME", &self.places)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr) + &text(&output.stdout))
        }
    }

    fn run(&self, args: &[&str]) -> String {
        self.try_run(args).unwrap_or_else(|said| panic!("setpiece {args:?}: {said}"))
    }

    fn backup(&self, level: &str) {
        self.run(&["backup", "--source", &self.cluster.uri(), "--level", level]);
    }

    /// Ends the segment that is being written and waits until it is archived.
    fn archive(&self) {
        let name = self.cluster.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
        self.cluster.execute("SELECT pg_switch_wal()");
        let done = format!("SELECT coalesce(last_archived_wal >= '{name}', false) FROM pg_stat_archiver");
        self.cluster.wait_until(&done, Duration::from_secs(60));
    }

    /// Restores to a target, lets the server recover, and asks it for the rows.
    fn rows_at(&self, name: &str, target: &[&str]) -> String {
        let to = self.places.join(name);
        self.run(&[&["restore", "--to", &to.display().to_string()], target].concat());
        let mut restored = self.cluster.open_directory(&to);
        restored.wait_until("SELECT NOT pg_is_in_recovery()", Duration::from_secs(60));
        let rows = restored.psql("SELECT string_agg(word, ' ' ORDER BY id) FROM t");
        restored.stop(StopMode::Fast);
        rows
    }
}

fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    setpiece::model::Timestamp(i64::try_from(since.as_micros()).unwrap()).to_string()
}

fn json<'j>(text: &'j serde_json::Value, path: &str) -> &'j serde_json::Value {
    text.pointer(path).unwrap_or_else(|| panic!("{path} in {text}"))
}

#[test]
fn every_kind_of_target_is_reached() {
    let mut world = World::new();
    world.start();
    let insert = |word: &str| world.cluster.execute(&format!("INSERT INTO t (word) VALUES ('{word}')"));
    world.cluster.execute("CREATE TABLE t (id serial PRIMARY KEY, word text)");
    insert("full");
    world.backup("full");
    insert("one");
    world.backup("differential");
    insert("two");
    let lsn = world.cluster.psql("SELECT pg_current_wal_insert_lsn()");
    world.cluster.execute("SELECT pg_create_restore_point('here')");
    let xid = world.cluster.psql("BEGIN; INSERT INTO t (word) VALUES ('three'); SELECT txid_current(); COMMIT");
    let xid = xid.lines().last().unwrap().to_owned();
    std::thread::sleep(Duration::from_millis(20));
    let moment = now();
    std::thread::sleep(Duration::from_millis(20));
    insert("four");
    world.archive();
    insert("five");
    world.archive();

    assert_eq!(world.rows_at("latest", &[]), "full one two three four five");
    assert_eq!(world.rows_at("lsn", &["--until-lsn", &lsn]), "full one two");
    assert_eq!(world.rows_at("name", &["--until-name", "here"]), "full one two");
    assert_eq!(world.rows_at("xid", &["--until-xid", &xid]), "full one two three");
    assert_eq!(world.rows_at("before", &["--until-xid", &xid, "--exclusive"]), "full one two");
    assert_eq!(world.rows_at("time", &["--until-time", &moment]), "full one two three");
    assert_eq!(world.rows_at("set", &["--set", "latest"]), "full one");

    let later = world.try_run(&["restore", "--to", "/nowhere/x", "--until-time", "2999-01-01T00:00:00Z"]).unwrap_err();
    assert!(later.contains("cannot be reached"), "{later}");
}

/// What the archive command stored tells an increment what changed, when the server's own log is gone; and `show` says
/// so.
#[test]
fn an_increment_takes_its_changes_from_archived_segments() {
    let mut world = World::new();
    world.cluster.option("wal_keep_size", "0");
    world.start();
    world.cluster.execute("CREATE TABLE t (id serial PRIMARY KEY, word text)");
    world.cluster.execute("INSERT INTO t (word) SELECT repeat('word ', 50) FROM generate_series(1, 20000)");
    world.backup("full");
    world.cluster.execute("UPDATE t SET word = 'one' WHERE id = 5000");
    world.archive();
    world.cluster.execute("UPDATE t SET word = 'two' WHERE id = 15000");
    world.archive();
    world.cluster.execute("CHECKPOINT");
    world.backup("differential");
    let shown: serde_json::Value = serde_json::from_str(&world.run(&["show", "latest"])).unwrap();
    let decisions = json(&shown, "/decisions").to_string();
    let words = ["changed pages: from the redo on record up to LSN", "then from the server's own log since"];
    assert!(words.iter().all(|words| decisions.contains(words)), "{decisions}");
    assert!(json(&shown, "/log/0").get("changes").is_none(), "pages are not for people: {shown}");
    let to = world.places.join("back");
    world.run(&["restore", "--to", &to.display().to_string(), "--set", "latest"]);
    let mut restored = world.cluster.open_directory(&to);
    restored.wait_until("SELECT NOT pg_is_in_recovery()", Duration::from_secs(60));
    assert_eq!(restored.psql("SELECT string_agg(word, ' ' ORDER BY id) FROM t WHERE length(word) = 3"), "one two");
    restored.stop(StopMode::Fast);
}

#[test]
fn segments_are_kept_once_and_no_others_are_taken() {
    let mut world = World::new();
    world.start();
    world.cluster.execute("CREATE TABLE t (id serial PRIMARY KEY, word text)");
    world.archive();
    let data = world.cluster.data_dir().display().to_string();
    let name = world.cluster.psql("SELECT last_archived_wal FROM pg_stat_archiver");
    let out = world.places.join("out");
    world.run(&["log", "get", &name, &out.display().to_string(), "--data-dir", &data]);
    let bytes = fs::read(&out).unwrap();
    assert_eq!(bytes.len(), 16 << 20);

    let copy = world.places.join(&name);
    let push = |path: &Path| world.try_run(&["log", "push", &path.display().to_string(), "--data-dir", &data]);
    fs::write(&copy, &bytes).unwrap();
    let again: serde_json::Value = serde_json::from_str(&push(&copy).unwrap()).unwrap();
    assert_eq!(json(&again, "/outcome"), "already there");

    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&copy, &other).unwrap();
    assert!(push(&copy).unwrap_err().contains("with other bytes"));

    let mut foreign = bytes.clone();
    foreign[24] ^= 1;
    fs::write(&copy, &foreign).unwrap();
    assert!(push(&copy).unwrap_err().contains("cluster"));

    let renamed = world.places.join("0000000100000000000000FE");
    fs::write(&renamed, &bytes).unwrap();
    push(&renamed).unwrap_err();
    fs::write(&copy, &bytes[..1000]).unwrap();
    push(&copy).unwrap_err();
    let missing = ["log", "get", "0000000100000000000000EE", "/nowhere/x", "--data-dir", &data];
    assert!(world.try_run(&missing).unwrap_err().contains("no unit of redo of this name"));
}

#[test]
fn a_restored_server_is_started_and_what_cannot_be_is_refused() {
    let mut world = World::new();
    let socket = world.cluster.socket_dir().display().to_string();
    world.cluster.put("postgresql.auto.conf", format!("unix_socket_directories = '{socket}'\nlisten_addresses = ''\n"));
    world.start();
    world.cluster.execute("CREATE TABLE t (id serial PRIMARY KEY, word text)");
    world.cluster.execute("INSERT INTO t (word) VALUES ('kept')");
    world.backup("full");
    let running = format!("pgdata:{}", world.cluster.data_dir().display());
    let said = world.try_run(&["backup", "--source", &running]).unwrap_err();
    assert!(said.contains("the server runs"), "{said}");
    world.cluster.stop(StopMode::Fast);
    world.run(&["backup", "--source", &running, "--level", "differential"]);
    let to = world.places.join("opened");
    world.run(&["restore", "--to", &to.display().to_string(), "--open", "--open-wait", "60"]);
    let mut opened = Cluster::adopt(Version::V15, &to);
    let control = opened.run_tool("pg_controldata", &["-D", &to.display().to_string()]);
    assert!(control.contains("in production"), "{control}");
    let pid = fs::read_to_string(to.join("postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap();
    assert!(std::process::Command::new("kill").args(["-INT", pid]).status().unwrap().success());
    let gone = || !to.join("postmaster.pid").exists();
    (0..600)
        .find(|_| {
            gone() || {
                std::thread::sleep(Duration::from_millis(100));
                false
            }
        })
        .expect("the server ends");
    opened.start();
    assert_eq!(opened.psql("SELECT word FROM t"), "kept");
}

#[test]
fn a_page_and_the_log_come_back_alone_and_less_than_a_cluster_does_not() {
    let mut world = World::new();
    world.start();
    world.cluster.execute("CREATE TABLE t (id serial PRIMARY KEY, word text)");
    world.cluster.execute("INSERT INTO t (word) SELECT repeat('x', 900) FROM generate_series(1, 400)");
    world.backup("full");
    world.cluster.execute("UPDATE t SET word = 'y' WHERE id = 1");
    world.backup("differential");
    let path = world.cluster.psql("SELECT pg_relation_filepath('t')");
    world.cluster.execute("CHECKPOINT");
    let live = fs::read(world.cluster.data_dir().join(&path)).unwrap();
    // Page 17 is in the full set, the first was changed after it.
    for (page, held_by) in [(17, "full"), (0, "differential")] {
        let to = world.places.join(format!("page{page}"));
        let args = ["restore", "--page", &format!("{path}:{page}"), "--to", &to.display().to_string()];
        let answer: serde_json::Value = serde_json::from_str(&world.run(&args)).unwrap();
        assert!(json(&answer, "/held_by").as_str().unwrap().contains(held_by), "{answer}");
        assert!(json(&answer, "/lsn").as_u64().is_some_and(|lsn| lsn > 0), "{answer}");
        let bytes = fs::read(&to).unwrap();
        // What the server knows of ended transactions may have been noted in the page meanwhile.
        assert_eq!((bytes.len(), &bytes[4096..]), (8192, &live[page * 8192 + 4096..(page + 1) * 8192]));
        assert!(world.try_run(&args).unwrap_err().contains("not overwritten"));
    }
    let to = world.places.join("none").display().to_string();
    for (place, said) in [(format!("{path}:9999"), "so there is no page"), ("base/5/nothing:0".into(), "no such file")]
    {
        let error = world.try_run(&["restore", "--page", &place, "--to", &to]).unwrap_err();
        assert!(error.contains(said), "{error}");
    }

    // Of a cluster neither one tablespace nor one database is restored; nothing is touched.
    for more in [&["--dry-run"][..], &[]] {
        let args = [&["restore", "--tablespace", "pg_default", "--to", &to], more].concat();
        let error = world.try_run(&args).unwrap_err();
        assert!(error.contains("as a whole") && error.contains("pg_dump"), "{error}");
    }
    assert!(!Path::new(&to).exists());

    let early = now();
    std::thread::sleep(Duration::from_millis(20));
    world.archive();
    let from = now();
    std::thread::sleep(Duration::from_millis(20));
    world.cluster.execute("INSERT INTO t (word) VALUES ('late')");
    let until = now();
    let name = world.cluster.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    world.archive();
    std::thread::sleep(Duration::from_millis(20));
    world.cluster.execute("INSERT INTO t (word) VALUES ('later')");
    world.archive();
    let out = world.places.join("log");
    world.run(&["log", "get", "--to", &out.display().to_string(), "--from-time", &from, "--until-time", &until]);
    let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.iter().any(|have| have == name.as_str()), "{names:?} without {name}");
    let all = world.places.join("all");
    world.run(&["log", "get", "--to", &all.display().to_string(), "--until-time", &early]);
    assert!(!all.join(&name).exists());
    let segment = fs::read(out.join(&name)).unwrap();
    assert_eq!(segment, fs::read(world.cluster.data_dir().join("pg_wal").join(&name)).unwrap());
}
