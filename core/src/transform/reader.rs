//! Opens the frames of a piece: checks, unseals, decompresses.

use super::secret::DataKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FrameHeader, IndexEntry, PagesTable, PieceHeader, PieceInfo, PieceRoot, SegmentRef, Trailer};
use crate::model::{LogUnit, PieceNo, SetId};

/// A unit of redo and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeUnit {
    /// What it is.
    pub unit: LogUnit,
    /// The redo.
    pub bytes: Vec<u8>,
}

/// What was in a frame that was read without the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameContent {
    /// Pages; their bytes are in the caller's buffer.
    Pages(PagesTable),
    /// The units that became whole with this frame.
    Log(Vec<WholeUnit>),
    /// A part of the index.
    Index(Vec<IndexEntry>),
    /// The root of the index.
    Root(PieceRoot),
}

/// Opens frames of one piece, in any order. Sans-IO: the caller hands it the bytes of whole frames.
#[derive(Debug)]
pub struct PieceReader {}

impl PieceReader {
    /// Opens the piece with this header (the first 128 bytes).
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when it is another piece than the one wanted, [`ErrorKind::Key`] when the key is missing
    /// or wrong, [`ErrorKind::Unsupported`] when the format is newer.
    pub fn open(header: &[u8], set: SetId, piece: PieceNo, key: Option<&DataKey>) -> Result<Self> {
        let _ = (header, set, piece, key);
        Err(soon())
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &PieceHeader {
        unreachable!()
    }

    /// Checks that this is the very piece that the metadata speaks of.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn matches(&self, info: &PieceInfo) -> Result<()> {
        let _ = info;
        Err(soon())
    }

    /// Reads the trailer: the last 64 bytes of the piece. It says where the root frame is.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when the piece is truncated or not the one that was opened.
    pub fn trailer(&self, bytes: &[u8], piece_len: u64) -> Result<Trailer> {
        let _ = (bytes, piece_len);
        Err(soon())
    }

    /// Opens the root of the index.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn root(&mut self, frame: &[u8], trailer: &Trailer) -> Result<PieceRoot> {
        let _ = (frame, trailer);
        Err(soon())
    }

    /// Opens a segment of the index.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn segment(&mut self, at: &SegmentRef, frame: &[u8]) -> Result<Vec<IndexEntry>> {
        let _ = (at, frame);
        Err(soon())
    }

    /// Checks the frame at `offset`: checksums, and the seal where there is one. Does not decompress.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn check(&mut self, offset: u64, frame: &[u8]) -> Result<FrameHeader> {
        let _ = (offset, frame);
        Err(soon())
    }

    /// Opens a frame of pages. Afterwards `raw` holds the bytes of its `Data` runs and nothing else. `raw` need not be
    /// empty before; handing in the same buffer again saves clearing it.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn pages(&mut self, entry: &IndexEntry, frame: &[u8], raw: &mut Vec<u8>) -> Result<PagesTable> {
        let _ = (entry, frame, raw);
        Err(soon())
    }

    /// Opens a frame of redo, and returns the units that became whole with it. The parts of a unit that is split must
    /// be handed in one after the other, beginning with the frame in which it begins.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn log(&mut self, entry: &IndexEntry, frame: &[u8]) -> Result<Vec<WholeUnit>> {
        let _ = (entry, frame);
        Err(soon())
    }

    /// Opens a frame of any kind without the index, as a scanner gives it. Pages go to `raw`, as in
    /// [`PieceReader::pages`].
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn frame(&mut self, offset: u64, frame: &[u8], raw: &mut Vec<u8>) -> Result<FrameContent> {
        let _ = (offset, frame, raw);
        Err(soon())
    }
}

fn soon() -> Error {
    Error::new(ErrorKind::Internal, "not there yet")
}
