//! Changes of tables that clear bits of the visibility map without naming its block.
//!
//! A flag of the record says that the bits of the heap's block were cleared, and replay clears them, too. Later minor
//! releases name the map's block besides; it does no harm to hear of it twice. Layouts: PostgreSQL's heapam_xlog.h.

use super::super::record::Record;
use super::super::rel::{Fork, RelFork, map_block};
use super::fact::Fact;

/// The operation, without the bit that says the block is made anew.
const OPERATION: u8 = 0x70;

pub(super) fn heap<'r>(record: &Record<'r>, block_size: u32, each: &mut impl FnMut(Fact<'r>)) -> Option<()> {
    let mut clear = |(fork, block)| each(cleared(fork, block, block_size));
    match record.kind() & OPERATION {
        // Insert: offset, flags.
        0x00 if has(record, 2, 0x01)? => clear(heap_block(record, 0)?),
        // Delete and lock: transaction, offset, bits of the tuple, flags.
        0x10 | 0x60 if has(record, 7, 0x01)? => clear(heap_block(record, 0)?),
        // Update and the same within a page: as a delete of the old row.
        0x20 | 0x40 => {
            let new = heap_block(record, 0)?;
            if has(record, 7, 0x02)? {
                clear(new);
            }
            if has(record, 7, 0x01)? {
                clear(heap_block(record, 1).unwrap_or(new));
            }
        }
        _ => {}
    }
    Some(())
}

pub(super) fn heap2<'r>(record: &Record<'r>, block_size: u32, each: &mut impl FnMut(Fact<'r>)) -> Option<()> {
    // Where the flags are: first in an insert of several rows, and in the lock of an updated row as in any lock.
    let flags = match record.kind() & OPERATION {
        0x50 => 0,
        0x60 => 7,
        _ => return Some(()),
    };
    if has(record, flags, 0x01)? {
        let (fork, block) = heap_block(record, 0)?;
        each(cleared(fork, block, block_size));
    }
    Some(())
}

/// Whether the byte `at` of the main data has `flag`.
fn has(record: &Record<'_>, at: usize, flag: u8) -> Option<bool> {
    record.main.get(at).map(|flags| flags & flag != 0)
}

/// The block of the table that has this number within the record.
fn heap_block(record: &Record<'_>, id: u8) -> Option<(RelFork, u32)> {
    let block = record.block(id).filter(|block| block.fork.fork == Fork::Main)?;
    Some((block.fork, block.block))
}

fn cleared<'r>(fork: RelFork, block: u32, block_size: u32) -> Fact<'r> {
    Fact::Block(fork.with(Fork::VisibilityMap), map_block(block, block_size))
}
