//! A server, a repository, and the command where the server's user can run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use setpiece_test_postgres::{Builder, Cluster, StopMode};

pub(crate) const LATE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) program: PathBuf,
    pub(crate) repo: PathBuf,
    pub(crate) places: PathBuf,
}

impl World {
    pub(crate) fn new(builder: Builder) -> Self {
        let cluster = builder.init();
        let program = cluster.server_dir("bin").join("setpiece");
        fs::copy(env!("CARGO_BIN_EXE_setpiece"), &program).unwrap();
        let (repo, places) = (cluster.server_dir("repo"), cluster.server_dir("places"));
        let world = World { cluster, program, repo, places };
        world.run(&["init", "--no-encryption"]);
        world
    }

    /// The same, started, with a table of numbers.
    pub(crate) fn started(builder: Builder) -> Self {
        let mut world = World::new(builder);
        world.cluster.start();
        world.cluster.execute("CREATE TABLE t (id serial PRIMARY KEY, word text)");
        world
    }

    pub(crate) fn repo_url(&self) -> String {
        format!("disk:{}", self.repo.display())
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.cluster.command(&self.program);
        command.args(args).args(["--repo", &self.repo_url(), "--json"]).env("HOME", &self.places);
        command
    }

    pub(crate) fn try_run(&self, args: &[&str]) -> Result<Value, String> {
        let output = self.command(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(serde_json::from_slice(&output.stdout).unwrap())
        } else {
            Err(text(&output.stderr) + &text(&output.stdout))
        }
    }

    /// The answer of a verb that has one even when it ends with another code than 0.
    pub(crate) fn answer(&self, args: &[&str]) -> (Value, i32) {
        let output = self.command(args).output().unwrap();
        let said = || String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {}", said()));
        (answer, output.status.code().unwrap())
    }

    pub(crate) fn run(&self, args: &[&str]) -> Value {
        self.try_run(args).unwrap_or_else(|said| panic!("setpiece {args:?}: {said}"))
    }

    pub(crate) fn backup(&self) {
        self.run(&["backup", "--source", &self.cluster.uri()]);
    }

    pub(crate) fn stream(&self, uri: &str, args: &[&str]) -> Running {
        Running::start(self.command(&[&["log", "stream", "--source", uri], args].concat()))
    }

    /// Restores to the end of the log, lets the server recover, and gives the numbers in the table.
    pub(crate) fn ids_at_latest(&self, name: &str) -> Vec<u64> {
        self.ids_at(name, &[])
    }

    /// The same at a target.
    pub(crate) fn ids_at(&self, name: &str, target: &[&str]) -> Vec<u64> {
        let to = self.places.join(name);
        self.run(&[&["restore", "--to", &to.display().to_string()], target].concat());
        let mut restored = self.cluster.open_directory(&to);
        restored.wait_until("SELECT NOT pg_is_in_recovery()", LATE);
        let rows = restored.rows("SELECT id FROM t ORDER BY id");
        restored.stop(StopMode::Fast);
        rows.iter().map(|row| row[0].parse().unwrap()).collect()
    }

    /// Brings a file of the log back.
    pub(crate) fn log_file(&self, name: &str) -> Result<Vec<u8>, String> {
        let out = self.places.join("log file");
        let data = self.cluster.data_dir().display().to_string();
        self.try_run(&["log", "get", name, &out.display().to_string(), "--data-dir", &data])?;
        Ok(fs::read(out).unwrap())
    }

    /// The windows on record.
    pub(crate) fn windows(&self) -> Vec<Value> {
        let sets = self.run(&["sets", "--all"]);
        let sources = sets["sources"].as_array().unwrap();
        sources.iter().flat_map(|source| source["windows"].as_array().unwrap().clone()).collect()
    }

    /// The names of all units on record that are sets of their own.
    pub(crate) fn captured(&self) -> Vec<String> {
        let sets = self.run(&["sets", "--all"]);
        let captured = sets["sets"].as_array().unwrap().iter().filter(|set| set["captured"] == true);
        captured.map(|set| set["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Where the server may remove its log up to.
    pub(crate) fn acknowledged(&self) -> String {
        self.cluster.psql("SELECT coalesce(restart_lsn, '0/0') FROM pg_replication_slots WHERE slot_name = 'setpiece'")
    }

    /// Waits until all that the server has written by now is durable in the repository.
    pub(crate) fn caught_up(&self) {
        let lsn = self.cluster.psql("SELECT pg_current_wal_flush_lsn()");
        let slot = "FROM pg_replication_slots WHERE slot_name = 'setpiece'";
        self.cluster.wait_until(&format!("SELECT coalesce(bool_or(restart_lsn >= '{lsn}'), false) {slot}"), LATE);
    }

    pub(crate) fn insert(&self, rows: u32) {
        self.cluster.execute(&format!("INSERT INTO t (word) SELECT md5(i::text) FROM generate_series(1, {rows}) i"));
    }
}

/// A command under way, which ends with the test.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(mut command: std::process::Command) -> Self {
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn kill9(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to end, and gives what it said.
    pub(crate) fn end(self) -> Result<Value, String> {
        let pid = self.0.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.ended()
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(mut self) -> Result<Value, String> {
        let began = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < LATE, "the command does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        let read = |from: Option<&mut dyn std::io::Read>| {
            let mut text = String::new();
            from.unwrap().read_to_string(&mut text).unwrap();
            text
        };
        let said = read(self.0.stdout.as_mut().map(|out| out as _));
        let failed = read(self.0.stderr.as_mut().map(|out| out as _));
        let done = self.0.wait().unwrap().success();
        if done { Ok(serde_json::from_str(&said).unwrap()) } else { Err(failed + &said) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The segments in a directory that are whole: all but the newest.
pub(crate) fn segments(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.len() == 24).collect();
    names.sort();
    names
}
