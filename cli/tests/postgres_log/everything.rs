//! All at once, as on a real day: load and DDL all the time, full and incremental backups, the log streamed, a server that
//! dies, and recovery to a point that was given a name.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use setpiece_test_postgres::{Cluster, StopMode, Version, every_version};

use crate::world::{LATE, World};

every_version!(a_point_with_a_name_comes_back_as_it_was);

/// Transactions of pgbench and DDL, one after the other, until told to stop or the server is gone.
fn load(cluster: &Cluster, first: u32, stop: &AtomicBool) -> u32 {
    // The load before may have left tables.
    let mut rounds = first;
    while !stop.load(Ordering::Relaxed) {
        let pgbench = cluster.try_tool("pgbench", &["-n", "-c", "2", "-t", "100"]);
        let ddl = format!(
            "CREATE TABLE round_{rounds} AS SELECT * FROM pgbench_tellers; CREATE INDEX ON round_{rounds} (tid);
             ALTER TABLE pgbench_history ADD COLUMN IF NOT EXISTS note_{} text DEFAULT 'x';
             TRUNCATE round_{rounds}; INSERT INTO round_{rounds} SELECT * FROM pgbench_tellers;
             DROP TABLE IF EXISTS round_{}; VACUUM FULL pgbench_branches; REINDEX TABLE pgbench_tellers",
            rounds % 3,
            rounds.wrapping_sub(2),
        );
        let ddl = ddl.split(';').try_for_each(|one| cluster.try_psql(one).map(drop));
        if pgbench.is_err() || ddl.is_err() {
            break;
        }
        rounds += 1;
    }
    rounds - first
}

/// Ends the load, also when what is done meanwhile fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs something while there is load, and gives how many rounds of it were done.
fn under_load(world: &World, first: u32, what: impl FnOnce()) -> u32 {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| load(&world.cluster, first, &stop));
        let ended = Ended(&stop);
        thread::sleep(Duration::from_millis(500));
        what();
        drop(ended);
        load.join().unwrap()
    })
}

fn a_point_with_a_name_comes_back_as_it_was(version: Version) {
    let mut world = World::new(Cluster::new(version).segment_mib(1).checksums(true));
    world.cluster.start();
    world.cluster.run_tool("pgbench", &["-i", "-q", "-s", "1"]);
    let uri = world.cluster.uri();
    let stream = world.stream(&uri, &["--max-delay", "1"]);
    let backup = |world: &World, level: &str| drop(world.run(&["backup", "--source", &uri, "--level", level]));

    let rounds = under_load(&world, 1000, || {
        backup(&world, "full");
        backup(&world, "differential");
    });
    assert!(rounds > 0, "there was load");
    under_load(&world, 2000, || {
        let all: Vec<String> = world.cluster.processes().iter().map(u32::to_string).collect();
        assert!(Command::new("kill").arg("-9").args(all).status().is_ok());
    });
    world.cluster.crash_and_recover();
    under_load(&world, 3000, || backup(&world, "differential"));

    let held = world.cluster.dump_logged();
    world.cluster.execute("SELECT pg_create_restore_point('before the mistake')");
    // Sets that are too late for the point are there, too.
    under_load(&world, 4000, || backup(&world, "differential"));
    world.cluster.execute("DROP TABLE pgbench_accounts");
    backup(&world, "cumulative");
    world.caught_up();
    world.cluster.kill9();
    stream.kill9();

    let to = world.places.join("back");
    let text = to.display().to_string();
    world.run(&["restore", "--to", &text, "--until-name", "before the mistake"]);
    let mut restored = world.cluster.open_directory(&to);
    restored.wait_until("SELECT NOT pg_is_in_recovery()", LATE);
    assert_eq!(restored.dump_logged(), held);
    restored.stop(StopMode::Fast);
}
