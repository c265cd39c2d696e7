//! One channel of a backup: takes extents, reads and judges their pages, packs what is kept into frames, and frames
//! into pieces.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::filter::{self, Baseline, Content, HASH_LEN, Known, Rule};
use super::packer::Packer;
use super::work::Extent;
use crate::catalog::index::section_of;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, Observer};
use crate::format::{PieceInfo, RunKind};
use crate::model::{FileEntry, FileId, PageRun, RelPath, Tracking};
use crate::source::{BackupRun, PageState};
use crate::transform::page_hash;

/// How often a page that looks torn is read again. A write of one page is over long before.
const TORN_RETRIES: u32 = 20;
/// Raw bytes that are read at once.
const READ: usize = 1 << 20;

/// What to do about a damaged page of the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadPage {
    /// The backup fails.
    #[default]
    Fail,
    /// The page is stored as it is, and the set is marked: it is no base for others.
    Warn,
}

/// A damaged page of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPage {
    /// The file.
    pub file: FileId,
    /// The file's path, as [`FileEntry::path`].
    pub path: RelPath,
    /// The page, counted in the file.
    pub page: u64,
    /// What is wrong with it.
    pub fault: String,
}

/// What all channels share.
pub(super) struct Shared<'a> {
    pub run: &'a dyn BackupRun,
    pub baseline: Option<&'a Baseline<'a>>,
    pub on_bad_page: OnBadPage,
    pub observer: &'a dyn Observer,
    pub read_bytes: &'a AtomicU64,
}

/// What a channel has made.
#[derive(Default)]
pub(super) struct Made {
    pub pieces: Vec<PieceInfo>,
    pub bad_pages: Vec<BadPage>,
    pub pages: u64,
}

pub(super) struct Channel<'a> {
    shared: &'a Shared<'a>,
    packer: Packer,
    chunk: Vec<u8>,
    bad_pages: Vec<BadPage>,
    pages: u64,
}

impl<'a> Channel<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, packer: Packer) -> Self {
        Channel { shared, packer, chunk: Vec::new(), bad_pages: Vec::new(), pages: 0 }
    }

    /// Works off one extent of a file.
    pub(super) fn extent(&mut self, entry: &FileEntry, extent: &Extent) -> Result<()> {
        let page_size = entry.page_size.max(1) as usize;
        let known = match (extent.plan.rule, self.shared.baseline) {
            (Rule::Differs, Some(baseline)) => Some(baseline.known(entry, extent.pages.first.0)?),
            _ => None,
        };
        self.packer.begin(entry, section_of(entry, extent.pages.first.0))?;
        let free = extent.plan.free.within(extent.pages);
        for run in free.runs() {
            self.packer.recorded(*run, RunKind::Free)?;
        }
        let mut used = [extent.pages].into_iter().collect::<crate::model::PageSet>();
        free.runs().iter().for_each(|run| drop(used.take(*run)));
        let per_read = (READ / page_size).max(1) as u64;
        for run in used.runs() {
            let mut first = run.first.0;
            while first < run.end() {
                let count = per_read.min(run.end() - first);
                self.chunk(entry, extent, known.as_deref(), PageRun::new(first, count))?;
                first += count;
            }
        }
        Ok(())
    }

    /// The pieces, finished.
    pub(super) fn finish(self) -> Result<Made> {
        Ok(Made { pieces: self.packer.finish()?, bad_pages: self.bad_pages, pages: self.pages })
    }

    fn chunk(&mut self, entry: &FileEntry, extent: &Extent, known: Option<&Known>, run: PageRun) -> Result<()> {
        let mut chunk = std::mem::take(&mut self.chunk);
        self.shared.run.read(entry.id, run.first.0, run.count, &mut chunk)?;
        let expected = entry.len.min(entry.offset(run.end())) - entry.offset(run.first.0);
        if chunk.len() as u64 != expected {
            return Err(Error::new(ErrorKind::Source, format!("gave {} bytes of {expected}", chunk.len()))
                .on(format!("{} page {}", entry.path, run.first)));
        }
        self.shared.read_bytes.fetch_add(expected, Ordering::Relaxed);
        let mut keep_from = None;
        let mut kept_count = 0;
        let page_size = entry.page_size.max(1) as usize;
        for (at, page) in (run.first.0..run.end()).enumerate() {
            let bytes = at * page_size..((at + 1) * page_size).min(chunk.len());
            let verdict = self.judge(entry, extent, known, page, &mut chunk, bytes.clone())?;
            if let Verdict::Keep(hash) = verdict {
                keep_from.get_or_insert(page);
                kept_count += 1;
                self.packer.hash(hash);
                continue;
            }
            if let Some(first) = keep_from.take() {
                self.packer.data(&mut chunk, run.first.0, PageRun::new(first, page - first))?;
            }
            if verdict == Verdict::Zero {
                self.packer.recorded(PageRun::new(page, 1), RunKind::Zero)?;
            }
        }
        if let Some(first) = keep_from {
            self.packer.data(&mut chunk, run.first.0, PageRun::new(first, run.end() - first))?;
        }
        self.pages += kept_count;
        self.shared.observer.event(&Event::Progress { bytes: expected });
        self.chunk = chunk;
        Ok(())
    }

    fn judge(
        &mut self,
        entry: &FileEntry,
        extent: &Extent,
        known: Option<&Known>,
        page: u64,
        chunk: &mut [u8],
        bytes: std::ops::Range<usize>,
    ) -> Result<Verdict> {
        let mut state = self.shared.run.inspect(entry.id, page, &chunk[bytes.clone()]);
        if state == PageState::Torn {
            state = self.read_again(entry, page, &mut chunk[bytes.clone()])?;
        }
        if let PageState::Bad(fault) = &state {
            self.bad(entry, page, fault)?;
        }
        let bytes = &chunk[bytes];
        let zero = is_zero(bytes);
        let hashed = entry.tracking == Tracking::PageHash;
        let content = match (zero, hashed) {
            (true, _) => Content::Zero,
            (false, true) => Content::Hash(page_hash(bytes)),
            (false, false) => Content::Hash([0; HASH_LEN]),
        };
        let keep = filter::keep(extent.plan.rule, &extent.plan.surely, known, page, &state, &content);
        Ok(match content {
            _ if !keep => Verdict::Drop,
            Content::Zero => Verdict::Zero,
            Content::Hash(hash) => Verdict::Keep(hashed.then_some(hash)),
        })
    }

    fn read_again(&self, entry: &FileEntry, page: u64, into: &mut [u8]) -> Result<PageState> {
        let mut again = Vec::new();
        for attempt in 0..TORN_RETRIES {
            thread::sleep(Duration::from_millis(u64::from(attempt)));
            self.shared.run.read(entry.id, page, 1, &mut again)?;
            let state = self.shared.run.inspect(entry.id, page, &again);
            if state != PageState::Torn && again.len() == into.len() {
                into.copy_from_slice(&again);
                return Ok(state);
            }
        }
        Ok(PageState::Bad(format!("looks half written, {TORN_RETRIES} times in a row")))
    }

    fn bad(&mut self, entry: &FileEntry, page: u64, fault: &str) -> Result<()> {
        let place = format!("{} page {page}", entry.path);
        if self.shared.on_bad_page == OnBadPage::Fail {
            return Err(Error::new(ErrorKind::BadPage, fault)
                .on(place)
                .remedy("restore the page from an older set, or back up with bad pages as they are"));
        }
        self.shared.observer.event(&Event::Warning { text: format!("{place}: {fault}; stored as it is") });
        self.bad_pages.push(BadPage { file: entry.id, path: entry.path.clone(), page, fault: fault.into() });
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Drop,
    Zero,
    Keep(Option<[u8; HASH_LEN]>),
}

fn is_zero(bytes: &[u8]) -> bool {
    let (head, rest) = bytes.split_at(bytes.len().min(16));
    head.iter().all(|byte| *byte == 0) && rest.iter().all(|byte| *byte == 0)
}
