//! Writes a piece in one pass: header, frames, index, trailer.

use super::secret::DataKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Compression, PagesTable, PieceInfo, PieceKind};
use crate::model::{LogUnit, PieceNo, SetId};

/// Which piece is to be written, and how.
#[derive(Clone, Debug)]
pub struct PieceSpec {
    /// The set.
    pub set: SetId,
    /// The piece.
    pub piece: PieceNo,
    /// The channel that writes it.
    pub channel: u16,
    /// What it will hold.
    pub kind: PieceKind,
    /// How strongly to compress.
    pub compression: Compression,
    /// The key of the set; `None` when nothing is encrypted.
    pub key: Option<DataKey>,
}

/// Writes a piece.
#[derive(Debug)]
pub struct PieceWriter {}

impl PieceWriter {
    /// Begins a piece and appends its header to `out`. Each attempt to write a piece needs a new writer: the salt, and
    /// with it the key, is new.
    ///
    /// # Errors
    /// When the level is out of range or the operating system has no random bytes.
    pub fn new(spec: PieceSpec, out: &mut Vec<u8>) -> Result<Self> {
        let _ = (spec, out);
        Err(soon())
    }

    /// Appends a frame of pages to `out`. `raw` holds the bytes of the `Data` runs of `table`; the table is appended to
    /// it, and it is of no further use to the caller but as a buffer. `hashes` has 16 bytes for each `Data` page.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when table, data and hashes don't fit each other. The writer is of no use after that.
    pub fn pages(
        &mut self,
        table: PagesTable,
        hashes: Option<Vec<u8>>,
        raw: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let _ = (table, hashes, raw, out);
        Err(soon())
    }

    /// Takes a unit of redo. Small units are gathered into a frame until it is large enough or the piece is finished.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the unit's length isn't that of the bytes. The writer is of no use after that.
    pub fn log(&mut self, unit: LogUnit, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let _ = (unit, bytes, out);
        Err(soon())
    }

    /// Bytes given out so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        0
    }

    /// At most so many bytes has the piece if it is finished now.
    #[must_use]
    pub fn size_if_finished(&self) -> u64 {
        0
    }

    /// Appends what is left, the index and the trailer to `out`.
    ///
    /// # Errors
    /// When the index is too large for one piece.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<PieceInfo> {
        let _ = out;
        Err(soon())
    }
}

fn soon() -> Error {
    Error::new(ErrorKind::Internal, "not there yet")
}
