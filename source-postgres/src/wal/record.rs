//! One WAL record: its header, the blocks that it names, its main data.
//!
//! A record begins with 24 bytes: length, transaction, where the record before it begins, flags, resource manager and
//! checksum. Headers follow, one for each block and one for the main data, then the data in the same order. Page images
//! and the data of blocks are passed over: what changed is all that is asked for. Layout: PostgreSQL's xlogrecord.h.

use setpiece_core::model::Lsn;

use super::bytes::{Take, u32_at};
use super::rel::{Fork, RelFork};
use super::version::Version;

/// Bytes of the header of a record.
pub(super) const HEADER: usize = 24;
/// No record is longer, so that a server can hold one in memory (`XLogRecordMaxSize`).
pub(super) const MAX_RECORD: u32 = 1020 << 20;
/// The largest number of a block reference.
const MAX_BLOCK_ID: u8 = 32;

/// A block that a record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Its number within the record; what it means is up to the resource manager.
    pub id: u8,
    /// The relation and its fork.
    pub fork: RelFork,
    /// The block.
    pub block: u32,
    /// Bytes of the image of the whole block that the record holds, compressed or not; `None` when it holds none.
    pub image: Option<u16>,
    /// Whether replay makes the block anew, whatever it held.
    pub will_init: bool,
}

/// A record. Its bytes stay with the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'r> {
    /// The version that wrote it.
    pub version: Version,
    /// Where it begins.
    pub start: Lsn,
    /// Where it ends, and the next one may begin: the LSN that its pages bear, and what recovery calls its LSN.
    pub end: Lsn,
    /// Bytes of it, headers included, page headers not.
    pub len: u32,
    /// The transaction that wrote it; 0 for none.
    pub xid: u32,
    /// The number of the resource manager; see [`super::rmgr_name`].
    pub rmgr: u8,
    /// The kind of record, in the upper four bits, and flags.
    pub info: u8,
    /// Where the record before it begins.
    pub prev: Lsn,
    /// What is not bound to a block.
    pub main: &'r [u8],
    /// The blocks that it names.
    pub blocks: &'r [BlockRef],
}

impl Record<'_> {
    /// The kind of record among those of its resource manager.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.info & 0xF0
    }

    /// Bytes of page images in it.
    #[must_use]
    pub fn image_bytes(&self) -> u32 {
        self.blocks.iter().filter_map(|block| block.image).map(u32::from).sum()
    }

    /// The block with this number.
    pub(super) fn block(&self, id: u8) -> Option<&BlockRef> {
        self.blocks.iter().find(|block| block.id == id)
    }
}

/// The fixed part at the front of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordHeader {
    pub(super) len: u32,
    pub(super) xid: u32,
    pub(super) prev: Lsn,
    pub(super) info: u8,
    pub(super) rmgr: u8,
}

impl RecordHeader {
    /// Reads the header; `None` when there are too few bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut take = Take::new(bytes.get(..HEADER)?);
        Some(RecordHeader {
            len: take.u32()?,
            xid: take.u32()?,
            prev: Lsn(take.u64()?),
            info: take.u8()?,
            rmgr: take.u8()?,
        })
    }
}

/// Whether the checksum of a whole record fits. It runs over what follows the header, then over the header.
pub(super) fn checksum_fits(record: &[u8]) -> bool {
    let (Some(body), Some(head), Some(stored)) = (record.get(HEADER..), record.get(..20), u32_at(record, 20)) else {
        return false;
    };
    crc32c::crc32c_append(crc32c::crc32c(body), head) == stored
}

/// Where in a record its main data is.
pub(super) type MainData = std::ops::Range<usize>;

/// Reads the headers behind the fixed part of a whole record; `blocks` is cleared first. `None` when they do not add
/// up, which a record whose checksum fits does only if its layout is another than that of `version`.
pub(super) fn parse(record: &[u8], version: Version, blocks: &mut Vec<BlockRef>) -> Option<MainData> {
    blocks.clear();
    let mut take = Take::new(record.get(HEADER..)?);
    let (mut data, mut main) = (0usize, 0usize);
    // Headers end where nothing but the data that they announced is left.
    while take.left() > data {
        match take.u8()? {
            255 => main = usize::from(take.u8()?),
            254 => main = usize::try_from(take.u32()?).ok()?,
            253 => take.u16().map(drop)?,
            252 => take.u32().map(drop)?,
            id if id <= MAX_BLOCK_ID => {
                let (block, bytes) = block_header(id, version, &mut take, blocks.last())?;
                blocks.push(block);
                data = data.checked_add(bytes)?;
                continue;
            }
            _ => return None,
        }
        // The main data's header is the last.
        if main > 0 {
            data = data.checked_add(main)?;
            break;
        }
    }
    (take.left() == data).then_some(record.len() - main..record.len())
}

/// A block and how many bytes of data belong to it.
fn block_header(id: u8, version: Version, take: &mut Take<'_>, before: Option<&BlockRef>) -> Option<(BlockRef, usize)> {
    if before.is_some_and(|before| before.id >= id) {
        return None;
    }
    let flags = take.u8()?;
    let data = take.u16()?;
    let (has_image, has_data) = (flags & 0x10 != 0, flags & 0x20 != 0);
    let (will_init, same_relation) = (flags & 0x40 != 0, flags & 0x80 != 0);
    if has_data != (data > 0) {
        return None;
    }
    let image = if has_image { Some(image_header(version, take)?) } else { None };
    let fork = Fork::from_number(u32::from(flags & 0x0F))?;
    let fork = if same_relation { before?.fork.with(fork) } else { relation(take)?.with(fork) };
    let block = take.u32()?;
    let bytes = usize::from(data) + usize::from(image.unwrap_or(0));
    Some((BlockRef { id, fork, block, image, will_init }, bytes))
}

/// Bytes of a page image.
fn image_header(version: Version, take: &mut Take<'_>) -> Option<u16> {
    let len = take.u16()?;
    let _offset_of_the_hole = take.u16()?;
    let info = take.u8()?;
    // Up to 14 there was one way to compress and a bit for it; 15 has a bit for each of three ways.
    let compressed = if version.major() >= 15 { info & 0x1C != 0 } else { info & 0x02 != 0 };
    let has_hole = info & 0x01 != 0;
    if has_hole && compressed {
        let _length_of_the_hole = take.u16()?;
    }
    Some(len)
}

/// The main fork of a relation: tablespace, database and number.
pub(super) fn relation(take: &mut Take<'_>) -> Option<RelFork> {
    Some(RelFork { tablespace: take.u32()?, database: take.u32()?, relation: take.u32()?, fork: Fork::Main })
}

/// The length that the record at the front of `bytes` claims.
pub(super) fn claimed_len(bytes: &[u8]) -> Option<u32> {
    u32_at(bytes, 0)
}
