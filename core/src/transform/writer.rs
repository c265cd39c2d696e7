//! Writes a piece in one pass: header, frames, index, trailer.

use std::fmt;

use super::codec::Packer;
use super::emit::FrameEmitter;
use super::indexer::Indexer;
use super::parts::{PackedPart, parts, recorded};
use super::seal::FrameSeal;
use super::secret::{DataKey, random};
use crate::error::{Error, ErrorKind, Result};
use crate::format::limits::{LOG_FRAME, LOG_PART, MAX_LOG_DATA, MAX_PARTS, PAGE_HASH};
use crate::format::piece::{HEADER_LEN, TRAILER_LEN};
use crate::format::{
    CipherId, Compression, EntryContent, FrameKind, LogPart, LogTable, PagesTable, PieceHeader, PieceInfo, PieceKind,
    Trailer, bounded_unit, cbor, table,
};
use crate::model::{LogUnit, PieceNo, SetId};

/// Bytes of unit records gathered before they become a frame.
const LOG_RECORDS: usize = 512 << 10;
/// More than a frame and its index entry have besides data, runs and records.
const FRAME_BOUND: u64 = 256;
/// More than the bytes of an encoded run.
const RUN_BOUND: u64 = 32;

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

/// Writes a piece. After an error every further call fails.
pub struct PieceWriter {
    header: PieceHeader,
    emitter: FrameEmitter,
    index: Indexer,
    gathered: Gathered,
    failed: bool,
}

/// Units of redo that wait to become a frame.
#[derive(Default)]
struct Gathered {
    parts: Vec<LogPart>,
    bytes: Vec<u8>,
    records: usize,
}

impl PieceWriter {
    /// Begins a piece and appends its header to `out`. Each attempt to write a piece needs a new writer: the salt, and
    /// with it the key, is new.
    ///
    /// # Errors
    /// When the level is out of range or the operating system has no random bytes.
    pub fn new(spec: PieceSpec, out: &mut Vec<u8>) -> Result<Self> {
        let mut header = PieceHeader {
            set: spec.set,
            piece: spec.piece,
            channel: spec.channel,
            kind: spec.kind,
            cipher: if spec.key.is_some() { CipherId::Aes256Gcm } else { CipherId::None },
            salt: random()?,
            commitment: [0; 32],
        };
        let seal = FrameSeal::create(&mut header, spec.key.as_ref())?;
        let emitter = FrameEmitter::new(Packer::new(spec.compression)?, seal, HEADER_LEN as u64);
        out.extend_from_slice(&header.encode());
        Ok(PieceWriter { header, emitter, index: Indexer::default(), gathered: Gathered::default(), failed: false })
    }

    /// Appends a frame of pages to `out`. `raw` holds the bytes of the `Data` runs of `table`; the table is appended to
    /// it, and it is of no further use to the caller but as a buffer. `hashes` has 16 bytes for each `Data` page.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when table, data and hashes don't fit each other.
    pub fn pages(
        &mut self,
        table: PagesTable,
        hashes: Option<Vec<u8>>,
        raw: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.guarded(PieceKind::Data, |writer| {
            let data_len = raw.len() as u64;
            table.validate(raw.len()).map_err(refused)?;
            let expected = table.data_pages() as usize * PAGE_HASH;
            if hashes.as_ref().is_some_and(|hashes| hashes.len() != expected) {
                return Err(Error::new(ErrorKind::Internal, "the hashes do not fit the pages"));
            }
            table::append(raw, &table)?;
            let frame = writer.emitter.emit(FrameKind::Pages, raw, out)?;
            let content = EntryContent::Pages { table, hashes };
            writer.index.add(frame, content, data_len, &mut writer.emitter, out)
        })
    }

    /// Takes a unit of redo. Small units are gathered into a frame until it is large enough or the piece is finished. A
    /// change map that is too large to be recorded is left out, as [`bounded_unit`] does.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the unit's length isn't that of the bytes, [`ErrorKind::Unsupported`] when it is
    /// larger than a unit may be.
    pub fn log(&mut self, unit: LogUnit, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.guarded(PieceKind::Log, |writer| {
            let unit = recorded(unit, bytes)?;
            let gathered = &writer.gathered;
            if gathered.bytes.len() + bytes.len() > MAX_LOG_DATA {
                writer.flush_log(out)?;
            }
            if bytes.len() > MAX_LOG_DATA {
                let mut raw = Vec::new();
                return parts(unit, bytes).try_for_each(|(part, bytes)| {
                    let packed = PackedPart::pack(writer.emitter.packer(), part, bytes, &mut raw)?;
                    writer.part(packed, out)
                });
            }
            writer.gathered.take(unit, bytes)?;
            if writer.gathered.is_full() { writer.flush_log(out) } else { Ok(()) }
        })
    }

    /// Takes the next part of a unit that was compressed in parts; they are given in order, and all of them.
    ///
    /// # Errors
    /// As [`PieceWriter::log`].
    pub fn log_part(&mut self, part: PackedPart, out: &mut Vec<u8>) -> Result<()> {
        self.guarded(PieceKind::Log, |writer| {
            writer.flush_log(out)?;
            writer.part(part, out)
        })
    }

    /// Bytes given out so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.emitter.offset()
    }

    /// The piece has at most so many bytes if it is finished now.
    #[must_use]
    pub fn size_if_finished(&self) -> u64 {
        let gathered = self.gathered.bytes.len() as u64 + 2 * self.gathered.records as u64;
        let frame = if self.gathered.parts.is_empty() { 0 } else { FRAME_BOUND };
        self.written() + gathered + frame + self.index.bound() + TRAILER_LEN as u64
    }

    /// The most that a frame of pages can add to [`PieceWriter::size_if_finished`].
    #[must_use]
    pub fn pages_bound(runs: usize, data_len: usize, hashes_len: usize) -> u64 {
        data_len as u64 + hashes_len as u64 + 2 * runs as u64 * RUN_BOUND + 2 * FRAME_BOUND
    }

    /// The most that a unit of redo can add to [`PieceWriter::size_if_finished`].
    ///
    /// # Errors
    /// As [`bounded_unit`].
    pub fn log_bound(unit: &LogUnit) -> Result<u64> {
        let record = cbor::to_vec(&bounded_unit(unit.clone())?)?.len() as u64;
        let frames = unit.len.div_ceil(LOG_PART as u64) + 2;
        Ok(unit.len + 2 * record + frames * 2 * FRAME_BOUND)
    }

    /// Appends what is left, the index and the trailer to `out`.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] when the index is too large for one piece.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<PieceInfo> {
        let kind = self.header.kind;
        self.guarded(kind, |writer| writer.flush_log(out))?;
        let PieceWriter { header, mut emitter, index, .. } = self;
        let (root, frame) = index.finish(&mut emitter, out)?;
        let len = emitter.offset() + TRAILER_LEN as u64;
        let trailer = Trailer {
            root_offset: frame.offset,
            root_len: frame.stored_len,
            frames: emitter.frames(),
            piece_len: len,
            set: header.set,
            piece: header.piece,
        };
        out.extend_from_slice(&trailer.encode());
        Ok(PieceInfo {
            piece: header.piece,
            channel: header.channel,
            kind,
            len,
            frames: trailer.frames,
            raw_bytes: root.raw_bytes,
            salt: header.salt,
        })
    }

    /// Runs a step of writing; whatever fails poisons the writer.
    fn guarded(&mut self, kind: PieceKind, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let object = format!("set {} piece {}", self.header.set, self.header.piece);
        if self.failed || kind != self.header.kind {
            let text = if self.failed { "writing failed before" } else { "pages and redo go into different pieces" };
            return Err(Error::new(ErrorKind::Internal, text).on(object));
        }
        let done = step(self).map_err(|error| error.on(object));
        self.failed = done.is_err();
        done
    }

    fn flush_log(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if self.gathered.parts.is_empty() {
            return Ok(());
        }
        let Gathered { parts, mut bytes, .. } = std::mem::take(&mut self.gathered);
        self.log_frame(LogTable { parts }, &mut bytes, out)?;
        bytes.clear();
        self.gathered.bytes = bytes;
        Ok(())
    }

    fn part(&mut self, part: PackedPart, out: &mut Vec<u8>) -> Result<()> {
        let frame = self.emitter.emit_packed(FrameKind::Log, (part.codec, part.raw_len), &part.packed, out)?;
        self.index.add(frame, EntryContent::Log { table: part.table }, part.data_len, &mut self.emitter, out)
    }

    fn log_frame(&mut self, parts: LogTable, raw: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<()> {
        let data_len = raw.len() as u64;
        parts.validate(raw.len()).map_err(refused)?;
        table::append(raw, &parts)?;
        let frame = self.emitter.emit(FrameKind::Log, raw, out)?;
        self.index.add(frame, EntryContent::Log { table: parts }, data_len, &mut self.emitter, out)
    }
}

impl Gathered {
    fn take(&mut self, unit: LogUnit, bytes: &[u8]) -> Result<()> {
        self.records += cbor::to_vec(&unit)?.len() + 16;
        self.parts.push(LogPart { unit: Some(unit), offset: 0, len: bytes.len() as u32 });
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= LOG_FRAME || self.records >= LOG_RECORDS || self.parts.len() == MAX_PARTS
    }
}

/// What a reader would call damaged is, when it is about to be written, a defect of the caller.
fn refused(error: Error) -> Error {
    Error::new(ErrorKind::Internal, "a frame that no reader would take was about to be written").because(error)
}

impl fmt::Debug for PieceWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceWriter(set {} piece {}, {} bytes)", self.header.set, self.header.piece, self.written())
    }
}
