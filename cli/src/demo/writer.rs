//! The writing process of the demo: transfers between accounts, one transaction after the other, until its standard
//! input closes.

use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use serde::Serialize;
use setpiece::pipeline::Cancel;
use setpiece::{Error, ErrorKind, Result};

use super::database::{ACCOUNTS, failed, open};
use crate::output;

/// What was written.
#[derive(Debug, Serialize)]
pub(crate) struct Written {
    pub transactions: u64,
}

/// Writes until told to stop, or until nobody holds the other end of standard input any more.
pub(crate) fn run(database: &Path, cancel: &Cancel) -> Result<Written> {
    let connection = open(database)?;
    let abandoned = cancel.clone();
    let watch = move || {
        // Whatever comes, the end of it means that the demo is gone.
        drop(std::io::stdin().lock().read_to_end(&mut Vec::new()));
        abandoned.cancel();
    };
    thread::Builder::new().name("watch".into()).spawn(watch).map_err(|error| Error::io("a thread", error))?;
    output::note("writing");
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut written = Written { transactions: 0 };
    while !cancel.is_cancelled() {
        transfer(&connection, &mut chance).map_err(|error| failed(database, error))?;
        written.transactions += 1;
        thread::sleep(Duration::from_millis(2));
    }
    match connection.close() {
        Ok(()) => Ok(written),
        Err((_, error)) => Err(Error::new(ErrorKind::Source, "the database does not close").because(error)),
    }
}

/// Moves money, notes it, and counts: all or nothing.
fn transfer(connection: &Connection, chance: &mut Chance) -> rusqlite::Result<()> {
    let (from, to, amount) = (chance.below(ACCOUNTS), chance.below(ACCOUNTS), chance.below(100));
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let moved = || -> rusqlite::Result<()> {
        connection.execute("UPDATE accounts SET balance = balance - ?2 WHERE id = ?1", (from, amount))?;
        connection.execute("UPDATE accounts SET balance = balance + ?2 WHERE id = ?1", (to, amount))?;
        connection.execute("INSERT INTO transfers (source, target, amount) VALUES (?1, ?2, ?3)", (from, to, amount))?;
        connection.execute("UPDATE counter SET transactions = transactions + 1", ())?;
        Ok(())
    };
    match moved() {
        Ok(()) => connection.execute_batch("COMMIT"),
        Err(error) => {
            connection.execute_batch("ROLLBACK")?;
            Err(error)
        }
    }
}

/// A small generator of numbers (xorshift): which ones does not matter here.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        i64::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }
}
