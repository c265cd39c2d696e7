//! Servers and slots that nothing can be streamed from, and media that take nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use setpiece_test_postgres::{Cluster, Version, every_version};

use crate::world::{LATE, World};

every_version!(a_slot_that_is_given_up_or_dropped_is_told, a_medium_that_fails_acknowledges_nothing);

fn refused(world: &World, uri: &str, args: &[&str], words: &str) {
    let said = world.try_run(&[&["log", "stream", "--source", uri], args].concat()).unwrap_err();
    assert!(said.contains(words), "{words:?} is not in {said}");
}

#[test]
fn what_cannot_be_streamed_from_is_refused_by_name() {
    let world = World::started(Cluster::new(Version::V15));
    let uri = world.cluster.uri();
    refused(&world, &uri, &["--slot", "Not-a-name"], "is no name of a replication slot");
    world.cluster.execute("CREATE ROLE weak LOGIN");
    refused(&world, &uri.replace("user=postgres", "user=weak"), &[], "no right to replication");
    world.cluster.execute("ALTER SYSTEM SET wal_level = 'logical'");
    let mut world = world;
    world.cluster.restart();
    world.cluster.execute("SELECT pg_create_logical_replication_slot('other', 'pgoutput')");
    refused(&world, &uri, &["--slot", "other"], "is a slot for logical replication");

    let stream = world.stream(&uri, &["--slot", "shared"]);
    world.cluster.wait_until("SELECT bool_or(active) FROM pg_replication_slots WHERE slot_name = 'shared'", LATE);
    refused(&world, &uri, &["--slot", "shared"], "another log stream of this source is running");
    stream.end().unwrap();
    let mut taker =
        world.cluster.command(&setpiece_test_postgres::Installation::find(Version::V15).program("pg_receivewal"));
    taker.args(["-h", &world.cluster.socket_dir().display().to_string(), "-p", &world.cluster.port().to_string()]);
    taker.args(["-U", "postgres", "--slot", "shared", "-D", &world.cluster.server_dir("taken").display().to_string()]);
    let taker = crate::world::Running::start(taker);
    world.cluster.wait_until("SELECT bool_or(active) FROM pg_replication_slots WHERE slot_name = 'shared'", LATE);
    refused(&world, &uri, &["--slot", "shared"], "the slot is in use by process");
    taker.kill9();

    world.cluster.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
    world.cluster.execute("ALTER SYSTEM SET max_wal_senders = 0");
    world.cluster.execute("ALTER SYSTEM SET wal_level = 'replica'");
    world.cluster.restart();
    refused(&world, &uri, &[], "max_wal_senders is 0");
    world.cluster.execute("ALTER SYSTEM SET wal_level = 'minimal'");
    world.cluster.restart();
    refused(&world, &uri, &[], "wal_level is minimal");
}

fn a_slot_that_is_given_up_or_dropped_is_told(version: Version) {
    let world = World::started(Cluster::new(version));
    let uri = world.cluster.uri();
    world.backup();
    let stream = world.stream(&uri, &["--max-delay", "1"]);
    world.insert(10);
    world.caught_up();
    // Dropped by somebody while it is captured from.
    world.cluster.execute(
        "DO $$ BEGIN PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots; \
         FOR i IN 1..100 LOOP BEGIN PERFORM pg_drop_replication_slot('setpiece'); EXIT; \
         EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.001); END; END LOOP; END $$",
    );
    let said = stream.ended().unwrap_err();
    assert!(said.contains("dropped the slot"), "{said}");

    // Made again; what lies between is still there, so nothing is missing.
    let stream = world.stream(&uri, &["--max-delay", "1"]);
    world.cluster.wait_until("SELECT bool_or(active) FROM pg_replication_slots", LATE);
    world.caught_up();
    assert_eq!(stream.end().unwrap()["warnings"].as_array().unwrap().len(), 0);

    // Given up by the server while nobody reads.
    world.cluster.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
    world.cluster.execute("SELECT pg_reload_conf()");
    for _ in 0..4 {
        world.insert(1000);
        world.cluster.execute("SELECT pg_switch_wal()");
    }
    world.cluster.execute("CHECKPOINT");
    world.cluster.wait_until("SELECT bool_or(wal_status = 'lost') FROM pg_replication_slots", LATE);
    refused(&world, &uri, &[], "removed log that was not captured");

    // What the remedy says works, and the gap is told.
    world.cluster.execute("SELECT pg_drop_replication_slot('setpiece')");
    let stream = world.stream(&uri, &["--max-delay", "1"]);
    world.cluster.wait_until("SELECT bool_or(active) FROM pg_replication_slots", LATE);
    world.insert(10);
    world.caught_up();
    let said = stream.end().unwrap();
    assert!(said["warnings"][0].as_str().unwrap().contains("is missing"), "{said}");
}

fn a_medium_that_fails_acknowledges_nothing(version: Version) {
    let world = World::started(Cluster::new(version));
    let stream = world.stream(&world.cluster.uri(), &["--max-delay", "1"]);
    world.cluster.wait_until("SELECT bool_or(active) FROM pg_replication_slots", LATE);
    world.insert(10);
    world.caught_up();
    std::thread::sleep(Duration::from_millis(1500));
    let before = world.acknowledged();
    fs::set_permissions(world.repo.join("sets"), fs::Permissions::from_mode(0o500)).unwrap();
    world.insert(100_000);
    let said = stream.ended().unwrap_err();
    assert_eq!(world.acknowledged(), before, "{said}");
    fs::set_permissions(world.repo.join("sets"), fs::Permissions::from_mode(0o700)).unwrap();
    let stream = world.stream(&world.cluster.uri(), &["--max-delay", "1"]);
    world.cluster.wait_until("SELECT bool_or(active) FROM pg_replication_slots", LATE);
    world.caught_up();
    assert_ne!(world.acknowledged(), before);
    stream.end().unwrap();
}
