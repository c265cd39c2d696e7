//! How a cluster is to be, before it is.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::home::Home;
use crate::process::{Account, output_of};
use crate::version::{Installation, Version};

/// What every cluster has unless the test says otherwise: quick to start and to stop, no work of its own in the
/// background, and all that backups need.
const DEFAULTS: [(&str, &str); 17] = [
    ("allow_in_place_tablespaces", "on"),
    ("autovacuum", "off"),
    // Files in the data directory go with it; those in /dev/shm stay when the server is killed.
    ("dynamic_shared_memory_type", "mmap"),
    ("fsync", "off"),
    ("hot_standby", "on"),
    ("huge_pages", "off"),
    ("jit", "off"),
    ("lc_messages", "C"),
    ("log_timezone", "UTC"),
    ("max_connections", "30"),
    ("max_prepared_transactions", "8"),
    ("max_replication_slots", "8"),
    ("max_wal_senders", "8"),
    // Small, so that pages are written and read again during a test.
    ("shared_buffers", "4MB"),
    ("timezone", "UTC"),
    ("wal_level", "replica"),
    ("wal_keep_size", "0"),
];

/// A cluster that is not there yet.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) version: Version,
    pub(crate) account: Account,
    settings: Vec<(String, String)>,
    access: Vec<String>,
    checksums: bool,
    segment_mib: u32,
    tcp: bool,
}

impl Builder {
    pub(crate) fn new(version: Version) -> Self {
        let account = Account::unprivileged();
        Builder {
            version,
            account,
            settings: Vec::new(),
            access: Vec::new(),
            checksums: true,
            segment_mib: 16,
            tcp: false,
        }
    }

    /// A line of `postgresql.conf`; the last one of a name counts.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Whether pages have checksums; they do unless this is called.
    #[must_use]
    pub fn checksums(mut self, on: bool) -> Self {
        self.checksums = on;
        self
    }

    /// The size of a file of the log, 16 unless this is called: a power of two between 1 and 1024.
    #[must_use]
    pub fn segment_mib(mut self, size: u32) -> Self {
        self.segment_mib = size;
        self
    }

    /// Listens on a free port of the loopback address too.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// A line of `pg_hba.conf` before those that trust everybody.
    #[must_use]
    pub fn access(mut self, line: &str) -> Self {
        self.access.push(line.into());
        self
    }

    /// The user that the server runs as when the test is run by root, by numbers that the system knows; `nobody` unless
    /// this is called.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        if self.account != Account::Ours {
            self.account = Account::Other { uid, gid };
        }
        self
    }

    /// Makes the cluster, starts its server and waits until it takes connections.
    #[must_use]
    pub fn start(self) -> Cluster {
        let mut cluster = self.init();
        cluster.start();
        cluster
    }

    /// Makes the cluster and leaves its server stopped.
    #[must_use]
    pub fn init(self) -> Cluster {
        let installation = Installation::find(self.version);
        let home = Home::new(self.account);
        let data = home.make("data", 0o700);
        let mut initdb = self.account.command(&installation.program("initdb"));
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "--auth=trust", "--locale=C", "--encoding=UTF8"]);
        initdb.arg("--no-sync").arg(format!("--wal-segsize={}", self.segment_mib)).args(self.checksum_option());
        output_of(&mut initdb).unwrap_or_else(|said| panic!("initdb of PostgreSQL {} failed: {said}", self.version));
        append(&data.join("postgresql.conf"), &self.settings_text());
        fs::write(data.join("pg_hba.conf"), self.access_text()).expect("the data directory can be written to");
        self.cluster(installation, home, data)
    }

    fn checksum_option(&self) -> Option<&'static str> {
        match (self.checksums, self.version) {
            (true, _) => Some("--data-checksums"),
            (false, Version::V18) => Some("--no-data-checksums"),
            (false, _) => None,
        }
    }

    /// A cluster of what is in `data`.
    pub(crate) fn cluster(self, installation: Installation, home: Home, data: PathBuf) -> Cluster {
        let port = if self.tcp { free_port() } else { 5432 };
        let data = data.canonicalize().unwrap_or_else(|error| panic!("{} is not there: {error}", data.display()));
        Cluster {
            installation,
            account: self.account,
            home,
            data,
            port,
            tcp: self.tcp,
            options: Vec::new(),
            server: None,
            starts: 0,
            patience: Duration::from_secs(60),
        }
    }

    fn settings_text(&self) -> String {
        let size = format!("{}MB", (self.segment_mib * 2).max(32));
        let defaults = DEFAULTS.iter().copied().chain([("min_wal_size", size.as_str())]);
        let all = defaults.chain(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        all.map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''"))).collect()
    }

    fn access_text(&self) -> String {
        let trusted = [
            "local all all trust",
            "local replication all trust",
            "host all all 127.0.0.1/32 trust",
            "host replication all 127.0.0.1/32 trust",
        ];
        self.access.iter().map(String::as_str).chain(trusted).map(|line| format!("{line}\n")).collect()
    }
}

fn append(path: &Path, text: &str) {
    let old = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fs::write(path, old + "\n" + text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port of the loopback address");
    listener.local_addr().expect("it is bound").port()
}
