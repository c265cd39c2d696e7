//! Applying redo to the files of a directory, after a crash and in a recovery.
//!
//! The files may be fuzzy: each page is from some moment after the redo began, the table of files from another. Redo is
//! applied in the order of LSNs, and what it does to a page that is newer already is skipped. Redo may name what is
//! gone by the moment of the table: files that were dropped, pages that were cut off or given free. Such redo is set
//! aside, and more redo must explain it before the state counts as consistent. A page that lacks a change is found by
//! the LSN that its redo expects.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use setpiece_core::model::{FileEntry, FileKind, Lsn, TablespaceId};
use setpiece_core::source::PageState;
use setpiece_core::{Error, Result};

use crate::control::Table;
use crate::disk;
use crate::page::{self, FileKey};
use crate::redo::{Op, Ptx};

/// Redo applied step by step. Dropping it leaves the files as far as they are.
pub(crate) struct Replayer {
    dir: PathBuf,
    table: Table,
    /// Only files of these tablespaces are there.
    only: Option<BTreeSet<TablespaceId>>,
    /// Files that were dropped before the moment of the table, as far as redo has named them.
    gone: BTreeSet<FileKey>,
    /// Pages whose redo does not fit what is there, and the first redo that did not.
    unexplained: BTreeMap<(FileKey, u64), Lsn>,
    /// Pages that the transaction at hand has changed.
    touched: BTreeSet<(FileKey, u64)>,
}

impl Replayer {
    /// Replay in `dir`, which holds the files of `table`; those of `only` these tablespaces, if that is given.
    pub(crate) fn new(dir: &Path, table: Table, only: Option<BTreeSet<TablespaceId>>) -> Self {
        let (gone, touched) = (BTreeSet::new(), BTreeSet::new());
        Replayer { dir: dir.to_path_buf(), table, only, gone, unexplained: BTreeMap::new(), touched }
    }

    /// Applies a transaction; they must come in the order of their LSNs.
    pub(crate) fn apply(&mut self, ptx: &Ptx) -> Result<()> {
        self.touched.clear();
        for op in &ptx.ops {
            self.apply_op(ptx.lsn, op).map_err(|error| error.doing(format!("applying redo {}", ptx.lsn)))?;
        }
        Ok(())
    }

    fn apply_op(&mut self, lsn: Lsn, op: &Op) -> Result<()> {
        match op {
            Op::Patch { file, page, prev, offset, bytes } => self.patch(lsn, (*file, *page), *prev, *offset, bytes),
            Op::Image { file, page, bytes } => self.whole(lsn, (*file, *page), Some(bytes)),
            Op::Zero { file, page } => self.whole(lsn, (*file, *page), None),
            Op::Write { file, offset, bytes, .. } => self.write(lsn, *file, *offset, bytes),
            Op::Create(entry) => self.create(entry),
            Op::Drop(key) => self.drop_file(*key),
            Op::Resize { file, to, .. } => self.resize(lsn, *file, *to),
            Op::MakeSpace(space) => {
                self.table.spaces.insert(space.id, space.clone());
                Ok(())
            }
            Op::DropSpace(id) => {
                self.table.spaces.remove(id);
                Ok(())
            }
        }
    }

    /// The page as it is on disk, if redo applies to it; otherwise the redo is set aside.
    fn target(&mut self, lsn: Lsn, at: (FileKey, u64)) -> Result<Option<(FileEntry, Vec<u8>)>> {
        let entry = match self.table.file(at.0) {
            Some(entry) if at.1 < entry.pages() => entry.clone(),
            known => {
                // Redo of a tablespace that is not being recovered names files that are not in the table.
                if known.is_some() || self.only.is_none() {
                    self.unexplained.entry(at).or_insert(lsn);
                }
                return Ok(None);
            }
        };
        let path = entry.path.below(&self.dir);
        let bytes = disk::read_at(&path, entry.offset(at.1), entry.page_size as usize)?;
        Ok(Some((entry, bytes)))
    }

    fn store(&mut self, entry: &FileEntry, at: (FileKey, u64), bytes: &[u8]) -> Result<()> {
        self.unexplained.remove(&at);
        self.touched.insert(at);
        disk::write_at(&entry.path.below(&self.dir), entry.offset(at.1), bytes)
    }

    fn patch(&mut self, lsn: Lsn, at: (FileKey, u64), prev: Lsn, offset: u32, patch: &[u8]) -> Result<()> {
        let Some((entry, mut bytes)) = self.target(lsn, at)? else { return Ok(()) };
        if let wrong @ (PageState::Torn | PageState::Bad(_)) = page::inspect(&entry, at.1, &bytes) {
            return Err(Error::damaged(format!("page {} of {}", at.1, entry.path), format!("{wrong:?}")));
        }
        let have = page::lsn(&bytes);
        if have >= lsn && !self.touched.contains(&at) {
            return Ok(());
        }
        if have != prev || page::is_zero(&bytes) {
            self.unexplained.entry(at).or_insert(lsn);
            return Ok(());
        }
        let offset = offset as usize;
        let room = bytes.get_mut(offset..offset.saturating_add(patch.len()));
        room.ok_or_else(|| Error::damaged("redo", "a patch reaches beyond its page"))?.copy_from_slice(patch);
        page::seal(&mut bytes, at.0, at.1, lsn);
        self.store(&entry, at, &bytes)
    }

    /// A whole page, or zeros.
    fn whole(&mut self, lsn: Lsn, at: (FileKey, u64), image: Option<&[u8]>) -> Result<()> {
        let Some((entry, bytes)) = self.target(lsn, at)? else { return Ok(()) };
        let readable = !matches!(page::inspect(&entry, at.1, &bytes), PageState::Torn | PageState::Bad(_));
        if readable && page::lsn(&bytes) >= lsn && !self.touched.contains(&at) {
            return Ok(());
        }
        match image {
            Some(image) if image.len() != bytes.len() => {
                Err(Error::damaged("redo", "an image is not as long as a page"))
            }
            Some(image) => self.store(&entry, at, image),
            None => self.store(&entry, at, &vec![0; bytes.len()]),
        }
    }

    /// Plain files have no LSNs: all writes are done again, in order.
    fn write(&mut self, lsn: Lsn, file: FileKey, offset: u64, bytes: &[u8]) -> Result<()> {
        match self.table.file(file) {
            Some(entry) => disk::write_at(&entry.path.below(&self.dir), offset, bytes),
            None => {
                if self.only.is_none() {
                    self.unexplained.entry((file, 0)).or_insert(lsn);
                }
                Ok(())
            }
        }
    }

    fn create(&mut self, entry: &FileEntry) -> Result<()> {
        let key = FileKey::of(entry);
        if self.only.as_ref().is_some_and(|only| !only.contains(&entry.tablespace)) {
            return Ok(());
        }
        let known = self.table.files.get(&entry.id).map(|have| have.generation);
        if known == Some(entry.generation) {
            return Ok(());
        }
        // The number or the path belongs to another file by the moment of the table: this one was dropped before then.
        if known.is_some() || self.table.path_taken(&entry.path) {
            self.gone.insert(key);
            return Ok(());
        }
        disk::create(&entry.path.below(&self.dir), entry.len)?;
        self.table.add(entry.clone());
        Ok(())
    }

    fn drop_file(&mut self, key: FileKey) -> Result<()> {
        self.gone.remove(&key);
        self.unexplained.retain(|(file, _), _| *file != key);
        let Some(entry) = self.table.file(key).cloned() else { return Ok(()) };
        self.table.files.remove(&key.id);
        disk::remove(&entry.path.below(&self.dir))
    }

    fn resize(&mut self, lsn: Lsn, key: FileKey, to: u64) -> Result<()> {
        let Some(entry) = self.table.file(key).cloned() else {
            if self.only.is_none() {
                self.unexplained.entry((key, 0)).or_insert(lsn);
            }
            return Ok(());
        };
        let end = to.div_ceil(u64::from(entry.page_size));
        self.unexplained.retain(|(file, page), _| *file != key || *page < end);
        disk::set_len(&entry.path.below(&self.dir), to)?;
        if let Some(entry) = self.table.files.get_mut(&key.id) {
            entry.len = to;
        }
        Ok(())
    }

    /// Ends the replay at a state that must be consistent, and returns the table of files as it is there.
    ///
    /// # Errors
    /// [`setpiece_core::ErrorKind::Damaged`] when redo was set aside and nothing explained it.
    pub(crate) fn finish(self) -> Result<Table> {
        if let Some(key) = self.gone.first() {
            let object = format!("file {}, generation {}", key.id, key.generation);
            return Err(Error::damaged(object, "redo made it, but it is neither there nor dropped"));
        }
        for (&(key, number), lsn) in &self.unexplained {
            let Some(entry) = self.table.file(key) else {
                let object = format!("file {}, generation {}", key.id, key.generation);
                return Err(Error::damaged(object, format!("redo {lsn} needs it, but it is not there")));
            };
            if number >= entry.pages() || self.in_use(entry, number)? {
                let object = format!("page {number} of {}", entry.path);
                return Err(Error::damaged(object, format!("redo {lsn} does not fit it: a change before is missing")));
            }
        }
        for entry in self.table.files.values().filter(|entry| entry.kind == FileKind::Plain) {
            disk::set_len(&entry.path.below(&self.dir), entry.len)?;
        }
        Ok(self.table)
    }

    fn in_use(&self, entry: &FileEntry, number: u64) -> Result<bool> {
        let page0 = disk::read_at(&entry.path.below(&self.dir), 0, entry.page_size as usize)?;
        Ok(page::is_allocated(&page0, number))
    }
}
