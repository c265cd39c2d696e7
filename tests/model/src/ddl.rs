//! Files and tablespaces that come and go. Such a change is written through: all redo first, then the disk, then the
//! control file. So the table of files is never older on disk than in memory.

use setpiece_core::model::{
    FileEntry, FileId, FileKind, Lsn, RelPath, Tablespace, TablespaceId, TablespaceKind, Tracking,
};
use setpiece_core::{Error, ErrorKind, Result};

use crate::config::TrackingMode;
use crate::disk;
use crate::engine::{Change, Engine};
use crate::oracle::Effect;
use crate::page::{self, FileKey};
use crate::redo::{Op, Ptx};

/// The temporary tablespace.
pub(crate) const TEMP: TablespaceId = TablespaceId(3);
/// The first number for files that users make.
const FIRST_USER_FILE: u64 = 10;

impl Engine {
    /// The tablespaces and files that every database begins with.
    pub(crate) fn bootstrap(&mut self) -> Result<()> {
        let kinds = [
            ("SYSTEM", TablespaceKind::System),
            ("ROLL", TablespaceKind::Undo),
            ("MAIN", TablespaceKind::Data),
            ("TEMP", TablespaceKind::Temp),
        ];
        for (number, (name, kind)) in kinds.into_iter().enumerate() {
            let id = TablespaceId(number as u32);
            self.add_space(0, Tablespace { id, name: name.into(), kind, location: None })?;
        }
        let len = self.config.initial_pages * u64::from(self.control.page_size);
        for (number, path) in ["SYSTEM.DBF", "ROLL.DBF", "MAIN.DBF"].into_iter().enumerate() {
            self.add_file_as(0, FileId(number as u64 + 1), TablespaceId(number as u32), path, FileKind::Paged, len)?;
        }
        let odd = self.config.initial_pages * u64::from(self.control.block) / 2 + 77;
        self.add_file_as(0, FileId(4), TablespaceId(2), "HMAIN/H0001.DTA", FileKind::Plain, odd)?;
        Ok(())
    }

    /// Logs `op`, writes all redo, and then lets `op` happen on the disk.
    fn through(&mut self, node: usize, ops: Vec<Op>, effects: Vec<Effect>) -> Result<Lsn> {
        self.need_running()?;
        self.flush_logs(false)?;
        let (lsn, time) = self.next_lsn();
        self.logs[node].push(Ptx { lsn, time, ops });
        self.flush_log(node)?;
        self.oracle.record(self.control.branch.current, lsn, time, effects);
        self.control.cur = lsn;
        Ok(lsn)
    }

    fn save_table(&self) -> Result<()> {
        self.control.save(&self.dir)
    }

    /// Makes a tablespace.
    pub(crate) fn add_space(&mut self, node: usize, space: Tablespace) -> Result<()> {
        self.through(node, vec![Op::MakeSpace(space.clone())], vec![Effect::MakeSpace(space.clone())])?;
        self.control.table.spaces.insert(space.id, space);
        self.save_table()
    }

    /// Drops a tablespace and its files.
    pub(crate) fn drop_space(&mut self, node: usize, id: TablespaceId) -> Result<()> {
        let inside = self.control.table.files.values().filter(|entry| entry.tablespace == id);
        for key in inside.map(FileKey::of).collect::<Vec<_>>() {
            self.drop_file(node, key)?;
        }
        self.through(node, vec![Op::DropSpace(id)], vec![Effect::DropSpace(id)])?;
        self.control.table.spaces.remove(&id);
        self.save_table()
    }

    /// Makes a file of zeros, under a number that was perhaps used before. Page 0 of a paged file is formatted.
    pub(crate) fn add_file(
        &mut self,
        node: usize,
        space: TablespaceId,
        path: &str,
        kind: FileKind,
        len: u64,
    ) -> Result<FileKey> {
        let id = self.free_file_id();
        self.add_file_as(node, id, space, path, kind, len)
    }

    fn free_file_id(&mut self) -> FileId {
        let table = &self.control.table;
        let unused = |id: &u64| !table.files.contains_key(&FileId(*id));
        let never = table.generations.keys().map(|id| id.0 + 1).max().unwrap_or(0).max(FIRST_USER_FILE);
        let reused = (FIRST_USER_FILE..never).find(unused);
        let again = self.rng.chance(600);
        FileId(reused.filter(|_| again).unwrap_or(never))
    }

    fn add_file_as(
        &mut self,
        node: usize,
        id: FileId,
        tablespace: TablespaceId,
        path: &str,
        kind: FileKind,
        len: u64,
    ) -> Result<FileKey> {
        let wrong = |what: String| Error::new(ErrorKind::Usage, what).on(path);
        let rel = RelPath::new(path).map_err(|error| wrong(error.to_string()))?;
        if self.control.table.path_taken(&rel) {
            return Err(wrong("there is such a file already".into()));
        }
        let generation = self.control.table.generations.get(&id).copied().unwrap_or(0) + 1;
        let page_size = if kind == FileKind::Paged { self.control.page_size } else { self.control.block };
        let tracking = self.tracking(kind);
        let entry = FileEntry { id, generation, tablespace, path: rel, kind, page_size, len, tracking, mode: None };
        let key = FileKey::of(&entry);
        self.through(node, vec![Op::Create(entry.clone())], vec![Effect::Create(entry.clone())])?;
        disk::create(&entry.path.below(&self.dir), len)?;
        self.control.table.add(entry);
        self.save_table()?;
        if kind == FileKind::Paged {
            self.commit(node, vec![describe(key)])?;
            // The description page must not be lost alone: nothing can be allocated without it.
            self.flush_log(node)?;
        }
        Ok(key)
    }

    fn tracking(&mut self, kind: FileKind) -> Tracking {
        let drawn = [Tracking::PageLsn, Tracking::PageHash, Tracking::Always][self.rng.index(3)];
        let wanted = match self.config.tracking {
            TrackingMode::PageLsn => Tracking::PageLsn,
            TrackingMode::PageHash => Tracking::PageHash,
            TrackingMode::Always => Tracking::Always,
            TrackingMode::Mixed => drawn,
        };
        // A plain file has no LSNs.
        if kind == FileKind::Plain && wanted == Tracking::PageLsn { Tracking::PageHash } else { wanted }
    }

    /// Drops a file.
    pub(crate) fn drop_file(&mut self, node: usize, key: FileKey) -> Result<()> {
        let entry = self.file(key)?.clone();
        self.through(node, vec![Op::Drop(key)], vec![Effect::Drop(key)])?;
        self.cache.discard(key, 0);
        self.control.table.files.remove(&key.id);
        self.save_table()?;
        disk::remove(&entry.path.below(&self.dir))
    }

    /// Cuts a file or extends it by zeros. What is cut off is given free first.
    pub(crate) fn resize(&mut self, node: usize, key: FileKey, to: u64) -> Result<()> {
        let entry = self.file(key)?.clone();
        let page_size = entry.page_size;
        let from = entry.len;
        let end = to.div_ceil(u64::from(page_size));
        if entry.kind == FileKind::Paged && end < entry.pages() {
            self.free_from(node, key, end, entry.pages())?;
        }
        let op = Op::Resize { file: key, from, to, page_size };
        self.through(node, vec![op], vec![Effect::Resize { file: key, len: to }])?;
        self.cache.discard(key, end);
        if to < from
            && let Some(frame) = self.cache.get_mut((key, to / u64::from(page_size)))
        {
            frame.bytes[(to % u64::from(page_size)) as usize..].fill(0);
        }
        disk::set_len(&entry.path.below(&self.dir), to)?;
        if let Some(entry) = self.control.table.files.get_mut(&key.id) {
            entry.len = to;
        }
        self.save_table()
    }

    /// Takes the pages `first..end` out of the allocation map.
    fn free_from(&mut self, node: usize, key: FileKey, first: u64, end: u64) -> Result<()> {
        let page0 = self.page((key, 0))?.to_vec();
        if page::is_zero(&page0) || first >= page::map_capacity(self.control.page_size) {
            return Ok(());
        }
        let page_size = self.control.page_size;
        let (from, upto) = (page::map_bit(first).0, page::map_bit(end).0 + 1);
        let upto = upto.min(page0.len());
        let mut map = page0;
        for page in first.max(1)..end.min(page::map_capacity(page_size)) {
            let (byte, mask) = page::map_bit(page);
            map[byte] &= !mask;
        }
        let bytes = map[from..upto].to_vec();
        self.commit(node, vec![Change::Patch { file: key, page: 0, offset: from, bytes }])?;
        Ok(())
    }
}

/// Makes page 0 of a new file: an allocation map in which only page 0 itself is in use.
pub(crate) fn describe(file: FileKey) -> Change {
    Change::Format { file, page: 0, body: vec![1] }
}
