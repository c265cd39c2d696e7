//! The log streamed into the repository, while everything around it is killed and cut.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use setpiece_test_postgres::{Cluster, Session, StopMode, Version, every_version};

use crate::world::{LATE, World};

every_version!(
    what_was_acknowledged_is_recovered_whatever_is_killed,
    a_timeline_switch_is_followed,
    redo_of_a_stopped_server_is_not_taken_for_the_whole_segment,
);

const QUICK: &[&str] = &["--max-delay", "1"];

/// Commits rows one by one and notes how far the log was after each.
fn commit(world: &World, rows: u32) -> Vec<(u64, u64)> {
    let mut session = Session::open(&world.cluster, "postgres");
    let one = "INSERT INTO t (word) VALUES (repeat('x', 500)) RETURNING id";
    let number = |text: String| text.trim().lines().next().unwrap().parse().unwrap();
    let mut done = Vec::new();
    for _ in 0..rows {
        let Ok(id) = session.run(one) else { break };
        let Ok(lsn) = session.run("SELECT pg_current_wal_insert_lsn() - '0/0'") else { break };
        done.push((number(id), number(lsn)));
    }
    done
}

fn what_was_acknowledged_is_recovered_whatever_is_killed(version: Version) {
    let mut world = World::started(Cluster::new(version).segment_mib(1));
    let uri = world.cluster.uri();
    let stream = world.stream(&uri, QUICK);
    world.backup();
    let mut commits = commit(&world, 50);
    world.insert(30_000);
    world.cluster.execute("CREATE TABLE made AS SELECT * FROM t");

    // The server dies in the middle of the load and comes back; the stream stays.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut all = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let some = commit(&world, 20);
                if some.is_empty() {
                    break;
                }
                all.extend(some);
            }
            all
        });
        std::thread::sleep(Duration::from_millis(1500));
        stop.store(true, Ordering::Relaxed);
        commits.extend(load.join().unwrap());
    });
    world.cluster.crash_and_recover();
    commits.extend(commit(&world, 20));
    world.caught_up();

    // The stream is killed, and begun again later.
    stream.kill9();
    world.insert(30_000);
    commits.extend(commit(&world, 20));
    let stream = world.stream(&uri, QUICK);
    world.caught_up();

    // The connection is cut.
    world.cluster.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots");
    commits.extend(commit(&world, 20));
    world.caught_up();

    // Whole segments are those of the server, and beginnings go when they are whole.
    let wal = world.cluster.data_dir().join("pg_wal");
    let names = crate::world::segments(&wal);
    let current = world.cluster.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    let whole: Vec<&String> = names.iter().filter(|name| **name < current).collect();
    let stored = whole
        .iter()
        .filter(|name| world.log_file(name).is_ok_and(|bytes| bytes == fs::read(wal.join(name.as_str())).unwrap()));
    assert!(stored.count() >= 1, "{names:?} before {current}");
    let beginnings = world.captured().into_iter().filter(|name| name.contains("-upto-")).count();
    assert_eq!(beginnings, 1, "{:?}", world.captured());

    // All ends at once.
    commits.extend(commit(&world, 20));
    world.caught_up();
    let last = commits.len();
    commits.extend(commit(&world, 20));
    let acknowledged =
        world.cluster.psql("SELECT restart_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = 'setpiece'");
    let acknowledged: u64 = acknowledged.parse().unwrap();
    world.cluster.kill9();
    stream.kill9();
    let windows = world.windows();
    assert_eq!((windows.len(), windows[0]["gap"].is_null()), (1, true), "{windows:?}");
    assert!(windows[0]["to_lsn"].as_u64().unwrap() >= acknowledged);
    let recovered = world.ids_at_latest("latest");
    let durable: Vec<u64> = commits.iter().filter(|(_, lsn)| *lsn <= acknowledged).map(|(id, _)| *id).collect();
    let lost: Vec<&u64> = durable.iter().filter(|id| recovered.binary_search(id).is_err()).collect();
    assert!(lost.is_empty(), "{lost:?} of {} were acknowledged up to {acknowledged}", durable.len());
    // The last of them is a target, though its segment ends soon behind it or within the next record.
    let at = commits[durable.len() - 1].1.to_string();
    assert!(world.ids_at("lsn", &["--until-lsn", &at]).binary_search(durable.last().unwrap()).is_ok());
    assert!(durable.len() >= last, "{} of {} commits are durable", durable.len(), commits.len());
}

fn a_timeline_switch_is_followed(version: Version) {
    let world = World::started(Cluster::new(version));
    world.backup();
    let standby = Cluster::standby_of(&world.cluster);
    standby.catch_up_with(&world.cluster);
    let stream = world.stream(&standby.uri(), QUICK);
    standby.wait_until("SELECT count(*) = 1 FROM pg_replication_slots WHERE active", LATE);
    commit(&world, 5);
    standby.catch_up_with(&world.cluster);
    standby.promote();
    standby.execute("INSERT INTO t (word) SELECT 'later' FROM generate_series(1, 5)");
    let lsn = standby.psql("SELECT pg_current_wal_flush_lsn()");
    standby.wait_until(&format!("SELECT bool_or(restart_lsn >= '{lsn}') FROM pg_replication_slots"), LATE);
    let said = stream.end().unwrap();
    assert!(said["units"].as_u64().unwrap() >= 3, "{said}");

    let history = world.log_file("00000002.history").unwrap();
    assert_eq!(history, fs::read(standby.data_dir().join("pg_wal/00000002.history")).unwrap());
    let windows = world.windows();
    assert!(windows.iter().any(|window| window["branch"] == 2 && window["gap"].is_null()), "{windows:?}");
    assert_eq!(world.ids_at_latest("latest").len(), 10);
}

/// A server that is stopped for a backup writes on in the same segment when it is started again. What the backup has of
/// that segment once hid the rest, and recovery ended there without a word.
fn redo_of_a_stopped_server_is_not_taken_for_the_whole_segment(version: Version) {
    let mut world = World::started(Cluster::new(version));
    commit(&world, 3);
    world.cluster.stop(StopMode::Fast);
    world.run(&["backup", "--source", &format!("pgdata:{}", world.cluster.data_dir().display())]);
    world.cluster.start();
    commit(&world, 3);
    let data = world.cluster.data_dir().display().to_string();
    let name = world.cluster.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    world.cluster.execute("SELECT pg_switch_wal()");
    world.run(&["log", "push", &format!("{data}/pg_wal/{name}"), "--data-dir", &data]);
    assert_eq!(world.ids_at_latest("latest").len(), 6);
}
