//! Reading the frames of a plan and writing their live pages: every frame once, every page once, channels in parallel.

use std::collections::BTreeMap;

use super::batch::{Batch, Batches};
use super::plan::RestorePlan;
use super::request::RestoreRequest;
use super::target::{Places, Workplace};
use crate::catalog::Surroundings;
use crate::catalog::index::LiveFrame;
use crate::catalog::pieces;
use crate::error::{Error, Result};
use crate::events::{Event, Observer};
use crate::format::{PagesTable, RunKind};
use crate::media::repository::{Repository, read_full};
use crate::pipeline::run::{Stop, workers};
use crate::pipeline::write_back::WriteBack;
use crate::transform::PieceReader;

/// Restores every page of the plan into the workplace.
pub(super) fn pages(
    repository: &Repository,
    plan: &RestorePlan,
    request: &RestoreRequest,
    workplace: &Workplace,
    around: Surroundings<'_>,
) -> Result<()> {
    let stop = Stop::new(around.cancel);
    let batches = Batches::new(repository, plan, workplace, Places { map: &request.map });
    let write_back = WriteBack::start()?;
    let done = workers("restore", usize::from(request.channels), &stop, |_| {
        let mut channel = Channel::new(repository, plan, around.observer, &write_back);
        while let Some(batch) = if stop.is_set() { None } else { batches.next()? } {
            channel.batch(&batch)?;
        }
        Ok(())
    });
    done.and(write_back.finish())
}

struct Channel<'a> {
    repository: &'a Repository,
    plan: &'a RestorePlan,
    observer: &'a dyn Observer,
    write_back: &'a WriteBack,
    /// One for each piece that was met; they own the ciphers.
    readers: BTreeMap<(usize, usize), PieceReader>,
    stored: Vec<u8>,
    raw: Vec<u8>,
}

/// Readers that a channel keeps. Each has a decompression context of its own.
const MAX_READERS: usize = 32;

impl<'a> Channel<'a> {
    fn new(
        repository: &'a Repository,
        plan: &'a RestorePlan,
        observer: &'a dyn Observer,
        write_back: &'a WriteBack,
    ) -> Self {
        let (readers, stored, raw) = Default::default();
        Channel { repository, plan, observer, write_back, readers, stored, raw }
    }

    fn batch(&mut self, batch: &Batch) -> Result<()> {
        let Some(first) = batch.frames.first() else { return Ok(()) };
        let key = (first.set, first.piece);
        self.prepare(key)?;
        let piece = &self.plan.index.sets()[first.set].pieces[first.piece];
        let mut object = self.repository.medium().open(&piece.name, first.entry.offset)?;
        for frame in &batch.frames {
            self.stored.resize(frame.entry.stored_len as usize, 0);
            read_full(&mut *object, &mut self.stored, &piece.name, frame.entry.offset)?;
            let Some(reader) = self.readers.get_mut(&key) else { continue };
            let table = reader
                .pages(&frame.entry, &self.stored, &mut self.raw)
                .map_err(|error| error.on(format!("{} at offset {}", piece.name, frame.entry.offset)))?;
            self.write(batch, frame, &table)?;
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

    /// Writes the live pages of the frame in `self.raw`.
    fn write(&mut self, batch: &Batch, frame: &LiveFrame, table: &PagesTable) -> Result<()> {
        let entry = &batch.target.entry;
        let page_size = u64::from(table.page_size);
        let mut at = 0;
        let mut written = 0;
        for run in table.runs.iter().filter(|run| run.kind == RunKind::Data) {
            for live in frame.pages.within(run.run).runs() {
                let from = at + (live.first.0 - run.run.first.0) * page_size;
                let len = (live.count * page_size).min(entry.len - entry.offset(live.first.0));
                let bytes = usize::try_from(from).ok().zip(usize::try_from(from + len).ok());
                let bytes = bytes.and_then(|(from, to)| self.raw.get(from..to)).ok_or_else(|| {
                    Error::damaged(
                        format!("{} page {}", entry.path, live.first),
                        "the frame holds less than its table says",
                    )
                })?;
                batch.target.write(bytes, entry.offset(live.first.0), self.write_back)?;
                written += len;
            }
            at += run.run.count * page_size;
        }
        self.observer.event(&Event::Progress { bytes: written });
        Ok(())
    }
}
