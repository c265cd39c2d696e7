//! Marks of SQLite's states: what a record proves with that it goes on from another.
//!
//! A state with frames in the log is known by the log's salts, the frame and the running checksum there, which runs over
//! all frames before. A state without frames is the database file's; it is known by the file's mark, as long as nothing
//! writes to the file. A state can have both: what is in the file when a log begins is the state that the log before
//! ended with, and who has followed the one into the other knows both marks.

use setpiece_core::model::StateMark;

use crate::bytes::fnv128;
use crate::dbfile::FileMark;
use crate::place::Point;
use crate::wal::{Cursor, Salts};

/// The mark of the state behind a frame of a log.
pub(crate) fn of_log(salts: Salts, at: Cursor) -> StateMark {
    let numbers = salts.into_iter().chain([at.frame]).chain(at.sum).map(u64::from);
    named(b"log", numbers)
}

/// The mark of a state that is all in the database file.
pub(crate) fn of_file(file: &FileMark) -> StateMark {
    named(b"file", file.numbers())
}

/// The marks of a point; none when nothing can prove to go on from it.
pub(crate) fn of_point(point: &Point) -> Vec<StateMark> {
    let log = point.wal.map(|wal| of_log(wal.salts, Cursor { frame: point.frame, sum: wal.sum }));
    log.or_else(|| point.file.as_ref().map(of_file)).into_iter().collect()
}

fn named(kind: &[u8], numbers: impl IntoIterator<Item = u64>) -> StateMark {
    let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
    let hash = fnv128(kind.iter().chain(&bytes));
    // Both halves, since the upper one of this hash is weak for short inputs.
    StateMark((hash as u64) ^ ((hash >> 64) as u64).rotate_left(32))
}
