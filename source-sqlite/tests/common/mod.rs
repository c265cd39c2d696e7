//! What the tests share: a bank whose books must balance, writers of it in this and in another process, and copies
//! assembled from what a backup reads.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use setpiece_core::model::{Level, PageRun, PageSet, Scope};
use setpiece_core::source::{BackupRun, BeginRequest, EndInfo, Source};

/// The environment variable that makes a test executable the writer: `path|seed|transactions|journal of hashes`.
pub const WRITER: &str = "SETPIECE_TEST_WRITER";

/// A small generator of random numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A connection that waits for locks.
pub fn connect(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection.execute_batch("PRAGMA synchronous=OFF").unwrap();
    connection
}

/// Makes a bank: 20 accounts in each of two tables, 2000 altogether; `page_size` 0 leaves the default.
pub fn make_bank(path: &Path, page_size: u32, journal: &str) -> Connection {
    let db = connect(path);
    if page_size != 0 {
        db.execute_batch(&format!("PRAGMA page_size={page_size}")).unwrap();
    }
    db.query_row(&format!("PRAGMA journal_mode={journal}"), [], |_| Ok(())).unwrap();
    db.execute_batch(
        "BEGIN;
         CREATE TABLE a(id INTEGER PRIMARY KEY, v INTEGER);
         CREATE TABLE b(id INTEGER PRIMARY KEY, v INTEGER);
         CREATE TABLE count(n INTEGER);
         CREATE TABLE filler(id INTEGER PRIMARY KEY, x BLOB);
         CREATE INDEX by_x ON filler(substr(x, 1, 20));
         INSERT INTO count VALUES (0);
         WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 20)
         INSERT INTO a SELECT n, 50 FROM i;
         INSERT INTO b SELECT id, v FROM a;
         COMMIT",
    )
    .unwrap();
    db
}

/// One transaction: money moves, the counter goes up by one, filler comes and goes.
pub fn transact(db: &Connection, random: &mut Random) -> i64 {
    let (from, to, amount) = (1 + random.below(20), 1 + random.below(20), random.below(9) as i64 - 4);
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    db.execute("UPDATE a SET v = v - ?2 WHERE id = ?1", (from as i64, amount)).unwrap();
    db.execute("UPDATE b SET v = v + ?2 WHERE id = ?1", (to as i64, amount)).unwrap();
    db.execute("UPDATE count SET n = n + 1", []).unwrap();
    match random.below(20) {
        0 => drop(db.execute("DELETE FROM filler WHERE id % 3 = ?1", [random.below(3) as i64]).unwrap()),
        1 => drop(db.execute("INSERT INTO filler(x) VALUES (randomblob(70000))", []).unwrap()),
        _ => drop(db.execute("INSERT INTO filler(x) VALUES (randomblob(?1))", [random.below(3000) as i64]).unwrap()),
    }
    let count = db.query_row("SELECT n FROM count", [], |row| row.get(0)).unwrap();
    db.execute_batch("COMMIT").unwrap();
    count
}

/// As many transactions as `times` has numbers.
pub fn transact_times(db: &Connection, random: &mut Random, times: std::ops::Range<u64>) {
    for _ in times {
        transact(db, random);
    }
}

/// A checkpoint of a random kind; sometimes none.
pub fn random_checkpoint(db: &Connection, random: &mut Random) {
    let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][random.below(4) as usize];
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
}

/// A number that stands for everything in the bank.
pub fn dump(db: &Connection) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for query in ["SELECT id, v FROM a ORDER BY id", "SELECT id, v FROM b ORDER BY id", "SELECT 0, n FROM count"] {
        let mut statement = db.prepare(query).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            eat(&row.get::<_, i64>(0).unwrap().to_le_bytes());
            eat(&row.get::<_, i64>(1).unwrap().to_le_bytes());
        }
    }
    let mut statement =
        db.prepare("SELECT id, length(x), substr(x, 1, 8), substr(x, -8) FROM filler ORDER BY id").unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        eat(&row.get::<_, i64>(0).unwrap().to_le_bytes());
        eat(&row.get::<_, i64>(1).unwrap().to_le_bytes());
        eat(&row.get::<_, Vec<u8>>(2).unwrap());
        eat(&row.get::<_, Vec<u8>>(3).unwrap());
    }
    hash
}

/// Opens a copy and proves it: SQLite finds no fault, the books balance. Returns the counter and the dump.
pub fn prove(path: &Path) -> (i64, u64) {
    let db = connect(path);
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok", "{}", path.display());
    let money: i64 =
        db.query_row("SELECT (SELECT sum(v) FROM a) + (SELECT sum(v) FROM b)", [], |row| row.get(0)).unwrap();
    assert_eq!(money, 2000, "the books of {} do not balance", path.display());
    (db.query_row("SELECT n FROM count", [], |row| row.get(0)).unwrap(), dump(&db))
}

/// What the process started by [`spawn_writer`] does. Call it from an ignored test of the same executable.
pub fn writer_main() {
    let Ok(order) = std::env::var(WRITER) else { return };
    let parts: Vec<&str> = order.split('|').collect();
    let (path, seed, transactions) = (Path::new(parts[0]), parts[1].parse().unwrap(), parts[2].parse::<u64>().unwrap());
    let mut journal = (!parts[3].is_empty()).then(|| std::fs::File::create(parts[3]).unwrap());
    let mut random = Random(seed);
    let mut db = connect(path);
    for _ in 0..transactions {
        let count = transact(&db, &mut random);
        if let Some(journal) = &mut journal {
            use std::io::Write;
            writeln!(journal, "{count} {}", dump(&db)).unwrap();
        }
        match random.below(12) {
            0 => random_checkpoint(&db, &mut random),
            1 if random.below(4) == 0 => db = connect(path),
            2 if random.below(4) == 0 => std::thread::sleep(Duration::from_millis(random.below(20))),
            3 if random.below(30) == 0 => db.execute_batch("VACUUM").unwrap(),
            _ => {}
        }
    }
}

/// Starts another process that writes to the bank at `path`. The executable must have an ignored test `writer`.
pub fn spawn_writer(path: &Path, seed: u64, transactions: u64, journal: Option<&Path>) -> Child {
    let journal = journal.map(|path| path.display().to_string()).unwrap_or_default();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--ignored", "--nocapture"])
        .env(WRITER, format!("{}|{seed}|{transactions}|{journal}", path.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// A request for a full backup.
pub fn begin<'s>(source: &'s dyn Source, cookie: Option<&[u8]>) -> Box<dyn BackupRun + 's> {
    let request = BeginRequest { scope: &Scope::Database, level: Level::Full, without_log: false, cookie };
    source.begin(&request).unwrap()
}

/// Writes to `target` what the run reads, with two threads; pages not in use stay zero.
pub fn copy(run: &dyn BackupRun, target: &Path) {
    let entry = &run.files()[0];
    let valid = run.valid_pages(entry.id).unwrap();
    let all: PageSet = [PageRun::new(0, entry.pages())].into_iter().collect();
    let wanted = valid.unwrap_or(all);
    write_pages(run, &wanted, target);
    let file = std::fs::OpenOptions::new().write(true).open(target).unwrap();
    file.set_len(entry.len).unwrap();
}

/// Writes the pages of `wanted` over those in `target`.
pub fn write_pages(run: &dyn BackupRun, wanted: &PageSet, target: &Path) {
    let entry = &run.files()[0];
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(target).unwrap();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let file = &file;
            scope.spawn(move || {
                let mut bytes = Vec::new();
                for run_of_pages in wanted.runs() {
                    for first in (run_of_pages.first.0..run_of_pages.end()).step_by(7).skip(half).step_by(2) {
                        let count = 7.min(run_of_pages.end() - first);
                        run.read(entry.id, first, count, &mut bytes).unwrap();
                        assert_eq!(bytes.len() as u64, count * u64::from(entry.page_size));
                        file.write_all_at(&bytes, entry.offset(first)).unwrap();
                    }
                }
            });
        }
    });
}

/// A whole backup into a file.
pub fn back_up(source: &dyn Source, cookie: Option<&[u8]>, target: &Path) -> EndInfo {
    let mut run = begin(source, cookie);
    copy(run.as_ref(), target);
    run.end().unwrap()
}
