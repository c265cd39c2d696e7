//! Physical replication: redo as it is written, base backups, the end of a timeline and of a server.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use setpiece_core::model::{Lsn, Timestamp};
use setpiece_source_postgres::client::{Client, CopyBoth, CopyData, CopyOutItem, StandbyStatus, StreamEnd, sqlstate};

use crate::server::{Server, until, value};

const WAIT: Duration = Duration::from_millis(200);
const LATE: Duration = Duration::from_secs(30);
const SEGMENT: u64 = 16 * 1024 * 1024;

fn lsn(text: &str) -> Lsn {
    let (high, low) = text.split_once('/').unwrap();
    Lsn(u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap())
}

fn text(lsn: Lsn) -> String {
    format!("{:X}/{:X}", lsn.0 >> 32, lsn.0 & 0xffff_ffff)
}

fn current(admin: &mut Client) -> Lsn {
    lsn(&value(admin, "SELECT pg_current_wal_flush_lsn()"))
}

/// Reads redo until `upto` has arrived.
fn read(stream: &mut CopyBoth, from: Lsn, upto: Lsn) -> Vec<u8> {
    let (began, mut redo) = (Instant::now(), Vec::new());
    while from.0 + (redo.len() as u64) < upto.0 {
        assert!(began.elapsed() < LATE);
        if let Some(CopyData::XLogData { start, end, clock, bytes }) = stream.next(WAIT).unwrap() {
            assert_eq!(start.0, from.0 + redo.len() as u64);
            assert!(end.0 >= start.0 + bytes.len() as u64 && recent(clock));
            redo.extend_from_slice(&bytes);
        }
    }
    redo
}

fn recent(clock: Timestamp) -> bool {
    Timestamp::from(std::time::SystemTime::now()).0.abs_diff(clock.0) < 3_600_000_000
}

/// The redo of timeline 1 in the server's own files.
fn stored(server: &Server, from: Lsn, upto: Lsn) -> Vec<u8> {
    assert_eq!(from.0 % SEGMENT, 0);
    let segments = from.0 / SEGMENT..upto.0.div_ceil(SEGMENT);
    let mut redo = Vec::new();
    for segment in segments {
        let name = format!("data/pg_wal/00000001{:08X}{:08X}", segment >> 8, segment & 0xff);
        redo.extend(fs::read(server.path(&name)).unwrap());
    }
    redo.truncate((upto.0 - from.0).try_into().unwrap());
    redo
}

#[test]
fn redo_arrives_as_it_is_written() {
    let server = Server::start("", "");
    let mut admin = server.admin();
    let mut walsender = server.walsender();
    let system = &walsender.query("IDENTIFY_SYSTEM").unwrap()[0];
    assert_eq!((system.get("timeline").unwrap(), system.optional("dbname").unwrap()), ("1", None));
    walsender.execute("CREATE_REPLICATION_SLOT taker PHYSICAL RESERVE_WAL").unwrap();
    let from = Lsn(current(&mut admin).0 / SEGMENT * SEGMENT);
    let mut stream = walsender.copy_both(&format!("START_REPLICATION SLOT taker {}", text(from))).unwrap();

    admin.execute("CREATE TABLE public.t AS SELECT i, repeat('x', 100) FROM generate_series(1, 300000) i").unwrap();
    admin.execute("SELECT pg_switch_wal(); INSERT INTO public.t VALUES (0, 'behind')").unwrap();
    let upto = current(&mut admin);
    assert!(upto.0 > from.0 + 2 * SEGMENT);
    let redo = read(&mut stream, from, upto);
    assert!(
        redo[..(upto.0 - from.0) as usize] == stored(&server, from, upto)[..],
        "redo differs from the server's files"
    );

    // Nothing more comes, and waiting for it costs what it was said to.
    let began = Instant::now();
    let silence = |data: &CopyData| matches!(data, CopyData::Keepalive { .. });
    while stream.next(WAIT).unwrap().as_ref().is_some_and(silence) {}
    assert!(began.elapsed() < LATE);

    let third = |part: u64| Lsn(from.0 + part * SEGMENT / 2);
    let mut status = StandbyStatus { written: third(3), flushed: third(2), applied: third(1), reply_requested: true };
    stream.send_status(status).unwrap();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < LATE, "no keepalive");
        if let Some(CopyData::Keepalive { end, clock, reply_requested }) = stream.next(WAIT).unwrap() {
            assert!(end >= upto && recent(clock) && !reply_requested);
            break;
        }
    }
    let [written, flushed, applied] = [3, 2, 1].map(|part| text(third(part)));
    until(
        &mut admin,
        &format!(
            "SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = 'setpiece' AND \
             (write_lsn, flush_lsn, replay_lsn) = ('{written}', '{flushed}', '{applied}') AND \
             abs(extract(epoch FROM reply_time - now())) < 600"
        ),
    );
    until(&mut admin, &format!("SELECT restart_lsn = '{flushed}' FROM pg_replication_slots"));
    status.flushed = upto;
    status.reply_requested = false;
    stream.send_status(status).unwrap();
    until(&mut admin, &format!("SELECT restart_lsn = '{}' FROM pg_replication_slots", text(upto)));

    // We end it while more is under way, and go on with the same connection.
    admin.execute("INSERT INTO public.t SELECT i, repeat('y', 100) FROM generate_series(1, 100000) i").unwrap();
    let mut walsender = stream.finish().unwrap();
    assert_eq!(value(&mut walsender, "SHOW wal_segment_size"), "16MB");
}

#[test]
fn redo_that_is_gone_or_does_not_exist() {
    let server = Server::start("", "");
    for (start, code, part) in [("FF/0", "XX000", "FF/0"), ("0/0", "58P01", "removed")] {
        let mut stream = server.walsender().copy_both(&format!("START_REPLICATION {start}")).unwrap();
        let error = (0..100).find_map(|_| stream.next(WAIT).err()).unwrap();
        assert!(sqlstate(&error) == Some(code) && error.to_string().contains(part), "{error}");
        assert!(stream.next(WAIT).is_err());
        assert!(stream.finish().is_err());
    }
    let unknown = server.walsender().copy_both("START_REPLICATION SLOT none 0/1000000").unwrap_err();
    assert_eq!(sqlstate(&unknown), Some("42704"));
    let mut walsender = server.walsender();
    assert!(sqlstate(&walsender.query("NO_SUCH_COMMAND").unwrap_err()).is_some());
    assert_eq!(value(&mut walsender, "SHOW wal_level"), "replica");
}

#[test]
fn a_timeline_ends_and_so_does_a_server() {
    let mut server = Server::start("", "");
    let from = Lsn(current(&mut server.admin()).0 / SEGMENT * SEGMENT);
    server.admin().execute("CREATE TABLE public.t AS SELECT generate_series(1, 1000)").unwrap();
    server.stop(Signal::INT);
    server.write("data/standby.signal", "");
    server.run();
    server.admin().execute("SELECT pg_promote()").unwrap();
    let mut admin = server.admin();
    until(&mut admin, "SELECT NOT pg_is_in_recovery()");

    let mut stream = server.walsender().copy_both(&format!("START_REPLICATION {} TIMELINE 1", text(from))).unwrap();
    let (began, mut last) = (Instant::now(), from);
    let ended = loop {
        assert!(began.elapsed() < LATE);
        match stream.next(WAIT).unwrap() {
            Some(CopyData::XLogData { start, bytes, .. }) => last = Lsn(start.0 + bytes.len() as u64),
            Some(CopyData::Ended(end)) => break end,
            _ => {}
        }
    };
    let StreamEnd::Timeline { next: 2, start: switched } = ended else { panic!("{ended:?}") };
    assert!(last == switched && switched > from, "{last} {switched}");
    assert_eq!(stream.next(WAIT).unwrap(), Some(CopyData::Ended(ended.clone())));
    let nothing = StandbyStatus { written: last, flushed: last, applied: last, reply_requested: true };
    stream.send_status(nothing).unwrap();
    let mut walsender = stream.finish().unwrap();
    assert!(walsender.query("TIMELINE_HISTORY 2").unwrap()[0].get("filename").unwrap().ends_with("2.history"));

    // From just where it ends there is no stream at all.
    let mut none = walsender.copy_both(&format!("START_REPLICATION {} TIMELINE 1", text(switched))).unwrap();
    assert_eq!(none.next(WAIT).unwrap(), Some(CopyData::Ended(ended)));
    let walsender = none.finish().unwrap();

    let mut stream = walsender.copy_both(&format!("START_REPLICATION {} TIMELINE 2", text(switched))).unwrap();
    drop(admin);
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        server.stop(Signal::INT);
    });
    let began = Instant::now();
    let ended = loop {
        assert!(began.elapsed() < LATE);
        match stream.next(WAIT).unwrap() {
            Some(CopyData::Ended(end)) => break end,
            Some(CopyData::XLogData { end, .. } | CopyData::Keepalive { end, .. }) => {
                let status = StandbyStatus { written: end, flushed: end, applied: end, reply_requested: false };
                // The server waits for that before it ends; it may be gone when it is told once more.
                if stream.send_status(status).is_err() {
                    return stopper.join().unwrap();
                }
            }
            None => {}
        }
    };
    stopper.join().unwrap();
    assert_eq!(ended, StreamEnd::Shutdown);
    assert!(stream.finish().is_err());
}

#[test]
fn a_stream_whose_server_is_killed_is_noticed() {
    let server = Server::start("", "");
    let walsender = server.walsender();
    let victim = crate::server::pid(walsender.process_id().unwrap().try_into().unwrap());
    let from = current(&mut server.admin());
    let mut stream = walsender.copy_both(&format!("START_REPLICATION {}", text(from))).unwrap();
    rustix::process::kill_process(victim, Signal::KILL).unwrap();
    let began = Instant::now();
    let error = loop {
        assert!(began.elapsed() < LATE);
        if let Err(error) = stream.next(WAIT) {
            break error;
        }
    };
    assert!(error.is_retryable() && error.to_string().contains("closed the connection"), "{error}");
    assert!(stream.next(WAIT).unwrap_err().to_string().contains("cannot be used any more"));
}

#[test]
fn a_base_backup_is_read_to_its_end() {
    let server = Server::start("", "");
    let version: u32 = value(&mut server.admin(), "SHOW server_version_num").parse().unwrap();
    let (open, comma, close) = if version >= 150_000 { ("(", ",", ")") } else { ("", "", "") };
    let command = format!("BASE_BACKUP {open} LABEL 'it''s one' {comma} MANIFEST 'yes' {close}");
    let mut out = server.walsender().copy_out(&command).unwrap();
    let (mut results, mut streams, mut bytes) = (Vec::new(), 0, Vec::new());
    while let Some(item) = out.next().unwrap() {
        match item {
            CopyOutItem::Rows(rows) => results.push(rows),
            CopyOutItem::Begin => streams += 1,
            CopyOutItem::Data(data) => bytes.extend_from_slice(&data),
            CopyOutItem::End => {}
        }
    }
    assert_eq!(results.len(), 3);
    let [begin, end] = [&results[0][0], &results[2][0]].map(|row| (lsn(row.get(0).unwrap()), row.get("tli").unwrap()));
    assert!(begin.0 < end.0 && begin.1 == "1" && end.1 == "1");
    assert_eq!(results[1][0].optional("spclocation").unwrap(), None);
    assert!(streams >= 1 && bytes.len() > 20_000_000, "{streams} streams of {} bytes", bytes.len());
    let contains = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(
        contains(b"LABEL: it's one")
            && contains(b"global/pg_control")
            && contains(b"PostgreSQL-Backup-Manifest-Version")
    );
    let mut walsender = out.finish().unwrap();
    assert_eq!(value(&mut walsender, "SHOW wal_level"), "replica");

    // One that is left in the middle leaves nothing behind.
    let mut out = walsender.copy_out(&command).unwrap();
    assert!(out.next().unwrap().is_some());
    drop(out);
    until(&mut server.admin(), "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'walsender'");
}
