//! PostgreSQL servers for tests: made in a directory of their own, reached by a socket in it, ended with the test.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The versions whose installations are looked for. That of 15 must be there, the others where the environment names
/// them.
const MAJORS: [u16; 7] = [12, 13, 14, 15, 16, 17, 18];
/// The user that a server runs as when the tests run as root, which servers refuse.
const NOBODY: u32 = 65534;

/// A PostgreSQL that is installed.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    pub(crate) major: u16,
    bin: PathBuf,
}

impl Installation {
    /// The one of the distribution, and those that `SETPIECE_TEST_PG_BIN_17` and the like name.
    pub(crate) fn all() -> Vec<Installation> {
        MAJORS.into_iter().filter_map(Installation::find).collect()
    }

    pub(crate) fn find(major: u16) -> Option<Installation> {
        let named = std::env::var_os(format!("SETPIECE_TEST_PG_BIN_{major}")).map(PathBuf::from);
        let bin = named.or_else(|| (major == 15).then(|| PathBuf::from("/usr/lib/postgresql/15/bin")))?;
        assert!(bin.join("initdb").exists(), "PostgreSQL {major} is not in {}", bin.display());
        Some(Installation { major, bin })
    }

    /// A program of this installation, if it has it.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        Some(self.bin.join(name)).filter(|path| path.exists())
    }
}

/// A cluster in a directory of its own.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) installation: Installation,
    home: tempfile::TempDir,
    running: bool,
}

impl Server {
    /// Makes a cluster. `initdb` are more arguments of that program, `settings` more lines of the configuration.
    pub(crate) fn new(installation: &Installation, initdb: &[&str], settings: &[&str]) -> Server {
        let home = tempfile::Builder::new().prefix("setpiece-pg").tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        if is_root() {
            chown(home.path(), Some(NOBODY), None).unwrap();
        }
        let server = Server { installation: installation.clone(), home, running: false };
        let mut arguments = vec!["-A", "trust", "-U", "postgres", "-N", "--locale=C", "-E", "UTF8", "-D"];
        let data = server.data();
        arguments.push(data.to_str().unwrap());
        arguments.extend(initdb);
        server.run("initdb", &arguments);
        let keep = if installation.major == 12 { "wal_keep_segments = 4000" } else { "wal_keep_size = 4GB" };
        let mut lines = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        let basic = [
            "listen_addresses = ''",
            "fsync = off",
            "full_page_writes = on",
            "autovacuum = off",
            "max_wal_size = 4GB",
            "checkpoint_timeout = 1h",
            "max_prepared_transactions = 10",
            "logging_collector = off",
            keep,
        ];
        let socket = format!("unix_socket_directories = '{}'", server.home.path().display());
        for line in basic.iter().chain(settings).chain([&socket.as_str()]) {
            lines.push_str(line);
            lines.push('\n');
        }
        fs::write(data.join("postgresql.conf"), lines).unwrap();
        server
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A new directory beside the data, for a tablespace.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::create_dir(&path).unwrap();
        if is_root() {
            chown(&path, Some(NOBODY), None).unwrap();
        }
        path
    }

    pub(crate) fn start(&mut self) {
        let (data, log) = (self.data(), self.home.path().join("log"));
        self.run("pg_ctl", &["-D", data.to_str().unwrap(), "-l", log.to_str().unwrap(), "-w", "start"]);
        self.running = true;
    }

    /// Starts the server so that it recovers as from an archive, and goes on as a new timeline.
    pub(crate) fn recover(&mut self) {
        let signal = self.data().join("recovery.signal");
        fs::write(&signal, "").unwrap();
        if is_root() {
            chown(&signal, Some(NOBODY), None).unwrap();
        }
        self.start();
        while self.sql("postgres", "SELECT pg_is_in_recovery()") != "f" {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Stops the server with a checkpoint.
    pub(crate) fn stop(&mut self) {
        self.end("fast");
    }

    /// Stops the server as a crash does.
    pub(crate) fn crash(&mut self) {
        self.end("immediate");
    }

    fn end(&mut self, mode: &str) {
        let data = self.data();
        self.run("pg_ctl", &["-D", data.to_str().unwrap(), "-m", mode, "-w", "stop"]);
        self.running = false;
    }

    /// Runs a program of the installation as the server's user.
    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.installation.program(program).unwrap();
        let mut command = as_nobody(&program);
        let output = command.args(arguments).current_dir(self.home.path()).output().unwrap();
        let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
        assert!(output.status.success(), "{}: {}{log}", program.display(), both(&output));
    }

    /// Runs statements in a database and returns what they print.
    pub(crate) fn sql(&self, database: &str, statements: &str) -> String {
        let output = self.psql(database, statements);
        assert!(output.status.success(), "{}", both(&output));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// As [`Server::sql`], without asking whether it went well.
    pub(crate) fn psql(&self, database: &str, statements: &str) -> Output {
        let newest = Installation::find(15).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), statements).unwrap();
        Command::new(newest.program("psql").unwrap())
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"])
            .arg(self.home.path())
            .arg("-f")
            .arg(file.path())
            .output()
            .unwrap()
    }

    /// The segments of WAL, by name.
    pub(crate) fn wal(&self) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(self.data().join("pg_wal")).unwrap().map(|entry| entry.unwrap());
        let files = files.filter(|entry| entry.file_type().unwrap().is_file());
        let named = files.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
        named.filter(|(name, _)| name.len() == 24).map(|(name, path)| (name, fs::read(path).unwrap())).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running {
            let data = self.data();
            let stopped = as_nobody(&self.installation.program("pg_ctl").unwrap())
                .args(["-D", data.to_str().unwrap(), "-m", "immediate", "-w", "stop"])
                .output();
            drop(stopped);
        }
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn as_nobody(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let nobody = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]).arg(program);
    command
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
