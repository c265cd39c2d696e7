//! A PostgreSQL server of a test's own, on a Unix socket and a free port of this machine.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use setpiece_source_postgres::client::{Client, ConnectInfo, Mode};
use tempfile::TempDir;

/// The user and group `nobody` and `nogroup`, since no server runs as root.
const NOBODY: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    directory: TempDir,
    process: Option<Child>,
    pub port: u16,
}

impl Server {
    /// A new server. `hba` says who may log in besides `postgres`, who may over the Unix socket.
    pub fn start(hba: &str, settings: &str) -> Server {
        let directory = tempfile::tempdir().unwrap();
        give(directory.path());
        let mut server = Server { directory, process: None, port: 0 };
        let data = server.data();
        let made = unprivileged("initdb")
            .args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let admin = "local all postgres trust\nlocal replication postgres trust\n";
        server.write("data/pg_hba.conf", &format!("{admin}{hba}\n"));
        let usual = "fsync = off\nlisten_addresses = '127.0.0.1'\nshared_buffers = 16MB\nlog_checkpoints = off\n";
        let sockets = format!("unix_socket_directories = '{}'\n", server.directory.path().display());
        server.write("data/postgresql.auto.conf", &format!("{usual}{sockets}{settings}\n"));
        server.run();
        server
    }

    /// Starts the server again or for the first time.
    pub fn run(&mut self) {
        // Another may take the port before the server does.
        for _ in 0..3 {
            self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
            let mut command = unprivileged("postgres");
            command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
            let errors = log.try_clone().unwrap();
            self.process = Some(command.stdout(log).stderr(errors).spawn().unwrap());
            if self.wait() {
                return;
            }
        }
        panic!("the server does not start: {}", fs::read_to_string(self.path("log")).unwrap());
    }

    /// Whether it can be connected to before it ends or patience does.
    fn wait(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if Client::connect(&self.unix("postgres", ""), Mode::Sql).is_ok() {
                return true;
            }
            if self.process.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Ends the server: `INT` lets it write what it has, `QUIT` doesn't.
    pub fn stop(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            kill_process(pid(process.id()), signal).unwrap();
            process.wait().unwrap();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Writes a file that the server may read.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        give(&self.path(name));
    }

    /// The way over the Unix socket. `more` is parameters, each with a `&` before it.
    pub fn unix(&self, user: &str, more: &str) -> ConnectInfo {
        let directory = self.directory.path().display();
        info(&format!("postgres://{user}@:{}/postgres?host={directory}{more}", self.port))
    }

    /// The way over the network.
    pub fn tcp(&self, user: &str, more: &str) -> ConnectInfo {
        info(&format!("postgres://{user}@127.0.0.1:{}/postgres?connect_timeout=20{more}", self.port))
    }

    pub fn admin(&self) -> Client {
        Client::connect(&self.unix("postgres", ""), Mode::Sql).unwrap()
    }

    pub fn walsender(&self) -> Client {
        Client::connect(&self.unix("postgres", ""), Mode::PhysicalReplication).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Signal::QUIT);
    }
}

pub fn info(text: &str) -> ConnectInfo {
    text.parse().unwrap()
}

pub fn pid(number: u32) -> Pid {
    Pid::from_raw(number.try_into().unwrap()).unwrap()
}

/// The only value of a query.
pub fn value(client: &mut Client, sql: &str) -> String {
    client.query(sql).unwrap()[0].get(0).unwrap().to_owned()
}

/// Waits until `sql` says `t`.
pub fn until(client: &mut Client, sql: &str) {
    let began = Instant::now();
    while value(client, sql) != "t" {
        assert!(began.elapsed() < PATIENCE, "never true: {sql}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes `path` the server's.
pub fn give(path: &Path) {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// Runs a program as nobody, and no longer than the thread that starts it.
fn unprivileged(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=QUIT");
    if rustix::process::geteuid().is_root() {
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".into()]);
    }
    command.arg("--").arg(binaries().join(program));
    command
}

/// The programs of the server that `SETPIECE_TEST_POSTGRES` names, or else of the newest that is installed.
fn binaries() -> PathBuf {
    if let Some(named) = std::env::var_os("SETPIECE_TEST_POSTGRES") {
        return named.into();
    }
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<(u32, PathBuf)> = installed
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, path.join("bin"))).filter(|(_, bin)| bin.join("postgres").exists())
        })
        .collect();
    found.sort();
    found.pop().expect("no PostgreSQL server is installed: apt-get install postgresql").1
}
