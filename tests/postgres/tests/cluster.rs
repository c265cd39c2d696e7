//! Clusters start, answer, crash, stop and leave nothing behind.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use setpiece_test_postgres::{Cluster, Session, StopMode, Version, every_version};

every_version!(a_life, its_own_tools_find_it, a_copy_is_taken_over);

/// Start, SQL, restart, crash, stop; the settings that were asked for.
fn a_life(version: Version) {
    let builder = Cluster::new(version).setting("work_mem", "3MB").segment_mib(1).checksums(false).tcp();
    let mut cluster = builder.start();
    let number: u32 = cluster.psql("SHOW server_version_num").parse().unwrap();
    assert_eq!(number / 10_000, version.major());
    assert_eq!(cluster.psql("SHOW work_mem"), "3MB");
    assert_eq!(cluster.psql("SHOW wal_segment_size"), "1MB");
    assert_eq!(cluster.psql("SHOW data_checksums"), "off");
    assert_eq!(cluster.psql("SHOW data_directory"), cluster.data_dir().to_str().unwrap());
    TcpStream::connect(("127.0.0.1", cluster.port())).unwrap();

    cluster.execute("CREATE TABLE t (n int, s text); INSERT INTO t VALUES (1, 'a|b\nc'), (2, NULL)");
    assert_eq!(cluster.rows("SELECT * FROM t ORDER BY n"), [["1", "a|b\nc"], ["2", ""]]);
    assert!(cluster.rows("SELECT 1 WHERE false").is_empty());
    let error = cluster.try_psql("SELECT nothing").unwrap_err();
    assert!(error.contains("\"nothing\" does not exist"), "{error}");

    let mut session = Session::open(&cluster, "postgres");
    for statement in ["BEGIN", "INSERT INTO t VALUES (3, 'never')"] {
        session.run(statement).unwrap();
    }
    assert_eq!(session.run("SELECT count(*) FROM t").unwrap(), "3");
    assert!(session.run("SELECT nothing").unwrap_err().contains("42703"));
    cluster.execute("INSERT INTO t VALUES (4, 'stays')");
    let before = cluster.current_lsn();
    cluster.crash_and_recover();
    assert!(session.run("SELECT 1").is_err(), "the connection outlived its server");
    assert_eq!(cluster.psql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM t"), "1 2 4");
    assert!(cluster.current_lsn() >= before);
    assert!(cluster.log().contains("database system was not properly shut down"), "{}", cluster.log());

    cluster.option("work_mem", "5MB");
    cluster.restart();
    assert_eq!(cluster.psql("SHOW work_mem"), "5MB");
    for mode in [StopMode::Smart, StopMode::Immediate, StopMode::Fast] {
        cluster.stop(mode);
        assert!(cluster.processes().is_empty());
        cluster.start();
    }
    cluster.stop(StopMode::Fast);
    cluster.put("postgresql.auto.conf", "work_mem = nonsense\n");
    let said = cluster.try_start().unwrap_err();
    assert!(said.contains("invalid value for parameter \"work_mem\""), "{said}");
}

fn its_own_tools_find_it(version: Version) {
    let mut cluster = Cluster::new(version).start();
    cluster.run_tool("pgbench", &["-i", "-q", "-s", "1"]);
    assert!(cluster.run_tool("pgbench", &["-t", "20", "-n"]).contains("20/20"));
    cluster.run_tool("pg_amcheck", &["--install-missing", "-d", "postgres"]);
    let copy = tempfile::tempdir().unwrap();
    let copy = copy.path().join("copy");
    cluster.run_tool("pg_basebackup", &["-c", "fast", "-D", copy.to_str().unwrap()]);
    cluster.run_tool("pg_verifybackup", &[&copy]);
    fs::write(copy.join("global/1262"), "x").unwrap();
    let said = cluster.try_tool("pg_verifybackup", &[&copy]).unwrap_err();
    assert!(said.contains("global/1262"), "{said}");
    let (begin, end) =
        (cluster.psql("SELECT redo_lsn FROM pg_control_checkpoint()"), cluster.current_lsn().to_string());
    let wal = cluster.data_dir().join("pg_wal");
    let records = cluster.run_tool("pg_waldump", &["-p", wal.to_str().unwrap(), "-s", &begin, "-e", &end]);
    assert!(records.contains("rmgr:"), "{records}");
    cluster.stop(StopMode::Fast);
    assert!(cluster.run_tool::<&str>("pg_controldata", &[]).contains("shut down"));
    assert!(cluster.run_tool("pg_checksums", &["--check"]).contains("Bad checksums:  0"));
}

/// A directory that root wrote, with a tablespace elsewhere, below directories that are shut.
fn a_copy_is_taken_over(version: Version) {
    let cluster = Cluster::new(version).start();
    let space = cluster.server_dir("space");
    cluster.execute(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display()));
    cluster.execute("CREATE TABLE t TABLESPACE space AS SELECT generate_series(1, 100) AS n");
    let dir = tempfile::tempdir().unwrap();
    let (copy, moved) = (dir.path().join("deep/copy"), dir.path().join("moved/space"));
    let mapping = format!("--tablespace-mapping={}={}", space.display(), moved.display());
    cluster.run_tool("pg_basebackup", &["-c", "fast", "-D", copy.to_str().unwrap(), &mapping]);

    let mut opened = cluster.open_directory(&copy);
    assert_eq!(opened.psql("SELECT count(*) FROM t"), "100");
    assert_eq!(
        opened.psql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'space'"),
        moved.to_str().unwrap()
    );
    assert_eq!(opened.dump(), cluster.dump());
    opened.execute("INSERT INTO t VALUES (101)");
    assert_ne!(opened.dump(), cluster.dump());
    opened.stop(StopMode::Fast);
    drop(opened);
    assert!(copy.join("PG_VERSION").exists(), "what was adopted stays");
    let mut again = Cluster::adopt(version, &copy);
    assert!(!again.is_running());
    again.start();
    assert_eq!(again.psql("SELECT count(*) FROM t"), "101");
}

fn alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn assert_all_end(processes: &[u32]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while processes.iter().any(|process| alive(*process)) {
        assert!(Instant::now() < deadline, "still there: {processes:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_test_that_fails_leaves_nothing() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let failed = std::thread::spawn(move || {
        let cluster = Cluster::new(Version::V15).start();
        let mut busy = Session::open(&cluster, "postgres");
        busy.run("BEGIN").unwrap();
        let processes = cluster.processes();
        sender.send((processes, cluster.data_dir().to_owned())).unwrap();
        panic!("on purpose");
    });
    let (processes, data) = receiver.recv().unwrap();
    assert!(failed.join().is_err());
    assert!(processes.len() > 4, "{processes:?}");
    assert_all_end(&processes);
    assert!(!data.exists());
}

/// A server that another test process started ends when that process is killed. The other process is this same program,
/// told to run the next function.
#[test]
fn a_test_that_is_killed_leaves_no_process() {
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["--exact", "is_killed", "--ignored"]).env("SETPIECE_TEST_SAY_TO", said.path());
    // What a user has set for libpq has no influence.
    other.env("PGOPTIONS", "-c nonsense=1").env("PGSSLMODE", "nonsense").env("PGDATA", "/nowhere");
    let mut other = other.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let (data, processes) = loop {
        assert!(Instant::now() < deadline && other.try_wait().unwrap().is_none(), "no server was started");
        let text = fs::read_to_string(said.path()).unwrap();
        if let Some((data, processes)) = text.strip_suffix('\n').and_then(|text| text.split_once(' ')) {
            let numbers = processes.split(' ').map(|number| number.parse().unwrap());
            break (data.to_owned(), numbers.collect::<Vec<u32>>());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(processes.len() > 4 && processes.iter().all(|process| alive(*process)));
    other.kill().unwrap();
    other.wait().unwrap();
    assert_all_end(&processes);
    // Its directory stays, as nobody is left to remove it.
    fs::remove_dir_all(Path::new(&data).parent().unwrap()).unwrap();
}

#[test]
#[ignore = "waits to be killed by the test above"]
fn is_killed() {
    let Some(say_to) = std::env::var_os("SETPIECE_TEST_SAY_TO") else { return };
    // The thread that starts a server may end before it.
    let cluster = std::thread::spawn(|| Cluster::new(Version::V15).start()).join().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let numbers: Vec<String> = cluster.processes().iter().map(ToString::to_string).collect();
    assert_eq!(cluster.psql("SELECT 1"), "1");
    fs::write(say_to, format!("{} {}\n", cluster.data_dir().display(), numbers.join(" "))).unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_server_leaves_no_process_and_no_memory() {
    let mut cluster = Cluster::new(Version::V15).start();
    let processes = cluster.processes();
    let state = fs::read_to_string(cluster.data_dir().join("postmaster.pid")).unwrap();
    let segment = state.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let is_there = || {
        let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        segments.lines().any(|line| line.split_whitespace().nth(1) == Some(&segment))
    };
    assert!(is_there());
    // It does not look up from its work when the first process is gone.
    let mut busy = Session::open(&cluster, "postgres");
    let busy = std::thread::spawn(move || busy.run("DO $$ BEGIN LOOP END LOOP; END $$"));
    cluster.wait_until("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'DO %')", Duration::from_secs(20));
    let processes = [processes, cluster.processes()].concat();
    cluster.kill9();
    assert!(busy.join().unwrap().is_err());
    assert!(!processes.iter().any(|process| alive(*process)));
    assert!(!is_there());
    cluster.start();
    assert_eq!(cluster.psql("SHOW dynamic_shared_memory_type"), "mmap");
}

#[test]
fn directories_and_processes_are_the_servers() {
    let cluster = Cluster::new(Version::V15).start();
    let ours = fs::metadata("/proc/self").unwrap().uid();
    let data = cluster.data_dir().metadata().unwrap();
    assert_eq!(data.uid(), if ours == 0 { 65534 } else { ours });
    assert_eq!(data.mode() & 0o777, 0o700);
    for process in cluster.processes() {
        assert_eq!(fs::metadata(format!("/proc/{process}")).unwrap().uid(), data.uid());
    }
}
