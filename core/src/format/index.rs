//! The index of a piece: entries in segments, and the root that says where the segments are.

use minicbor::{Decode, Encode};

use super::cbor;
use super::frame::HEADER_LEN as FRAME_HEADER;
use super::limits::{MAX_RAW, MAX_SEGMENTS, MAX_STORED, PAGE_HASH};
use super::log::LogTable;
use super::pages::PagesTable;
use super::piece::HEADER_LEN as PIECE_HEADER;
use crate::error::{Error, ErrorKind, Result};
use crate::model::FileId;

/// A frame of pages or redo, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct IndexEntry {
    /// The frame's number.
    #[n(0)]
    pub number: u32,
    /// Where the frame's header begins in the piece.
    #[n(1)]
    pub offset: u64,
    /// Bytes of the frame, header and payload.
    #[n(2)]
    pub stored_len: u32,
    /// Bytes of its content.
    #[n(3)]
    pub raw_len: u32,
    /// What is in it.
    #[n(4)]
    pub content: EntryContent,
}

/// What is in a frame: the same table that is in the frame itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EntryContent {
    /// Pages.
    #[n(0)]
    Pages {
        /// Which.
        #[n(0)]
        table: PagesTable,
        /// 16 bytes for each `Data` page, in order, for files whose changes are found by hash.
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        hashes: Option<Vec<u8>>,
    },
    /// Redo.
    #[n(1)]
    Log {
        /// Which.
        #[n(0)]
        table: LogTable,
    },
}

impl IndexEntry {
    /// Checks what can be checked without the frame. `limit` is where the index begins, behind all its frames.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn validate(&self, limit: u64) -> Result<()> {
        let wrong = |what: &str| {
            Error::new(ErrorKind::Damaged, format!("the index entry of frame {} is wrong: {what}", self.number))
        };
        let end = self.offset.checked_add(u64::from(self.stored_len));
        if self.offset < PIECE_HEADER as u64 || end.is_none_or(|end| end > limit) {
            return Err(wrong("the frame would lie outside of the piece"));
        }
        let stored = self.stored_len as usize;
        if !(FRAME_HEADER..=FRAME_HEADER + MAX_STORED).contains(&stored) || self.raw_len as usize > MAX_RAW {
            return Err(wrong("a length is out of range"));
        }
        match &self.content {
            EntryContent::Pages { table, hashes } => {
                table.validate_runs()?;
                let expected = table.data_pages().checked_mul(PAGE_HASH as u64);
                if hashes.as_ref().is_some_and(|hashes| Some(hashes.len() as u64) != expected) {
                    return Err(wrong("the hashes do not fit the pages"));
                }
            }
            EntryContent::Log { table } => {
                let len = usize::try_from(table.data_len()).unwrap_or(usize::MAX);
                table.validate(len)?;
            }
        }
        Ok(())
    }
}

/// A section of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SectionKey {
    /// The file.
    #[n(0)]
    pub file: FileId,
    /// The section, counted from 0 in units of [`super::SECTION`].
    #[n(1)]
    pub section: u64,
}

/// A segment of the index, and the range of sections that its entries lie in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SegmentRef {
    /// The number of the segment's frame.
    #[n(0)]
    pub number: u32,
    /// Where the segment's frame begins.
    #[n(1)]
    pub offset: u64,
    /// Bytes of the frame, header and payload.
    #[n(2)]
    pub stored_len: u32,
    /// Bytes of its content.
    #[n(3)]
    pub raw_len: u32,
    /// Entries in it.
    #[n(4)]
    pub entries: u32,
    /// The smallest section that an entry lies in; absent when it has no pages.
    #[n(5)]
    pub first: Option<SectionKey>,
    /// The largest.
    #[n(6)]
    pub last: Option<SectionKey>,
}

impl SegmentRef {
    /// Whether the segment may have an entry of `section`.
    #[must_use]
    pub fn may_hold(&self, section: SectionKey) -> bool {
        self.first.is_some_and(|first| first <= section) && self.last.is_some_and(|last| section <= last)
    }
}

/// The root of a piece's index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PieceRoot {
    /// The segments, in the order of the piece.
    #[n(0)]
    #[cbor(decode_with = "cbor::list::<MAX_SEGMENTS, _, _>")]
    pub segments: Vec<SegmentRef>,
    /// Frames of pages and redo.
    #[n(1)]
    pub entries: u32,
    /// Raw bytes of page data or redo.
    #[n(2)]
    pub raw_bytes: u64,
    /// Bytes of the frames of pages and redo as stored, headers included.
    #[n(3)]
    pub stored_bytes: u64,
}

impl PieceRoot {
    /// Checks that the segments fit each other. `root_offset` and `frames` are from the trailer.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn validate(&self, root_offset: u64, frames: u32) -> Result<()> {
        let wrong = |what: &str| Error::new(ErrorKind::Damaged, format!("the root of the index is wrong: {what}"));
        let entries: u64 = self.segments.iter().map(|segment| u64::from(segment.entries)).sum();
        if entries != u64::from(self.entries) || entries + self.segments.len() as u64 + 1 != u64::from(frames) {
            return Err(wrong("the frames counted are not the frames in the piece"));
        }
        let mut after = PIECE_HEADER as u64;
        for segment in &self.segments {
            let stored = segment.stored_len as usize;
            let end = segment.offset.checked_add(u64::from(segment.stored_len));
            let sized = stored > FRAME_HEADER && stored <= FRAME_HEADER + MAX_STORED;
            if !sized || segment.offset < after || segment.number >= frames {
                return Err(wrong("a segment lies where it cannot"));
            }
            after = end.filter(|end| *end <= root_offset).ok_or_else(|| wrong("a segment lies behind the root"))?;
        }
        Ok(())
    }
}
