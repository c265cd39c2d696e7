//! What a record changes, and what it says about the cluster: the facts that a backup needs.
//!
//! A record names most of the blocks that it changes. What it changes besides is told by its resource manager, and the
//! parts below know those that matter: `heap` clears bits of the visibility map, `storage` makes, cuts and drops files,
//! `database` makes and drops directories, `xact` ends transactions and drops files with them, `cluster` is what the
//! server says about itself. A record of any other resource manager, an extension's too, changes only blocks that it
//! names.

mod cluster;
mod database;
mod fact;
mod heap;
mod storage;
#[cfg(test)]
mod tests;
mod xact;

use setpiece_core::{Error, Result};

use super::lsn::lsn_text;
use super::record::Record;
use super::rmgr;

pub use fact::{Fact, WalLevel};

/// The record changes files of relations in ways that its block references do not tell.
const SPECIAL: u8 = 0x01;

/// Hands what `record` does and says to `each`. `block_size` is that of the cluster's relations.
///
/// # Errors
/// When what the record changes cannot be told: it says less than a record of its kind must, or is of a kind that is
/// not known and says that it changes files.
pub fn facts<'r>(record: &Record<'r>, block_size: u32, each: &mut impl FnMut(Fact<'r>)) -> Result<()> {
    for block in record.blocks {
        each(Fact::Block(block.fork, block.block));
    }
    let told = match record.rmgr {
        rmgr::HEAP => heap::heap(record, block_size, each),
        rmgr::HEAP2 => heap::heap2(record, block_size, each),
        rmgr::XACT => xact::xact(record, each),
        rmgr::SMGR => storage::storage(record, block_size, each),
        rmgr::DATABASE => database::database(record, each),
        rmgr::TABLESPACE => database::tablespace(record, each),
        rmgr::RELMAP => database::map(record, each),
        rmgr::XLOG => cluster::cluster(record, each),
        // Says that it changes files in a way of its own, which only those above are known to do.
        _ if record.info & SPECIAL != 0 => None,
        _ => Some(()),
    };
    told.ok_or_else(|| {
        let object = format!("WAL record at {}", lsn_text(record.start));
        let kind = rmgr::name(record.rmgr).unwrap_or("?");
        let what = format!("what a record {kind} {:02X} of {} changes cannot be told", record.info, record.version);
        Error::damaged(object, what).remedy("begin a new chain with a full backup")
    })
}
