//! A cluster and its server: started, stopped, killed, and gone when it is dropped.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use crate::builder::Builder;
use crate::home::{Home, open_way_to};
use crate::process::{Account, entries, kill_all_in, output_of, poll, processes_in, signal, spawn};
use crate::version::{Installation, Version};

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits for its clients to leave.
    Smart,
    /// Sends its clients away and makes a checkpoint.
    Fast,
    /// Leaves everything as it is; the next start recovers.
    Immediate,
}

/// A data directory with its server, which ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) installation: Installation,
    pub(crate) account: Account,
    pub(crate) home: Home,
    pub(crate) data: PathBuf,
    pub(crate) port: u16,
    pub(crate) tcp: bool,
    pub(crate) options: Vec<(String, String)>,
    pub(crate) server: Option<Child>,
    pub(crate) starts: u64,
    pub(crate) patience: Duration,
}

impl Cluster {
    /// A new cluster, to be described and started.
    #[allow(clippy::new_ret_no_self, reason = "a cluster is described before it is made")]
    #[must_use]
    pub fn new(version: Version) -> Builder {
        Builder::new(version)
    }

    /// A stopped cluster of a data directory that is there already, which stays when this is dropped. It and its
    /// tablespaces are given to the server's user.
    #[must_use]
    pub fn adopt(version: Version, path: &Path) -> Self {
        Cluster::take(Builder::new(version), path)
    }

    /// [`Cluster::adopt`] with this cluster's version and user, started.
    #[must_use]
    pub fn open_directory(&self, path: &Path) -> Self {
        let mut builder = Builder::new(self.version());
        builder.account = self.account;
        let mut cluster = Cluster::take(builder, path);
        cluster.start();
        cluster
    }

    fn take(builder: Builder, path: &Path) -> Self {
        let (installation, home) = (Installation::find(builder.version), Home::new(builder.account));
        let cluster = builder.cluster(installation, home, path.to_owned());
        cluster.take_over();
        cluster
    }

    fn take_over(&self) {
        let spaces = self.data.join("pg_tblspc");
        let mut links = if spaces.is_dir() { entries(&spaces) } else { Vec::new() };
        links.push(self.data.join("pg_wal"));
        for path in links.iter().filter_map(|link| fs::read_link(link).ok()).chain([self.data.clone()]) {
            open_way_to(&path);
            self.account.own(&path);
        }
        // A tablespace within the data directory opened the way through it as well, which the server does not accept.
        fs::set_permissions(&self.data, fs::Permissions::from_mode(0o700)).expect("the data directory is there");
    }

    /// Which version its server is.
    #[must_use]
    pub fn version(&self) -> Version {
        self.installation.version()
    }

    /// The data directory, without links.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The directory of the server's socket.
    #[must_use]
    pub fn socket_dir(&self) -> PathBuf {
        self.home.path("socket")
    }

    /// The port, in the name of the socket and on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the server is, as libpq wants it; to the database `postgres`, as the superuser.
    #[must_use]
    pub fn uri(&self) -> String {
        self.uri_to("postgres")
    }

    /// [`Cluster::uri`] to another database.
    #[must_use]
    pub fn uri_to(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&port={}&user=postgres", self.socket_dir().display(), self.port)
    }

    /// A new empty directory of the server's, for a tablespace or an archive; it goes with the cluster.
    #[must_use]
    pub fn server_dir(&self, name: &str) -> PathBuf {
        self.home.make(&format!("dirs/{name}"), 0o700)
    }

    /// Writes a file of the data directory as the server would: its own, and shut to others.
    pub fn put(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.data.join(name);
        fs::write(&path, contents).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it was just written");
        self.account.own(&path);
    }

    /// A setting on the server's command line from its next start on; it counts more than the files.
    pub fn option(&mut self, name: &str, value: &str) {
        self.options.push((name.into(), value.into()));
    }

    /// How long a start and a stop may take, 60 seconds unless this is called.
    pub fn patience(&mut self, limit: Duration) {
        self.patience = limit;
    }

    /// Starts the server and waits until it takes connections.
    ///
    /// # Panics
    /// When it does not; with the end of its log.
    pub fn start(&mut self) {
        self.try_start().unwrap_or_else(|said| panic!("the server does not start: {said}"));
    }

    /// [`Cluster::start`] that gives the end of the log back when the server ended or is not ready in time.
    pub fn try_start(&mut self) -> Result<(), String> {
        self.launch();
        self.try_wait_ready(self.patience)
    }

    /// Starts the server and does not wait.
    ///
    /// # Panics
    /// When it runs already.
    pub fn launch(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        self.starts += 1;
        self.server = Some(spawn(self.server_command()).expect("setpriv starts"));
    }

    fn server_command(&self) -> Command {
        let log = OpenOptions::new().create(true).append(true).open(self.home.path("log")).expect("a log");
        let mut command = self.account.command_bound_to_us(&self.installation.program("postgres"));
        command.stdout(log.try_clone().expect("a handle")).stderr(log).arg("-D").arg(&self.data);
        let mut option = |name: &str, value: &str| {
            command.arg("-c").arg(format!("{name}={value}"));
        };
        option("unix_socket_directories", &self.socket_dir().display().to_string());
        option("port", &self.port.to_string());
        option("listen_addresses", if self.tcp { "127.0.0.1" } else { "" });
        self.options.iter().for_each(|(name, value)| option(name, value));
        command
    }

    /// Waits until the server takes connections.
    ///
    /// # Panics
    /// When it ended or is not ready in time; with the end of its log.
    pub fn wait_ready(&mut self, limit: Duration) {
        self.try_wait_ready(limit).unwrap_or_else(|said| panic!("the server is not ready: {said}"));
    }

    fn try_wait_ready(&mut self, limit: Duration) -> Result<(), String> {
        let data = self.data.clone();
        let server = self.server.as_mut().expect("the server was started");
        let ended = poll(limit, || match server.try_wait().expect("it is our child") {
            Some(status) => Some(Some(status)),
            None => is_ready(&data, server.id()).then_some(None),
        });
        match ended {
            Some(None) => Ok(()),
            Some(Some(status)) => {
                self.server = None;
                Err(format!("it ended with {status}\n{}", self.end_of_log()))
            }
            None => Err(format!("not ready after {limit:?}\n{}", self.end_of_log())),
        }
    }

    /// Whether the server's first process is there.
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| server.try_wait().expect("it is our child").is_none())
    }

    /// Waits until the server ended by itself, as it does at a recovery target that says so.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    pub fn wait_ended(&mut self, limit: Duration) {
        let mut server = self.server.take().expect("the server was started");
        let ended = poll(limit, || server.try_wait().expect("it is our child"));
        if ended.is_none() {
            self.server = Some(server);
            panic!("the server still runs after {limit:?}\n{}", self.end_of_log());
        }
    }

    /// Stops the server and waits until it has ended.
    ///
    /// # Panics
    /// When it does not run, or does not end in time.
    pub fn stop(&mut self, mode: StopMode) {
        let server = self.server.as_ref().expect("the server was started");
        let name = match mode {
            StopMode::Smart => "TERM",
            StopMode::Fast => "INT",
            StopMode::Immediate => "QUIT",
        };
        signal(name, &[server.id()]);
        self.wait_ended(self.patience);
    }

    /// Ends all of the server's processes at once, as when the machine loses power, and removes their shared memory; what
    /// was given to the system to write is written, though.
    pub fn kill9(&mut self) {
        kill_all_in(&self.data);
        if let Some(mut server) = self.server.take() {
            // It may have been killed before it went to its directory.
            server.kill().ok();
            server.wait().ok();
        }
        self.remove_shared_memory();
    }

    /// Stops and starts it.
    pub fn restart(&mut self) {
        self.stop(StopMode::Fast);
        self.start();
    }

    /// Kills it and lets it recover.
    pub fn crash_and_recover(&mut self) {
        self.kill9();
        self.start();
    }

    /// How often its server was started.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// The numbers of all processes of the server.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        processes_in(&self.data)
    }

    /// What the server wrote, since the cluster was made.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.home.path("log")).map_or_else(|_| String::new(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// A killed server leaves a small segment of shared memory, which only its next start would remove.
    fn remove_shared_memory(&self) {
        let pid_file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        if let Some(id) = pid_file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
            output_of(Command::new("ipcrm").args(["-m", id])).ok();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.kill9();
        }
    }
}

/// The server's own word: the last line of its process file, whose first is its number.
fn is_ready(data: &Path, process: u32) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = text.lines();
    let ours = lines.next().is_some_and(|line| line.trim() == process.to_string());
    ours && lines.nth(6).is_some_and(|state| matches!(state.trim(), "ready" | "standby"))
}
