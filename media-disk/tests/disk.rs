//! What is the disk medium's own: crashes, full and read-only places, symbolic links, stale files, locks of processes.
//!
//! Some tests run a part of themselves in a process of its own: the test binary again, with `PART` set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use setpiece_media_disk::PLUGIN;
use setpiece_sbt_abi::host::{Error, OpenParams, Plugin, Session};
use setpiece_sbt_abi::{Code, LockMode};

const PART: &str = "SETPIECE_TEST_PART";
const PLACE: &str = "SETPIECE_TEST_PLACE";

fn open(location: &Path, parms: &str) -> Result<Session, Error> {
    let location = location.to_str().unwrap();
    Plugin::from_static(&PLUGIN).unwrap().open(&OpenParams { location, parms, pairs: &[] })
}

fn session(location: &Path) -> Session {
    open(location, "").unwrap()
}

fn put(session: Session, name: &str, bytes: &[u8]) -> Session {
    let mut writer = session.create(name).unwrap();
    writer.write(bytes).unwrap();
    writer.finish().unwrap().1
}

fn names(session: &mut Session) -> Vec<String> {
    let mut names = Vec::new();
    session
        .list("", &mut |name, _| {
            names.push(name.to_owned());
            true
        })
        .unwrap();
    names.sort();
    names
}

fn entries(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs `part` of this binary in a process of its own.
fn part(name: &str, place: &Path, shell: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{shell} exec \"$0\" --exact the_part --nocapture --test-threads=1")])
        .arg(std::env::current_exe().unwrap())
        .env(PART, name)
        .env(PLACE, place)
        .stdout(Stdio::piped());
    command
}

/// Waits until the part says that it is where it has to be.
fn until_ready(child: &mut Child) {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("part is ready")), "the part ended too early");
}

#[test]
fn the_part() {
    let Some(part) = std::env::var_os(PART) else { return };
    let place = std::env::var_os(PLACE).unwrap();
    let place = Path::new(&place);
    match part.to_str().unwrap() {
        "write" => write_and_wait(place, ""),
        "write hidden" => write_and_wait(place, "tmpfile=no"),
        "lock" => {
            let _lock = session(place).lock("set/writer", LockMode::Exclusive).unwrap();
            wait();
        }
        "full" => full(place),
        "not permitted" => not_permitted(place),
        other => panic!("no part {other}"),
    }
    println!("part has passed");
}

fn wait() {
    println!("part is ready");
    std::thread::sleep(Duration::from_secs(60));
}

fn write_and_wait(place: &Path, parms: &str) {
    let mut writer = open(place, parms).unwrap().create("set/piece").unwrap();
    writer.write(&[7; 1 << 20]).unwrap();
    wait();
}

#[test]
fn nothing_is_visible_of_a_writer_that_is_killed() {
    for (what, left) in [("write", 0), ("write hidden", 1)] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = part(what, dir.path(), "").spawn().unwrap();
        until_ready(&mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        let mut after = session(dir.path());
        assert!(names(&mut after).is_empty());
        assert_eq!(after.info("set/piece").unwrap_err().code(), Code::NotFound);
        assert_eq!(entries(dir.path()).len(), left, "{what}");
        put(after, "set/piece", b"new");
    }
}

#[test]
fn a_lock_ends_with_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = part("lock", dir.path(), "").spawn().unwrap();
    until_ready(&mut child);
    let refused = session(dir.path()).lock("set/writer", LockMode::Shared).unwrap_err();
    assert_eq!(refused.error.code(), Code::Locked);
    assert!(refused.error.text().contains(&format!("process {}", child.id())), "{refused}");
    child.kill().unwrap();
    child.wait().unwrap();
    session(dir.path()).lock("set/writer", LockMode::Exclusive).unwrap();
}

/// A lock's file is removed with the lock. Whoever has opened it at that moment, or the directory that goes with it, must
/// not end up with a lock that nobody else sees: two writers would be alone at the same time.
#[test]
fn a_lock_that_clears_its_file_away_still_keeps_all_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let (alone, taken) = (AtomicBool::new(false), AtomicUsize::new(0));
    let work = |mode: LockMode| {
        for _ in 0..1500 {
            match session(dir.path()).lock("set/writer", mode) {
                Ok(_held) if mode == LockMode::Exclusive => {
                    assert!(!alone.swap(true, Ordering::SeqCst), "two had it alone");
                    taken.fetch_add(1, Ordering::Relaxed);
                    alone.store(false, Ordering::SeqCst);
                }
                Ok(_held) => assert!(!alone.load(Ordering::SeqCst), "shared with one that had it alone"),
                Err(refused) => assert_eq!(refused.error.code(), Code::Locked, "{}", refused.error),
            }
        }
    };
    std::thread::scope(|scope| {
        for mode in [LockMode::Exclusive, LockMode::Exclusive, LockMode::Exclusive, LockMode::Shared] {
            scope.spawn(move || work(mode));
        }
    });
    assert!(taken.into_inner() > 100, "hardly anybody got it");
    drop(session(dir.path()).lock("set/writer", LockMode::Exclusive).unwrap());
    assert!(entries(dir.path()).is_empty(), "{:?}", entries(dir.path()));
}

#[test]
fn a_lock_that_is_shared_stays_until_the_last_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let share = || session(dir.path()).lock("a", LockMode::Shared).unwrap();
    let (one, two) = (share(), share());
    drop(one);
    let refused = session(dir.path()).lock("a", LockMode::Exclusive).unwrap_err();
    assert_eq!(refused.error.code(), Code::Locked);
    drop(two);
    assert!(entries(dir.path()).is_empty(), "{:?}", entries(dir.path()));
}

/// Runs under a limit on the size of files, with the signal for it ignored, as a full disk would look.
fn full(place: &Path) {
    let mut writer = session(place).create("big").unwrap();
    let error = (0..100).find_map(|_| writer.write(&[1; 100_000]).err()).expect("the limit is reached");
    assert_eq!(error.code(), Code::Full);
    assert!(error.text().contains("big") && error.native() != 0, "{error}");
    assert_eq!(writer.write(b"").unwrap_err().code(), Code::Poisoned);
    let refused = writer.finish().unwrap_err();
    let mut session = put(*refused.session, "small", b"there is room for this");
    assert_eq!(names(&mut session), ["small"]);
}

fn must_pass(mut command: Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("part has passed"), "{text}");
}

#[test]
fn a_place_without_room_says_so_and_stays_clean() {
    let dir = tempfile::tempdir().unwrap();
    must_pass(part("full", dir.path(), "trap '' XFSZ; ulimit -f 2000;"));
    assert_eq!(entries(dir.path()), ["small"]);
}

fn not_permitted(place: &Path) {
    let mut reading = session(place);
    assert_eq!(names(&mut reading), ["a"]);
    let error = reading.remove("a").unwrap_err();
    assert_eq!(error.code(), Code::Access);
    assert!(error.text().contains("permissions"), "{error}");
    let refused = session(place).create("b").unwrap_err();
    assert_eq!(refused.error.code(), Code::Access);
    let refused = session(place).lock("l", LockMode::Exclusive).unwrap_err();
    assert_eq!(refused.error.code(), Code::Access);
    let mut reader = reading.open_at("a", 1).unwrap();
    assert_eq!(reader.read(&mut [0; 9]).unwrap(), 2);
}

#[test]
fn a_read_only_place_can_be_read_and_says_why_not_more() {
    let dir = tempfile::tempdir().unwrap();
    put(session(dir.path()), "a", b"123");
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(dir.path().join("a"), mode(0o644)).unwrap();
    std::fs::set_permissions(dir.path(), mode(0o555)).unwrap();
    // The superuser may write anywhere, so the part runs as nobody; the binary has to be where nobody can reach it.
    let mut command = part("not permitted", dir.path(), "");
    let nobody = tempfile::tempdir().unwrap();
    if rustix::process::geteuid().is_root() {
        let copy = nobody.path().join("test");
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        std::fs::set_permissions(nobody.path(), mode(0o755)).unwrap();
        command = Command::new(copy);
        command.args(["--exact", "the_part", "--nocapture"]).env(PART, "not permitted").env(PLACE, dir.path());
        command.uid(65534).gid(65534).current_dir("/");
    }
    must_pass(command);
    std::fs::set_permissions(dir.path(), mode(0o755)).unwrap();
}

#[test]
fn symbolic_links_and_strange_files_lead_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let dir = tempfile::tempdir().unwrap();
    symlink(outside.path(), dir.path().join("away")).unwrap();
    symlink(outside.path().join("secret"), dir.path().join("link")).unwrap();
    std::fs::write(dir.path().join("a name that no object has"), "").unwrap();
    std::fs::create_dir(dir.path().join("lost+found")).unwrap();
    let fifo = Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap();
    assert!(fifo.success());

    let mut session = session(dir.path());
    assert!(names(&mut session).is_empty());
    for name in ["away/secret", "link", "pipe"] {
        assert_eq!(session.info(name).unwrap_err().code(), Code::NotFound, "{name}");
        let refused = session.open_at(name, 0).unwrap_err();
        assert_eq!(refused.error.code(), Code::NotFound, "{name}");
        session = *refused.session;
        session.remove(name).unwrap();
    }
    for name in ["away/new", "link", "pipe"] {
        let refused = session.create(name).and_then(|writer| writer.finish()).unwrap_err();
        assert_eq!(refused.error.code(), Code::Exists, "{name}");
        session = *refused.session;
    }
    assert_eq!(entries(outside.path()), ["secret"]);
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert_eq!(entries(dir.path()).len(), 5);
}

#[test]
fn hidden_files_of_dead_writers_are_swept_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let days_ago = |name: &str, days: u64| {
        let file = std::fs::File::create(dir.path().join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 3600 + 60)).unwrap();
        file
    };
    days_ago(".tmp-dead", 1);
    days_ago(".tmp-young", 0);
    days_ago(".other", 9);
    let alive = days_ago(".tmp-alive", 9);
    alive.lock().unwrap();
    session(dir.path());
    let mut left = entries(dir.path());
    left.sort();
    assert_eq!(left, [".other", ".tmp-alive", ".tmp-young"]);
}

#[test]
fn directories_come_and_go_with_their_objects() {
    let dir = tempfile::tempdir().unwrap();
    let session = put(put(session(dir.path()), "a/b/c", b""), "a/d", b"");
    let writer = session.create("x/y/z").unwrap();
    assert_eq!(entries(dir.path()), ["a"], "a writer makes no directory before it finishes");
    let mut session = writer.abort().unwrap();
    session.remove("a/b/c").unwrap();
    assert_eq!(entries(&dir.path().join("a")), ["d"]);
    session.remove("a/d").unwrap();
    assert!(entries(dir.path()).is_empty());
}

/// A session that removes the last object of a directory removes the directory, at any moment: also between the making
/// of the directory and the linking of the object by another session, which has to make it again.
#[test]
fn writers_survive_that_their_directory_is_removed_under_them() {
    let dir = tempfile::tempdir().unwrap();
    let run = |thread: usize| {
        let mut session = session(dir.path());
        for round in 0..100 {
            let name = format!("same/dir/{thread}-{round}");
            session = put(session, &name, b"x");
            session.remove(&name).unwrap();
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|thread| drop(scope.spawn(move || run(thread)))));
    assert!(entries(dir.path()).is_empty());
}

#[test]
fn parameters_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let missing = dir.path().join("new/er");
    let nowhere = Path::new("");
    let code = |location: &Path, parms: &str| open(location, parms).map(drop).unwrap_err().code();
    assert_eq!(code(nowhere, ""), Code::Usage);
    assert_eq!(code(Path::new("relative"), ""), Code::Usage);
    assert_eq!(code(dir.path(), &format!("path={path}")), Code::Usage);
    assert_eq!(code(dir.path(), "create=perhaps"), Code::Usage);
    assert_eq!(code(&missing, ""), Code::NotFound);
    assert_eq!(code(&std::env::current_exe().unwrap(), ""), Code::Usage);
    put(open(nowhere, &format!("path={path}/new/er,create=yes")).unwrap(), "a", b"");
    assert_eq!(entries(&missing), ["a"]);
}
