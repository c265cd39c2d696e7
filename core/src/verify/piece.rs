//! One piece, read from front to back: every byte is looked at, and the index is held against what was found.

use std::sync::atomic::Ordering;

use super::work::{Counters, Depth, Todo};
use crate::catalog::Surroundings;
use crate::catalog::pieces;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::format::{EntryContent, FrameHeader, FrameKind, IndexEntry, PagesTable, PieceScanner, RunKind, Scanned};
use crate::media::ObjectName;
use crate::media::layout::{self, SetObject};
use crate::media::repository::Repository;
use crate::model::Tracking;
use crate::source::{PageState, Recovery};
use crate::transform::{FrameContent, PieceReader, page_hash};

/// Bytes that are read at once.
const READ: usize = 1 << 20;

pub(super) fn check(
    repository: &Repository,
    todo: &Todo<'_>,
    engine: Option<&dyn Recovery>,
    depth: Depth,
    counters: &Counters,
    around: Surroundings<'_>,
) -> Result<()> {
    let set = todo.meta.summary.id;
    let name = layout::object(set, SetObject::Piece(todo.piece.piece))?;
    let medium = &**repository.medium();
    let reader = pieces::reader(medium, set, todo.piece, todo.key)?;
    let mut checker =
        Checker { todo, engine, depth, counters, around, name, reader, seen: Vec::new(), raw: Vec::new() };
    let mut object = medium.open(&checker.name, 0)?;
    let mut scanner = PieceScanner::new();
    let mut buffer = vec![0; READ];
    let mut length = 0;
    loop {
        around.cancel.check()?;
        let got = object.read(&mut buffer)?;
        if got == 0 {
            break;
        }
        length += got as u64;
        checker.portion(&mut scanner, &buffer[..got])?;
    }
    scanner.finish().map_err(|error| checker.here(error))?;
    counters.stored.fetch_add(length, Ordering::Relaxed);
    if length != todo.piece.len {
        let text = format!("has {length} bytes, the metadata says {}", todo.piece.len);
        return Err(Error::damaged(checker.name.to_string(), text));
    }
    checker.all_indexed()
}

/// A frame that no index segment has named yet.
struct Seen {
    header: FrameHeader,
    offset: u64,
    /// What the frame turned out to hold, where it was opened.
    table: Option<PagesTable>,
    hashes: Vec<u8>,
}

struct Checker<'a> {
    todo: &'a Todo<'a>,
    engine: Option<&'a dyn Recovery>,
    depth: Depth,
    counters: &'a Counters,
    around: Surroundings<'a>,
    name: ObjectName,
    reader: PieceReader,
    seen: Vec<Seen>,
    raw: Vec<u8>,
}

impl Checker<'_> {
    fn here(&self, error: Error) -> Error {
        error.doing(format!("checking {}", self.name))
    }

    fn portion(&mut self, scanner: &mut PieceScanner, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (taken, item) = scanner.push(bytes).map_err(|error| self.here(error))?;
            bytes = &bytes[taken..];
            if let Some(Scanned::Frame { offset, header }) = item {
                self.frame(offset, header, scanner.bytes()).map_err(|error| self.here(error))?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, offset: u64, header: FrameHeader, bytes: &[u8]) -> Result<()> {
        self.around.cancel.check()?;
        self.counters.frames.fetch_add(1, Ordering::Relaxed);
        match header.kind {
            FrameKind::Index => {
                let FrameContent::Index(entries) = self.reader.frame(offset, bytes, &mut self.raw)? else {
                    return Err(Error::new(ErrorKind::Damaged, "a frame of the index holds something else"));
                };
                return self.compare(&entries);
            }
            FrameKind::Root => return self.reader.check(offset, bytes).map(drop),
            FrameKind::Pages | FrameKind::Log => {}
        }
        let mut seen = Seen { header, offset, table: None, hashes: Vec::new() };
        if self.depth == Depth::Pages {
            if let FrameContent::Pages(table) = self.reader.frame(offset, bytes, &mut self.raw)? {
                seen.hashes = self.pages(&table)?;
                seen.table = Some(table);
            }
        } else {
            self.reader.check(offset, bytes)?;
        }
        let raw = u64::from(seen.header.raw_len);
        self.counters.raw.fetch_add(raw, Ordering::Relaxed);
        self.around.observer.event(&Event::Progress { bytes: raw });
        self.seen.push(seen);
        Ok(())
    }

    /// Judges the pages of the frame in `self.raw`; gives their hashes where the index should have them.
    fn pages(&self, table: &PagesTable) -> Result<Vec<u8>> {
        let Some(entry) = self.todo.meta.file(table.file) else {
            return Err(Error::new(
                ErrorKind::Damaged,
                format!("a frame holds pages of file {}, which the set does not have", table.file),
            ));
        };
        let data = table.runs.iter().filter(|run| run.kind == RunKind::Data);
        let pages = data.flat_map(|run| run.run.first.0..run.run.end());
        let mut hashes = Vec::new();
        for (page, bytes) in pages.zip(self.raw.chunks(table.page_size.max(1) as usize)) {
            self.counters.pages.fetch_add(1, Ordering::Relaxed);
            let known_bad = self.todo.meta.bad_pages.iter().any(|bad| bad.file == table.file && bad.page.0 == page);
            let state = self.engine.map(|engine| engine.inspect(entry, page, bytes));
            if let (Some(PageState::Bad(fault)), false) = (state, known_bad) {
                return Err(Error::new(ErrorKind::Damaged, format!("{} page {page}: {fault}", entry.path)));
            }
            if entry.tracking == Tracking::PageHash {
                hashes.extend_from_slice(&page_hash(bytes));
            }
        }
        Ok(hashes)
    }

    /// Holds an index segment against the frames that came before it.
    fn compare(&mut self, entries: &[IndexEntry]) -> Result<()> {
        let seen = std::mem::take(&mut self.seen);
        let wrong =
            |what: String| Err(Error::new(ErrorKind::Damaged, format!("the index does not fit the frames: {what}")));
        if seen.len() != entries.len() {
            return wrong(format!("it has {} of {}", entries.len(), seen.len()));
        }
        for (frame, entry) in seen.iter().zip(entries) {
            let same = (frame.header.number, frame.offset) == (entry.number, entry.offset);
            if !same || frame.header.raw_len != entry.raw_len {
                return wrong(format!("frame {} at offset {}", frame.header.number, frame.offset));
            }
            if let (Some(table), EntryContent::Pages { table: indexed, hashes }) = (&frame.table, &entry.content) {
                if table != indexed {
                    return wrong(format!("the pages of frame {}", entry.number));
                }
                if hashes.as_ref().is_some_and(|hashes| *hashes != frame.hashes) {
                    return wrong(format!("the hashes of the pages of frame {}", entry.number));
                }
            }
        }
        Ok(())
    }

    fn all_indexed(&self) -> Result<()> {
        match self.seen.first() {
            None => Ok(()),
            Some(frame) => {
                Err(Error::damaged(self.name.to_string(), format!("frame {} is not in the index", frame.header.number)))
            }
        }
    }
}
