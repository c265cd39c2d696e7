//! The frames of a plan, handed out in batches of neighbours: section by section, in the order of the medium.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::plan::{RestorePlan, in_order, resolve};
use super::target::{Places, Workplace, write_at};
use crate::catalog::index::{LiveFrame, sections};
use crate::error::Result;
use crate::media::repository::Repository;
use crate::model::FileEntry;
use crate::pipeline::write_back::WriteBack;

/// Bytes of neighbouring frames that are read with one opening of a piece.
const STORED: u64 = 2 << 20;
/// Raw bytes of neighbouring frames in a batch: work is shared out evenly also where data compresses well.
const RAW: u64 = 8 << 20;
/// Bytes written to a file after which the system is asked to begin writing them back.
const WRITE_BACK: u64 = 32 << 20;

/// A file being written.
pub(super) struct Target {
    /// The file as the set has it.
    pub entry: FileEntry,
    file: Arc<File>,
    dirty: AtomicU64,
}

impl Target {
    /// Writes bytes at a place in the file.
    pub(super) fn write(&self, bytes: &[u8], offset: u64, write_back: &WriteBack) -> Result<()> {
        write_at(&self.file, bytes, offset, self.entry.path.as_str())?;
        let len = bytes.len() as u64;
        if self.dirty.fetch_add(len, Ordering::Relaxed) % WRITE_BACK + len >= WRITE_BACK {
            write_back.suggest(&self.file);
        }
        Ok(())
    }
}

/// Neighbouring frames of one piece, for one file.
pub(super) struct Batch {
    /// The file they go to.
    pub target: Arc<Target>,
    /// The frames, without gaps between them on the medium.
    pub frames: Vec<LiveFrame>,
}

/// Hands out batches to the channels and makes the files when their turn comes.
pub(super) struct Batches<'a> {
    repository: &'a Repository,
    plan: &'a RestorePlan,
    workplace: &'a Workplace,
    places: Places<'a>,
    cursor: Mutex<Cursor>,
}

#[derive(Default)]
struct Cursor {
    file: usize,
    section: u64,
    target: Option<Arc<Target>>,
    frames: VecDeque<LiveFrame>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        plan: &'a RestorePlan,
        workplace: &'a Workplace,
        places: Places<'a>,
    ) -> Self {
        Batches { repository, plan, workplace, places, cursor: Mutex::default() }
    }

    /// The next batch; `None` when every file is made and all frames are handed out.
    pub(super) fn next(&self) -> Result<Option<Batch>> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(entry) = self.plan.files.get(cursor.file) {
            let target = match &cursor.target {
                Some(target) => target.clone(),
                None => cursor.target.insert(self.make(entry)?).clone(),
            };
            if let Some(frames) = take_neighbours(&mut cursor.frames) {
                return Ok(Some(Batch { target, frames }));
            }
            if cursor.section < sections(entry) {
                let map = resolve(self.repository, &self.plan.index, entry, cursor.section)?;
                cursor.frames = in_order(map).into();
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
        let file = Arc::new(self.workplace.create(entry, tablespace, &self.places)?);
        Ok(Arc::new(Target { entry: entry.clone(), file, dirty: AtomicU64::new(0) }))
    }
}

fn take_neighbours(frames: &mut VecDeque<LiveFrame>) -> Option<Vec<LiveFrame>> {
    let first = frames.pop_front()?;
    let mut stored = u64::from(first.entry.stored_len);
    let mut raw = u64::from(first.entry.raw_len);
    let mut batch = vec![first];
    while let (Some(last), Some(next)) = (batch.last(), frames.front()) {
        let touching = (last.set, last.piece) == (next.set, next.piece)
            && last.entry.offset + u64::from(last.entry.stored_len) == next.entry.offset;
        stored += u64::from(next.entry.stored_len);
        raw += u64::from(next.entry.raw_len);
        if !touching || stored > STORED || raw > RAW {
            break;
        }
        batch.extend(frames.pop_front());
    }
    Some(batch)
}
