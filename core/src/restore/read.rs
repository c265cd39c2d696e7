//! Reading the frames of a plan and writing their live pages: every frame once, every page once, channels in parallel.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::batch::{Batch, Batches, Destination, Work};
use super::places::Places;
use super::plan::RestorePlan;
use super::request::RestoreRequest;
use super::target::Workplace;
use crate::catalog::Surroundings;
use crate::catalog::index::LiveFrame;
use crate::catalog::pieces;
use crate::error::{Error, Result};
use crate::events::{Event, Observer};
use crate::format::{PagesTable, RunKind};
use crate::media::repository::{Repository, read_full};
use crate::model::{FileEntry, PageRun};
use crate::pipeline::run::{Stop, workers};
use crate::pipeline::write_back::WriteBack;
use crate::source::WrittenFile;
use crate::transform::{PieceReader, Workbench};

/// Restores every page of the plan into the workplace; says which files there are, with checksums if they are wanted, and
/// how many bytes of them were there already.
pub(super) fn pages(
    repository: &Repository,
    plan: &RestorePlan,
    request: &RestoreRequest,
    (workplace, sums): (&Workplace, bool),
    around: Surroundings<'_>,
) -> Result<(Vec<WrittenFile>, u64)> {
    let stop = Stop::new(around.cancel);
    let batches = Batches::new(repository, plan, (workplace, sums), Places { map: &request.map });
    let write_back = WriteBack::start()?;
    let done = workers("restore", usize::from(request.channels), &stop, |_| {
        let mut channel = Channel::new(repository, plan, around.observer, &write_back);
        while let Some(batch) = if stop.is_set() { None } else { batches.next()? } {
            channel.batch(batch)?;
        }
        Ok(())
    });
    done.and(write_back.finish())?;
    Ok(batches.written())
}

struct Channel<'a> {
    repository: &'a Repository,
    plan: &'a RestorePlan,
    observer: &'a dyn Observer,
    write_back: &'a WriteBack,
    /// One for each piece that was met; they own the ciphers.
    readers: BTreeMap<(usize, usize), PieceReader>,
    /// Used by whichever reader is at work.
    workbench: Workbench,
    stored: Vec<u8>,
    raw: Vec<u8>,
    /// What a file held before.
    held: RefCell<Vec<u8>>,
    /// Bytes written and not yet told to the observer.
    written: Cell<u64>,
}

/// Readers that a channel keeps. Each has a header and a cipher.
const MAX_READERS: usize = 1024;

impl<'a> Channel<'a> {
    fn new(
        repository: &'a Repository,
        plan: &'a RestorePlan,
        observer: &'a dyn Observer,
        write_back: &'a WriteBack,
    ) -> Self {
        let (readers, workbench, stored, raw, held, written) = Default::default();
        Channel { repository, plan, observer, write_back, readers, workbench, stored, raw, held, written }
    }

    fn batch(&mut self, Batch { to, work }: Batch) -> Result<()> {
        match work {
            Work::Scattered(frames, ticket) => {
                let mut each = frames.iter().map(std::slice::from_ref);
                each.try_for_each(|frame| self.frames(&to, frame, Channel::hand_in))?;
                drop(ticket);
            }
            Work::Dense(frames, run) => {
                self.frames(&to, &frames, Channel::write)?;
                let mut alone = to.gather.take_joined(run).into_iter();
                alone.try_for_each(|(first, bytes)| self.put(&to, first, &bytes))?;
            }
            Work::Zeros(pages) => to.target.clear(&pages, self.held.get_mut(), self.write_back)?,
        }
        self.report();
        Ok(())
    }

    /// Reads neighbouring frames of one piece and does `step` with each; the pages are in `self.raw`.
    fn frames(
        &mut self,
        to: &Destination,
        frames: &[LiveFrame],
        step: impl Fn(&mut Self, &Destination, &LiveFrame, &PagesTable) -> Result<()>,
    ) -> Result<()> {
        let Some(first) = frames.first() else { return Ok(()) };
        let key = (first.set, first.piece);
        self.prepare(key)?;
        let piece = &self.plan.index.sets()[first.set].pieces[first.piece];
        let mut object = self.repository.medium().open(&piece.name, first.entry.offset)?;
        for frame in frames {
            self.stored.resize(frame.entry.stored_len as usize, 0);
            read_full(&mut *object, &mut self.stored, &piece.name, frame.entry.offset)?;
            let Some(reader) = self.readers.get_mut(&key) else { continue };
            reader.exchange_workbench(&mut self.workbench);
            let table = reader.pages(&frame.entry, &self.stored, &mut self.raw);
            reader.exchange_workbench(&mut self.workbench);
            let table = table.map_err(|error| error.on(format!("{} at offset {}", piece.name, frame.entry.offset)))?;
            step(self, to, frame, &table)?;
            self.report();
        }
        Ok(())
    }

    fn prepare(&mut self, key: (usize, usize)) -> Result<()> {
        if self.readers.contains_key(&key) {
            return Ok(());
        }
        if self.readers.len() >= MAX_READERS {
            self.readers.pop_first();
        }
        let set = &self.plan.index.sets()[key.0];
        let medium = &**self.repository.medium();
        let info = &set.pieces[key.1].info;
        let reader = pieces::reader(medium, set.meta.summary.id, info, set.key.as_ref())?;
        self.readers.insert(key, reader);
        Ok(())
    }

    /// Lets the live pages of a scattered frame wait for the frames around them, or writes what there is no room for.
    fn hand_in(&mut self, to: &Destination, frame: &LiveFrame, table: &PagesTable) -> Result<()> {
        let entry = &to.target.entry;
        let mut live = Vec::new();
        for (run, from) in placed(table) {
            for pages in frame.pages.within(run).runs() {
                live.push((pages.first.0, self.raw_pages(entry, run, from, *pages)?));
            }
        }
        let refused = to.gather.keep(live.into_iter());
        refused.into_iter().try_for_each(|(first, bytes)| self.put(to, first, bytes))
    }

    /// Writes the live pages of a dense frame, together with those that wait for it.
    fn write(&mut self, to: &Destination, frame: &LiveFrame, table: &PagesTable) -> Result<()> {
        let entry = &to.target.entry;
        to.gather.wait(to.number);
        for (run, from) in placed(table) {
            let mut pages = frame.pages.within(run);
            let at = usize::try_from(from).unwrap_or(usize::MAX).min(self.raw.len());
            pages.union(&to.gather.fill(run, &mut self.raw[at..]));
            for whole in pages.runs() {
                self.put(to, whole.first.0, self.raw_pages(entry, run, from, *whole)?)?;
            }
        }
        Ok(())
    }

    /// The bytes of `pages`, which lie in `run`, which begins at byte `from` of `self.raw`.
    fn raw_pages(&self, entry: &FileEntry, run: PageRun, from: u64, pages: PageRun) -> Result<&[u8]> {
        let page_size = u64::from(entry.page_size);
        let from = from + (pages.first.0 - run.first.0) * page_size;
        let len = (pages.count * page_size).min(entry.len - entry.offset(pages.first.0));
        let range = usize::try_from(from).ok().zip(usize::try_from(from + len).ok());
        range.and_then(|(from, to)| self.raw.get(from..to)).ok_or_else(|| {
            Error::damaged(format!("{} page {}", entry.path, pages.first), "the frame holds less than its table says")
        })
    }

    fn put(&self, to: &Destination, first: u64, bytes: &[u8]) -> Result<()> {
        let mut held = self.held.borrow_mut();
        to.target.write(bytes, to.target.entry.offset(first), &mut held, self.write_back)?;
        self.written.set(self.written.get() + bytes.len() as u64);
        Ok(())
    }

    fn report(&self) {
        match self.written.take() {
            0 => (),
            bytes => self.observer.event(&Event::Progress { bytes }),
        }
    }
}

/// The runs of a frame that have bytes, each with the place of its bytes.
fn placed(table: &PagesTable) -> impl Iterator<Item = (PageRun, u64)> + '_ {
    let data = table.runs.iter().filter(|run| run.kind == RunKind::Data);
    data.scan(0, |next, stored| {
        let from = *next;
        *next += stored.run.count * u64::from(table.page_size);
        Some((stored.run, from))
    })
}
