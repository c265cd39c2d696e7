//! WAL of real servers: every record as PostgreSQL's own tools show it, and every changed page named.
//!
//! PostgreSQL 15 must be installed. Other versions are tested when the environment names the directories of their
//! programs, as in `SETPIECE_TEST_PG_BIN_17=/usr/lib/postgresql/17/bin`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dump;
mod pages;
mod server;
mod workload;

use std::collections::BTreeMap;
use std::time::Instant;

use dump::{Inspected, Shown, inspected, pg_waldump, pg_walinspect};
use pages::{Files, files, prove};
use proptest::prelude::*;
use server::{Installation, Server};
use setpiece_core::model::{Lsn, Timestamp};
use setpiece_source_postgres::wal::{
    Changes, FileLayout, Gatherer, Happening, Reader, Record, SegmentName, SegmentSize, WalEnd, describe, parse_lsn,
};

/// Hands every record of consecutive segments to `each`, and says where WAL ends.
fn read(segments: &BTreeMap<String, Vec<u8>>, mut each: impl FnMut(&Record<'_>)) -> Option<WalEnd> {
    let mut reader = Reader::new();
    for bytes in segments.values() {
        let mut records = reader.push(bytes).unwrap();
        while let Some(record) = records.next_record().unwrap() {
            each(&record);
        }
        if reader.end().is_some() {
            break;
        }
    }
    reader.end().cloned()
}

/// The segments from that on which holds the byte at `from`.
fn since(segments: &BTreeMap<String, Vec<u8>>, from: Lsn) -> BTreeMap<String, Vec<u8>> {
    let holds = |name: &String, bytes: &Vec<u8>| {
        let size = SegmentSize::new(bytes.len() as u64).unwrap();
        SegmentName::parse(name).unwrap().number(size).unwrap() >= size.number(from)
    };
    segments
        .iter()
        .filter(|(name, bytes)| holds(name, bytes))
        .map(|(name, bytes)| (name.clone(), bytes.clone()))
        .collect()
}

/// What WAL changes from `from` up to `upto`, gathered segment by segment, stored, and joined.
fn changes(segments: &BTreeMap<String, Vec<u8>>, from: Lsn, upto: Lsn) -> Changes {
    let mut total = Changes::none(from);
    let mut reader = Reader::new();
    for bytes in since(segments, from).values() {
        let mut gatherer = Gatherer::new(total.span().upto, 8192);
        let mut records = reader.push(bytes).unwrap();
        while let Some(record) = records.next_record().unwrap() {
            if record.end <= upto {
                gatherer.add(&record).unwrap();
            }
        }
        let end = reader.end().map_or(reader.position(), |end| end.at).min(upto);
        total.merge(&Changes::decode(&gatherer.finish(end).encode().unwrap()).unwrap()).unwrap();
        if end == upto || reader.end().is_some() {
            break;
        }
    }
    assert!(total.span().upto == upto || upto == Lsn(u64::MAX));
    total
}

fn layout(server: &Server) -> FileLayout {
    let catalog: u32 = server.sql("postgres", "SELECT catalog_version_no FROM pg_control_system()").parse().unwrap();
    FileLayout::new(8192, 131_072, server.installation.major, catalog)
}

fn redo(server: &Server) -> Lsn {
    parse_lsn(&server.sql("postgres", "SELECT redo_lsn FROM pg_control_checkpoint()")).unwrap()
}

/// Settings under which every change of a page is in WAL, hints too.
const HINTS: &str = "wal_log_hints = on";

/// A stopped cluster: its files, and where its WAL goes on.
struct State {
    files: Files,
    end: Lsn,
}

/// Stops the server and starts it again.
fn state(server: &mut Server) -> State {
    server.stop();
    let files = files(&server.data());
    server.start();
    State { files, end: redo(server) }
}

/// Runs the workload between clean stops and proves that every page that differs is named.
fn page_by_page(installation: &Installation, initdb: &[&str], settings: &[&str]) {
    let mut server = Server::new(installation, initdb, settings);
    server.start();
    workload::before(&server);
    let begin = state(&mut server);
    workload::rows(&server);
    let middle = state(&mut server);
    workload::files(&server);
    let end = state(&mut server);
    let (layout, wal) = (layout(&server), server.wal());
    let all = changes(&wal, begin.end, end.end);

    let rows = changes(&wal, begin.end, middle.end);
    let tally = prove(&layout, &begin.files, &middle.files, &rows);
    assert!(tally.differ > 1000 && tally.maps > 2, "{tally:?}");
    // Not by naming everything.
    assert!(tally.taken < tally.differ * 11 / 10, "{tally:?}");

    let files = changes(&wal, middle.end, end.end);
    let tally = prove(&layout, &middle.files, &end.files, &files);
    assert!(tally.files > 100 && tally.catalogs > 1 && tally.taken < tally.pages, "{tally:?}");

    let mut joined = rows;
    joined.merge(&files).unwrap();
    assert_eq!(joined, all);
    prove(&layout, &begin.files, &end.files, &joined);
}

#[test]
fn every_changed_page_is_named() {
    for installation in Installation::all() {
        page_by_page(&installation, &[], &[HINTS]);
    }
}

#[test]
fn every_changed_page_is_named_with_checksums_and_small_segments() {
    for installation in Installation::all() {
        page_by_page(&installation, &["-k", "--wal-segsize=1"], &["wal_level = logical"]);
    }
}

/// Files of the running server, which does nothing, and where its WAL goes on.
fn idle(server: &Server) -> State {
    server.sql("postgres", "CHECKPOINT");
    State { files: files(&server.data()), end: redo(server) }
}

/// Each statement alone, so that no other names the block of the visibility map for it.
#[test]
fn each_way_to_clear_the_visibility_map_is_heard() {
    let statements = [
        "INSERT INTO t VALUES (5001, 'new')",
        "COPY t FROM PROGRAM 'seq -f \"%.0f,copied\" 6001 6020' WITH (FORMAT csv)",
        "DELETE FROM t WHERE id = 17",
        "UPDATE t SET note = 'same page' WHERE id = 18",
        "UPDATE t SET note = repeat('other page', 400) WHERE id = 19",
        "SELECT * FROM t WHERE id = 20 FOR UPDATE",
        "SELECT * FROM t WHERE id = 21 FOR KEY SHARE",
    ];
    for installation in Installation::all() {
        let mut server = Server::new(&installation, &[], &[HINTS]);
        server.start();
        let make = "CREATE TABLE t (id int, note text) WITH (fillfactor = 40);
                    ALTER TABLE t ALTER note SET STORAGE PLAIN;
                    INSERT INTO t SELECT n, repeat('x', 50) FROM generate_series(1, 5000) n";
        server.sql("postgres", make);
        let layout = layout(&server);
        let map = format!("{}_vm", server.sql("postgres", "SELECT pg_relation_filepath('t')"));
        for statement in statements {
            server.sql("postgres", "VACUUM (FREEZE) t");
            let before = idle(&server);
            server.sql("postgres", statement);
            let after = idle(&server);
            assert!(before.files[&map] != after.files[&map], "{statement} clears nothing");
            let changes = changes(&server.wal(), before.end, after.end);
            let tally = prove(&layout, &before.files, &after.files, &changes);
            assert!(tally.taken <= tally.differ + 2, "{statement}: {tally:?}");
        }
    }
}

/// A table that needs two blocks of the visibility map, changed and cut beyond the first.
#[test]
fn the_second_block_of_a_visibility_map_is_named() {
    let installation = Installation::find(15).unwrap();
    let settings = [HINTS, "wal_level = minimal", "max_wal_senders = 0", "shared_buffers = 400MB"];
    let mut server = Server::new(&installation, &[], &settings);
    server.start();
    // One row fills a block. What is made at this level and in one transaction is not logged.
    let make = "BEGIN; CREATE TABLE wide (id int, note text); ALTER TABLE wide ALTER note SET STORAGE PLAIN;
                INSERT INTO wide SELECT n, repeat('w', 8100) FROM generate_series(1, 33000) n;
                COMMIT; INSERT INTO wide VALUES (33001, 'room'); VACUUM (FREEZE) wide";
    server.sql("postgres", make);
    let layout = layout(&server);
    let map = format!("{}_vm", server.sql("postgres", "SELECT pg_relation_filepath('wide')"));
    let steps = [
        ("DELETE FROM wide WHERE ctid = '(32900,1)'", vec![1]),
        ("UPDATE wide SET note = repeat('n', 3000) WHERE ctid = '(5,1)'", vec![0, 1]),
        ("DELETE FROM wide WHERE ctid = '(0,1)'", vec![0]),
        ("SELECT id FROM wide WHERE ctid = '(32672,1)' FOR UPDATE", vec![1]),
        ("DELETE FROM wide WHERE ctid >= '(32800,0)'", vec![1]),
    ];
    for (statement, blocks) in steps {
        server.sql("postgres", "VACUUM (FREEZE, TRUNCATE off) wide");
        let before = idle(&server);
        server.sql("postgres", statement);
        let after = idle(&server);
        let differ = |at: &usize| before.files[&map].chunks(8192).nth(*at) != after.files[&map].chunks(8192).nth(*at);
        assert_eq!((0..2).filter(differ).collect::<Vec<_>>(), blocks, "{statement}");
        let changes = changes(&server.wal(), before.end, after.end);
        prove(&layout, &before.files, &after.files, &changes);
    }
    let before = idle(&server);
    server.sql("postgres", "VACUUM wide");
    assert_eq!(server.sql("postgres", "SELECT pg_relation_size('wide') / 8192"), "32800");
    let after = idle(&server);
    let tally = prove(&layout, &before.files, &after.files, &changes(&server.wal(), before.end, after.end));
    assert!(tally.files == 1 && tally.maps == 1, "{tally:?}");
}

/// Relations that are made and filled in one transaction are not logged at this level.
#[test]
fn every_changed_page_is_named_at_the_lowest_level() {
    for installation in Installation::all() {
        let settings = [HINTS, "wal_level = minimal", "max_wal_senders = 0", "wal_skip_threshold = 8kB"];
        let known = if installation.major == 12 { &settings[..3] } else { &settings[..] };
        page_by_page(&installation, &[], known);
    }
}

/// The WAL of a workload, with the server stopped.
fn worked(installation: &Installation, initdb: &[&str], settings: &[&str]) -> Server {
    let mut server = Server::new(installation, initdb, settings);
    server.start();
    workload::before(&server);
    workload::rows(&server);
    workload::files(&server);
    server.stop();
    server
}

#[test]
fn every_record_is_as_pg_waldump_shows_it() {
    for installation in Installation::all() {
        let Some(program) = installation.program("pg_waldump") else { continue };
        for (initdb, settings) in [(&[][..], &[HINTS][..]), (&["--wal-segsize=1"], &["wal_level = logical"])] {
            let server = worked(&installation, initdb, settings);
            let wal = server.wal();
            let mut ours = Vec::new();
            let mut ends = Vec::new();
            let end = read(&wal, |record| {
                ours.push(Shown::of(record));
                ends.push(record.end);
            });
            let theirs = pg_waldump(&program, &server.data().join("pg_wal"), ours[0].start);
            for (our, their) in ours.iter().zip(&theirs) {
                assert_eq!(our, their);
            }
            assert_eq!(ours.len(), theirs.len());
            assert_eq!(end.unwrap().at, *ends.last().unwrap(), "behind the last record there is nothing");
            // A record begins where the one before ends, or behind the header of the page there.
            for (end, next) in ends.iter().zip(&ours[1..]) {
                let gap = next.start.0 - end.0;
                assert!(gap == 0 || (end.0 % 8192 == 0 && gap <= 40), "{end:?} {next:?}");
            }
            let kinds: std::collections::BTreeSet<&str> = ours.iter().map(|shown| shown.rmgr.as_str()).collect();
            assert!(kinds.len() >= 19, "{kinds:?}");
        }
    }
}

#[test]
fn every_record_is_as_pg_walinspect_shows_it() {
    for installation in Installation::all().into_iter().filter(|installation| installation.major >= 15) {
        let mut server = worked(&installation, &[], &[HINTS]);
        server.start();
        let wal = server.wal();
        let mut ours: Vec<Inspected> = Vec::new();
        read(&wal, |record| ours.push(inspected(record)));
        let mut theirs = pg_walinspect(&server, ours[0].0);
        // The server has gone on writing.
        theirs.truncate(ours.len());
        assert!(theirs.len() + 100 > ours.len(), "{} and {}", theirs.len(), ours.len());
        for (our, their) in ours.iter().zip(&theirs) {
            assert_eq!(our, their);
        }
    }
}

/// A crash cuts a long record off; the server gives it up when it starts again, and so does the reader.
#[test]
fn a_record_that_a_crash_cut_off_is_passed_over() {
    for installation in Installation::all() {
        let mut server = Server::new(&installation, &["--wal-segsize=1"], &[]);
        server.start();
        let long = "SELECT pg_logical_emit_message(true, 'setpiece', repeat('m', 3500000))";
        server.sql("postgres", long);
        server.crash();
        let mut cut = None;
        read(&server.wal(), |record| {
            if record.len > 3_000_000 {
                cut = Some((record.start, record.end));
            }
        });
        let (start, end) = cut.unwrap();
        for name in since(&server.wal(), end).keys() {
            std::fs::remove_file(server.data().join("pg_wal").join(name)).unwrap();
        }
        server.start();
        server.sql("postgres", "CREATE TABLE later (n int)");
        server.stop();
        let wal = server.wal();
        let mut ours = Vec::new();
        let mut overwritten = 0;
        read(&wal, |record| {
            ours.push(Shown::of(record));
            overwritten += u32::from((record.rmgr, record.info & 0xF0) == (0, 0xD0));
        });
        assert_eq!(overwritten, 1, "{installation:?}");
        assert!(ours.iter().all(|shown| shown.start != start) && ours.last().unwrap().start > start);
        if let Some(program) = installation.program("pg_waldump") {
            assert_eq!(ours, pg_waldump(&program, &server.data().join("pg_wal"), ours[0].start));
        }
    }
}

/// A recovered server goes on as a new timeline, in a segment that begins with the WAL of the old one.
#[test]
fn a_new_timeline_goes_on_where_it_left_the_old_one() {
    for installation in Installation::all() {
        let mut server = Server::new(&installation, &["--wal-segsize=1"], &["restore_command = 'false'"]);
        server.start();
        let from = redo(&server);
        server.sql("postgres", "CREATE TABLE old AS SELECT generate_series(1, 30000) AS n");
        server.crash();
        server.recover();
        server.sql("postgres", "CREATE TABLE new AS SELECT generate_series(1, 30000) AS n");
        server.stop();
        let mut history: BTreeMap<u32, (SegmentName, Vec<u8>)> = BTreeMap::new();
        for (name, bytes) in since(&server.wal(), from) {
            // A later timeline's name sorts behind, and takes the place of the segment that both have.
            let name = SegmentName::parse(&name).unwrap();
            history.insert(name.segment, (name, bytes));
        }
        let turn = history.values().find(|(name, _)| name.timeline == 2).unwrap();
        let info = describe(&turn.1).unwrap();
        assert_eq!(info.timeline, 1);
        info.check(turn.0, info.system).unwrap();
        let segments = history.into_values().map(|(name, bytes)| (format!("{:08X}", name.segment), bytes)).collect();
        let mut gatherer = Gatherer::new(from, 8192);
        read(&segments, |record| gatherer.add(record).unwrap());
        let changes = gatherer.finish(from);
        let turns = |what: &Happening| matches!(what, Happening::Timeline { timeline: 2, previous: 1 });
        assert!(changes.events().iter().any(|event| turns(&event.what)), "{:?}", changes.events());
        assert!(changes.commits().unwrap().count >= 2);
    }
}

#[test]
fn what_the_server_says_about_itself_is_heard() {
    for installation in Installation::all() {
        let mut server = Server::new(&installation, &[], &["wal_level = minimal", "max_wal_senders = 0"]);
        server.start();
        let system: u64 = server.sql("postgres", "SELECT system_identifier FROM pg_control_system()").parse().unwrap();
        let from = redo(&server);
        server.stop();
        let mut settings = std::fs::read_to_string(server.data().join("postgresql.conf")).unwrap();
        settings.push_str("wal_level = replica\n");
        std::fs::write(server.data().join("postgresql.conf"), settings).unwrap();
        server.start();
        server.sql("postgres", "CREATE TABLE t (n int); SELECT pg_sleep(0.01)");
        let clock = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let earlier: i64 = server.sql("postgres", clock).parse().unwrap();
        let backup = if installation.major >= 15 { "backup" } else { "start" };
        let name = "a point with ümlaut";
        let point = server.sql("postgres", &format!("SELECT pg_create_restore_point('{name}')"));
        server.sql("postgres", "INSERT INTO t VALUES (1)");
        let (start, stop) = match backup {
            "backup" => ("pg_backup_start('b', true)", "pg_backup_stop()"),
            _ => ("pg_start_backup('b', true, false)", "pg_stop_backup(false)"),
        };
        server.sql("postgres", &format!("SELECT {start}; SELECT {stop}"));
        let later: i64 = server.sql("postgres", clock).parse().unwrap();
        server.sql("postgres", "CHECKPOINT");
        let checkpoint = server.sql("postgres", "SELECT checkpoint_lsn, redo_lsn FROM pg_control_checkpoint()");
        server.crash();
        let wal = server.wal();
        for (name, bytes) in since(&wal, from) {
            describe(&bytes).unwrap().check(SegmentName::parse(&name).unwrap(), system).unwrap();
        }
        let changes = changes(&wal, from, Lsn(u64::MAX));
        let events: Vec<&Happening> = changes.events().iter().map(|event| &event.what).collect();
        let levels: Vec<u32> = events
            .iter()
            .filter_map(|what| if let Happening::WalLevel(level) = what { Some(level.number()) } else { None })
            .collect();
        assert_eq!(levels, [0, 1]);
        let told = changes.events().iter().find_map(|event| match &event.what {
            Happening::RestorePoint { name, time } => Some((event.lsn, name.clone(), *time)),
            _ => None,
        });
        let (lsn, told, time) = told.unwrap();
        assert_eq!((told.as_str(), lsn), (name, parse_lsn(&point).unwrap()));
        assert!((earlier..=later).contains(&time.0), "{time}");
        assert!(events.iter().any(|what| matches!(what, Happening::BackupEnd { begin } if *begin > from)));
        let checkpoints: Vec<String> = events
            .iter()
            .filter_map(|what| match what {
                Happening::Checkpoint { record, redo, online: true, time } => {
                    assert!((time.0 - later).abs() < 60_000_000, "{time}");
                    let text = setpiece_source_postgres::wal::lsn_text;
                    Some(format!("{}|{}", text(*record), text(*redo)))
                }
                _ => None,
            })
            .collect();
        assert_eq!(checkpoints.last(), Some(&checkpoint));
        let commits = changes.commits().unwrap();
        assert!(commits.count >= 2 && commits.first < commits.last);
        assert!(Timestamp(earlier) < commits.last && commits.last < Timestamp(later), "{commits:?}");
    }
}

/// What is read of WAL, to be held against what is read of a changed copy: where each record begins and ends.
fn outline(bytes: &[u8]) -> Vec<(Lsn, Lsn, u32, u8, u8, usize)> {
    let mut outline = Vec::new();
    let mut reader = Reader::new();
    let Ok(mut records) = reader.push(bytes) else { return outline };
    let mut gatherer = Gatherer::new(Lsn(0), 8192);
    while let Ok(Some(record)) = records.next_record() {
        gatherer.add(&record).unwrap();
        outline.push((record.start, record.end, record.xid, record.rmgr, record.info, record.main.len()));
    }
    let changes = gatherer.finish(Lsn(0));
    assert_eq!(Changes::decode(&changes.encode().unwrap()).unwrap(), changes);
    outline
}

/// Segments that are cut, flipped, overwritten or mixed are read up to there and no further, without a panic and in
/// bounded time.
#[test]
fn damaged_segments_are_survived() {
    let installation = Installation::find(15).unwrap();
    let server = worked(&installation, &["--wal-segsize=1"], &[HINTS]);
    let wal: Vec<Vec<u8>> = server.wal().into_values().filter(|bytes| outline(bytes).len() > 1000).collect();
    assert!(wal.len() > 20);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) };
    let damage = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0usize..5), 1..4),
    );
    proptest!(config, |((which, other, wounds) in damage)| {
        let (good, other) = (which.get(&wal), other.get(&wal));
        let whole = outline(good);
        let mut bad = good.clone();
        for (at, value, kind) in wounds {
            let at = at.index(bad.len().max(1));
            let page = at / 8192 * 8192;
            match kind {
                0 => bad.truncate(page),
                1 => bad.truncate(at),
                2 if at < bad.len() => bad[at] ^= value,
                // Whose segment it is, only its first page says.
                3 if page > 0 && page + 8192 <= bad.len() => bad[page..page + 8192].copy_from_slice(&other[page..page + 8192]),
                4 => bad.iter_mut().skip(at).take(200).for_each(|byte| *byte = byte.wrapping_add(value)),
                _ => {}
            }
        }
        prop_assert!(whole.starts_with(&outline(&bad)));
    });
}

/// A figure, not a proof: `cargo test --release -p setpiece-source-postgres --test wal -- --ignored --nocapture figure`.
#[test]
#[ignore = "prints how long a segment takes"]
#[expect(clippy::print_stderr, reason = "the figure is all that it is for")]
fn figure() {
    let installation = Installation::find(15).unwrap();
    for compression in ["off", "pglz"] {
        let server = worked(&installation, &[], &[HINTS, &format!("wal_compression = {compression}")]);
        let wal = server.wal();
        for (name, bytes) in &wal {
            let began = Instant::now();
            let sum = crc32c::crc32c(bytes);
            let checksum = began.elapsed();
            let began = Instant::now();
            let mut reader = Reader::new();
            let mut records = reader.push(bytes).unwrap();
            let mut count = 0;
            while let Ok(Some(_)) = records.next_record() {
                count += 1;
            }
            let read = began.elapsed();
            let began = Instant::now();
            let mut reader = Reader::new();
            let mut records = reader.push(bytes).unwrap();
            let mut gatherer = Gatherer::new(Lsn(0), 8192);
            while let Ok(Some(record)) = records.next_record() {
                gatherer.add(&record).unwrap();
            }
            let changes = gatherer.finish(Lsn(0));
            let gathered = began.elapsed();
            let stored = changes.encode().unwrap().len();
            eprintln!(
                "{name} ({sum:08x}): {count} records; CRC-32C of all bytes {checksum:?}, read {read:?}, \
                 gathered {gathered:?}, {stored} bytes stored"
            );
        }
    }
}
