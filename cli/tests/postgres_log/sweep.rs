//! An archive directory swept into the repository.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use setpiece_test_postgres::{Cluster, StopMode, Version, every_version};

use crate::world::{LATE, World};

every_version!(a_directory_is_swept_and_only_what_is_durable_is_deleted, the_log_of_a_stopped_server_is_completed);

struct Archive {
    world: World,
    dir: PathBuf,
}

impl Archive {
    /// A server that copies its log to a directory.
    fn new(version: Version) -> Self {
        let mut world = World::new(Cluster::new(version).segment_mib(1).setting("archive_mode", "on"));
        let dir = world.cluster.server_dir("archive");
        world.cluster.option("archive_command", &format!("cp %p {}/%f", dir.display()));
        world.cluster.start();
        world.cluster.execute("CREATE TABLE t (id serial PRIMARY KEY, word text)");
        Archive { world, dir }
    }

    /// Fills and ends a segment, which is in the directory then.
    fn segment(&self) -> String {
        self.world.insert(1000);
        let name = self.world.cluster.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
        self.world.cluster.execute("SELECT pg_switch_wal()");
        let done = format!("SELECT coalesce(last_archived_wal >= '{name}', false) FROM pg_stat_archiver");
        self.world.cluster.wait_until(&done, LATE);
        name
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn sweep(&self, args: &[&str]) -> (Value, i32) {
        let dir = self.dir.display().to_string();
        let uri = self.world.cluster.uri();
        self.world.answer(&[&["log", "backup", "--source", &uri, "--dir", &dir], args].concat())
    }
}

fn make_old(path: &Path) {
    let touched = std::process::Command::new("touch").args(["-d", "10 days ago"]).arg(path).status().unwrap();
    assert!(touched.success());
}

fn names(report: &Value, field: &str) -> Vec<String> {
    let file = |entry: &Value| entry.as_str().or_else(|| entry["file"].as_str()).unwrap().to_owned();
    let name = |path: String| path.rsplit_once('/').unwrap().1.to_owned();
    report[field].as_array().unwrap().iter().map(|entry| name(file(entry))).collect()
}

fn a_directory_is_swept_and_only_what_is_durable_is_deleted(version: Version) {
    let archive = Archive::new(version);
    archive.world.backup();
    let segments: Vec<String> = (0..5).map(|_| archive.segment()).collect();
    let bytes: Vec<Vec<u8>> = segments.iter().map(|name| fs::read(archive.path(name)).unwrap()).collect();

    // One is missing, one is cut short, one is of another cluster, and there is what others left.
    fs::remove_file(archive.path(&segments[2])).unwrap();
    let cut = archive.path(&segments[1]);
    fs::write(&cut, &bytes[1][..5000]).unwrap();
    fs::write(archive.path(&format!("{}.zst", segments[2])), "x").unwrap();
    fs::write(archive.path("notes"), "x").unwrap();
    let mut foreign = bytes[4].clone();
    foreign[24] ^= 1;
    let last = archive.path(&segments[4]);
    fs::write(&last, &foreign).unwrap();
    make_old(&last);

    let (report, code) = archive.sweep(&[]);
    assert_eq!((code, names(&report, "refused")), (1, vec![segments[4].clone()]), "{report}");
    let passed = names(&report, "passed");
    for name in [&segments[1], &format!("{}.zst", segments[2]), &"notes".to_owned()] {
        assert!(passed.contains(name), "{name} in {report}");
    }
    assert!(passed.iter().any(|name| name.ends_with(".backup")), "{report}");
    assert_eq!(report["gaps"].as_array().unwrap().len(), 1, "{report}");
    assert!(names(&report, "deleted").is_empty() && names(&report, "stored").contains(&segments[0]), "{report}");

    // A file that has the right length and is not written yet is not taken either.
    let mut unfinished = bytes[1].clone();
    unfinished[8192 * 2..].fill(0);
    fs::write(&cut, &unfinished).unwrap();
    make_old(&cut);
    let (report, code) = archive.sweep(&["--delete"]);
    assert_eq!(code, 3, "{report}");
    assert!(names(&report, "refused").contains(&segments[1]), "{report}");
    assert!(cut.exists() && last.exists() && !archive.path(&segments[0]).exists(), "{report}");

    // Whole again, and one with other bytes than the repository has.
    fs::write(&cut, &bytes[1]).unwrap();
    fs::write(archive.path(&segments[2]), &bytes[2]).unwrap();
    fs::write(&last, &bytes[4]).unwrap();
    let mut other = bytes[0].clone();
    let at = other.len() - 1;
    other[at] ^= 1;
    fs::write(archive.path(&segments[0]), &other).unwrap();
    make_old(&cut);
    let (report, code) = archive.sweep(&["--delete", "--keep-days", "7"]);
    assert_eq!((code, names(&report, "refused")), (1, vec![segments[0].clone()]), "{report}");
    assert_eq!(names(&report, "deleted"), [segments[1].clone()], "{report}");
    assert_eq!(report["gaps"].as_array().unwrap().len(), 0, "{report}");
    fs::remove_file(archive.path(&segments[0])).unwrap();
    let (report, code) = archive.sweep(&["--delete"]);
    assert_eq!((code, names(&report, "stored").len()), (0, 0), "{report}");
    assert!(!archive.path(&segments[2]).exists() && !last.exists(), "{report}");
    for (name, bytes) in segments.iter().zip(&bytes) {
        assert!(archive.world.log_file(name).unwrap() == *bytes, "{name} comes back otherwise");
    }
    assert_eq!(archive.world.ids_at_latest("latest").len(), 5000);
}

/// Redo that was not archived yet when the server was stopped.
fn the_log_of_a_stopped_server_is_completed(version: Version) {
    let mut world = World::started(Cluster::new(version).segment_mib(1));
    world.backup();
    world.insert(10_000);
    let running = world.answer(&["log", "backup", "--source", &world.cluster.uri()]);
    assert_eq!(running.1, 0, "{}", running.0);
    world.cluster.stop(StopMode::Immediate);
    // As after a loss of power: the file of the process is still there and is taken away by hand.
    fs::remove_file(world.cluster.data_dir().join("postmaster.pid")).ok();
    let data = format!("pgdata:{}", world.cluster.data_dir().display());
    let refused = world.try_run(&["log", "backup", "--source", &data, "--delete"]).unwrap_err();
    assert!(refused.contains("--dir"), "{refused}");
    let (report, code) = world.answer(&["log", "backup", "--source", &data]);
    assert_eq!((code, report["gaps"].as_array().unwrap().len()), (0, 0), "{report}");
    assert_eq!(world.ids_at_latest("latest").len(), 10_000);
}
