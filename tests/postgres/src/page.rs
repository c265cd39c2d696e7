//! Pages of a relation's file.

use std::fs;
use std::path::Path;

use crate::checksum::{CHECKSUM_AT, checksum};
use crate::lsn::Lsn;

/// Bytes in a page.
pub const PAGE: usize = 8192;
/// Pages in a file of a relation; the next ones are in a file of their own.
pub const PAGES_IN_FILE: u32 = 131_072;

/// A page and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its number within the relation's fork, over all of its files.
    pub block: u32,
    /// A file that does not end with a whole page has a shorter one at its end.
    pub bytes: Vec<u8>,
}

impl Page {
    /// The end of the newest record that changed it.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        let word = |at: usize| self.bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Lsn(u64::from(word(0)) << 32 | u64::from(word(4)))
    }

    /// Nothing but zeros: room that was never used.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.bytes.iter().all(|byte| *byte == 0)
    }

    /// Whether the checksum fits; a page of zeros has none and fits.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let Ok(page) = <&[u8; PAGE]>::try_from(self.bytes.as_slice()) else { return false };
        let stored = u16::from_le_bytes([page[CHECKSUM_AT], page[CHECKSUM_AT + 1]]);
        self.is_new() || stored == checksum(page, self.block)
    }
}

/// The pages of a relation's file, by the name of which it is known where in the relation they are.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn pages(path: &Path) -> Vec<Page> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file: u32 = name.split_once('.').and_then(|(_, number)| number.parse().ok()).unwrap_or(0);
    let first = file * PAGES_IN_FILE;
    (first..).zip(bytes.chunks(PAGE)).map(|(block, bytes)| Page { block, bytes: bytes.to_vec() }).collect()
}
