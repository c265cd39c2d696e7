//! Connections to the database: how they are opened, the read transaction that holds a snapshot, the writer's lock.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use setpiece_core::Result;

use crate::fault::sql;

/// How many frames of the log SQLite considers committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// The database has no write-ahead log.
    NotWal,
    /// So many frames are committed, and so many of them are copied into the database file.
    Log {
        /// Frames that are committed.
        frames: u32,
        /// Frames whose pages are in the database file as well.
        copied: u32,
    },
    /// SQLite won't say, because the database may not be written to.
    Unknown,
}

/// A connection of ours. It never writes to the database.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    path: PathBuf,
}

impl Link {
    /// Opens the database at `path`, which must exist, for writing if possible: only then can SQLite keep its own
    /// files beside it in order.
    pub(crate) fn open(path: &Path, busy: Duration) -> Result<Self> {
        let base = OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, base | OpenFlags::SQLITE_OPEN_READ_WRITE)
            .or_else(|_| Connection::open_with_flags(path, base | OpenFlags::SQLITE_OPEN_READ_ONLY))
            .map_err(|error| sql(path, error))?;
        let link = Link { connection, path: path.to_owned() };
        link.connection.busy_timeout(busy).map_err(|error| link.fault(error))?;
        link.keep_log(true)?;
        Ok(link)
    }

    /// Whether closing this connection as the last one leaves the log alone. Otherwise SQLite would copy the log into
    /// the database and delete it, and with it redo that was not captured yet.
    pub(crate) fn keep_log(&self, keep: bool) -> Result<()> {
        let set = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep);
        set.map(drop).map_err(|error| self.fault(error))
    }

    /// Begins a read transaction, whose snapshot is the newest one, and pins it.
    pub(crate) fn begin_read(&self) -> Result<()> {
        // BEGIN alone takes no snapshot; the first read does.
        self.run("BEGIN")?;
        self.settle().inspect_err(|_| self.end())
    }

    /// Takes the writer's lock, so that nobody commits until `end`; `false` when it could not be had in `patience`.
    ///
    /// SQLite waits for a lock by sleeping longer and longer, and would hardly ever wake in the moment between two
    /// transactions of a writer that never pauses. So this one tries often.
    pub(crate) fn begin_write(&self, patience: Duration) -> Result<bool> {
        self.connection.busy_timeout(Duration::ZERO).map_err(|error| self.fault(error))?;
        let began = Instant::now();
        loop {
            match self.connection.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => return Ok(true),
                Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {}
                Err(error) => return Err(self.fault(error)),
            }
            if began.elapsed() > patience {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Ends the transaction that is open, if there is one. It has changed nothing.
    pub(crate) fn end(&self) {
        if !self.connection.is_autocommit() {
            // A rollback of a transaction that wrote nothing has nothing that could fail and be told.
            let _nothing_to_undo = self.connection.execute_batch("ROLLBACK");
        }
    }

    /// How many frames of the log are committed. No transaction may be open on this connection.
    ///
    /// A commit frame in the file is not enough: a transaction is committed when the index of the log says so, which
    /// comes after the frame, or never if the writer dies in between. `NOOP` is known to SQLite 3.51 and newer; older
    /// versions take it for `PASSIVE`, which copies pages into the database and answers the same.
    pub(crate) fn published(&self) -> Result<Published> {
        for attempt in 0..200 {
            let row = self.connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            });
            match row {
                Ok((0, frames, copied)) => {
                    let (Ok(frames), Ok(copied)) = (u32::try_from(frames), u32::try_from(copied)) else {
                        return Ok(Published::NotWal);
                    };
                    return Ok(Published::Log { frames, copied });
                }
                Ok(_) => {}
                Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ReadOnly) => {
                    return Ok(Published::Unknown);
                }
                Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {}
                Err(error) => return Err(self.fault(error)),
            }
            std::thread::sleep(Duration::from_millis(1 + attempt / 10));
        }
        Err(crate::fault::unsettled(&self.path, "a checkpoint does not end"))
    }

    /// Copies what is committed, and what no reader needs otherwise, into the database file. Waits for nobody.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        self.value::<i64>("PRAGMA wal_checkpoint(PASSIVE)").map(drop)
    }

    /// The first column of the first row of `query`.
    pub(crate) fn value<T: rusqlite::types::FromSql>(&self, query: &str) -> Result<T> {
        self.connection.query_row(query, [], |row| row.get(0)).map_err(|error| self.fault(error))
    }

    /// Reads something, so that SQLite opens the files and settles what a crash has left.
    pub(crate) fn settle(&self) -> Result<()> {
        self.value::<i64>("SELECT count(*) FROM (SELECT 1 FROM sqlite_schema LIMIT 1)").map(drop)
    }

    fn run(&self, text: &str) -> Result<()> {
        self.connection.execute_batch(text).map_err(|error| self.fault(error))
    }

    fn fault(&self, error: rusqlite::Error) -> setpiece_core::Error {
        sql(&self.path, error)
    }
}
