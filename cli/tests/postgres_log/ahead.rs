//! Files stored ahead of the archive command and fetched ahead of the restore command, by processes in the background.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use setpiece_test_postgres::{Cluster, StopMode, Version, every_version};

use crate::world::{LATE, World};

every_version!(files_are_stored_ahead_and_none_is_said_to_be_that_is_not, segments_are_fetched_ahead);

fn archiving(version: Version) -> (World, PathBuf) {
    let mut world = World::new(Cluster::new(version).segment_mib(1).setting("archive_mode", "on"));
    let spool = world.cluster.server_dir("spool");
    let (program, repo) = (world.program.display().to_string(), world.repo_url());
    let command = format!("{program} log push --async --spool {} --jobs 3 --repo {repo} %p", spool.display());
    world.cluster.option("archive_command", &command);
    world.cluster.start();
    world.cluster.execute("CREATE TABLE t (id serial PRIMARY KEY, word text)");
    (world, spool)
}

/// Ends some segments; gives their names and what the server has in them.
fn segments(world: &World, count: usize) -> Vec<(String, Vec<u8>)> {
    let wal = world.cluster.data_dir().join("pg_wal");
    let one = |_| {
        world.insert(100);
        let name = world.cluster.psql("SELECT pg_walfile_name(pg_switch_wal())");
        let bytes = fs::read(wal.join(&name)).unwrap();
        (name, bytes)
    };
    (0..count).map(one).collect()
}

fn archived(world: &World, last: &str) {
    let done = format!("SELECT coalesce(last_archived_wal >= '{last}', false) FROM pg_stat_archiver");
    world.cluster.wait_until(&done, LATE);
}

/// The processes in the background that run this world's program.
fn background(world: &World) -> Vec<String> {
    let program = world.program.display().to_string();
    let number = |entry: fs::DirEntry| entry.file_name().into_string().ok().filter(|name| name.parse::<u32>().is_ok());
    let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| number(entry.unwrap()));
    let ours = |number: &String| {
        let said = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        said.contains(&program) && said.contains("--background")
    };
    numbers.filter(ours).collect()
}

fn files_are_stored_ahead_and_none_is_said_to_be_that_is_not(version: Version) {
    let (world, spool) = archiving(version);
    let mut all = segments(&world, 6);
    archived(&world, &all.last().unwrap().0);

    // The process is killed while it works, and the notes are lost.
    all.extend(segments(&world, 3));
    let killed = background(&world);
    assert!(!killed.is_empty(), "nothing works in the background");
    std::process::Command::new("kill").arg("-9").args(&killed).status().unwrap();
    for entry in fs::read_dir(&spool).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).ok();
    }
    all.extend(segments(&world, 3));
    archived(&world, &all.last().unwrap().0);
    for (name, bytes) in &all {
        assert!(world.log_file(name).unwrap() == *bytes, "{name} comes back otherwise");
    }

    // The medium fails: the server hears of it, and no file counts as archived.
    let sets = world.repo.join("sets");
    fs::set_permissions(&sets, fs::Permissions::from_mode(0o500)).unwrap();
    let before = world.cluster.psql("SELECT last_archived_wal FROM pg_stat_archiver");
    let more = segments(&world, 2);
    world.cluster.wait_until("SELECT failed_count > 0 FROM pg_stat_archiver", LATE);
    assert_eq!(world.cluster.psql("SELECT last_archived_wal FROM pg_stat_archiver"), before);
    assert!(world.cluster.log().to_lowercase().contains("permission denied"), "{}", world.cluster.log());
    fs::set_permissions(&sets, fs::Permissions::from_mode(0o700)).unwrap();
    archived(&world, &more[1].0);
    for (name, bytes) in &more {
        assert!(world.log_file(name).unwrap() == *bytes, "{name} comes back otherwise");
    }
}

#[test]
fn what_keeps_the_process_from_its_work_is_told() {
    let (world, spool) = archiving(Version::V15);
    let wal = world.cluster.data_dir().join("pg_wal");
    let name = "000000010000000000000009";
    fs::write(wal.join(format!("archive_status/{name}.ready")), "").unwrap();
    fs::write(wal.join(name), "no log").unwrap();
    let data = world.cluster.data_dir().display().to_string();
    let push = |repo: &str| {
        let mut command = world.cluster.command(&world.program);
        command.args(["log", "push", "--async", "--repo", repo, "--data-dir", &data, "--timeout", "20"]);
        command.arg("--spool").arg(&spool).arg(wal.join(name)).env("HOME", &world.places);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let began = Instant::now();
    let (done, said) = push("disk:/nowhere/at/all");
    assert!(!done && said.contains("/nowhere/at/all") && began.elapsed() < Duration::from_secs(15), "{said}");
    let (done, said) = push(&world.repo_url());
    assert!(!done && said.contains("has 6 bytes instead of"), "{said}");
}

fn segments_are_fetched_ahead(version: Version) {
    let (world, spool) = archiving(version);
    world.backup();
    let all = segments(&world, 12);
    archived(&world, &all.last().unwrap().0);
    let to = world.places.join("restored");
    world.run(&["restore", "--to", &to.display().to_string(), "--set", "latest"]);
    let (program, repo) = (world.program.display().to_string(), world.repo_url());
    let command = format!("{program} log get --prefetch 4 --spool {} --repo {repo} %f %p", spool.display());
    let mut settings = fs::OpenOptions::new().append(true).open(to.join("postgresql.auto.conf")).unwrap();
    writeln!(settings, "restore_command = '{command}'\nrecovery_target = ''\narchive_mode = off").unwrap();
    drop(settings);
    let mut restored = world.cluster.open_directory(&to);
    restored.wait_until("SELECT NOT pg_is_in_recovery()", LATE);
    assert_eq!(restored.psql("SELECT count(*) FROM t"), "1200");
    let ahead = fs::read_dir(&spool).unwrap().filter(|entry| entry.as_ref().unwrap().path().join("get").is_dir());
    assert_eq!(ahead.count(), 1, "nothing was fetched ahead");
    restored.stop(StopMode::Fast);
}
