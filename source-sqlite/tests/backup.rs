//! Backups of databases that others write to: every copy must be a state between two transactions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::{Command, Stdio};

use common::{
    Random, back_up, begin, connect, copy, make_bank, prove, random_checkpoint, spawn_writer, transact, transact_times,
    write_pages,
};
use proptest::prelude::*;
use setpiece_core::ErrorKind;
use setpiece_core::model::{Level, Lsn, Scope};
use setpiece_core::source::{BeginRequest, ChangeMap, PageState, Source};
use setpiece_source_sqlite::{SqliteSource, attached_sources};

#[test]
#[ignore = "the other process of tests here"]
fn writer() {
    common::writer_main();
}

/// Another process writes, checkpoints in all ways, vacuums and reconnects; each copy is a state of the bank, counters
/// never go back, and LSNs order the copies as the counters do.
#[test]
fn every_page_size_while_another_process_writes() {
    for (seed, page_size) in [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536].into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bank.db");
        drop(make_bank(&path, page_size, "wal"));
        let source = SqliteSource::open(&path).unwrap();
        let mut writer = spawn_writer(&path, seed as u64, 80, None);
        let (mut last, mut cookie) = ((Lsn(0), -1), None::<Vec<u8>>);
        for round in 0.. {
            let done = writer.try_wait().unwrap();
            let target = dir.path().join(format!("copy{round}"));
            let end = back_up(&source, cookie.as_deref(), &target);
            let (count, _) = prove(&target);
            assert!(
                count >= last.1 && end.bak_end_lsn >= last.0,
                "page size {page_size}: {count} {end:?} after {last:?}"
            );
            assert!(count == last.1 || end.bak_end_lsn > last.0, "page size {page_size}: the LSN stood still");
            assert!(end.parameters.contains(&("page_size".into(), page_size.to_string())));
            last = (end.bak_end_lsn, count);
            cookie = Some(end.cookie);
            std::thread::sleep(std::time::Duration::from_millis(30));
            if let Some(status) = done {
                assert!(status.success());
                break;
            }
        }
        assert_eq!(last.1, 80, "the last copy holds the last transaction");
    }
}

/// The log was wholly checkpointed when the backup began, so writers may restart and truncate it under the backup.
#[test]
fn the_log_is_restarted_while_the_backup_reads() {
    for (mode, seed) in [("PASSIVE", 1), ("TRUNCATE", 2)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bank.db");
        let db = make_bank(&path, 0, "wal");
        let mut random = Random(seed);
        transact_times(&db, &mut random, 0..60);
        db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        let source = SqliteSource::open(&path).unwrap();
        let run = begin(&source, None);
        db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
        let before = std::fs::read(dir.path().join("bank.db-wal")).unwrap();
        transact_times(&db, &mut random, 0..40);
        let after = std::fs::read(dir.path().join("bank.db-wal")).unwrap();
        assert_ne!(before.get(16..24), after.get(16..24), "the log was not restarted, so this test tests nothing");
        db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        copy(run.as_ref(), &dir.path().join("copy"));
        assert_eq!(prove(&dir.path().join("copy")).0, 60);
    }
}

/// Increments by the change map are the full copy when they are laid over their base.
#[test]
fn change_maps_are_complete_or_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 1024, "wal");
    db.execute_batch("PRAGMA wal_autocheckpoint=0").unwrap();
    let source = SqliteSource::open(&path).unwrap();
    let mut random = Random(3);
    let increment = dir.path().join("increment");
    let mut base = back_up(&source, None, &increment);
    let (mut known, mut unknown) = (0, 0);
    for round in 0..60 {
        let times = random.below(4);
        transact_times(&db, &mut random, 0..times);
        if random.below(4) == 0 {
            random_checkpoint(&db, &mut random);
        }
        // A source that remembers nothing, as in another process.
        let source = SqliteSource::open(&path).unwrap();
        let mut run = begin(&source, Some(&base.cookie));
        match run.change_map(base.bak_end_lsn, base.marks.as_deref()).unwrap() {
            ChangeMap::Complete { changes, .. } => {
                known += 1;
                changes.iter().for_each(|change| write_pages(run.as_ref(), &change.pages, &increment));
                let file = std::fs::OpenOptions::new().write(true).open(&increment).unwrap();
                file.set_len(run.files()[0].len).unwrap();
            }
            ChangeMap::Unknown(reason) => {
                unknown += 1;
                assert!(!reason.is_empty());
                copy(run.as_ref(), &increment);
            }
        }
        let full = dir.path().join("full");
        copy(run.as_ref(), &full);
        assert_eq!(prove(&increment), prove(&full), "round {round}");
        base = run.end().unwrap();
    }
    assert!(known > 5 && unknown > 2, "{known} known, {unknown} unknown");
}

/// The base was taken when the log was empty; what follows is known only if the database file shows no writing.
#[test]
fn an_empty_log_links_only_if_the_database_file_did_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "wal");
    let mut random = Random(4);
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let base = back_up(&SqliteSource::open(&path).unwrap(), None, &dir.path().join("base"));
    let again = back_up(&SqliteSource::open(&path).unwrap(), Some(&base.cookie), &dir.path().join("again"));
    assert_eq!(again.bak_end_lsn, base.bak_end_lsn, "nothing was written");
    transact(&db, &mut random);
    let source = SqliteSource::open(&path).unwrap();
    let run = begin(&source, Some(&again.cookie));
    assert!(
        matches!(run.change_map(base.bak_end_lsn, base.marks.as_deref()).unwrap(), ChangeMap::Complete { changes, .. } if !changes.is_empty())
    );
    drop(run);
    for _ in 0..2 {
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        transact(&db, &mut random);
    }
    let source = SqliteSource::open(&path).unwrap();
    let run = begin(&source, Some(&again.cookie));
    assert!(matches!(run.change_map(base.bak_end_lsn, base.marks.as_deref()).unwrap(), ChangeMap::Unknown(_)));
}

#[test]
fn rollback_journal_databases_are_backed_up_and_have_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    let db = make_bank(&path, 0, "delete");
    let mut random = Random(5);
    transact_times(&db, &mut random, 0..20);
    let source = SqliteSource::open(&path).unwrap();
    let first = back_up(&source, None, &dir.path().join("one"));
    transact(&db, &mut random);
    let second = back_up(&source, Some(&first.cookie), &dir.path().join("two"));
    assert!(second.bak_end_lsn > first.bak_end_lsn);
    assert_eq!(prove(&dir.path().join("two")).0, 21);
    let Err(refused) = source.log_stream(None) else { panic!("a log stream without a log") };
    assert!(refused.to_string().contains("PRAGMA journal_mode=WAL"), "{refused}");
}

#[test]
fn an_empty_database_is_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.db");
    std::fs::write(&path, b"").unwrap();
    let source = SqliteSource::open(&path).unwrap();
    let mut run = begin(&source, None);
    assert_eq!((run.files()[0].len, run.files()[0].pages()), (0, 0));
    assert_eq!(run.valid_pages(run.files()[0].id).unwrap(), None);
    run.end().unwrap();
    drop(run);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something was left behind");
}

#[test]
fn a_backup_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    drop(make_bank(&path, 0, "wal"));
    let names =
        || -> Vec<_> { std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
    assert_eq!(names(), ["bank.db"]);
    let bytes = std::fs::read(&path).unwrap();
    let source = SqliteSource::open(&path).unwrap();
    drop(begin(&source, None));
    assert_eq!(names(), ["bank.db"]);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn what_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text");
    std::fs::write(&path, "not a database, but long enough to be looked at as one".repeat(30)).unwrap();
    assert_eq!(SqliteSource::open(&path).unwrap_err().kind(), ErrorKind::Source);
    assert_eq!(SqliteSource::open(dir.path()).unwrap_err().kind(), ErrorKind::Source);
    assert_eq!(SqliteSource::open(dir.path().join("none")).unwrap_err().kind(), ErrorKind::Io);
    let bank = dir.path().join("bank.db");
    drop(make_bank(&bank, 0, "wal"));
    let source = SqliteSource::open(&bank).unwrap();
    let scope = Scope::Table("a".into());
    let request = BeginRequest { scope: &scope, level: Level::Full, without_log: false, cookie: None };
    assert_eq!(source.begin(&request).err().map(|error| error.kind()), Some(ErrorKind::Usage));
    let request = BeginRequest { scope: &Scope::Database, level: Level::Full, without_log: false, cookie: Some(b"?") };
    assert_eq!(source.begin(&request).err().map(|error| error.kind()), Some(ErrorKind::Damaged));
}

#[test]
fn page_one_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bank.db");
    drop(make_bank(&path, 0, "wal"));
    let source = SqliteSource::open(&path).unwrap();
    let run = begin(&source, None);
    let file = run.files()[0].id;
    let mut bytes = Vec::new();
    run.read(file, 0, 1, &mut bytes).unwrap();
    assert_eq!(run.inspect(file, 0, &bytes), PageState::Unversioned);
    bytes[0] ^= 1;
    assert!(matches!(run.inspect(file, 0, &bytes), PageState::Bad(_)));
    assert!(run.read(file, 0, 1 << 40, &mut bytes).is_err());
}

/// Deleted rows leave free pages; they are not stored, and the copy can go on being written to.
#[test]
fn free_pages_are_left_out_and_the_copy_lives_on() {
    for auto_vacuum in ["NONE", "INCREMENTAL"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bank.db");
        connect(&path).execute_batch(&format!("PRAGMA auto_vacuum={auto_vacuum}; CREATE TABLE t(x)")).unwrap();
        let db = make_bank(&path, 0, "wal");
        db.execute_batch("PRAGMA secure_delete=OFF").unwrap();
        for _ in 0..400 {
            db.execute("INSERT INTO filler(x) VALUES (CAST(zeroblob(9000) || 'confidential' AS BLOB))", []).unwrap();
        }
        db.execute("DELETE FROM filler WHERE id > 5", []).unwrap();
        let source = SqliteSource::open(&path).unwrap();
        let run = begin(&source, None);
        let entry = &run.files()[0];
        let valid = run.valid_pages(entry.id).unwrap().unwrap();
        assert!(valid.len() * 4 < entry.pages(), "{} of {} pages in use", valid.len(), entry.pages());
        let target = dir.path().join("copy");
        copy(run.as_ref(), &target);
        let bytes = std::fs::read(&target).unwrap();
        let found = bytes.windows(12).filter(|window| window == b"confidential").count();
        assert!(found < 20, "{found} deleted rows are in the copy");
        prove(&target);
        let copied = connect(&target);
        let mut random = Random(6);
        transact_times(&copied, &mut random, 0..300);
        copied.execute_batch("PRAGMA incremental_vacuum(10)").unwrap();
        drop(copied);
        assert_eq!(prove(&target).0, 300);
        connect(&target).execute_batch("VACUUM").unwrap();
        prove(&target);
    }
}

/// SQLite finds the log by the name of the file: under another name a backup left out what was in it.
#[test]
fn a_file_with_another_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("bank.db"), dir.path().join("other.db"));
    let db = make_bank(&path, 0, "wal");
    let source = SqliteSource::open(&path).unwrap();
    std::fs::hard_link(&path, &other).unwrap();
    let request = BeginRequest { scope: &Scope::Database, level: Level::Full, without_log: false, cookie: None };
    for refused in [SqliteSource::open(&other).map(drop), source.begin(&request).map(drop)] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert!(error.to_string().contains("hard links"), "{error}");
    }
    std::fs::remove_file(&other).unwrap();
    std::os::unix::fs::symlink(&path, &other).unwrap();
    back_up(&SqliteSource::open(&other).unwrap(), None, &dir.path().join("copy"));
    prove(&dir.path().join("copy"));
    drop(db);
}

#[test]
fn attached_schemas_are_sources_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let db = make_bank(&dir.path().join("main.db"), 0, "wal");
    drop(make_bank(&dir.path().join("other.db"), 0, "wal"));
    db.execute_batch(&format!(
        "ATTACH '{}' AS other; ATTACH ':memory:' AS gone; CREATE TEMP TABLE t(x)",
        dir.path().join("other.db").display()
    ))
    .unwrap();
    let mut statement = db.prepare("PRAGMA database_list").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(1)?, row.get::<_, String>(2)?))).unwrap();
    let sources = attached_sources(rows.map(Result::unwrap)).unwrap();
    let names: Vec<String> = sources.iter().map(|source| source.info().unwrap().name).collect();
    assert_eq!(names, ["main", "other"]);
    assert_ne!(sources[0].info().unwrap().id, sources[1].info().unwrap().id);
    back_up(&sources[1], None, &dir.path().join("copy"));
    prove(&dir.path().join("copy"));
}

#[test]
#[ignore = "the other process of a test here"]
fn try_to_write() {
    let Ok(path) = std::env::var(common::WRITER) else { return };
    let db = rusqlite::Connection::open(path).unwrap();
    db.busy_timeout(std::time::Duration::ZERO).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
}

/// What went wrong elsewhere: a reader inside of the host closed its descriptor of the database file, and POSIX dropped
/// the locks of the host's own connection, so that another process could write in the middle of its transaction.
#[test]
fn locks_of_the_host_survive_a_backup() {
    for (journal, begin_write) in [("wal", "BEGIN IMMEDIATE"), ("delete", "BEGIN IMMEDIATE")] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bank.db");
        let host = make_bank(&path, 0, journal);
        let other = || {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "try_to_write", "--ignored"]).env(common::WRITER, &path);
            command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        };
        assert!(other(), "{journal}: nobody holds a lock yet");
        host.execute_batch(begin_write).unwrap();
        host.execute("UPDATE count SET n = 7", []).unwrap();
        for round in 0..3 {
            let source = SqliteSource::open(&path).unwrap();
            back_up(&source, None, &dir.path().join(format!("copy{round}")));
            drop(source);
            assert!(!other(), "{journal}: the lock of the host is gone after backup {round}");
        }
        host.execute_batch("ROLLBACK").unwrap();
        assert!(other());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the transactions and checkpoints, the copy is what SQLite itself copies, page by page.
    #[test]
    fn a_copy_equals_sqlites_own(seed in any::<u64>(), steps in 1u64..25, size in 0u32..4) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bank.db");
        let db = make_bank(&path, 512 << (2 * size), "wal");
        let mut random = Random(seed);
        for _ in 0..steps {
            transact(&db, &mut random);
            if random.below(6) == 0 {
                random_checkpoint(&db, &mut random);
            }
        }
        let source = SqliteSource::open(&path).unwrap();
        let mut run = begin(&source, None);
        let entry = run.files()[0].clone();
        let mut ours = Vec::new();
        run.read(entry.id, 0, entry.pages(), &mut ours).unwrap();
        run.end().unwrap();
        // The log goes into the database file, which then is the state as SQLite has it.
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let theirs = std::fs::read(&path).unwrap();
        prop_assert_eq!(ours.len(), theirs.len());
        prop_assert!(ours == theirs);
    }
}
