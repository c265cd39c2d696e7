//! Directories of databases and tablespaces, and the file that maps catalogs (PostgreSQL's dbcommands_xlog.h,
//! tablespace.h, relmapper.h).

use super::super::bytes::{Take, until_nul};
use super::super::record::Record;
use super::super::rel::DatabaseDir;
use super::fact::Fact;

/// What is done to the directory of a database.
enum Kind {
    Copy,
    Make,
    /// Dropped from one tablespace, or from a list of them.
    DropOne,
    DropMany,
}

fn kind(record: &Record<'_>) -> Option<Kind> {
    match (record.kind(), record.version.major()) {
        (0x00, _) => Some(Kind::Copy),
        (0x10, 12) => Some(Kind::DropOne),
        (0x10, 13 | 14) | (0x20, 15..) => Some(Kind::DropMany),
        (0x10, 15..) => Some(Kind::Make),
        _ => None,
    }
}

pub(super) fn database<'r>(record: &Record<'r>, each: &mut impl FnMut(Fact<'r>)) -> Option<()> {
    let mut take = Take::new(record.main);
    let database = take.u32()?;
    let mut directory = || take.u32().map(|tablespace| DatabaseDir { tablespace, database });
    match kind(record)? {
        Kind::Copy => each(Fact::DirectoryCopied(directory()?)),
        Kind::Make => each(Fact::DirectoryMade(directory()?)),
        Kind::DropOne => each(Fact::DirectoryDropped(directory()?)),
        Kind::DropMany => {
            let count = take.u32()?;
            for _ in 0..count {
                each(Fact::DirectoryDropped(DatabaseDir { tablespace: take.u32()?, database }));
            }
        }
    }
    Some(())
}

pub(super) fn tablespace<'r>(record: &Record<'r>, each: &mut impl FnMut(Fact<'r>)) -> Option<()> {
    let mut take = Take::new(record.main);
    let tablespace = take.u32()?;
    match record.kind() {
        0x00 => {
            let path = take.bytes(take.left())?;
            each(Fact::TablespaceMade { tablespace, path: until_nul(path) });
        }
        0x10 => each(Fact::TablespaceDropped(tablespace)),
        _ => return None,
    }
    Some(())
}

pub(super) fn map<'r>(record: &Record<'r>, each: &mut impl FnMut(Fact<'r>)) -> Option<()> {
    let mut take = Take::new(record.main);
    let (database, tablespace) = (take.u32()?, take.u32()?);
    each(Fact::MapChanged(DatabaseDir { tablespace, database }));
    Some(())
}
