//! Forks and their changes in CBOR: for each an array of the fork, from where on everything is to be taken, and runs.
//!
//! The runs are pairs of numbers: how many blocks lie between the run before and this one, and how many this one has.

use std::collections::BTreeMap;

use minicbor::data::Type;
use minicbor::encode::Write;
use minicbor::{Decoder, Encoder};
use setpiece_core::model::{PageRun, PageSet};

use super::fork::ForkChanges;
use super::rel::RelFork;

pub(super) fn encode<C, W: Write>(
    forks: &BTreeMap<RelFork, ForkChanges>,
    e: &mut Encoder<W>,
    _: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    e.array(forks.len() as u64)?;
    for (fork, changes) in forks {
        e.array(3)?.encode(fork)?.encode(changes.from)?;
        write_blocks(&changes.blocks, e)?;
    }
    Ok(())
}

pub(super) fn decode<C>(
    d: &mut Decoder<'_>,
    _: &mut C,
) -> Result<BTreeMap<RelFork, ForkChanges>, minicbor::decode::Error> {
    let mut forks = BTreeMap::new();
    let count = d.array()?.unwrap_or(0);
    for _ in 0..count {
        let parts = d.array()?;
        let fork: RelFork = d.decode()?;
        let from = if d.datatype()? == Type::Null { d.null().map(|()| None)? } else { Some(d.u32()?) };
        let mut changes = ForkChanges::default();
        changes.add(&blocks(d)?);
        from.into_iter().for_each(|from| changes.add_from(from));
        if parts != Some(3) || forks.insert(fork, changes).is_some() {
            return Err(minicbor::decode::Error::message("a fork is there twice or has too many parts"));
        }
    }
    Ok(forks)
}

fn write_blocks<W: Write>(blocks: &PageSet, e: &mut Encoder<W>) -> Result<(), minicbor::encode::Error<W::Error>> {
    e.array(blocks.runs().len() as u64 * 2)?;
    let mut end = 0;
    for run in blocks.runs() {
        e.u64(run.first.0.saturating_sub(end))?.u64(run.count)?;
        end = run.end();
    }
    Ok(())
}

/// Blocks have 32 bits; runs that leave them are refused.
fn blocks(d: &mut Decoder<'_>) -> Result<PageSet, minicbor::decode::Error> {
    let wrong = || minicbor::decode::Error::message("runs of blocks do not fit each other");
    let numbers = d.array()?.filter(|numbers| numbers.is_multiple_of(2)).ok_or_else(wrong)?;
    let mut blocks = PageSet::new();
    let mut end = 0u64;
    for _ in 0..numbers / 2 {
        let (gap, count) = (d.u32()?, d.u64()?);
        let first = end.saturating_add(u64::from(gap));
        end = first.checked_add(count).filter(|end| *end <= 1 << 32).ok_or_else(wrong)?;
        blocks.insert(PageRun::new(first, count));
    }
    Ok(blocks)
}
