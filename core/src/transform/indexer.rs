//! Gathers index entries into segments, so that the memory for the index of a piece stays small however large it is.

use minicbor::Encoder;

use super::emit::{Emitted, FrameEmitter};
use crate::error::{Error, ErrorKind, Result};
use crate::format::limits::{MAX_SEGMENTS, SEGMENT_TARGET};
use crate::format::pages::section_of;
use crate::format::{EntryContent, FrameKind, IndexEntry, PieceRoot, SectionKey, SegmentRef, cbor};

/// More than the bytes of the encoding of a [`SegmentRef`].
const SEGMENT_REF_BOUND: u64 = 96;
/// More than the bytes that a segment, root or trailer has besides its entries.
const FIXED_BOUND: u64 = 512;

/// The index of the piece being written.
#[derive(Default)]
pub struct Indexer {
    root: PieceRoot,
    /// The encoded entries of the segment being gathered.
    entries: Vec<u8>,
    count: u32,
    range: Option<(SectionKey, SectionKey)>,
}

impl Indexer {
    /// Records a frame; writes the gathered segment first if it would become too large.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] when the piece has as many segments as it may have.
    pub fn add(
        &mut self,
        frame: Emitted,
        content: EntryContent,
        data_len: u64,
        emitter: &mut FrameEmitter,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let section = section_key(&content);
        let entry = IndexEntry {
            number: frame.number,
            offset: frame.offset,
            stored_len: frame.stored_len,
            raw_len: frame.raw_len,
            content,
        };
        let encoded = cbor::to_vec(&entry)?;
        if self.count > 0 && self.entries.len() + encoded.len() > SEGMENT_TARGET {
            self.flush(emitter, out)?;
        }
        self.entries.extend_from_slice(&encoded);
        self.count += 1;
        self.root.entries += 1;
        self.root.raw_bytes += data_len;
        self.root.stored_bytes += u64::from(frame.stored_len);
        if let Some(section) = section {
            let (first, last) = self.range.unwrap_or((section, section));
            self.range = Some((first.min(section), last.max(section)));
        }
        Ok(())
    }

    /// Writes the last segment and the root.
    ///
    /// # Errors
    /// As [`Indexer::add`].
    pub fn finish(mut self, emitter: &mut FrameEmitter, out: &mut Vec<u8>) -> Result<(PieceRoot, Emitted)> {
        if self.count > 0 {
            self.flush(emitter, out)?;
        }
        let root = emitter.emit(FrameKind::Root, &cbor::to_vec(&self.root)?, out)?;
        Ok((self.root, root))
    }

    /// At most so many bytes will [`Indexer::finish`] write.
    #[must_use]
    pub fn bound(&self) -> u64 {
        self.entries.len() as u64 + (self.root.segments.len() as u64 + 1) * SEGMENT_REF_BOUND + FIXED_BOUND
    }

    fn flush(&mut self, emitter: &mut FrameEmitter, out: &mut Vec<u8>) -> Result<()> {
        if self.root.segments.len() == MAX_SEGMENTS {
            let text = format!("the piece has {MAX_SEGMENTS} index segments and can have no more");
            return Err(Error::new(ErrorKind::Full, text).remedy("choose a smaller max_piece_size"));
        }
        let mut segment = Vec::with_capacity(self.entries.len() + 9);
        Encoder::new(&mut segment)
            .array(u64::from(self.count))
            .map_err(|_| Error::new(ErrorKind::Internal, "an index segment cannot be encoded"))?;
        segment.append(&mut self.entries);
        let frame = emitter.emit(FrameKind::Index, &segment, out)?;
        let (first, last) = self.range.take().unzip();
        self.root.segments.push(SegmentRef {
            number: frame.number,
            offset: frame.offset,
            stored_len: frame.stored_len,
            raw_len: frame.raw_len,
            entries: std::mem::take(&mut self.count),
            first,
            last,
        });
        Ok(())
    }
}

/// The section that the pages of a frame lie in; redo lies in none.
#[must_use]
pub fn section_key(content: &EntryContent) -> Option<SectionKey> {
    match content {
        EntryContent::Pages { table, .. } => {
            let first = table.runs.first()?.run.first.0;
            Some(SectionKey { file: table.file, section: section_of(first, table.page_size) })
        }
        EntryContent::Log { .. } => None,
    }
}
