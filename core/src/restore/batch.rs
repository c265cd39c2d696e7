//! The frames of a plan, handed out in batches: section by section, each in the order of the file.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::gather::{Gather, Memory, Ticket};
use super::output::Target;
use super::places::Places;
use super::plan::{RestorePlan, resolve};
use super::sum::FileSum;
use super::target::{Created, Workplace};
use crate::catalog::index::{LiveFrame, sections};
use crate::error::Result;
use crate::format::EntryContent;
use crate::media::repository::Repository;
use crate::model::{FileEntry, PageRun, PageSet};
use crate::source::WrittenFile;

/// Bytes of neighbouring frames that are read with one opening of a piece.
const STORED: u64 = 2 << 20;
/// Raw bytes of neighbouring frames in a batch: work is shared out evenly also where data compresses well.
const RAW: u64 = 8 << 20;
/// Scattered frames in a batch.
const SCATTERED: usize = 2;
/// Frames to read for a section of a file, and what to do with their pages.
pub(super) struct Batch {
    /// Where they go.
    pub to: Destination,
    /// The frames.
    pub work: Work,
}

/// Where the pages of a batch go.
pub(super) struct Destination {
    /// The file.
    pub target: Arc<Target>,
    /// The pages that wait in this section of it.
    pub gather: Arc<Gather>,
    /// The batch's number in the section.
    pub number: usize,
}

/// What a batch is.
pub(super) enum Work {
    /// Frames with a few pages of a long stretch: the pages are to wait for the frames around them. The ticket is dropped
    /// when they do.
    Scattered(Vec<LiveFrame>, Ticket),
    /// Neighbouring frames of one piece, without gaps between them on the medium, each with most pages of its stretch:
    /// they are written together with what waits there. Then what still waits in the run is written by itself.
    Dense(Vec<LiveFrame>, PageRun),
    /// Pages that are all zero, in a file that held something.
    Zeros(PageSet),
}

/// Hands out batches to the channels and makes the files when their turn comes.
pub(super) struct Batches<'a> {
    repository: &'a Repository,
    plan: &'a RestorePlan,
    workplace: &'a Workplace,
    places: Places<'a>,
    memory: Arc<Memory>,
    cursor: Mutex<Cursor>,
    /// Whether checksums are wanted.
    sums: bool,
    /// Bytes that files held already.
    kept: Arc<AtomicU64>,
    made: Mutex<Vec<MadeFile>>,
}

/// A file that was made: where, what will be its length, and its checksum as far as it is written.
type MadeFile = (PathBuf, u64, Option<Arc<FileSum>>);

#[derive(Default)]
struct Cursor {
    file: usize,
    section: u64,
    target: Option<Arc<Target>>,
    frames: Option<Section>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        plan: &'a RestorePlan,
        (workplace, sums): (&'a Workplace, bool),
        places: Places<'a>,
    ) -> Self {
        let (memory, cursor, kept, made) = Default::default();
        Batches { repository, plan, workplace, places, memory, cursor, sums, kept, made }
    }

    /// The next batch; `None` when every file is made and all frames are handed out.
    pub(super) fn next(&self) -> Result<Option<Batch>> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(entry) = self.plan.files.get(cursor.file) {
            let target = match &cursor.target {
                Some(target) => target.clone(),
                None => cursor.target.insert(self.make(entry)?).clone(),
            };
            if let Some(batch) = cursor.frames.as_mut().and_then(|frames| frames.next(&target)) {
                return Ok(Some(batch));
            }
            cursor.frames = None;
            if cursor.section < sections(entry) {
                let mut map = resolve(self.repository, &self.plan.index, entry, cursor.section)?;
                map.zero.union(&map.free);
                cursor.frames = Some(Section::new(
                    map.frames,
                    target.held_of(map.zero),
                    Gather::new(entry.page_size, self.memory.clone()),
                ));
                cursor.section += 1;
            } else {
                cursor.file += 1;
                cursor.section = 0;
                cursor.target = None;
            }
        }
        Ok(None)
    }

    fn make(&self, entry: &FileEntry) -> Result<Arc<Target>> {
        let tablespace = self.plan.tablespaces.iter().find(|tablespace| tablespace.id == entry.tablespace);
        let Created { file, path, held } = self.workplace.create(entry, tablespace, &self.places)?;
        let sum = self.sums.then(Arc::<FileSum>::default);
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push((path, entry.len, sum.clone()));
        Ok(Arc::new(Target::new(entry.clone(), file, sum, (held, self.kept.clone()))))
    }

    /// The files in the order of the plan, and the bytes of them that were there already, when all batches are done.
    pub(super) fn written(self) -> (Vec<WrittenFile>, u64) {
        let made = self.made.into_inner().unwrap_or_else(PoisonError::into_inner);
        let written = |(path, len, sum): MadeFile| WrittenFile { path, crc32c: sum.map(|sum| sum.whole(len)) };
        (made.into_iter().map(written).collect(), self.kept.load(Ordering::Relaxed))
    }
}

/// The frames of a section that are not handed out yet, each kind by its first page.
struct Section {
    zeros: PageSet,
    scattered: VecDeque<LiveFrame>,
    dense: VecDeque<LiveFrame>,
    gather: Arc<Gather>,
    handed_out: usize,
    /// The next dense batch, which goes out when the scattered frames that have pages before its end have gone.
    ready: Option<(Vec<LiveFrame>, PageRun)>,
}

impl Section {
    fn new(mut frames: Vec<LiveFrame>, zeros: PageSet, gather: Gather) -> Self {
        frames.sort_by_key(|frame| (frame.span().first, frame.set, frame.piece));
        let (mut dense, mut scattered): (Vec<_>, Vec<_>) = frames.into_iter().partition(is_dense);
        if dense.is_empty() {
            // Nothing lies around them, so there is nothing to wait for.
            std::mem::swap(&mut dense, &mut scattered);
        }
        let (scattered, dense, gather) = (scattered.into(), dense.into(), Arc::new(gather));
        Section { zeros, scattered, dense, gather, handed_out: 0, ready: None }
    }

    fn next(&mut self, target: &Arc<Target>) -> Option<Batch> {
        if !self.zeros.is_empty() {
            let to = Destination { target: target.clone(), gather: self.gather.clone(), number: 0 };
            return Some(Batch { to, work: Work::Zeros(std::mem::take(&mut self.zeros)) });
        }
        let (dense, run) = match self.ready.take() {
            Some(ready) => ready,
            None => self.take_dense()?,
        };
        let number = self.handed_out;
        self.handed_out += 1;
        let scattered = self.take_scattered(run.end());
        let work = if scattered.is_empty() {
            Work::Dense(dense, run)
        } else {
            self.ready = Some((dense, run));
            Work::Scattered(scattered, self.gather.announce(number))
        };
        let to = Destination { target: target.clone(), gather: self.gather.clone(), number };
        Some(Batch { to, work })
    }

    /// The next dense frames and the pages from their first to the first of those after them. The runs of a section's
    /// batches cover all of it.
    fn take_dense(&mut self) -> Option<(Vec<LiveFrame>, PageRun)> {
        let first = if self.handed_out == 0 { 0 } else { self.dense.front()?.span().first.0 };
        let frames = take_neighbours(&mut self.dense);
        let end = self.dense.front().map_or(u64::MAX, |next| next.span().first.0);
        (!frames.is_empty()).then(|| (frames, PageRun::new(first, end - first)))
    }

    /// Some of the scattered frames that have a page before `end`.
    fn take_scattered(&mut self, end: u64) -> Vec<LiveFrame> {
        let mut taken = Vec::new();
        while taken.len() < SCATTERED && self.scattered.front().is_some_and(|frame| frame.span().first.0 < end) {
            taken.extend(self.scattered.pop_front());
        }
        taken
    }
}

/// Whether a frame has at least every other page between its first and its last.
fn is_dense(frame: &LiveFrame) -> bool {
    let EntryContent::Pages { table, .. } = &frame.entry.content else { return true };
    table.runs.iter().map(|stored| stored.run.count).sum::<u64>() * 2 >= frame.span().count
}

fn take_neighbours(frames: &mut VecDeque<LiveFrame>) -> Vec<LiveFrame> {
    let mut batch: Vec<LiveFrame> = frames.pop_front().into_iter().collect();
    let lens = |frame: &LiveFrame| (u64::from(frame.entry.stored_len), u64::from(frame.entry.raw_len));
    let (mut stored, mut raw) = batch.first().map_or((0, 0), lens);
    while let (Some(last), Some(next)) = (batch.last(), frames.front()) {
        let touching = (last.set, last.piece) == (next.set, next.piece)
            && last.entry.offset + u64::from(last.entry.stored_len) == next.entry.offset;
        (stored, raw) = (stored + lens(next).0, raw + lens(next).1);
        if !touching || stored > STORED || raw > RAW {
            break;
        }
        batch.extend(frames.pop_front());
    }
    batch
}
