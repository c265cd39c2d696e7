//! Ends of transactions: when, which one, and the relations that are dropped with it (PostgreSQL's xact.h).

use super::super::bytes::Take;
use super::super::record::{Record, relation};
use super::fact::{Fact, moment};

/// The record says more than the time.
const HAS_INFO: u8 = 0x80;

const HAS_DATABASE: u32 = 1 << 0;
const HAS_CHILDREN: u32 = 1 << 1;
const HAS_RELATIONS: u32 = 1 << 2;
const HAS_INVALIDATIONS: u32 = 1 << 3;
const HAS_TWO_PHASE: u32 = 1 << 4;
const HAS_STATISTICS: u32 = 1 << 8;

/// Bytes of a message about what caches have to forget.
const INVALIDATION: usize = 16;

pub(super) fn xact<'r>(record: &Record<'r>, each: &mut impl FnMut(Fact<'r>)) -> Option<()> {
    // Commit, abort, and the same of a prepared transaction.
    let committed = match record.kind() & 0x70 {
        0x00 | 0x30 => true,
        0x20 | 0x40 => false,
        _ => return Some(()),
    };
    let mut take = Take::new(record.main);
    let time = moment(take.i64()?);
    let info = if record.kind() & HAS_INFO == 0 { 0 } else { take.u32()? };
    let prepared = details(info, record.version.major(), &mut take, each)?;
    let xid = prepared.unwrap_or(record.xid);
    each(if committed { Fact::Commit { xid, time } } else { Fact::Abort { xid, time } });
    Some(())
}

/// Reads what `info` says is there, in this order, up to the prepared transaction that this one ends.
fn details<'r>(info: u32, major: u16, take: &mut Take<'r>, each: &mut impl FnMut(Fact<'r>)) -> Option<Option<u32>> {
    let has = |flag: u32| info & flag != 0;
    if has(HAS_DATABASE) {
        take.skip(2, 4)?;
    }
    if has(HAS_CHILDREN) {
        let count = take.u32()?;
        take.skip(count, 4)?;
    }
    if has(HAS_RELATIONS) {
        let count = take.u32()?;
        for _ in 0..count {
            each(Fact::Dropped(relation(take)?));
        }
    }
    if has(HAS_STATISTICS) {
        let count = take.u32()?;
        // From 18 on the object has a number of 64 bits.
        take.skip(count, if major >= 18 { 16 } else { 12 })?;
    }
    if has(HAS_INVALIDATIONS) {
        let count = take.u32()?;
        take.skip(count, INVALIDATION)?;
    }
    if has(HAS_TWO_PHASE) { take.u32().map(Some) } else { Some(None) }
}
