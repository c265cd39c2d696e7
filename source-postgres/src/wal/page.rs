//! Headers of WAL pages.
//!
//! Every page begins with 24 bytes: magic, flags, timeline, the page's own LSN, and how many bytes of a record from the
//! page before are still to come. The first page of a segment has 16 more: system identifier, segment size, block size
//! (PostgreSQL's xlog_internal.h).

use setpiece_core::model::Lsn;

use super::bytes::Take;
use super::name::SegmentSize;
use super::version::Version;

/// Bytes of the header of a page.
pub(super) const SHORT: usize = 24;
/// Bytes of the header of a segment's first page.
pub(super) const LONG: usize = 40;

/// The page begins with the rest of a record.
const CONTINUES: u16 = 0x0001;
const IS_LONG: u16 = 0x0002;
/// The record whose rest would be here was never finished and another one takes its place.
const OVERWRITES: u16 = 0x0008;
const ALL_FLAGS: u16 = 0x000F;

/// The header of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) magic: u16,
    flags: u16,
    pub(super) timeline: u32,
    pub(super) address: Lsn,
    /// Bytes of a record from the page before that are still to come.
    pub(super) remaining: u32,
}

/// What only the first page of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LongHeader {
    pub(super) system: u64,
    pub(super) segment_size: u32,
    pub(super) block_size: u32,
}

impl PageHeader {
    /// Reads the header at the front of `page`; `None` when there are too few bytes.
    pub(super) fn read(page: &[u8]) -> Option<Self> {
        let mut take = Take::new(page.get(..SHORT)?);
        Some(PageHeader {
            magic: take.u16()?,
            flags: take.u16()?,
            timeline: take.u32()?,
            address: Lsn(take.u64()?),
            remaining: take.u32()?,
        })
    }

    pub(super) fn is_long(&self) -> bool {
        self.flags & IS_LONG != 0
    }

    pub(super) fn continues(&self) -> bool {
        self.flags & CONTINUES != 0
    }

    pub(super) fn overwrites(&self) -> bool {
        self.flags & OVERWRITES != 0
    }

    pub(super) fn has_known_flags(&self) -> bool {
        self.flags & !ALL_FLAGS == 0
    }

    /// Bytes of the header.
    pub(super) fn len(&self) -> usize {
        if self.is_long() { LONG } else { SHORT }
    }

    /// Whether nothing was ever written here.
    pub(super) fn is_blank(&self) -> bool {
        *self == PageHeader { magic: 0, flags: 0, timeline: 0, address: Lsn(0), remaining: 0 }
    }
}

impl LongHeader {
    /// Reads what follows a page header that says it is long.
    pub(super) fn read(page: &[u8]) -> Option<Self> {
        let mut take = Take::new(page.get(SHORT..LONG)?);
        Some(LongHeader { system: take.u64()?, segment_size: take.u32()?, block_size: take.u32()? })
    }
}

/// Where in `pages`, whole pages of `block_size` bytes from the end of a segment, the last one begins on which a record
/// begins; `None` when they hold the middle of a record and nothing else, or are no pages.
#[must_use]
pub fn last_begun(pages: &[u8], block_size: usize) -> Option<usize> {
    let count = pages.len().checked_div(block_size)?;
    (0..count).rev().map(|number| number * block_size).find(|at| {
        let header = pages.get(*at..).and_then(PageHeader::read);
        header.is_some_and(|header| {
            let continued = if header.continues() { header.remaining as usize } else { 0 };
            !header.is_blank() && continued.next_multiple_of(8) < block_size.saturating_sub(header.len())
        })
    })
}

/// What all pages of a stream of WAL have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) version: Version,
    pub(super) system: u64,
    pub(super) segment_size: SegmentSize,
    pub(super) block_size: u32,
}

/// Why a page is not the one that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    Blank,
    Magic(u16),
    Address(Lsn),
    Flags,
    System(u64),
    Sizes,
    Timeline(u32),
}

impl Stream {
    /// Reads the header of the page that is expected at `lsn`, on `timeline` or one that came after it.
    pub(super) fn page(&self, bytes: &[u8], lsn: Lsn, timeline: u32) -> Result<PageHeader, Misfit> {
        let header = PageHeader::read(bytes).ok_or(Misfit::Blank)?;
        if header.is_blank() {
            return Err(Misfit::Blank);
        }
        if header.magic != self.version.magic() {
            return Err(Misfit::Magic(header.magic));
        }
        if header.address != lsn {
            return Err(Misfit::Address(header.address));
        }
        let first_of_segment = self.segment_size.offset(lsn) == 0;
        if !header.has_known_flags() || header.is_long() != first_of_segment {
            return Err(Misfit::Flags);
        }
        if header.timeline < timeline {
            return Err(Misfit::Timeline(header.timeline));
        }
        if header.is_long() {
            self.same(&LongHeader::read(bytes).ok_or(Misfit::Blank)?)?;
        }
        Ok(header)
    }

    fn same(&self, long: &LongHeader) -> Result<(), Misfit> {
        if long.system != self.system {
            return Err(Misfit::System(long.system));
        }
        let sizes = u64::from(long.segment_size) == self.segment_size.bytes() && long.block_size == self.block_size;
        if sizes { Ok(()) } else { Err(Misfit::Sizes) }
    }
}
