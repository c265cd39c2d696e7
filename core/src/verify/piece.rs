//! One piece, read from front to back: every byte is looked at, and the index is held against what was found.
//!
//! A frame that is wrong does not keep the others from being checked. Where the way to the next frame is lost, the
//! index tells of those behind.

use std::sync::atomic::Ordering;

use super::index::{IndexCheck, Seen};
use super::work::{Counters, Depth, Todo};
use crate::catalog::Surroundings;
use crate::catalog::pieces;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::format::{FrameHeader, FrameKind, IndexEntry, PagesTable, PieceScanner, RunKind, Scanned};
use crate::media::layout::{self, SetObject};
use crate::media::repository::{Repository, read_range};
use crate::media::{Medium, ObjectName};
use crate::model::Tracking;
use crate::source::{PageState, Recovery};
use crate::transform::{FrameContent, PieceReader, page_hash};

/// Bytes that are read at once.
const READ: usize = 1 << 20;
/// A piece in which so much is wrong is not read further.
const MAX_FINDINGS: usize = 16;

/// Everything that is wrong with a piece.
///
/// # Errors
/// When none of it can be read, or when cancelled.
pub(super) fn check(
    repository: &Repository,
    todo: &Todo<'_>,
    engine: Option<&dyn Recovery>,
    depth: Depth,
    counters: &Counters,
    around: Surroundings<'_>,
) -> Result<Vec<Error>> {
    let set = todo.meta.summary.id;
    let name = layout::object(set, SetObject::Piece(todo.piece.piece))?;
    let medium = &**repository.medium();
    let reader = pieces::reader(medium, set, todo.piece, todo.key)?;
    let mut checker = Checker {
        todo,
        engine,
        depth,
        counters,
        around,
        name,
        reader,
        raw: Vec::new(),
        index: IndexCheck::default(),
        whole: false,
        at: 0,
        resume: 0,
        findings: Vec::new(),
    };
    let done = checker.scan(medium).or_else(|error| {
        checker.note(error)?;
        checker.behind(repository)
    });
    match done {
        Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
        Err(error) => checker.findings.push(error),
        Ok(()) => {}
    }
    Ok(checker.findings)
}

struct Checker<'a> {
    todo: &'a Todo<'a>,
    engine: Option<&'a dyn Recovery>,
    depth: Depth,
    counters: &'a Counters,
    around: Surroundings<'a>,
    name: ObjectName,
    reader: PieceReader,
    raw: Vec<u8>,
    index: IndexCheck,
    /// Whether the root was seen, behind which there are no frames.
    whole: bool,
    /// Where the item begins that is being read.
    at: u64,
    /// The first byte at which a frame may begin that was not looked at.
    resume: u64,
    findings: Vec<Error>,
}

impl Checker<'_> {
    /// Takes down what is wrong, so that the rest can be checked.
    fn note(&mut self, error: Error) -> Result<()> {
        if error.kind() == ErrorKind::Cancelled {
            return Err(error);
        }
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(error.doing(format!("checking {}", self.name)));
            return Ok(());
        }
        let text = format!("more is wrong behind offset {}, and was not looked at", self.at);
        Err(Error::damaged(self.name.to_string(), text).remedy("use another copy of the set"))
    }

    fn scan(&mut self, medium: &dyn Medium) -> Result<()> {
        let mut object = medium.open(&self.name, 0)?;
        let mut scanner = PieceScanner::new();
        let mut buffer = vec![0; READ];
        let mut length = 0;
        loop {
            self.around.cancel.check()?;
            let got = object.read(&mut buffer)?;
            if got == 0 {
                break;
            }
            length += got as u64;
            self.counters.stored.fetch_add(got as u64, Ordering::Relaxed);
            self.portion(&mut scanner, &buffer[..got])?;
        }
        scanner.finish()?;
        if length != self.todo.piece.len {
            let text = format!("has {length} bytes, the metadata says {}", self.todo.piece.len);
            return Err(Error::damaged(self.name.to_string(), text));
        }
        self.index.finish()
    }

    fn portion(&mut self, scanner: &mut PieceScanner, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (taken, item) = match scanner.push(bytes) {
                Ok(pushed) => pushed,
                Err(error) => {
                    // What stands here has been reported by that.
                    self.resume = self.at + 1;
                    return Err(error);
                }
            };
            bytes = &bytes[taken..];
            if item.is_none() {
                continue;
            }
            self.at += scanner.bytes().len() as u64;
            self.resume = self.at;
            if let Some(Scanned::Frame { offset, header }) = item
                && let Err(error) = self.frame(offset, header, scanner.bytes())
            {
                self.note(error)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, offset: u64, header: FrameHeader, bytes: &[u8]) -> Result<()> {
        self.around.cancel.check()?;
        self.counters.frames.fetch_add(1, Ordering::Relaxed);
        match header.kind {
            FrameKind::Index => match self.reader.frame(offset, bytes, &mut self.raw) {
                Ok(FrameContent::Index(entries)) => self.index.segment(&header, offset, &entries),
                other => {
                    self.index.lost();
                    other.and_then(|_| Err(Error::new(ErrorKind::Damaged, "a frame of the index holds something else")))
                }
            },
            FrameKind::Root => {
                self.whole = true;
                match self.reader.frame(offset, bytes, &mut self.raw)? {
                    FrameContent::Root(root) => self.index.root(&root),
                    _ => Err(Error::new(ErrorKind::Damaged, "the root of the index holds something else")),
                }
            }
            FrameKind::Pages | FrameKind::Log => {
                let (found, result) = match self.content(offset, header, bytes) {
                    Ok(found) => (found, Ok(())),
                    Err(error) => (None, Err(error)),
                };
                self.index.frame(Seen { header, offset, found });
                result
            }
        }
    }

    /// Checks a frame of pages or redo; gives the table and hashes of one of pages that was opened.
    fn content(&mut self, offset: u64, header: FrameHeader, bytes: &[u8]) -> Result<Option<(PagesTable, Vec<u8>)>> {
        let mut found = None;
        if self.depth == Depth::Pages {
            if let FrameContent::Pages(table) = self.reader.frame(offset, bytes, &mut self.raw)? {
                let hashes = self.pages(&table)?;
                found = Some((table, hashes));
            }
        } else {
            self.reader.check(offset, bytes)?;
        }
        let raw = u64::from(header.raw_len);
        self.counters.raw.fetch_add(raw, Ordering::Relaxed);
        self.around.observer.event(&Event::Progress { bytes: raw });
        Ok(found)
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

    /// Checks the frames behind the place where the way was lost, as far as the index can be read.
    fn behind(&mut self, repository: &Repository) -> Result<()> {
        if self.whole {
            return Ok(());
        }
        let medium = &**repository.medium();
        let opened = pieces::open(repository, self.todo.meta.summary.id, self.todo.piece, self.todo.key);
        let (piece, mut reader) = opened.map_err(|error| {
            let text = format!("what lies behind offset {} cannot be found and was not checked", self.at);
            Error::new(error.kind(), text).on(self.name.to_string()).because(error)
        })?;
        let (at, resume) = (self.at, self.resume);
        for segment in piece.root.segments.iter().filter(|segment| segment.offset >= at) {
            if segment.offset < resume {
                self.index.lost();
                continue;
            }
            let read = read_range(medium, &piece.name, segment.offset, u64::from(segment.stored_len));
            let entries = match read.and_then(|bytes| reader.segment(segment, &bytes)) {
                Ok(entries) => entries,
                Err(error) => {
                    self.index.lost();
                    self.note(error)?;
                    continue;
                }
            };
            let (before, rest) = entries.split_at(entries.partition_point(|entry| entry.offset < at));
            if let Err(error) = self.index.entries(before) {
                self.note(error)?;
            }
            for entry in rest.iter().filter(|entry| entry.offset >= resume) {
                self.at = entry.offset;
                if let Err(error) = self.named(medium, entry) {
                    self.note(error)?;
                }
            }
        }
        Ok(())
    }

    /// Checks a frame that the index has led to.
    fn named(&mut self, medium: &dyn Medium, entry: &IndexEntry) -> Result<()> {
        let bytes = read_range(medium, &self.name, entry.offset, u64::from(entry.stored_len))?;
        let header = FrameHeader::decode(&bytes)
            .map_err(|error| error.on(format!("{} at offset {}", self.name, entry.offset)))?;
        self.counters.stored.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let checked = self.frame(entry.offset, header, &bytes);
        let indexed = self.index.entries(std::slice::from_ref(entry));
        checked.and(indexed)
    }
}
