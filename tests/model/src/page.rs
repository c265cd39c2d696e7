//! How a page of a paged file looks: a header with LSN and place, a checksum over all of it, and the allocation map that
//! page 0 of each file carries.
//!
//! Header, little-endian: `lsn u64, crc32 u32, file u64, page u64, generation u32`. A page of zeros was never written
//! since it was allocated, and has neither LSN nor checksum.

use minicbor::{Decode, Encode};
use setpiece_core::model::{FileEntry, FileId, Lsn, PageRun, PageSet, Tracking};
use setpiece_core::source::PageState;

/// Bytes of the header.
pub(crate) const HEADER: usize = 32;

/// A file in one of its lives: numbers of dropped files are given again, with a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct FileKey {
    /// The number.
    #[n(0)]
    pub id: FileId,
    /// How often the number has been given.
    #[n(1)]
    pub generation: u64,
}

impl FileKey {
    /// The key of a recorded file.
    #[must_use]
    pub fn of(entry: &FileEntry) -> Self {
        FileKey { id: entry.id, generation: entry.generation }
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

fn short(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..8]);
    hasher.update(&bytes[12..]);
    hasher.finalize()
}

/// Whether every byte is zero. Compares slices, which is quick in unoptimised builds too.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// The LSN in the header; 0 for a page of zeros.
pub(crate) fn lsn(bytes: &[u8]) -> Lsn {
    Lsn(number(bytes, 0))
}

/// Writes header and checksum; to be done after every change.
pub(crate) fn seal(bytes: &mut [u8], file: FileKey, page: u64, lsn: Lsn) {
    bytes[..8].copy_from_slice(&lsn.0.to_le_bytes());
    bytes[12..20].copy_from_slice(&file.id.0.to_le_bytes());
    bytes[20..28].copy_from_slice(&page.to_le_bytes());
    bytes[28..32].copy_from_slice(&(file.generation as u32).to_le_bytes());
    let crc = checksum(bytes);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}

/// Judges a page by its bytes and its place.
pub(crate) fn inspect(entry: &FileEntry, page: u64, bytes: &[u8]) -> PageState {
    let whole = bytes.len() >= HEADER && bytes.len() == entry.page_size as usize;
    if is_zero(bytes) {
        return PageState::Unversioned;
    }
    if !whole || short(bytes, 8) != checksum(bytes) {
        return PageState::Torn;
    }
    let place = (number(bytes, 12), number(bytes, 20), short(bytes, 28));
    if place != (entry.id.0, page, entry.generation as u32) {
        let (file, at, generation) = place;
        return PageState::Bad(format!("the header says page {at} of file {file}, generation {generation}"));
    }
    match entry.tracking {
        Tracking::PageLsn => PageState::At(lsn(bytes)),
        Tracking::PageHash | Tracking::Always => PageState::Unversioned,
    }
}

/// How many pages the allocation map of a page 0 of this size can describe.
pub(crate) fn map_capacity(page_size: u32) -> u64 {
    (page_size as usize - HEADER) as u64 * 8
}

/// Where the bit of `page` lies in page 0: byte and mask.
pub(crate) fn map_bit(page: u64) -> (usize, u8) {
    (HEADER + (page / 8) as usize, 1 << (page % 8))
}

/// Whether `page` is in use by the map in `page0`. Page 0 always is.
pub(crate) fn is_allocated(page0: &[u8], page: u64) -> bool {
    let (byte, mask) = map_bit(page);
    page == 0 || page0.get(byte).is_some_and(|bits| bits & mask != 0)
}

/// The pages in use among the first `pages`.
pub(crate) fn allocated(page0: &[u8], pages: u64) -> PageSet {
    (0..pages).filter(|&page| is_allocated(page0, page)).map(|page| PageRun::new(page, 1)).collect()
}
