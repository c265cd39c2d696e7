//! A file that a restore writes: what it holds already is compared, and only what differs is written.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::durable::write_at;
use super::sum::FileSum;
use crate::error::{Error, Result};
use crate::model::{FileEntry, PageRun, PageSet};
use crate::pipeline::write_back::WriteBack;

/// Bytes written to a file after which the system is asked to begin writing them back.
const WRITE_BACK: u64 = 32 << 20;
/// Bytes that are compared at once.
const COMPARED: u64 = 1 << 20;

/// A file being written.
pub(super) struct Target {
    /// The file as the set has it.
    pub entry: FileEntry,
    file: Arc<File>,
    sum: Option<Arc<FileSum>>,
    /// So many bytes of it were there before.
    held: u64,
    /// Bytes, of all files, that were what they are to be.
    kept: Arc<AtomicU64>,
    dirty: AtomicU64,
}

impl Target {
    pub(super) fn new(
        entry: FileEntry,
        file: File,
        sum: Option<Arc<FileSum>>,
        (held, kept): (u64, Arc<AtomicU64>),
    ) -> Self {
        Target { entry, file: Arc::new(file), sum, held, kept, dirty: AtomicU64::new(0) }
    }

    /// Those of `pages` of which the file held something before; others are zero by themselves.
    pub(super) fn held_of(&self, pages: PageSet) -> PageSet {
        let held = self.held.div_ceil(u64::from(self.entry.page_size.max(1)));
        pages.within(PageRun::new(0, held))
    }

    /// Brings bytes to a place in the file. `old` is room for what is there.
    pub(super) fn write(&self, bytes: &[u8], offset: u64, old: &mut Vec<u8>, write_back: &WriteBack) -> Result<()> {
        if let Some(sum) = &self.sum {
            sum.add(bytes, offset);
        }
        if offset >= self.held {
            return self.put(bytes, offset, write_back);
        }
        old.resize(bytes.len(), 0);
        self.read(offset, old)?;
        let page = self.entry.page_size.max(1) as usize;
        let mut differs_from = None;
        for (at, (new, old)) in bytes.chunks(page).zip(old.chunks(page)).enumerate() {
            if new != old {
                differs_from.get_or_insert(at * page);
                continue;
            }
            self.kept.fetch_add(new.len() as u64, Ordering::Relaxed);
            if let Some(from) = differs_from.take() {
                self.put(&bytes[from..at * page], offset + from as u64, write_back)?;
            }
        }
        differs_from.map_or(Ok(()), |from| self.put(&bytes[from..], offset + from as u64, write_back))
    }

    /// Makes pages zero that are not.
    pub(super) fn clear(&self, pages: &PageSet, old: &mut Vec<u8>, write_back: &WriteBack) -> Result<()> {
        let page_size = u64::from(self.entry.page_size.max(1));
        let at_once = (COMPARED / page_size).max(1);
        for run in pages.runs() {
            let mut first = run.first.0;
            while first < run.end() {
                let count = at_once.min(run.end() - first);
                let from = self.entry.offset(first);
                let len = (count * page_size).min(self.entry.len.saturating_sub(from));
                old.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
                self.read(from, old)?;
                for (at, page) in old.chunks_mut(usize::try_from(page_size).unwrap_or(usize::MAX)).enumerate() {
                    if page.iter().all(|byte| *byte == 0) {
                        self.kept.fetch_add(page.len() as u64, Ordering::Relaxed);
                        continue;
                    }
                    page.fill(0);
                    self.put(page, from + at as u64 * page_size, write_back)?;
                }
                first += count;
            }
        }
        Ok(())
    }

    /// Reads what is there; the file has its final length already.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let place = || format!("{} at byte {offset}", self.entry.path);
        self.file.read_exact_at(into, offset).map_err(|error| Error::io(place(), error))
    }

    fn put(&self, bytes: &[u8], offset: u64, write_back: &WriteBack) -> Result<()> {
        write_at(&self.file, bytes, offset, self.entry.path.as_str())?;
        let len = bytes.len() as u64;
        if self.dirty.fetch_add(len, Ordering::Relaxed) % WRITE_BACK + len >= WRITE_BACK {
            write_back.suggest(&self.file);
        }
        Ok(())
    }
}
