//! The handle with which tests drive an engine.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use setpiece_core::model::{
    BranchHistory, BranchId, FileKind, Lsn, NodeId, Seq, Tablespace, TablespaceKind, Timestamp,
};
use setpiece_core::{Error, ErrorKind, Result};

use crate::compare::Difference;
use crate::config::Config;
use crate::disk;
use crate::engine::{Engine, State};
use crate::oracle::Oracle;
use crate::page::FileKey;
use crate::source::ModelSource;
use crate::steps::Step;

/// The engine behind its lock.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<Engine>);

impl Shared {
    /// A panic in a test thread does not make the engine unusable for the others.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Engine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A model engine. Clones are the same engine; all methods may be called from several threads.
#[derive(Clone, Debug)]
pub struct Model(Arc<Shared>);

impl Model {
    /// Makes a database in `dir`, which is made if need be, and starts it. Redo goes beside it; see
    /// [`Config::log_dir`].
    ///
    /// # Errors
    /// When the files cannot be made.
    pub fn new(config: Config, seed: u64, dir: &Path) -> Result<Model> {
        Engine::create(config, seed, dir).map(Model::of)
    }

    /// Opens the database in `dir` that was closed, crashed, or restored and recovered. `oracle` is that of the engine
    /// whose history it goes on with. What the files were made with (page size, nodes) is read from them.
    ///
    /// # Errors
    /// When the directory holds no database that can be started.
    pub fn open(config: Config, seed: u64, dir: &Path, oracle: &Oracle) -> Result<Model> {
        Engine::open(config, seed, dir, oracle.clone()).map(Model::of)
    }

    fn of(engine: Engine) -> Model {
        Model(Arc::new(Shared(Mutex::new(engine))))
    }

    /// The engine as core sees it.
    #[must_use]
    pub fn source(&self) -> ModelSource {
        ModelSource(self.0.clone())
    }

    /// The oracle, shared by all engines that go on with this history.
    #[must_use]
    pub fn oracle(&self) -> Oracle {
        self.0.lock().oracle.clone()
    }

    /// The directory of the database.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.0.lock().dir.clone()
    }

    /// Whether it runs.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.lock().state
    }

    /// CUR_LSN: the last LSN that was given.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.0.lock().cur
    }

    /// Up to here the redo of all nodes is on disk, so that a capture of all redo can be recovered up to here.
    #[must_use]
    pub fn complete_lsn(&self) -> Lsn {
        self.0.lock().complete_lsn()
    }

    /// The moment of the last transaction, by the engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.lock().control.time
    }

    /// The branch it is on.
    #[must_use]
    pub fn branch(&self) -> BranchId {
        self.0.lock().control.branch.current
    }

    /// The branch it is on and how it came there.
    #[must_use]
    pub fn history(&self) -> BranchHistory {
        self.0.lock().control.branch.clone()
    }

    /// The tablespaces there are now.
    #[must_use]
    pub fn tablespaces(&self) -> Vec<Tablespace> {
        self.0.lock().control.table.spaces.values().cloned().collect()
    }

    /// Does one random thing.
    ///
    /// # Errors
    /// When the engine is down or its files fail.
    pub fn random_step(&self) -> Result<Step> {
        self.0.lock().random_step()
    }

    /// Does `count` random things.
    ///
    /// # Errors
    /// As [`Model::random_step`].
    pub fn run(&self, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.random_step().map(drop))
    }

    /// From now on up to `most` random steps happen before each read of an online backup.
    pub fn busy_while_read(&self, most: u32) {
        self.0.lock().activity = most;
    }

    /// Changes what can be changed while it runs: archive mode, change map, torn reads, checkpoints, steps.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        change(&mut self.0.lock().config);
    }

    /// Writes all redo. With `vouch` nodes that had nothing to write say so too, so that [`Model::complete_lsn`] becomes
    /// [`Model::lsn`].
    ///
    /// # Errors
    /// When the engine is down or its files fail.
    pub fn flush_logs(&self, vouch: bool) -> Result<()> {
        let mut engine = self.0.lock();
        engine.need_running()?;
        engine.flush_logs(vouch)
    }

    /// Writes the pages that have been dirty for longest, `per_mille` of all that are dirty, and moves CKPT_LSN.
    ///
    /// # Errors
    /// When the engine is down or its files fail.
    pub fn checkpoint(&self, per_mille: u32) -> Result<()> {
        let mut engine = self.0.lock();
        engine.need_running()?;
        engine.checkpoint_partial(u64::from(per_mille.min(1000)))
    }

    /// Stops without a word: what is only in memory is lost, and the oracle forgets it too.
    ///
    /// # Errors
    /// When the files fail.
    pub fn crash(&self) -> Result<()> {
        self.0.lock().crash()
    }

    /// Closes the database cleanly.
    ///
    /// # Errors
    /// When the files fail.
    pub fn shutdown(&self) -> Result<()> {
        self.0.lock().shutdown()
    }

    /// Starts the database again, with redo after a crash.
    ///
    /// # Errors
    /// When redo does not fit the files.
    pub fn restart(&self) -> Result<()> {
        self.0.lock().restart()
    }

    /// Makes a tablespace with one file of `pages` pages.
    ///
    /// # Errors
    /// When the engine is down, or there is such a tablespace.
    pub fn add_tablespace(&self, name: &str, pages: u64) -> Result<()> {
        let mut engine = self.0.lock();
        if engine.control.table.spaces.values().any(|space| space.name == name) {
            return Err(Error::new(ErrorKind::Usage, "there is such a tablespace").on(name));
        }
        let id = setpiece_core::model::TablespaceId(engine.cur.0 as u32 + 100);
        engine.add_space(0, Tablespace { id, name: name.into(), kind: TablespaceKind::Data, location: None })?;
        let len = pages * u64::from(engine.control.page_size);
        engine.add_file(0, id, &format!("{name}/DATA.DBF"), FileKind::Paged, len).map(drop)
    }

    /// Removes redo on disk that was captured durably and that neither a restart nor a running backup needs.
    ///
    /// # Errors
    /// When the files fail.
    pub fn purge_captured(&self) -> Result<()> {
        let mut engine = self.0.lock();
        let captured = engine.captured;
        engine.purge_logs(captured)
    }

    /// Removes redo up to `upto`, captured or not, that neither a restart nor a running backup needs.
    ///
    /// # Errors
    /// When the files fail.
    pub fn purge_redo(&self, upto: Lsn) -> Result<()> {
        self.0.lock().purge_logs(upto)
    }

    /// A fault: the archived package is there no more, until the engine is opened again. Says whether it was there.
    #[must_use]
    pub fn lose_redo(&self, node: NodeId, seq: Seq) -> bool {
        self.0.lock().logs.get_mut(node.0 as usize).is_some_and(|log| log.lose(seq))
    }

    /// A fault: one bit of a byte of a file on disk is turned.
    ///
    /// # Errors
    /// When there is no such byte.
    pub fn damage(&self, path: &str, offset: u64) -> Result<()> {
        let path = self.0.lock().dir.join(path);
        let mut byte = disk::read_at(&path, offset, 1)?;
        byte[0] ^= 0x10;
        disk::write_at(&path, offset, &byte)
    }

    /// Compares what the engine holds with the oracle: everything is written first, as at a full checkpoint.
    ///
    /// # Errors
    /// When the engine is down or its files fail.
    pub fn difference_from_oracle(&self) -> Result<Option<Difference>> {
        let mut engine = self.0.lock();
        engine.need_running()?;
        engine.checkpoint_full(false)?;
        engine.cache.evict();
        let content = engine.oracle.at(engine.control.branch.current, engine.cur);
        content.difference_in_use(&engine.dir)
    }

    /// Where the files of a tablespace lie, below the directory of the database.
    #[must_use]
    pub fn paths(&self, tablespace: &str) -> Vec<String> {
        let engine = self.0.lock();
        let id = engine.control.table.spaces.values().find(|space| space.name == tablespace).map(|space| space.id);
        let inside = engine.control.table.files.values().filter(|entry| Some(entry.tablespace) == id);
        inside.map(|entry| entry.path.as_str().to_owned()).collect()
    }

    /// Drops a file by its path.
    ///
    /// # Errors
    /// When the engine is down or there is no such file.
    pub fn drop_file(&self, path: &str) -> Result<()> {
        let mut engine = self.0.lock();
        let found = engine.control.table.files.values().find(|entry| entry.path.as_str() == path).map(FileKey::of);
        let key = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such file").on(path))?;
        engine.drop_file(0, key)
    }
}
