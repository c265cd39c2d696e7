//! The engine: physical transactions over a buffer cache, redo before pages, checkpoints, crash and restart.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use setpiece_core::model::{BranchHistory, FileEntry, FileKind, Lsn, NodeId, Timestamp};
use setpiece_core::{Error, ErrorKind, Result};

use crate::buffer::{Cache, Place};
use crate::config::{ChangeMapMode, Clock, Config};
use crate::control::{CONTROL, Control, LogStart, Table};
use crate::disk;
use crate::log::NodeLog;
use crate::oracle::{Effect, Oracle};
use crate::page::{self, FileKey};
use crate::redo::{Op, Package, Ptx};
use crate::replay::Replayer;
use crate::rng::Rng;

/// The file of the temporary tablespace, which no log and no backup knows of.
pub(crate) const TEMP_FILE: &str = "TEMP.DBF";
/// How many old images of pages are kept for torn reads.
const RECENT: usize = 64;

/// Whether the engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Transactions are possible.
    Running,
    /// Closed by a full checkpoint.
    Closed,
    /// Died; a restart needs redo.
    Crashed,
}

/// What a transaction is to change.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Some bytes of a page that has been formatted.
    Patch { file: FileKey, page: u64, offset: usize, bytes: Vec<u8> },
    /// A whole page: what follows the header.
    Format { file: FileKey, page: u64, body: Vec<u8> },
    /// A page becomes zeros.
    Zero { file: FileKey, page: u64 },
    /// Bytes of a block of a plain file.
    Write { file: FileKey, block: u64, offset: usize, bytes: Vec<u8> },
}

impl Change {
    fn place(&self) -> Place {
        match self {
            Change::Patch { file, page, .. } | Change::Format { file, page, .. } | Change::Zero { file, page } => {
                (*file, *page)
            }
            Change::Write { file, block, .. } => (*file, *block),
        }
    }
}

/// All of the engine, to be used under one lock.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) dir: PathBuf,
    pub(crate) log_dir: PathBuf,
    pub(crate) rng: Rng,
    pub(crate) oracle: Oracle,
    pub(crate) state: State,
    pub(crate) control: Control,
    pub(crate) logs: Vec<NodeLog>,
    pub(crate) cache: Cache,
    /// CUR_LSN: the last that was given.
    pub(crate) cur: Lsn,
    /// Counts lives: what was begun in another one is over.
    pub(crate) epoch: u64,
    /// Random steps before each read of a backup.
    pub(crate) activity: u32,
    /// Redo from here on is kept for running backups.
    pub(crate) pins: BTreeMap<u64, Lsn>,
    /// Redo up to here was captured durably.
    pub(crate) captured: Lsn,
    /// What pages were on disk before they were written last; a torn read mixes both.
    pub(crate) recent: VecDeque<(Place, Vec<u8>)>,
}

impl Engine {
    /// Makes a database in `dir`.
    pub(crate) fn create(config: Config, seed: u64, dir: &Path) -> Result<Self> {
        disk::create(&dir.join(CONTROL), 0)?;
        let control = Control {
            source: config.source,
            nodes: config.nodes.clamp(1, 3),
            page_size: config.page_size,
            block: config.block,
            branch: BranchHistory::first(config.branch),
            clean: true,
            ckpt: Lsn(0),
            cur: Lsn(0),
            time: Timestamp(i64::MIN),
            starts: vec![LogStart::default(); config.nodes.clamp(1, 3) as usize],
            table: Table::default(),
            seq_anew: config.seq_anew,
        };
        control.save(dir)?;
        let mut engine = Engine::open(config, seed, dir, Oracle::default())?;
        engine.bootstrap()?;
        Ok(engine)
    }

    /// Opens a database that was closed, crashed or recovered.
    pub(crate) fn open(config: Config, seed: u64, dir: &Path, oracle: Oracle) -> Result<Self> {
        let log_dir = config.log_dir.clone().unwrap_or_else(|| beside(dir));
        let control = Control::load(dir)?;
        oracle.know(&control.branch);
        let mut engine = Engine {
            config,
            dir: dir.to_path_buf(),
            log_dir,
            rng: Rng::new(seed),
            oracle,
            state: State::Crashed,
            control,
            logs: Vec::new(),
            cache: Cache::default(),
            cur: Lsn(0),
            epoch: 0,
            activity: 0,
            pins: BTreeMap::new(),
            captured: Lsn(0),
            recent: VecDeque::new(),
        };
        engine.look_at_disk()?;
        engine.restart()?;
        Ok(engine)
    }

    /// Takes what the disk says for true, as whoever finds the files of a dead engine must.
    fn look_at_disk(&mut self) -> Result<()> {
        self.control = Control::load(&self.dir)?;
        let tell = self.config.change_map == ChangeMapMode::Complete;
        let mut logs = Vec::new();
        for (node, start) in self.control.starts.iter().enumerate() {
            logs.push(NodeLog::open(&self.log_dir, NodeId(node as u32), self.control.branch.current, *start, tell)?);
        }
        self.logs = logs;
        let on_disk = self.logs.iter().map(NodeLog::file_lsn).max().unwrap_or_default();
        self.cur = self.control.cur.max(on_disk);
        Ok(())
    }

    /// Starts the engine: after a crash redo is applied first.
    pub(crate) fn restart(&mut self) -> Result<()> {
        if self.state == State::Running {
            return Ok(());
        }
        if !self.control.clean {
            self.redo_after_crash()?;
        }
        self.control.clean = false;
        self.control.cur = self.cur;
        self.control.save(&self.dir)?;
        let size = self.config.initial_pages * u64::from(self.control.page_size);
        disk::create(&self.dir.join(TEMP_FILE), size)?;
        self.state = State::Running;
        Ok(())
    }

    /// Applies (CKPT_LSN, FILE_LSN] of all nodes in the order of LSNs.
    fn redo_after_crash(&mut self) -> Result<()> {
        let mut all = Vec::new();
        for log in &self.logs {
            let seqs: Vec<_> = log.units(self.control.ckpt).map(|unit| unit.seq).collect();
            for seq in seqs {
                all.extend(Package::decode(&log.read(seq)?)?.0.transactions);
            }
        }
        all.sort_by_key(|ptx| ptx.lsn);
        let mut replayer = Replayer::new(&self.dir, self.control.table.clone(), None);
        for ptx in all.iter().filter(|ptx| ptx.lsn > self.control.ckpt) {
            replayer.apply(ptx)?;
            self.control.time = self.control.time.max(ptx.time);
        }
        self.control.table = replayer.finish()?;
        self.control.ckpt = self.cur;
        Ok(())
    }

    /// The machine stops: what is only in memory is lost.
    pub(crate) fn crash(&mut self) -> Result<()> {
        if self.state != State::Running {
            return Ok(());
        }
        let branch = self.control.branch.current;
        for log in &mut self.logs {
            let lost = log.crash(&mut self.rng)?;
            self.oracle.forget(branch, &lost);
        }
        self.leave(State::Crashed);
        self.look_at_disk()
    }

    /// Closes the database cleanly.
    pub(crate) fn shutdown(&mut self) -> Result<()> {
        if self.state != State::Running {
            return Ok(());
        }
        self.checkpoint_full(false)?;
        self.control.clean = true;
        self.control.save(&self.dir)?;
        self.leave(State::Closed);
        Ok(())
    }

    fn leave(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
        self.pins.clear();
        self.cache.clear();
        self.recent.clear();
    }

    /// Fails unless the engine runs.
    pub(crate) fn need_running(&self) -> Result<()> {
        match self.state {
            State::Running => Ok(()),
            State::Closed | State::Crashed => {
                Err(Error::new(ErrorKind::Source, "the database is down").remedy("start it"))
            }
        }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.logs.len()
    }

    pub(crate) fn file(&self, key: FileKey) -> Result<&FileEntry> {
        let gone = || Error::new(ErrorKind::Source, "no such file").on(format!("file {} {}", key.id, key.generation));
        self.control.table.file(key).ok_or_else(gone)
    }

    /// Gives the next LSN and its moment.
    pub(crate) fn next_lsn(&mut self) -> (Lsn, Timestamp) {
        self.cur = Lsn(self.cur.0 + 1);
        let time = match self.config.clock {
            Clock::Logical { origin, tick } => {
                Timestamp(origin.0.saturating_add(tick.saturating_mul(self.cur.0 as i64)))
            }
            Clock::Wall => Timestamp::from(SystemTime::now()),
        };
        self.control.time = time.max(Timestamp(self.control.time.0.saturating_add(1)));
        (self.cur, self.control.time)
    }

    /// Brings a page or block into the cache.
    pub(crate) fn load(&mut self, at: Place) -> Result<()> {
        if self.cache.get(at).is_some() {
            return Ok(());
        }
        let entry = self.file(at.0)?;
        if at.1 >= entry.pages() {
            return Err(Error::new(ErrorKind::Internal, "place behind the end of the file").on(entry.path.as_str()));
        }
        let bytes = disk::read_at(&entry.path.below(&self.dir), entry.offset(at.1), entry.page_size as usize)?;
        if entry.kind == FileKind::Paged {
            use setpiece_core::source::PageState;
            if let wrong @ (PageState::Torn | PageState::Bad(_)) = page::inspect(entry, at.1, &bytes) {
                let place = format!("page {} of {}", at.1, entry.path);
                return Err(Error::new(ErrorKind::BadPage, format!("damaged on disk: {wrong:?}")).on(place));
            }
        }
        let nodes = self.nodes();
        self.cache.insert(at, bytes, nodes);
        Ok(())
    }

    /// The bytes of a page or block as transactions see them.
    pub(crate) fn page(&mut self, at: Place) -> Result<&[u8]> {
        self.load(at)?;
        let missing = || Error::new(ErrorKind::Internal, "page is not in the cache");
        Ok(&self.cache.get(at).ok_or_else(missing)?.bytes)
    }

    /// Commits a physical transaction on `node`.
    pub(crate) fn commit(&mut self, node: usize, changes: Vec<Change>) -> Result<Lsn> {
        self.need_running()?;
        for change in &changes {
            self.load(change.place())?;
            self.take_over(node, change.place())?;
        }
        let (lsn, time) = self.next_lsn();
        let (mut ops, mut effects) = (Vec::new(), Vec::new());
        for change in changes {
            ops.push(self.change(node, lsn, change, &mut effects)?);
        }
        self.logs[node].push(Ptx { lsn, time, ops });
        self.oracle.record(self.control.branch.current, lsn, time, effects);
        Ok(lsn)
    }

    /// Before a node changes a page that another has changed, that one's redo goes to disk. Otherwise a crash could
    /// lose a change and keep one that was built upon it.
    fn take_over(&mut self, node: usize, at: Place) -> Result<()> {
        let needs = self.cache.get(at).map(|frame| frame.needs.clone()).unwrap_or_default();
        for (other, lsn) in needs.into_iter().enumerate() {
            if other != node && lsn > self.logs[other].file_lsn() {
                self.flush_log(other)?;
            }
        }
        Ok(())
    }

    /// Changes a frame and says what redo and the oracle shall know of it.
    fn change(&mut self, node: usize, lsn: Lsn, change: Change, effects: &mut Vec<Effect>) -> Result<Op> {
        let (file, page) = change.place();
        let block = self.file(file)?.page_size;
        let missing = || Error::new(ErrorKind::Internal, "page is not in the cache");
        let frame = self.cache.get_mut((file, page)).ok_or_else(missing)?;
        frame.dirty_since.get_or_insert(lsn);
        frame.needs[node] = lsn;
        let op = match change {
            Change::Patch { offset, bytes, .. } => {
                let prev = page::lsn(&frame.bytes);
                frame.bytes[offset..offset + bytes.len()].copy_from_slice(&bytes);
                page::seal(&mut frame.bytes, file, page, lsn);
                Op::Patch { file, page, prev, offset: offset as u32, bytes }
            }
            Change::Format { body, .. } => {
                frame.bytes.fill(0);
                frame.bytes[page::HEADER..page::HEADER + body.len()].copy_from_slice(&body);
                page::seal(&mut frame.bytes, file, page, lsn);
                Op::Image { file, page, bytes: frame.bytes.clone() }
            }
            Change::Zero { .. } => {
                frame.bytes.fill(0);
                Op::Zero { file, page }
            }
            Change::Write { offset, bytes, .. } => {
                frame.bytes[offset..offset + bytes.len()].copy_from_slice(&bytes);
                Op::Write { file, offset: page * u64::from(block) + offset as u64, block, bytes }
            }
        };
        effects.push(Effect::Page { file, page, bytes: frame.bytes.as_slice().into() });
        Ok(op)
    }

    /// Writes the redo of one node.
    pub(crate) fn flush_log(&mut self, node: usize) -> Result<()> {
        self.logs[node].close(self.cur, self.config.parallel_log, false, &mut self.rng);
        self.logs[node].write_all()
    }

    /// Writes the redo of all nodes. With `vouch` also those with nothing to write say so, by an empty package.
    pub(crate) fn flush_logs(&mut self, vouch: bool) -> Result<()> {
        for log in &mut self.logs {
            log.close(self.cur, self.config.parallel_log, vouch, &mut self.rng);
            log.write_all()?;
        }
        Ok(())
    }

    /// Writes a page or block, its redo first.
    pub(crate) fn flush_page(&mut self, at: Place) -> Result<()> {
        let Some(needs) = self.cache.get(at).map(|frame| frame.needs.clone()) else { return Ok(()) };
        for (node, lsn) in needs.into_iter().enumerate() {
            if lsn > self.logs[node].file_lsn() {
                self.flush_log(node)?;
            }
        }
        let entry = self.file(at.0)?.clone();
        let path = entry.path.below(&self.dir);
        if self.config.torn_per_mille > 0 && entry.kind == FileKind::Paged {
            let old = disk::read_at(&path, entry.offset(at.1), entry.page_size as usize)?;
            self.recent.push_back((at, old));
            while self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
        if let Some(frame) = self.cache.get_mut(at) {
            let len = (entry.len - entry.offset(at.1)).min(u64::from(entry.page_size)) as usize;
            disk::write_at(&path, entry.offset(at.1), &frame.bytes[..len])?;
            frame.dirty_since = None;
        }
        Ok(())
    }

    /// Writes the `share` per mille of dirty pages that have been dirty for longest, and moves CKPT_LSN.
    pub(crate) fn checkpoint_partial(&mut self, share: u64) -> Result<()> {
        let dirty = self.cache.dirty();
        let count = (dirty.len() as u64 * share).div_ceil(1000) as usize;
        for at in dirty.into_iter().take(count) {
            self.flush_page(at)?;
        }
        // Without dirty pages no redo can be pending: a page is written after its redo, files are changed likewise.
        self.control.ckpt = self.cache.oldest_dirty().map_or(self.cur, |oldest| Lsn(oldest.0 - 1));
        self.control.cur = self.cur;
        self.control.save(&self.dir)?;
        if !self.config.archive {
            self.purge_logs(self.control.ckpt)?;
        }
        Ok(())
    }

    /// Writes all dirty pages. With `vouch` every node's log says that it is complete up to here.
    pub(crate) fn checkpoint_full(&mut self, vouch: bool) -> Result<()> {
        self.flush_logs(vouch)?;
        self.checkpoint_partial(1000)
    }

    /// Removes redo up to `upto` that neither a restart nor a running backup needs.
    pub(crate) fn purge_logs(&mut self, upto: Lsn) -> Result<()> {
        let pinned = self.pins.values().min().copied().unwrap_or(Lsn(u64::MAX));
        let upto = upto.min(self.control.ckpt).min(pinned);
        // The control file must know where the log begins before that becomes true.
        self.control.starts = self.logs.iter().map(|log| log.start_after_purge(upto)).collect();
        self.control.save(&self.dir)?;
        self.logs.iter_mut().try_for_each(|log| log.purge(upto))
    }

    /// Up to here the redo of all nodes is on disk.
    pub(crate) fn complete_lsn(&self) -> Lsn {
        self.logs.iter().map(NodeLog::file_lsn).min().unwrap_or_default()
    }
}

fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().map(std::ffi::OsStr::to_os_string).unwrap_or_default();
    name.push(".redo");
    dir.with_file_name(name)
}
