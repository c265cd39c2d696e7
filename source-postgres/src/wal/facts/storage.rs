//! Files of relations that are made and cut (PostgreSQL's storage_xlog.h). Dropping is part of the end of a
//! transaction.

use super::super::bytes::Take;
use super::super::record::{Record, relation};
use super::super::rel::{Fork, map_block};
use super::fact::Fact;

const CUT_MAIN: u32 = 1;
const CUT_MAP: u32 = 2;
const CUT_FREE_SPACE: u32 = 4;

pub(super) fn storage<'r>(record: &Record<'r>, block_size: u32, each: &mut impl FnMut(Fact<'r>)) -> Option<()> {
    let mut take = Take::new(record.main);
    match record.kind() {
        0x10 => {
            let made = relation(&mut take)?;
            let fork = Fork::from_number(take.u32()?)?;
            each(Fact::From(made.with(fork), 0));
            if fork == Fork::Main {
                // What is loaded into a new table under `wal_level = minimal` has its map filled without a word.
                each(Fact::From(made.with(Fork::VisibilityMap), 0));
            }
        }
        0x20 => {
            let block = take.u32()?;
            let cut = relation(&mut take)?;
            let forks = take.u32()?;
            if forks & CUT_MAIN != 0 {
                each(Fact::From(cut, block));
            }
            if forks & CUT_MAP != 0 {
                // The block that has the bits of the border is kept in part, and what is cut off of it is cleared.
                each(Fact::From(cut.with(Fork::VisibilityMap), map_block(block, block_size)));
            }
            if forks & CUT_FREE_SPACE != 0 {
                each(Fact::From(cut.with(Fork::FreeSpaceMap), 0));
            }
        }
        _ => return None,
    }
    Some(())
}
