//! Clusters that were restored are backed up again, and restored again.

use setpiece_test_postgres::{Cluster, StopMode, Version};

use crate::world::{LATE, World};

/// Restores into a directory of that name, and starts what is there.
fn restored(world: &World, name: &str, args: &[&str]) -> Cluster {
    let to = world.places.join(name);
    world.run(&[&["restore", "--to", &to.display().to_string()], args].concat());
    let cluster = world.cluster.open_directory(&to);
    cluster.wait_until("SELECT NOT pg_is_in_recovery()", LATE);
    cluster.execute("CHECKPOINT");
    cluster
}

fn timeline(cluster: &Cluster) -> String {
    cluster.psql("SELECT timeline_id FROM pg_control_checkpoint()")
}

fn back_up(world: &World, cluster: &Cluster, args: &[&str]) -> Result<serde_json::Value, String> {
    world.try_run(&[&["backup", "--source", &cluster.uri()], args].concat())
}

/// Ends the segment that is being written, and stores it.
fn push(world: &World, cluster: &Cluster) {
    let name = cluster.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    cluster.execute("SELECT pg_switch_wal()");
    let data = cluster.data_dir().display().to_string();
    let file = cluster.data_dir().join("pg_wal").join(name).display().to_string();
    world.run(&["log", "push", &file, "--data-dir", &data]);
}

/// The server knew of the histories only that led to what it recovered, and took a number that was taken.
#[test]
fn a_second_recovery_becomes_a_branch_of_its_own() {
    let world = World::started(Cluster::new(Version::V15).segment_mib(1));
    back_up(&world, &world.cluster, &["--name", "first"]).unwrap();
    let mut one = restored(&world, "one", &["--set", "first"]);
    assert_eq!(timeline(&one), "2");
    back_up(&world, &one, &[]).unwrap();
    one.stop(StopMode::Fast);
    let mut two = restored(&world, "two", &["--set", "first"]);
    assert_eq!(timeline(&two), "3");
    two.stop(StopMode::Fast);
    let mut three = restored(&world, "three", &["--branch", "1"]);
    assert_eq!(timeline(&three), "3", "nothing of the third branch is on record");
    three.stop(StopMode::Fast);
}

/// The redo of one was taken for the other's: an increment of the second left out what had changed. It still has what it
/// could not archive.
#[test]
fn a_server_that_took_the_number_of_another_is_not_backed_up_beside_it() {
    let world = World::started(Cluster::new(Version::V15).segment_mib(1).setting("wal_keep_size", "1GB"));
    back_up(&world, &world.cluster, &["--name", "first"]).unwrap();
    let mut one = restored(&world, "one", &["--set", "first"]);
    let mut two = restored(&world, "two", &["--set", "first"]);
    assert_eq!((timeline(&one), timeline(&two)), ("2".into(), "2".into()));
    one.execute("INSERT INTO t (word) VALUES ('one')");
    push(&world, &one);
    two.execute("INSERT INTO t (word) VALUES ('two')");
    two.execute("SELECT pg_switch_wal()");
    for level in ["full", "differential"] {
        let refused = back_up(&world, &two, &["--level", level]).unwrap_err();
        assert!(
            refused.contains("redo of branch 2 is on record") && refused.contains("restore one of them"),
            "{refused}"
        );
        back_up(&world, &one, &["--level", level]).unwrap();
    }
    one.stop(StopMode::Fast);
    two.stop(StopMode::Fast);
}

/// A tablespace that was restored into the data directory was stored twice, and both could not be restored.
#[test]
fn a_tablespace_in_the_data_directory_is_backed_up_once() {
    let world = World::started(Cluster::new(Version::V15).segment_mib(1));
    let place = world.cluster.server_dir("space");
    world.cluster.execute(&format!("CREATE TABLESPACE space LOCATION '{}'", place.display()));
    world.cluster.execute("CREATE TABLE s TABLESPACE space AS SELECT generate_series(1, 1000) n");
    back_up(&world, &world.cluster, &[]).unwrap();
    let mut one = restored(&world, "one", &[]);
    assert!(one.data_dir().join("tablespaces/space").is_dir());
    back_up(&world, &one, &["--level", "full", "--name", "again"]).unwrap();
    one.stop(StopMode::Fast);
    let mut two = restored(&world, "two", &["--set", "again"]);
    assert_eq!(two.psql("SELECT count(*), pg_tablespace_location(oid) LIKE '%/two/%' FROM s, pg_tablespace WHERE spcname = 'space' GROUP BY oid"), "1000|t");
    two.stop(StopMode::Fast);
}

/// The redo of the old branch was taken for the new one's up to the end of the segment in which they part.
#[test]
fn an_early_increment_behind_a_fork_holds_what_the_new_branch_changed() {
    let world = World::started(Cluster::new(Version::V15).segment_mib(16));
    let server = &world.cluster;
    server.execute("INSERT INTO t (word) SELECT 'first' FROM generate_series(1, 5000)");
    back_up(&world, server, &["--name", "first"]).unwrap();
    server.execute("SELECT pg_create_restore_point('here')");
    server.execute("INSERT INTO t (word) SELECT 'lost' FROM generate_series(1, 5000)");
    push(&world, server);
    let mut one = restored(&world, "one", &["--until-name", "here"]);
    one.execute("UPDATE t SET word = 'second' WHERE id % 3 = 0; DELETE FROM t WHERE id % 7 = 0");
    let held = "SELECT count(*), md5(string_agg(id || word, ',' ORDER BY id)) FROM t";
    let wanted = one.psql(held);
    back_up(&world, &one, &["--level", "differential", "--name", "second"]).unwrap();
    one.stop(StopMode::Fast);
    let mut two = restored(&world, "two", &["--set", "second"]);
    assert_eq!(two.psql(held), wanted);
    two.stop(StopMode::Fast);
}

#[test]
fn what_an_earlier_recovery_left_in_the_settings_does_not_decide() {
    let world = World::started(Cluster::new(Version::V15).segment_mib(1));
    let settings = world.cluster.data_dir().join("postgresql.conf");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text + "\nrecovery_target_time = '2001-01-01'\n").unwrap();
    back_up(&world, &world.cluster, &[]).unwrap();
    world.cluster.execute("INSERT INTO t (word) VALUES ('later')");
    push(&world, &world.cluster);
    assert_eq!(world.ids_at_latest("latest"), [1]);
}

#[test]
fn links_in_the_data_directory_are_followed_or_refused_but_never_passed_over() {
    let world = World::started(Cluster::new(Version::V15).segment_mib(1));
    let (data, elsewhere) = (world.cluster.data_dir().to_owned(), world.cluster.server_dir("elsewhere"));
    std::fs::rename(data.join("pg_ident.conf"), elsewhere.join("ident")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("ident"), data.join("pg_ident.conf")).unwrap();
    back_up(&world, &world.cluster, &[]).unwrap();
    let mut one = restored(&world, "one", &[]);
    let ident = |path: &std::path::Path| std::fs::read(path).unwrap();
    assert_eq!(ident(&one.data_dir().join("pg_ident.conf")), ident(&elsewhere.join("ident")));
    one.stop(StopMode::Fast);
    std::os::unix::fs::symlink(&elsewhere, data.join("base/4711")).unwrap();
    let refused = back_up(&world, &world.cluster, &[]).unwrap_err();
    assert!(refused.contains("base/4711") && refused.contains("symbolic link to a directory"), "{refused}");
}

#[test]
fn a_stopped_server_whose_log_does_not_recover_is_refused() {
    let builder = Cluster::new(Version::V15).setting("wal_level", "minimal").setting("max_wal_senders", "0");
    let mut world = World::started(builder);
    world.cluster.stop(StopMode::Fast);
    let url = format!("pgdata:{}", world.cluster.data_dir().display());
    let refused = world.try_run(&["backup", "--source", &url]).unwrap_err();
    assert!(refused.contains("wal_level = minimal") && refused.contains("stop it again"), "{refused}");
}
