//! The command with a server of PostgreSQL that is dressed as one of KingbaseES and runs: its functions, views, directories,
//! files and programs go by the names that KingbaseES gives them, and by no others that the command could see. What a
//! real server of KingbaseES does beyond that is not shown by this.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpiece_test_postgres::{Cluster, Installation, StopMode, Version};

const SYS_CTL: &str = include_str!("kingbase/sys_ctl");

/// In the database `test` nothing of the server is called `pg_...` any more.
const DRESS: [&str; 8] = [
    "SET allow_system_table_mods = on; UPDATE pg_proc SET proname = 'sys_' || substr(proname, 4) WHERE proname ~ '^pg_'",
    "SET allow_system_table_mods = on; UPDATE pg_class SET relname = 'sys_' || substr(relname, 4) \
     WHERE relname ~ '^pg_' AND relkind IN ('r', 'v') AND relnamespace = 'pg_catalog'::regnamespace",
    // The names of before version 15, which KingbaseES has, and their parameters.
    "SET allow_system_table_mods = on; UPDATE sys_proc SET proname = 'inner_' || proname \
     WHERE proname IN ('sys_backup_start', 'sys_backup_stop', 'version')",
    "SET allow_system_table_mods = on; CREATE FUNCTION pg_catalog.sys_start_backup(text, boolean, boolean) \
     RETURNS pg_lsn LANGUAGE sql AS 'SELECT inner_sys_backup_start($1, $2)'",
    "SET allow_system_table_mods = on; CREATE FUNCTION pg_catalog.sys_stop_backup(boolean, boolean, OUT lsn pg_lsn, \
     OUT labelfile text, OUT spcmapfile text) LANGUAGE sql AS 'SELECT * FROM inner_sys_backup_stop($2)'",
    "SET allow_system_table_mods = on; CREATE FUNCTION pg_catalog.version() RETURNS text LANGUAGE sql \
     AS $$SELECT 'KingbaseES V008R006C007B0024 on x86_64-pc-linux-gnu'$$",
    "SET allow_system_table_mods = on; UPDATE sys_class SET relname = 'inner_settings' WHERE relname = 'sys_settings'",
    "SET allow_system_table_mods = on; CREATE VIEW pg_catalog.sys_settings AS SELECT name, \
     CASE name WHEN 'data_directory' THEN '@DATA@' ELSE setting END AS setting FROM inner_settings",
];

/// A server that archives, its repository, and the command where the server's user can run it.
struct World {
    /// Its data directory is the view of `data`.
    cluster: Cluster,
    data: PathBuf,
    programs: PathBuf,
    program: PathBuf,
    repo: String,
    places: PathBuf,
}

impl World {
    /// A running server.
    fn new() -> Self {
        let mut cluster = Cluster::new(Version::V15).setting("archive_mode", "on").init();
        let programs = cluster.server_dir("programs");
        let program = programs.join("setpiece");
        fs::copy(env!("CARGO_BIN_EXE_setpiece"), &program).unwrap();
        let below = Installation::find(Version::V15).program("postgres").parent().unwrap().display().to_string();
        fs::write(programs.join("sys_ctl"), SYS_CTL.replace("@PROGRAMS@", &below)).unwrap();
        fs::set_permissions(programs.join("sys_ctl"), fs::Permissions::from_mode(0o755)).unwrap();
        let places = cluster.server_dir("places");
        let repo = format!("disk:{}", cluster.server_dir("repo").display());
        let data = places.join("data");
        // A server of KingbaseES runs the command in its data directory, with `%p` below `sys_wal`.
        let push = format!("cd {} && {} log push --repo {repo} sys_wal/%f", data.display(), program.display());
        cluster.option("archive_command", &push);
        let mut world = World { cluster, data, programs, program, repo, places };
        world.dress();
        world.run(&["init", "--no-encryption"]);
        world
    }

    /// Makes the server's programs see a view of a directory that has the names of KingbaseES only.
    fn dress(&mut self) {
        self.cluster.start();
        let place = self.cluster.server_dir("space");
        self.cluster.execute(&format!("CREATE TABLESPACE space LOCATION '{}'", place.display()));
        self.cluster.execute("CREATE DATABASE test");
        self.sql("CREATE TABLE t (id serial PRIMARY KEY, word text)");
        self.sql("CREATE TABLE apart (n int) TABLESPACE space");
        for statement in DRESS {
            self.sql(&statement.replace("@DATA@", &self.data.display().to_string()));
        }
        self.cluster.stop(StopMode::Fast);
        let seen = self.cluster.data_dir().to_owned();
        fs::rename(&seen, &self.data).unwrap();
        rename(&self.data, 5);
        rename(&place, 3);
        self.sys_ctl(&self.data, "view");
        let made = self.places.join("data.view");
        fs::rename(&made, &seen).unwrap();
        fs::remove_file(self.data.join("kingbase.pid")).unwrap();
        std::os::unix::fs::symlink(seen.join("postmaster.pid"), self.data.join("kingbase.pid")).unwrap();
        self.cluster.start();
    }

    fn sys_ctl(&self, data: &Path, what: &str) {
        let mut command = self.cluster.command(&self.programs.join("sys_ctl"));
        let done = command.arg("-D").arg(data).arg(what).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn sql(&self, sql: &str) -> String {
        self.cluster.try_psql_in("test", sql).unwrap_or_else(|said| panic!("{sql}: {said}"))
    }

    fn url(&self, scheme: &str) -> String {
        let (socket, port) = (self.cluster.socket_dir(), self.cluster.port());
        format!("{scheme}:///test?host={}&port={port}&user=postgres", socket.display())
    }

    fn try_run(&self, args: &[&str]) -> Result<String, String> {
        let mut command = self.cluster.command(&self.program);
        command.args(args).args(["--repo", &self.repo, "--json"]).env("HOME", &self.places);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr) + &text(&output.stdout)),
        }
    }

    fn run(&self, args: &[&str]) -> serde_json::Value {
        let said = self.try_run(args).unwrap_or_else(|said| panic!("setpiece {args:?}: {said}"));
        serde_json::from_str(&said).unwrap()
    }

    /// Ends the segment that is being written and waits until it is archived; gives its name.
    fn archive(&self) -> String {
        let name = self.sql("SELECT sys_walfile_name(sys_current_wal_lsn())");
        self.sql("SELECT sys_switch_wal()");
        let done = format!("SELECT coalesce(last_archived_wal >= '{name}', false) FROM pg_stat_archiver");
        self.cluster.wait_until(&done, Duration::from_secs(60));
        name
    }

    /// Restores, has the server started by its `sys_ctl`, and asks it for the rows.
    fn rows_at(&self, name: &str, target: &[&str]) -> String {
        let to = self.places.join(name);
        let (to_text, programs) = (to.display().to_string(), self.programs.display().to_string());
        let open = ["restore", "--to", &to_text, "--open", "--programs", &programs];
        self.run(&[&open[..], target].concat());
        let foreign: Vec<String> = names_below(&to).into_iter().filter(|name| is_foreign(name)).collect();
        assert!(foreign.iter().all(|name| fs::symlink_metadata(to.join(name)).unwrap().is_symlink()), "{foreign:?}");
        let socket = self.places.display().to_string();
        let mut psql = self.cluster.command(&Installation::find(Version::V15).program("psql"));
        let ask = "SELECT string_agg(word, ' ' ORDER BY id) || ' ' || (SELECT count(*) FROM apart) FROM t";
        let asked = psql.args(["-XqAt", "-h", &socket, "-U", "postgres", "test", "-c", ask]).output().unwrap();
        self.sys_ctl(&to, "stop");
        let said = String::from_utf8_lossy(&asked.stderr);
        assert!(asked.status.success(), "{said}");
        String::from_utf8_lossy(&asked.stdout).trim().to_owned()
    }
}

/// Renames whatever has a name that begins as PostgreSQL's do, the contents of directories first.
fn rename(directory: &Path, depth: usize) {
    const NAMES: [(&str, &str); 3] = [("pg_", "sys_"), ("PG_", "SYS_"), ("postgresql.", "kingbase.")];
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() && depth > 0 {
            rename(&path, depth - 1);
        }
        let other = NAMES.iter().find_map(|(from, to)| name.strip_prefix(from).map(|rest| format!("{to}{rest}")));
        other.into_iter().for_each(|other| fs::rename(&path, directory.join(other)).unwrap());
    }
}

/// Whether a name is one of PostgreSQL's own; the server makes caches in databases, which no backup holds.
fn is_foreign(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap();
    let ours = ["pg_", "PG_", "postgresql.", "postmaster."].iter().any(|prefix| name.starts_with(prefix));
    ours && !name.starts_with("pg_internal.init")
}

fn names_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
            found.push(entry.path().strip_prefix(directory).unwrap().display().to_string());
        }
    }
    found
}

#[test]
fn a_running_dressed_server_is_backed_up_archived_recovered_and_opened() {
    let world = World::new();
    let insert = |word: &str| world.sql(&format!("INSERT INTO t (word) VALUES ('{word}')"));
    let socket = world.places.display().to_string();
    world.cluster.try_psql_in("test", "SELECT pg_switch_wal()").expect_err("the server has no other names");
    insert("full");
    // The restored server goes its own way by the settings that KingbaseES reads last; ours come behind them.
    let settings = format!("listen_addresses = ''\nunix_socket_directories = '{socket}'\narchive_mode = off\n");
    fs::write(world.data.join("kingbase.auto.conf"), settings).unwrap();
    let full = world.run(&["backup", "--source", &world.url("kingbase")]);
    assert_eq!(full.pointer("/set/source/engine").unwrap(), "kingbase");

    world.sql("INSERT INTO t (word) VALUES ('increment'); INSERT INTO apart VALUES (1)");
    // The address says nothing of KingbaseES; the server does.
    let increment = world.run(&["backup", "--source", &world.url("postgres"), "--level", "differential"]);
    assert_eq!(increment.pointer("/set/source/engine").unwrap(), "kingbase");
    assert_eq!(increment.pointer("/set/base"), full.pointer("/set/id"));
    assert!(increment["pages"].as_u64().unwrap() < full["pages"].as_u64().unwrap() / 2, "{increment}");

    insert("logged");
    let lsn = world.sql("SELECT sys_current_wal_insert_lsn()");
    insert("later");
    let segment = world.archive();
    let got = world.places.join("segment").display().to_string();
    world.run(&["log", "get", &segment, &got, "--data-dir", &world.data.display().to_string()]);
    assert_eq!(fs::read(&got).unwrap(), fs::read(world.data.join("sys_wal").join(&segment)).unwrap());
    // What is not archived yet comes by a stream.
    insert("streamed");
    let stream = ["log", "stream", "--source", &world.url("kingbase"), "--stop-when-idle", "2", "--max-delay", "1"];
    world.run(&stream);

    assert_eq!(world.rows_at("set", &["--set", "latest"]), "full increment 1");
    assert_eq!(world.rows_at("lsn", &["--until-lsn", &lsn]), "full increment logged 1");
    assert_eq!(world.rows_at("latest", &[]), "full increment logged later streamed 1");
}

#[test]
fn the_log_of_a_stopped_dressed_server_is_swept_and_its_directory_is_known() {
    let mut world = World::new();
    world.sql("INSERT INTO t (word) VALUES ('kept')");
    let (url, live) = (format!("pgdata:{}", world.data.display()), world.url("kingbase"));
    let said = world.try_run(&["backup", "--source", &url]).unwrap_err();
    assert!(said.contains("the server runs"), "{said}");
    let socket = world.places.display().to_string();
    let settings = format!("listen_addresses = ''\nunix_socket_directories = '{socket}'\narchive_mode = off\n");
    fs::write(world.data.join("kingbase.auto.conf"), settings).unwrap();
    world.run(&["backup", "--source", &live]);
    let said = world.try_run(&["backup", "--source", &format!("{live}&via=protocol")]).unwrap_err();
    assert!(said.contains("without via=protocol"), "{said}");
    world.sql("INSERT INTO t (word) VALUES ('swept')");
    world.cluster.stop(StopMode::Immediate);
    world.run(&["log", "backup", "--source", &url]);
    assert_eq!(world.rows_at("swept", &[]), "kept swept 0");
}
