//! Changes as bytes, to be stored beside the WAL that they are of.
//!
//! CBOR: an array of the version of this layout and the changes as a map with integer keys, in which unknown keys are
//! passed over. The blocks of a fork are pairs of numbers: how many blocks lie between the run before and this one, and
//! how many this one has.

use std::collections::BTreeMap;

use minicbor::data::Type;
use minicbor::encode::Write;
use minicbor::{Decoder, Encoder};
use setpiece_core::model::{PageRun, PageSet};
use setpiece_core::{Error, ErrorKind, Result};

use super::changes::{Changes, ForkChanges, MAX_RUNS};
use super::rel::RelFork;

/// The version that is written. It grows when a reader of the one before would misunderstand what is written.
const VERSION: u32 = 1;
/// Bytes that are read at most; more than changes with the most runs have.
const MAX_BYTES: usize = 64 << 20;

impl Changes {
    /// The changes as bytes.
    ///
    /// # Errors
    /// Never, in fact: memory takes all that is written to it.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let written = minicbor::to_vec((VERSION, self));
        written.map_err(|error| Error::new(ErrorKind::Internal, "changes of WAL cannot be encoded").because(error))
    }

    /// The changes as at most `most` bytes, with more blocks than changed where that is what it takes; `None` when even
    /// one run for each fork does not fit.
    ///
    /// # Errors
    /// As [`Changes::encode`].
    pub fn encode_within(mut self, most: usize) -> Result<Option<Vec<u8>>> {
        loop {
            let bytes = self.encode()?;
            if bytes.len() <= most {
                return Ok(Some(bytes));
            }
            let runs = self.runs();
            self.bound(runs / 2);
            if self.runs() == runs {
                return Ok(None);
            }
        }
    }

    /// Reads what [`Changes::encode`] has written.
    ///
    /// # Errors
    /// When the bytes are damaged, or written by a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: String| {
            Error::damaged("changes of WAL", what).remedy("read the WAL again, or take a backup that needs no base")
        };
        if bytes.len() > MAX_BYTES {
            return Err(damaged(format!("{} bytes are more than changes can have", bytes.len())));
        }
        let mut decoder = Decoder::new(bytes);
        let broken = |error: minicbor::decode::Error| damaged(error.to_string());
        let parts = decoder.array().map_err(broken)?;
        let version = decoder.u32().map_err(broken)?;
        if version != VERSION {
            let what = format!("changes of WAL in version {version} of their layout");
            return Err(
                Error::new(ErrorKind::Unsupported, what).remedy("use the Setpiece that wrote them, or a newer one")
            );
        }
        let changes: Changes = decoder.decode().map_err(broken)?;
        let whole = parts == Some(2) && decoder.position() == bytes.len();
        let fits = changes.span.after <= changes.span.upto && changes.runs() <= MAX_RUNS;
        if whole && fits { Ok(changes) } else { Err(damaged("the numbers do not fit each other".to_owned())) }
    }
}

/// Forks and their changes: for each an array of fork, limit and runs.
pub(super) mod forks {
    use super::{BTreeMap, Decoder, Encoder, ForkChanges, RelFork, Type, Write, blocks, write_blocks};

    pub(in super::super) fn encode<C, W: Write>(
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

    pub(in super::super) fn decode<C>(
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
