//! What the tests share: a repository in memory, backups into it, and clusters restored from it.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod ways;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use setpiece_core::Result;
use setpiece_core::backup::archive::archive;
use setpiece_core::backup::{BackupOptions, BackupReport, Surroundings, backup, new_repository_id};
use setpiece_core::events::Silent;
use setpiece_core::format::Compression;
use setpiece_core::media::memory::MemoryMedium;
use setpiece_core::media::repository::Repository;
use setpiece_core::model::{Level, LogUnit, RecoveryTarget, Until};
use setpiece_core::pipeline::Cancel;
use setpiece_core::restore::{RestoreReport, RestoreRequest, restore};
use setpiece_core::source::Source;
use setpiece_core::transform::plain_descriptor;
use setpiece_core::verify::{Depth, check};
use setpiece_source_postgres::{Dialect, LogFile, LogHome, PostgresDirectory, PostgresRecovery, PostgresSource};
use setpiece_test_postgres::Cluster;

pub const RECOVERY: PostgresRecovery = PostgresRecovery(Dialect::Postgresql);

pub fn around(cancel: &Cancel) -> Surroundings<'_> {
    Surroundings { observer: &Silent, cancel, cache: None }
}

/// A repository in memory.
pub struct Store(pub Repository);

impl Store {
    pub fn new() -> Self {
        let (descriptor, vault) = plain_descriptor(new_repository_id().unwrap());
        Store(Repository::init(Arc::new(MemoryMedium::new()), descriptor, vault).unwrap())
    }

    pub fn try_backup(&self, source: &dyn Source, level: Level) -> Result<BackupReport> {
        let mut options = BackupOptions::default();
        options.level = level;
        options.channels = 2;
        backup(&self.0, source, &options, around(&Cancel::new()))
    }

    /// A backup of a running server.
    pub fn online(&self, cluster: &Cluster, level: Level) -> BackupReport {
        self.try_backup(&PostgresSource::open(&cluster.uri()).unwrap(), level).unwrap()
    }

    /// A backup of a server that was shut down.
    pub fn offline(&self, directory: &Path, level: Level) -> BackupReport {
        self.try_backup(&PostgresDirectory::open(directory).unwrap(), level).unwrap()
    }

    pub fn try_restore(&self, until: Until, to: &Path, map: &[(String, PathBuf)]) -> Result<RestoreReport> {
        let mut request = RestoreRequest::default();
        request.target = RecoveryTarget { until, ..RecoveryTarget::default() };
        request.map = map.to_vec();
        restore(&self.0, &[&RECOVERY], &request, to, around(&Cancel::new()))
    }

    /// A restore over what is there.
    pub fn try_delta(&self, to: &Path, map: &[(String, PathBuf)]) -> Result<RestoreReport> {
        let mut request = RestoreRequest::default();
        request.target = RecoveryTarget { until: Until::SetEnd, ..RecoveryTarget::default() };
        request.map = map.to_vec();
        request.delta = true;
        restore(&self.0, &[&RECOVERY], &request, to, around(&Cancel::new()))
    }

    /// Every page of every set is what its cluster would take.
    pub fn check_pages(&self) {
        let report = check(&self.0, &[&RECOVERY], &[], Depth::Pages, 2, around(&Cancel::new())).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}

/// Archives every whole segment that a server has, each as `alter` leaves its record.
pub fn archive_all(store: &Store, cluster: &Cluster, alter: impl Fn(&mut LogUnit)) {
    let name = cluster.psql("SELECT pg_walfile_name(pg_switch_wal())");
    let home = LogHome::open(cluster.data_dir()).unwrap();
    let entries = std::fs::read_dir(cluster.data_dir().join("pg_wal")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = entries.filter(|path| path.is_file()).collect();
    segments.sort();
    for path in segments.iter().filter(|path| path.file_name().unwrap().to_str().unwrap() <= name.as_str()) {
        let LogFile::Keep(info, mut unit) = home.file(path).unwrap() else { continue };
        alter(&mut unit.unit);
        archive(&store.0, &info, &unit, Compression::Zstd(1), around(&Cancel::new())).unwrap();
    }
}

/// Starts a restored directory and waits until it is open for writing.
pub fn open(like: &Cluster, directory: &Path) -> Cluster {
    let mut cluster = like.open_directory(directory);
    let begun = Instant::now();
    while cluster.try_psql("SELECT NOT pg_is_in_recovery()").as_deref() != Ok("t") {
        let goes_on = cluster.is_running() && begun.elapsed() < Duration::from_secs(60);
        assert!(goes_on, "the restored server is not open: {}", cluster.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster
}

/// A directory that the server's user can reach.
pub fn reachable() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    dir
}
