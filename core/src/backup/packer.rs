//! Packs kept pages into frames and frames into pieces of bounded size, and hands the pieces to the medium.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::filter::HASH_LEN;
use super::parts::packed;
use crate::error::{Error, ErrorKind, Result};
use crate::format::limits::MAX_LOG_DATA;
use crate::format::{Compression, PagesTable, PieceInfo, PieceKind, RunKind, StoredRun};
use crate::media::layout::{self, SetObject};
use crate::media::{Medium, ObjectName};
use crate::model::{FileEntry, FileId, LogUnit, PageRun, PieceNo, SetId};
use crate::pipeline::sink::Sink;
use crate::transform::{DataKey, PieceSpec, PieceWriter};

/// Raw bytes in a frame.
pub(super) const FRAME: usize = 1 << 20;
/// Runs in a frame: scattered single pages and recorded runs must not make tables without end.
const MAX_RUNS: usize = 16_384;
/// What may still come behind the last frame of a piece: one more frame, an index segment, the root, the trailer.
const RESERVE: u64 = 6 << 20;
/// The smallest useful bound for pieces.
pub const MIN_PIECE_SIZE: u64 = 16 << 20;
/// Bytes that are handed to the medium at once.
const HAND_OVER: usize = 1 << 20;

/// What the pieces of a set have in common.
#[derive(Clone)]
pub(super) struct PieceFactory {
    pub medium: Arc<dyn Medium>,
    pub set: SetId,
    pub compression: Compression,
    pub key: Option<DataKey>,
    pub max_piece_size: u64,
    pub numbers: Arc<AtomicU32>,
}

/// Writes pieces of one kind, one after the other.
pub(super) struct Pieces {
    factory: PieceFactory,
    channel: u16,
    kind: PieceKind,
    sink: Sink,
    out: Vec<u8>,
    current: Option<(PieceWriter, ObjectName)>,
    done: Vec<PieceInfo>,
}

impl Pieces {
    pub(super) fn new(factory: PieceFactory, channel: u16, kind: PieceKind) -> Result<Self> {
        let sink = Sink::start(&format!("write-{channel}"), factory.medium.clone())?;
        Ok(Pieces { factory, channel, kind, sink, out: Vec::new(), current: None, done: Vec::new() })
    }

    pub(super) fn pages(&mut self, table: PagesTable, hashes: Option<Vec<u8>>, raw: &mut Vec<u8>) -> Result<()> {
        let (writer, out) = self.writer()?;
        writer.pages(table, hashes, raw, out)?;
        self.hand_over(HAND_OVER)
    }

    pub(super) fn log(&mut self, unit: LogUnit, bytes: &[u8]) -> Result<()> {
        if bytes.len() <= MAX_LOG_DATA {
            let (writer, out) = self.writer()?;
            writer.log(unit, bytes, out)?;
            return self.hand_over(HAND_OVER);
        }
        let parts = packed(unit, bytes, self.factory.compression)?;
        self.writer()?;
        // A unit lies in one piece, however long it is.
        parts.into_iter().try_for_each(|part| {
            let (writer, out) = self.current()?;
            writer.log_part(part, out)?;
            self.hand_over(HAND_OVER)
        })
    }

    pub(super) fn finish(mut self) -> Result<Vec<PieceInfo>> {
        self.finish_piece()?;
        Ok(self.done)
    }

    /// The piece being written; a new one when there is none or the present one is full.
    fn writer(&mut self) -> Result<(&mut PieceWriter, &mut Vec<u8>)> {
        let full = |writer: &PieceWriter| writer.written().saturating_add(RESERVE) > self.factory.max_piece_size;
        if self.current.as_ref().is_some_and(|(writer, _)| full(writer)) {
            self.finish_piece()?;
        }
        if self.current.is_none() {
            let number = PieceNo(self.factory.numbers.fetch_add(1, Ordering::Relaxed));
            let name = layout::object(self.factory.set, SetObject::Piece(number))?;
            let spec = PieceSpec {
                set: self.factory.set,
                piece: number,
                channel: self.channel,
                kind: self.kind,
                compression: self.factory.compression,
                key: self.factory.key.clone(),
            };
            self.sink.create(name.clone())?;
            let writer = PieceWriter::new(spec, &mut self.out)?;
            self.current = Some((writer, name));
        }
        self.current()
    }

    fn current(&mut self) -> Result<(&mut PieceWriter, &mut Vec<u8>)> {
        match &mut self.current {
            Some((writer, _)) => Ok((writer, &mut self.out)),
            None => Err(Error::new(ErrorKind::Internal, "no piece is open")),
        }
    }

    fn finish_piece(&mut self) -> Result<()> {
        let Some((writer, name)) = self.current.take() else { return Ok(()) };
        let info = writer.finish(&mut self.out)?;
        self.hand_over(0)?;
        let stored = self.sink.finish()?;
        if stored.len != info.len {
            return Err(Error::new(ErrorKind::Medium, format!("stored {} bytes of {}", stored.len, info.len))
                .on(name.to_string())
                .remedy("the medium lost bytes: test it with `setpiece media test`"));
        }
        self.done.push(info);
        Ok(())
    }

    fn hand_over(&mut self, at_least: usize) -> Result<()> {
        if self.out.len() >= at_least.max(1) {
            self.out = self.sink.write(std::mem::take(&mut self.out))?;
        }
        Ok(())
    }
}

/// Packs pages of one file and section at a time.
pub(super) struct Packer {
    pieces: Pieces,
    place: Option<Place>,
    raw: Vec<u8>,
    runs: Vec<StoredRun>,
    hashes: Vec<u8>,
    waiting: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    file: FileId,
    generation: u64,
    page_size: u32,
    len: u64,
    section: u64,
}

impl Packer {
    pub(super) fn new(pieces: Pieces) -> Self {
        let (raw, runs, hashes, waiting) = Default::default();
        Packer { pieces, place: None, raw, runs, hashes, waiting }
    }

    /// Says which file and section the following pages belong to.
    pub(super) fn begin(&mut self, entry: &FileEntry, section: u64) -> Result<()> {
        let place =
            Place { file: entry.id, generation: entry.generation, page_size: entry.page_size, len: entry.len, section };
        if self.place != Some(place) {
            self.flush()?;
            self.place = Some(place);
        }
        Ok(())
    }

    /// Records pages that are not stored.
    pub(super) fn recorded(&mut self, run: PageRun, kind: RunKind) -> Result<()> {
        self.order(run)?;
        self.push_run(run, kind);
        Ok(())
    }

    /// The hash of the next page that will be given to [`Packer::data`].
    pub(super) fn hash(&mut self, hash: Option<[u8; HASH_LEN]>) {
        self.waiting.extend(hash.iter().flatten());
    }

    /// Adds pages that lie in `chunk`, whose first page is `chunk_first`. A whole chunk may be taken over as it is.
    pub(super) fn data(&mut self, chunk: &mut Vec<u8>, chunk_first: u64, run: PageRun) -> Result<()> {
        let page_size = self.place.map_or(1, |place| place.page_size.max(1)) as usize;
        let begin = usize::try_from(run.first.0 - chunk_first).unwrap_or(usize::MAX).saturating_mul(page_size);
        let len = usize::try_from(run.count).unwrap_or(usize::MAX).saturating_mul(page_size);
        let end = begin.saturating_add(len).min(chunk.len());
        let too_much = !self.raw.is_empty() && self.raw.len() + (end - begin) > FRAME;
        if too_much {
            let waiting = std::mem::take(&mut self.waiting);
            self.flush()?;
            self.waiting = waiting;
        }
        self.order(run)?;
        if self.raw.is_empty() && begin == 0 && end == chunk.len() {
            std::mem::swap(&mut self.raw, chunk);
        } else {
            self.raw.extend_from_slice(&chunk[begin..end]);
        }
        self.hashes.append(&mut self.waiting);
        self.push_run(run, RunKind::Data);
        if self.raw.len() >= FRAME { self.flush() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<Vec<PieceInfo>> {
        self.flush()?;
        self.pieces.finish()
    }

    /// Runs in a frame ascend; whoever goes back begins another frame.
    fn order(&mut self, run: PageRun) -> Result<()> {
        let back = self.runs.last().is_some_and(|last| last.run.end() > run.first.0);
        if back || self.runs.len() >= MAX_RUNS { self.flush() } else { Ok(()) }
    }

    fn push_run(&mut self, run: PageRun, kind: RunKind) {
        match self.runs.last_mut() {
            Some(last) if last.kind == kind && last.run.end() == run.first.0 => last.run.count += run.count,
            _ => self.runs.push(StoredRun { run, kind }),
        }
    }

    fn flush(&mut self) -> Result<()> {
        let (Some(place), false) = (self.place, self.runs.is_empty()) else { return Ok(()) };
        let table = PagesTable {
            file: place.file,
            generation: place.generation,
            page_size: place.page_size,
            runs: std::mem::take(&mut self.runs),
        };
        let hashes = std::mem::take(&mut self.hashes);
        let hashes = (!hashes.is_empty()).then_some(hashes);
        self.pieces.pages(table, hashes, &mut self.raw)?;
        self.raw.clear();
        Ok(())
    }
}
