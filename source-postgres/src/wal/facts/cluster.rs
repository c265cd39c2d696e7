//! What the server says about itself: checkpoints, settings, timelines, restore points, backups (PostgreSQL's
//! xlog_internal.h and pg_control.h).

use setpiece_core::model::{Lsn, Timestamp};

use super::super::bytes::{Take, until_nul};
use super::super::record::Record;
use super::fact::{Fact, WalLevel, moment};

pub(super) fn cluster<'r>(record: &Record<'r>, each: &mut impl FnMut(Fact<'r>)) -> Option<()> {
    let mut take = Take::new(record.main);
    match record.kind() {
        0x00 => checkpoint(&mut take, false, each)?,
        0x10 => checkpoint(&mut take, true, each)?,
        0x40 => each(Fact::Switch),
        0x50 => each(Fact::BackupEnd(Lsn(take.u64()?))),
        0x60 => {
            // Behind the numbers of connections, workers, senders, prepared transactions and locks.
            take.skip(5, 4)?;
            each(Fact::WalLevel(WalLevel::from_number(take.u32()?)?));
        }
        0x70 => {
            let time = moment(take.i64()?);
            each(Fact::RestorePoint { name: until_nul(take.bytes(take.left())?), time });
        }
        0x90 => {
            take.skip(1, 8)?;
            let (timeline, previous) = (take.u32()?, take.u32()?);
            each(Fact::Timeline { timeline, previous });
        }
        _ => {}
    }
    Some(())
}

fn checkpoint<'r>(take: &mut Take<'r>, online: bool, each: &mut impl FnMut(Fact<'r>)) -> Option<()> {
    let redo = Lsn(take.u64()?);
    let (timeline, previous) = (take.u32()?, take.u32()?);
    // Settings, and the next and the oldest numbers of transactions and the like.
    take.skip(12, 4)?;
    let time = Timestamp(take.i64()?.saturating_mul(1_000_000));
    each(Fact::Checkpoint { redo, online, time });
    if timeline != previous {
        each(Fact::Timeline { timeline, previous });
    }
    Some(())
}
