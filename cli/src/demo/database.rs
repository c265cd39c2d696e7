//! The database of the demo: how it is made, what is in it, how it is damaged, whether it is in order.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use setpiece::transform::page_hash;
use setpiece::{Error, ErrorKind, Result};

/// Accounts in the database.
pub(super) const ACCOUNTS: i64 = 2000;
/// Documents beside them, so that there is something that does not change.
const DOCUMENTS: i64 = 3000;
const PAGE: u64 = 4096;

/// An error of SQLite about a file.
pub(super) fn failed(path: &Path, error: rusqlite::Error) -> Error {
    Error::new(ErrorKind::Source, "SQLite failed").on(path.display().to_string()).because(error)
}

/// Opens the database and waits patiently for others.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let opened = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let connection = opened.map_err(|error| failed(path, error))?;
    connection.busy_timeout(Duration::from_secs(20)).map_err(|error| failed(path, error))?;
    Ok(connection)
}

/// Makes the database, in WAL mode.
pub(super) fn create(path: &Path) -> Result<()> {
    let schema = format!(
        "PRAGMA page_size = {PAGE};
         PRAGMA journal_mode = wal;
         BEGIN;
         CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
         CREATE TABLE transfers (id INTEGER PRIMARY KEY, source INTEGER, target INTEGER, amount INTEGER);
         CREATE TABLE documents (id INTEGER PRIMARY KEY, body TEXT NOT NULL);
         CREATE TABLE counter (transactions INTEGER NOT NULL);
         INSERT INTO counter VALUES (0);
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {ACCOUNTS})
           INSERT INTO accounts SELECT i, 1000 FROM n;
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {DOCUMENTS})
           INSERT INTO documents SELECT i, hex(randomblob(600)) || replace(hex(zeroblob(600)), '00', 'so it was written ') FROM n;
         COMMIT;"
    );
    let connection = Connection::open(path).map_err(|error| failed(path, error))?;
    connection.execute_batch(&schema).map_err(|error| failed(path, error))
}

/// All rows of all tables.
pub(super) struct Content {
    /// Transactions that the writer had done.
    pub(super) transactions: i64,
    pub(super) rows: usize,
    pub(super) checksum: String,
    dump: String,
}

impl Content {
    /// What a connection sees.
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let mut dump = String::new();
        for table in ["accounts", "transfers", "documents", "counter"] {
            let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1"))?;
            let columns = statement.column_count();
            let mut rows = statement.query(())?;
            while let Some(row) = rows.next()? {
                dump += table;
                for column in 0..columns {
                    dump.push(' ');
                    dump += &text_of(row.get_ref(column)?);
                }
                dump.push('\n');
            }
        }
        let transactions = connection.query_row("SELECT transactions FROM counter", (), |row| row.get(0))?;
        let checksum =
            page_hash(dump.as_bytes()).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        Ok(Content { transactions, rows: dump.lines().count(), checksum, dump })
    }

    /// What is in a database that nobody else uses.
    pub(super) fn of_file(path: &Path) -> Result<Self> {
        Content::of(&open(path)?).map_err(|error| failed(path, error))
    }

    /// Whether every row is the same.
    pub(super) fn is(&self, other: &Content) -> bool {
        self.dump == other.dump
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} transactions, {} rows, checksum {}", self.transactions, self.rows, self.checksum)
    }
}

fn text_of(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".into(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// A transaction that nobody wanted.
pub(super) fn mistake(path: &Path) -> Result<()> {
    open(path)?.execute_batch("DELETE FROM accounts").map_err(|error| failed(path, error))
}

/// Overwrites pages of the database file and cuts its log, and says what SQLite has to say about that.
pub(super) fn damage(path: &Path) -> Result<Vec<String>> {
    let io = |error| Error::io(path.display().to_string(), error);
    let wal = PathBuf::from(format!("{}-wal", path.display()));
    let mut said = Vec::new();
    if wal.exists() {
        std::fs::remove_file(&wal).map_err(io)?;
        said.push("the write-ahead log is gone".to_owned());
    }
    let mut file = OpenOptions::new().write(true).open(path).map_err(io)?;
    let pages = file.metadata().map_err(io)?.len() / PAGE;
    let hit: Vec<u64> = (1..pages).step_by(7).collect();
    for page in &hit {
        file.seek(SeekFrom::Start(page * PAGE)).map_err(io)?;
        file.write_all(&[0xa5; PAGE as usize]).map_err(io)?;
    }
    file.sync_all().map_err(io)?;
    said.push(format!("{} of {pages} pages are overwritten", hit.len()));
    let verdict = integrity(path);
    if verdict == "ok" {
        return Err(Error::new(ErrorKind::Internal, "the damage did not show").on(path.display().to_string()));
    }
    said.push(format!("PRAGMA integrity_check: {verdict}"));
    Ok(said)
}

/// What SQLite's own check says: `ok`, or the first complaint.
pub(super) fn integrity(path: &Path) -> String {
    let checked = open(path).and_then(|connection| {
        let verdict = connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get::<_, String>(0));
        verdict.map_err(|error| failed(path, error))
    });
    match checked {
        Ok(verdict) => verdict.lines().last().unwrap_or_default().to_owned(),
        Err(error) => std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
    }
}
