//! The oracle: what every page and file was at every LSN on every branch.
//!
//! It keeps whole images as they were after each transaction, and so shares nothing with redo: replay that goes wrong is
//! found out by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use setpiece_core::model::{
    BranchHistory, BranchId, FileEntry, FileKind, Lsn, RelPath, Tablespace, TablespaceId, Timestamp,
};

use crate::page::{self, FileKey};

/// What a transaction did to the logical content.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Page { file: FileKey, page: u64, bytes: Arc<[u8]> },
    Create(FileEntry),
    Drop(FileKey),
    Resize { file: FileKey, len: u64 },
    MakeSpace(Tablespace),
    DropSpace(TablespaceId),
}

#[derive(Debug)]
struct Moment {
    time: Timestamp,
    effects: Vec<Effect>,
}

#[derive(Debug, Default)]
struct Branch {
    parent: Option<(BranchId, Lsn)>,
    moments: BTreeMap<Lsn, Moment>,
}

/// The history of a database over all its branches. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Oracle(Arc<Mutex<BTreeMap<BranchId, Branch>>>);

/// The content of one file.
#[derive(Clone, Debug)]
pub struct FileContent {
    /// What is known of it, with its length at the time.
    pub entry: FileEntry,
    pages: BTreeMap<u64, Arc<[u8]>>,
}

impl FileContent {
    /// The bytes of a page; of the last page of a plain file only those before the end of the file.
    #[must_use]
    pub fn page(&self, page: u64) -> Vec<u8> {
        let size = self.entry.page_size as usize;
        let mut bytes = self.pages.get(&page).map_or_else(|| vec![0; size], |bytes| bytes.to_vec());
        let left = self.entry.len.saturating_sub(self.entry.offset(page));
        bytes.truncate(usize::try_from(left).unwrap_or(size));
        bytes
    }

    /// Whether the page is in use, so that its content matters.
    #[must_use]
    pub fn in_use(&self, page: u64) -> bool {
        self.entry.kind == FileKind::Plain || page::is_allocated(&self.page(0), page)
    }

    fn resize(&mut self, len: u64) {
        self.entry.len = len;
        let end = self.entry.pages();
        self.pages.retain(|page, _| *page < end);
        let size = u64::from(self.entry.page_size);
        if let Some(bytes) = self.pages.get_mut(&(len / size)) {
            let mut cut = bytes.to_vec();
            cut[(len % size) as usize..].fill(0);
            *bytes = cut.into();
        }
    }
}

/// Everything that a database holds and that a backup must bring back.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// The tablespaces, temporary ones too.
    pub spaces: BTreeMap<TablespaceId, Tablespace>,
    /// The stored files.
    pub files: BTreeMap<RelPath, FileContent>,
}

impl Content {
    fn file_mut(&mut self, key: FileKey) -> Option<&mut FileContent> {
        self.files.values_mut().find(|file| FileKey::of(&file.entry) == key)
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Page { file, page, bytes } => {
                if let Some(file) = self.file_mut(*file) {
                    file.pages.insert(*page, bytes.clone());
                }
            }
            Effect::Create(entry) => {
                let file = FileContent { entry: entry.clone(), pages: BTreeMap::new() };
                self.files.insert(entry.path.clone(), file);
            }
            Effect::Drop(key) => self.files.retain(|_, file| FileKey::of(&file.entry) != *key),
            Effect::Resize { file, len } => {
                if let Some(file) = self.file_mut(*file) {
                    file.resize(*len);
                }
            }
            Effect::MakeSpace(space) => {
                self.spaces.insert(space.id, space.clone());
            }
            Effect::DropSpace(id) => {
                self.spaces.remove(id);
            }
        }
    }
}

impl Oracle {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<BranchId, Branch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the branches of `history` known.
    pub(crate) fn know(&self, history: &BranchHistory) {
        let mut branches = self.lock();
        branches.entry(history.current).or_default();
        for point in &history.points {
            branches.entry(point.branch).or_default().parent = Some((point.parent, point.fork));
        }
    }

    /// Remembers a transaction.
    pub(crate) fn record(&self, branch: BranchId, lsn: Lsn, time: Timestamp, effects: Vec<Effect>) {
        self.lock().entry(branch).or_default().moments.insert(lsn, Moment { time, effects });
    }

    /// Forgets transactions whose redo was lost in a crash: they never happened.
    pub(crate) fn forget(&self, branch: BranchId, lost: &[Lsn]) {
        let mut branches = self.lock();
        let branch = branches.entry(branch).or_default();
        for lsn in lost {
            branch.moments.remove(lsn);
        }
    }

    /// The content of the database as of `lsn` on `branch`.
    #[must_use]
    pub fn at(&self, branch: BranchId, lsn: Lsn) -> Content {
        let branches = self.lock();
        let mut parts = Vec::new();
        let (mut branch, mut limit) = (branch, lsn);
        while let Some(known) = branches.get(&branch) {
            parts.push((known, limit));
            let Some((parent, fork)) = known.parent else { break };
            (branch, limit) = (parent, limit.min(fork));
        }
        let mut content = Content::default();
        for (known, limit) in parts.into_iter().rev() {
            for effect in known.moments.range(..=limit).flat_map(|(_, moment)| &moment.effects) {
                content.apply(effect);
            }
        }
        content
    }

    /// The last LSN on `branch` itself whose moment is not after `time`.
    #[must_use]
    pub fn lsn_at(&self, branch: BranchId, time: Timestamp) -> Option<Lsn> {
        let branches = self.lock();
        let moments = &branches.get(&branch)?.moments;
        moments.iter().rev().find(|(_, moment)| moment.time <= time).map(|(lsn, _)| *lsn)
    }

    /// The moment of the transaction at `lsn`, if there is one there.
    #[must_use]
    pub fn time_of(&self, branch: BranchId, lsn: Lsn) -> Option<Timestamp> {
        self.lock().get(&branch)?.moments.get(&lsn).map(|moment| moment.time)
    }

    /// The LSNs of all transactions made on `branch`, ascending.
    #[must_use]
    pub fn lsns(&self, branch: BranchId) -> Vec<Lsn> {
        self.lock().get(&branch).map(|known| known.moments.keys().copied().collect()).unwrap_or_default()
    }
}
