//! What PostgreSQL's own reader of WAL says of each record, to be held against ours.

use std::path::Path;
use std::process::Command;

use setpiece_core::model::Lsn;
use setpiece_source_postgres::wal::{Record, lsn_text, parse_lsn, rmgr_name};

use crate::server::Server;

/// A record, as both readers show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) start: Lsn,
    pub(crate) prev: Lsn,
    pub(crate) xid: u32,
    pub(crate) rmgr: String,
    /// Bytes of the record.
    pub(crate) len: u32,
    /// Bytes of page images in it.
    pub(crate) images: u32,
    /// `tablespace/database/relation fork block`, and whether there is an image.
    pub(crate) blocks: Vec<(u8, String, bool)>,
}

impl Shown {
    pub(crate) fn of(record: &Record<'_>) -> Shown {
        let place = |block: &setpiece_source_postgres::wal::BlockRef| {
            let fork = block.fork;
            let relation = format!("{}/{}/{}", fork.tablespace, fork.database, fork.relation);
            (block.id, format!("{relation} {} {}", fork.fork.name(), block.block), block.image.is_some())
        };
        Shown {
            start: record.start,
            prev: record.prev,
            xid: record.xid,
            rmgr: rmgr_name(record.rmgr).unwrap().to_owned(),
            len: record.len,
            images: record.image_bytes(),
            blocks: record.blocks.iter().map(place).collect(),
        }
    }
}

/// What `pg_waldump` says of the records from `start` on, in the segments of a directory.
pub(crate) fn pg_waldump(program: &Path, wal: &Path, start: Lsn) -> Vec<Shown> {
    let output = Command::new(program).arg("-p").arg(wal).arg("-s").arg(lsn_text(start)).output().unwrap();
    // It ends with an error, where WAL ends.
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(line).collect()
}

/// Reads a line such as `rmgr: Heap  len (rec/tot): 54/ 214, tx: 731, lsn: 0/0152A1B0, prev 0/0152A178, desc: ...,
/// blkref #0: rel 1663/5/16384 fork vm blk 0 FPW`.
fn line(line: &str) -> Shown {
    let behind = |mark: &str| line.split_once(mark).unwrap_or_else(|| panic!("no {mark} in {line}")).1.trim_start();
    let word = |mark: &str| behind(mark).split([' ', ',', '/']).next().unwrap().to_owned();
    let lsn = |mark: &str| parse_lsn(behind(mark).split(',').next().unwrap()).unwrap();
    let without_images: u32 = word("len (rec/tot):").parse().unwrap();
    let len: u32 = word(&format!("{without_images}/")).parse().unwrap();
    let blocks = line.split("blkref #").skip(1).map(block).collect();
    Shown {
        start: lsn(" lsn: "),
        prev: lsn(" prev "),
        xid: word(" tx: ").parse().unwrap(),
        rmgr: word("rmgr: "),
        len,
        images: len - without_images,
        blocks,
    }
}

fn block(text: &str) -> (u8, String, bool) {
    let (id, rest) = text.split_once(": rel ").unwrap();
    let mut words = rest.split([' ', ',']);
    let relation = words.next().unwrap();
    let (mut fork, mut number) = ("main", "");
    let mut image = false;
    while let Some(word) = words.next() {
        match word {
            "fork" => fork = words.next().unwrap(),
            "blk" => number = words.next().unwrap(),
            "FPW" => image = true,
            _ => {}
        }
    }
    (id.parse().unwrap(), format!("{relation} {fork} {number}"), image)
}

/// A record as a running server shows it: begin, end, begin of the one before, transaction, resource manager, bytes of
/// the record, of its main data and of its images, and how many blocks it names.
pub(crate) type Inspected = (Lsn, Lsn, Lsn, u32, String, u32, u32, u32, usize);

pub(crate) fn inspected(record: &Record<'_>) -> Inspected {
    (
        record.start,
        record.end,
        record.prev,
        record.xid,
        rmgr_name(record.rmgr).unwrap().to_owned(),
        record.len,
        record.main.len() as u32,
        record.image_bytes(),
        record.blocks.len(),
    )
}

/// What the extension `pg_walinspect` of 15 and later says of the records from `start` on.
pub(crate) fn pg_walinspect(server: &Server, start: Lsn) -> Vec<Inspected> {
    let query = format!(
        "CREATE EXTENSION IF NOT EXISTS pg_walinspect;
         SELECT start_lsn, end_lsn, prev_lsn, xid, resource_manager, record_length, main_data_length, fpi_length,
                (length(block_ref) - length(replace(block_ref, 'blkref #', ''))) / 8
         FROM pg_get_wal_records_info('{}', pg_current_wal_flush_lsn())",
        lsn_text(start)
    );
    server.sql("postgres", &query).lines().map(row).collect()
}

fn row(row: &str) -> Inspected {
    let fields: Vec<&str> = row.split('|').collect();
    let lsn = |at: usize| parse_lsn(fields[at]).unwrap();
    let number = |at: usize| fields[at].parse::<u32>().unwrap();
    let blocks = fields[8].parse().unwrap_or(0);
    (lsn(0), lsn(1), lsn(2), number(3), fields[4].to_owned(), number(5), number(6), number(7), blocks)
}
