//! What a busy database does, one random step at a time.

use setpiece_core::Result;
use setpiece_core::model::{FileEntry, FileKind, Lsn, Tablespace, TablespaceId, TablespaceKind};

use crate::ddl::{TEMP, describe};
use crate::disk;
use crate::engine::{Change, Engine, TEMP_FILE};
use crate::page::{self, FileKey};

/// The undo file: almost every transaction writes to it.
const UNDO: u64 = 2;
/// The most user files and tablespaces at a time.
const MAX_FILES: usize = 14;
const MAX_SPACES: usize = 8;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A transaction, by its LSN.
    Committed(Lsn),
    /// Redo or pages went to disk.
    Flushed,
    /// A checkpoint.
    Checkpoint,
    /// A file or tablespace was made, dropped or resized.
    Ddl,
    /// The temporary tablespace was written to.
    Temp,
    /// Nothing, for want of something to do it to.
    Idle,
}

impl Engine {
    /// Does one random thing.
    pub(crate) fn random_step(&mut self) -> Result<Step> {
        self.need_running()?;
        let node = self.rng.index(self.nodes());
        let ddl = if self.config.ddl { 0 } else { 60 };
        match self.rng.below(1000 - ddl) {
            0..500 => self.random_transaction(node),
            500..600 => self.random_plain_write(node),
            600..680 => self.flush_log(node).map(|()| Step::Flushed),
            680..700 => self.half_flush(node).map(|()| Step::Flushed),
            700..870 => self.flush_random_pages(),
            870..890 => self.checkpoint_partial(300).map(|()| Step::Checkpoint),
            890..895 => self.checkpoint_full(false).map(|()| Step::Checkpoint),
            895..910 => self.flush_logs(true).map(|()| Step::Flushed),
            910..930 => self.evict(),
            930..940 => self.write_temp(),
            _ => self.random_ddl(node),
        }
    }

    fn evict(&mut self) -> Result<Step> {
        self.cache.evict();
        Ok(Step::Idle)
    }

    /// Closes a package and perhaps writes it: FLUSH_LSN runs ahead of FILE_LSN.
    fn half_flush(&mut self, node: usize) -> Result<()> {
        self.logs[node].close(self.cur, self.config.parallel_log, false, &mut self.rng);
        if self.rng.chance(300) { self.logs[node].write_one() } else { Ok(()) }
    }

    fn flush_random_pages(&mut self) -> Result<Step> {
        for _ in 0..1 + self.rng.below(6) {
            let dirty = self.cache.dirty();
            if let Some(at) = self.rng.pick(&dirty).copied() {
                self.flush_page(at)?;
            }
        }
        Ok(Step::Flushed)
    }

    fn random_file(&mut self, kind: FileKind) -> Option<FileEntry> {
        let files: Vec<&FileEntry> = self.control.table.files.values().filter(|entry| entry.kind == kind).collect();
        self.rng.pick(&files).map(|entry| (*entry).clone())
    }

    /// Several pages at once: some of a random file, one of the undo file.
    fn random_transaction(&mut self, node: usize) -> Result<Step> {
        let Some(entry) = self.random_file(FileKind::Paged) else { return Ok(Step::Idle) };
        let key = FileKey::of(&entry);
        let page0 = self.page((key, 0))?.to_vec();
        let mut changes = Vec::new();
        if page::is_zero(&page0) {
            changes.push(describe(key));
        } else {
            let mut used = vec![0];
            for _ in 0..1 + self.rng.below(3) {
                let page = self.rng.below(entry.pages().min(page::map_capacity(entry.page_size)));
                if !used.contains(&page) {
                    used.push(page);
                    let change = self.change_of(key, page, page::is_allocated(&page0, page))?;
                    changes.extend(change);
                }
            }
            // All changes of the map go into one patch of page 0, as they may share a byte.
            changes.extend(self.map_patch(key, &page0, &used));
        }
        if key.id.0 != UNDO {
            changes.extend(self.undo_record()?);
        }
        if changes.is_empty() { Ok(Step::Idle) } else { self.commit(node, changes).map(Step::Committed) }
    }

    /// What happens to a page: one in use is patched or rewritten, one that is free is formatted or allocated as zeros.
    fn change_of(&mut self, file: FileKey, page: u64, in_use: bool) -> Result<Option<Change>> {
        let zero = page::is_zero(self.page((file, page))?);
        let room = self.control.page_size as usize - page::HEADER;
        let draw = self.rng.below(100);
        Ok(Some(match (in_use, zero) {
            (true, false) if draw < 80 => {
                let len = 1 + self.rng.index(40.min(room));
                let offset = page::HEADER + self.rng.index(room - len + 1);
                Change::Patch { file, page, offset, bytes: self.rng.bytes(len) }
            }
            (true, false) if draw < 88 => return Ok(None),
            (false, _) if draw < 15 => Change::Zero { file, page },
            _ => Change::Format { file, page, body: self.rng.bytes(room) },
        }))
    }

    /// Page 0 with a bit turned for each page that was free, and for some of those that were in use.
    fn map_patch(&mut self, file: FileKey, page0: &[u8], touched: &[u64]) -> Option<Change> {
        let mut map = page0.to_vec();
        for &page in touched.iter().filter(|page| **page > 0) {
            let (byte, mask) = page::map_bit(page);
            if page::is_allocated(page0, page) && self.rng.chance(150) {
                map[byte] &= !mask;
            } else {
                map[byte] |= mask;
            }
        }
        let first = map.iter().zip(page0).position(|(new, old)| new != old)?;
        let last = map.iter().zip(page0).rposition(|(new, old)| new != old)?;
        Some(Change::Patch { file, page: 0, offset: first, bytes: map[first..=last].to_vec() })
    }

    /// A few bytes in the undo file.
    fn undo_record(&mut self) -> Result<Option<Change>> {
        let Some(entry) = self.control.table.files.values().find(|entry| entry.id.0 == UNDO) else { return Ok(None) };
        let key = FileKey::of(entry);
        let pages = entry.pages();
        let page0 = self.page((key, 0))?.to_vec();
        let page = 1 + self.rng.below(pages.saturating_sub(1));
        if page >= pages || !page::is_allocated(&page0, page) || page::is_zero(self.page((key, page))?) {
            return Ok(None);
        }
        let bytes = self.rng.bytes(16);
        Ok(Some(Change::Patch { file: key, page, offset: page::HEADER + 8, bytes }))
    }

    fn random_plain_write(&mut self, node: usize) -> Result<Step> {
        let Some(entry) = self.random_file(FileKind::Plain).filter(|entry| entry.len > 0) else {
            return Ok(Step::Idle);
        };
        let block = self.rng.below(entry.pages());
        let room = (entry.len - entry.offset(block)).min(u64::from(entry.page_size)) as usize;
        let len = 1 + self.rng.index(room);
        let offset = self.rng.index(room - len + 1);
        let bytes = if self.rng.chance(100) { vec![0; len] } else { self.rng.bytes(len) };
        let write = Change::Write { file: FileKey::of(&entry), block, offset, bytes };
        self.commit(node, vec![write]).map(Step::Committed)
    }

    /// Temporary pages are written without redo.
    fn write_temp(&mut self) -> Result<Step> {
        let page = self.rng.below(self.config.initial_pages);
        let bytes = self.rng.bytes(self.control.page_size as usize);
        disk::write_at(&self.dir.join(TEMP_FILE), page * bytes.len() as u64, &bytes)?;
        Ok(Step::Temp)
    }

    fn random_ddl(&mut self, node: usize) -> Result<Step> {
        match self.rng.below(100) {
            0..30 => self.random_create(node)?,
            30..50 => self.random_drop(node)?,
            50..92 => self.random_resize(node)?,
            92..97 => self.random_space(node)?,
            _ => self.random_drop_space(node)?,
        }
        Ok(Step::Ddl)
    }

    /// A file in any tablespace but the temporary one, at a path that may have been used before.
    fn random_create(&mut self, node: usize) -> Result<()> {
        let spaces: Vec<Tablespace> =
            self.control.table.spaces.values().filter(|space| space.id != TEMP).cloned().collect();
        let Some(space) = self.rng.pick(&spaces) else { return Ok(()) };
        let kind = if self.rng.chance(250) { FileKind::Plain } else { FileKind::Paged };
        let number = self.rng.below(4);
        let (path, len) = match kind {
            FileKind::Paged => (format!("{}/F{number}.DBF", space.name), self.random_pages()),
            FileKind::Plain => (format!("H{}/H{number}.DTA", space.name), self.rng.below(8000)),
        };
        let taken = self.control.table.files.values().any(|entry| entry.path.as_str() == path);
        if !taken && self.control.table.files.len() < MAX_FILES {
            self.add_file(node, space.id, &path, kind, len)?;
        }
        Ok(())
    }

    fn random_pages(&mut self) -> u64 {
        (1 + self.rng.below(self.config.initial_pages * 2)) * u64::from(self.control.page_size)
    }

    fn random_drop(&mut self, node: usize) -> Result<()> {
        let user: Vec<FileKey> =
            self.control.table.files.values().filter(|entry| entry.id.0 >= 10).map(FileKey::of).collect();
        match self.rng.pick(&user).copied() {
            Some(key) => self.drop_file(node, key),
            None => Ok(()),
        }
    }

    fn random_resize(&mut self, node: usize) -> Result<()> {
        let kind = if self.rng.chance(400) { FileKind::Plain } else { FileKind::Paged };
        let Some(entry) = self.random_file(kind) else { return Ok(()) };
        let to = match kind {
            FileKind::Paged => self.random_pages(),
            FileKind::Plain => self.rng.below(10_000),
        };
        self.resize(node, FileKey::of(&entry), to)
    }

    fn random_space(&mut self, node: usize) -> Result<()> {
        if self.control.table.spaces.len() >= MAX_SPACES {
            return Ok(());
        }
        // Not derived from the tablespaces there are: a number is never given again on a branch.
        let id = TablespaceId(self.cur.0 as u32 + 100);
        let name = format!("USER{}", id.0);
        self.add_space(node, Tablespace { id, name, kind: TablespaceKind::Data, location: None })
    }

    fn random_drop_space(&mut self, node: usize) -> Result<()> {
        let user: Vec<TablespaceId> = self.control.table.spaces.keys().copied().filter(|id| id.0 >= 100).collect();
        match self.rng.pick(&user).copied() {
            Some(id) => self.drop_space(node, id),
            None => Ok(()),
        }
    }
}
