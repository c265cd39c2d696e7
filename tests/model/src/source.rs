//! The engine as a source: positions, checkpoints and one backup from its begin to its end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use minicbor::{Decode, Encode};
use setpiece_core::model::{
    BranchHistory, BranchId, FileEntry, FileId, FileKind, LogUnit, Lsn, NodeId, NodeRange, PageSet, Scope, Seq,
    StateMark, Tablespace, TablespaceId, TablespaceKind,
};
use setpiece_core::source::{
    BackupRun, BeginRequest, CapturedPoint, ChangeMap, EndInfo, IncrementRule, LogStream, NamedPosition, NodePosition,
    PageState, Source, SourceInfo,
};
use setpiece_core::{Error, ErrorKind, Result};

use crate::config::ChangeMapMode;
use crate::control::CONTROL_ID;
use crate::disk;
use crate::engine::{Engine, State};
use crate::log::NodeLog;
use crate::model::Shared;
use crate::page::{self, FileKey};
use crate::recovery::ENGINE;
use crate::redo::{Package, file_changes};
use crate::stream::Stream;

/// A model engine, seen by core. Clones are the same engine.
#[derive(Clone, Debug)]
pub struct ModelSource(pub(crate) Arc<Shared>);

/// What a set or a captured unit remembers: for each node the last package it has.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Cookie {
    #[n(0)]
    pub(crate) branch: BranchId,
    #[n(1)]
    pub(crate) last: Vec<Seq>,
}

impl Cookie {
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        minicbor::to_vec(self)
            .map_err(|error| Error::new(ErrorKind::Internal, "cookie cannot be encoded").because(error.to_string()))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        minicbor::decode(bytes)
            .map_err(|error| Error::damaged("cookie", "cannot be decoded").because(error.to_string()))
    }
}

impl Source for ModelSource {
    fn info(&self) -> Result<SourceInfo> {
        let engine = self.0.lock();
        Ok(SourceInfo {
            id: engine.control.source,
            name: engine.config.name.clone(),
            engine: ENGINE.into(),
            version: "1".into(),
            tablespace_scope: true,
        })
    }

    fn increment_rule(&self) -> IncrementRule {
        self.0.lock().config.rule
    }

    fn positions(&self) -> Result<Vec<NamedPosition>> {
        let engine = self.0.lock();
        let seq = |number| (number > 0).then_some(Seq(number));
        let mut named = Vec::new();
        for (node, log) in engine.logs.iter().enumerate() {
            let all = [
                ("CUR", engine.cur, seq(log.cur_seq())),
                ("FLUSH", log.flush_lsn(), None),
                ("FILE", log.file_lsn(), seq(log.file_seq())),
                ("CKPT", engine.control.ckpt, None),
            ];
            let node = NodeId(node as u32);
            named.extend(all.map(|(name, lsn, seq)| NamedPosition { node, name: name.into(), lsn, seq }));
        }
        Ok(named)
    }

    fn checkpoint(&self) -> Result<Vec<NodePosition>> {
        let mut engine = self.0.lock();
        match engine.state {
            State::Running if engine.config.lazy_checkpoint && engine.cache.oldest_dirty().is_some() => {
                engine.checkpoint_partial(500)?;
            }
            State::Running => engine.checkpoint_full(true)?,
            State::Closed => {}
            State::Crashed => {
                return Err(Error::new(ErrorKind::Source, "a database that died cannot make a checkpoint")
                    .remedy("start it, or take a full backup"));
            }
        }
        Ok(engine.begin_positions())
    }

    fn begin(&self, request: &BeginRequest<'_>) -> Result<Box<dyn BackupRun + '_>> {
        Ok(Box::new(Run::begin(self.0.clone(), request)?))
    }

    fn log_stream(&self, last: Option<&CapturedPoint>) -> Result<Box<dyn LogStream + '_>> {
        Ok(Box::new(Stream::begin(self.0.clone(), last)?))
    }
}

impl Engine {
    /// For each node the end of the last package before CKPT_LSN.
    fn begin_positions(&self) -> Vec<NodePosition> {
        self.logs.iter().map(|log| log.boundary(self.control.ckpt)).collect()
    }

    fn scope(&self, scope: &Scope) -> Result<Option<TablespaceId>> {
        let refuse = |kind, what: &str| Err(Error::new(kind, what).on(scope.to_string()));
        match scope {
            Scope::Database => Ok(None),
            Scope::Tablespace(name) => match self.control.table.spaces.values().find(|space| space.name == *name) {
                Some(space) if space.kind == TablespaceKind::Temp => {
                    refuse(ErrorKind::Usage, "temporary tablespaces are never backed up")
                }
                Some(space) => Ok(Some(space.id)),
                None => refuse(ErrorKind::NotFound, "there is no such tablespace"),
            },
            Scope::Table(_) => refuse(ErrorKind::Unsupported, "the model engine has no tables"),
            Scope::Log => refuse(ErrorKind::Usage, "redo is captured by a log stream"),
        }
    }
}

/// One backup.
struct Run {
    shared: Arc<Shared>,
    pin: u64,
    epoch: u64,
    online: bool,
    begin: Vec<NodePosition>,
    branch: BranchHistory,
    spaces: Vec<Tablespace>,
    files: Vec<FileEntry>,
    /// The control file as of the begin: it names the files of this backup and no later ones.
    control: Vec<u8>,
    /// Pages that were handed out torn: the next time they come whole.
    torn: Mutex<BTreeSet<(FileId, u64)>>,
    end: Option<Vec<NodeRange>>,
}

impl Run {
    fn begin(shared: Arc<Shared>, request: &BeginRequest<'_>) -> Result<Self> {
        let mut engine = shared.lock();
        let only = engine.scope(request.scope)?;
        if engine.state != State::Closed && !engine.config.archive {
            return Err(Error::new(ErrorKind::Source, "the database does not archive its redo")
                .remedy("turn archive mode on, or close the database cleanly first"));
        }
        let mut copy = engine.control.clone();
        copy.clean = engine.state == State::Closed;
        let control = copy.encode()?;
        let table = &engine.control.table;
        let mut files: Vec<FileEntry> =
            table.files.values().filter(|entry| only.is_none_or(|id| entry.tablespace == id)).cloned().collect();
        if only.is_none() {
            files.insert(0, engine.control.entry(control.len() as u64)?);
        }
        let begin = engine.begin_positions();
        let pin = engine.pins.keys().next_back().map_or(0, |last| last + 1);
        let oldest = begin.iter().map(|position| position.lsn).min().unwrap_or_default();
        engine.pins.insert(pin, oldest);
        let run = Run {
            shared: shared.clone(),
            pin,
            epoch: engine.epoch,
            online: engine.state == State::Running,
            begin,
            branch: engine.control.branch.clone(),
            spaces: table_spaces(&engine),
            files,
            control,
            torn: Mutex::default(),
            end: None,
        };
        drop(engine);
        Ok(run)
    }

    /// The engine, if it still lives the life in which the backup was begun.
    fn engine(&self) -> Result<std::sync::MutexGuard<'_, Engine>> {
        let engine = self.shared.lock();
        if engine.epoch == self.epoch {
            Ok(engine)
        } else {
            Err(Error::new(ErrorKind::Source, "the database went down during the backup")
                .remedy("take the backup again"))
        }
    }

    fn entry(&self, file: FileId) -> Result<&FileEntry> {
        let unknown = || Error::new(ErrorKind::Internal, "no file of this backup").on(format!("file {file}"));
        self.files.iter().find(|entry| entry.id == file).ok_or_else(unknown)
    }

    /// Mixes a page with what was there before it was written last, once for each page.
    fn tear(&self, engine: &mut Engine, entry: &FileEntry, page: u64, bytes: &mut [u8]) {
        let place = (FileKey::of(entry), page);
        let Some((_, old)) = engine.recent.iter().rev().find(|(at, _)| *at == place) else { return };
        let old = old.clone();
        let mut torn = self.torn.lock().unwrap_or_else(PoisonError::into_inner);
        if engine.rng.chance(engine.config.torn_per_mille) && torn.insert((entry.id, page)) {
            let half = bytes.len() / 2;
            bytes[half..].copy_from_slice(&old[half..]);
        }
    }
}

fn table_spaces(engine: &Engine) -> Vec<Tablespace> {
    engine.control.table.spaces.values().cloned().collect()
}

impl BackupRun for Run {
    fn online(&self) -> bool {
        self.online
    }

    fn begin(&self) -> &[NodePosition] {
        &self.begin
    }

    fn branch(&self) -> &BranchHistory {
        &self.branch
    }

    fn tablespaces(&self) -> &[Tablespace] {
        &self.spaces
    }

    fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// From page 0 on disk: that may be older than the cache, but not older than the redo of this backup.
    fn valid_pages(&self, file: FileId) -> Result<Option<PageSet>> {
        let entry = self.entry(file)?;
        let engine = self.engine()?;
        if entry.kind == FileKind::Plain || !engine.config.allocation_map {
            return Ok(None);
        }
        if engine.control.table.file(FileKey::of(entry)).is_none() {
            return Ok(Some(PageSet::new()));
        }
        let page0 = disk::read_at(&entry.path.below(&engine.dir), 0, entry.page_size as usize)?;
        Ok(Some(page::allocated(&page0, entry.pages())))
    }

    fn read(&self, file: FileId, first: u64, count: u64, into: &mut Vec<u8>) -> Result<()> {
        let entry = self.entry(file)?;
        let mut engine = self.engine()?;
        into.clear();
        let (from, to) = (entry.offset(first), entry.offset(first.saturating_add(count)).min(entry.len));
        let len = to.saturating_sub(from) as usize;
        if file == CONTROL_ID {
            into.extend_from_slice(&self.control[from as usize..from as usize + len]);
            return Ok(());
        }
        if self.online {
            let steps = engine.activity;
            for _ in 0..engine.rng.below(u64::from(steps) + 1) {
                engine.random_step()?;
            }
        }
        // A file that was dropped or cut meanwhile: the redo of this backup does the same to what is restored.
        if engine.control.table.file(FileKey::of(entry)).is_none() {
            into.resize(len, 0);
            return Ok(());
        }
        into.extend(disk::read_at(&entry.path.below(&engine.dir), from, len)?);
        if self.online && entry.kind == FileKind::Paged {
            for (number, bytes) in into.chunks_mut(entry.page_size as usize).enumerate() {
                self.tear(&mut engine, entry, first + number as u64, bytes);
            }
        }
        Ok(())
    }

    fn inspect(&self, file: FileId, page: u64, bytes: &[u8]) -> PageState {
        match self.entry(file) {
            Ok(entry) if entry.kind == FileKind::Paged => page::inspect(entry, page, bytes),
            _ => PageState::Unversioned,
        }
    }

    /// From the redo on disk. No page on disk has a change whose redo is not, so the map is complete for what is read.
    fn change_map(&self, since: Lsn, _marks: Option<&[StateMark]>) -> Result<ChangeMap> {
        let engine = self.engine()?;
        let known = match engine.config.change_map {
            ChangeMapMode::Complete => Lsn(0),
            ChangeMapMode::Since(lsn) => Lsn(lsn),
            ChangeMapMode::Never => return Ok(ChangeMap::Unknown("the engine keeps no map of changes".into())),
        };
        let available = engine.logs.iter().map(NodeLog::available_after).max().unwrap_or_default().max(known);
        if since < available {
            return Ok(ChangeMap::Unknown(format!("changes are known behind LSN {available} only")));
        }
        let mut transactions = Vec::new();
        for log in &engine.logs {
            let seqs: Vec<Seq> = log.units(since).map(|unit| unit.seq).collect();
            for seq in seqs {
                transactions.extend(Package::decode(&log.read(seq)?)?.0.transactions);
            }
        }
        let changes = file_changes(transactions.iter().filter(|ptx| ptx.lsn > since));
        Ok(ChangeMap::Complete { changes, how: "the engine's own redo".into() })
    }

    fn end(&mut self) -> Result<EndInfo> {
        let mut engine = self.engine()?;
        // With several nodes a page may hold a change of one that is newer than redo of another that is not on disk.
        if self.online && engine.nodes() > 1 {
            engine.flush_logs(false)?;
        }
        let ends: Vec<NodePosition> = engine.logs.iter().map(NodeLog::file_position).collect();
        let nodes: Vec<NodeRange> = self.begin.iter().zip(&ends).map(|(begin, end)| range(begin, end)).collect();
        let closed = engine.state == State::Closed;
        let newest = ends.iter().map(|end| end.lsn).max().unwrap_or_default();
        let last = ends.iter().map(|end| end.seq.unwrap_or_default()).collect();
        let info = EndInfo {
            bak_end_lsn: newest,
            needs_log: !closed,
            marks: None,
            cookie: Cookie { branch: self.branch.current, last }.encode()?,
            parameters: parameters(&engine),
            carried: Vec::new(),
            nodes: nodes.clone(),
        };
        drop(engine);
        self.end = Some(nodes);
        Ok(info)
    }

    fn log(&mut self, sink: &mut dyn FnMut(LogUnit, Vec<u8>) -> Result<()>) -> Result<()> {
        let ranges =
            self.end.clone().ok_or_else(|| Error::new(ErrorKind::Internal, "redo asked for before the end"))?;
        for range in ranges {
            for unit in self.units(&range)? {
                let bytes = self.engine()?.logs[range.node.0 as usize].read(unit.seq)?;
                sink(unit, bytes)?;
            }
        }
        Ok(())
    }
}

impl Run {
    /// The packages of a range; fails when one is gone.
    fn units(&self, range: &NodeRange) -> Result<Vec<LogUnit>> {
        let engine = self.engine()?;
        let log = &engine.logs[range.node.0 as usize];
        let units: Vec<LogUnit> =
            log.units(range.begin_lsn).take_while(|unit| unit.span.after < range.end_lsn).cloned().collect();
        let mut reached = range.begin_lsn;
        for unit in &units {
            if unit.span.after > reached {
                break;
            }
            reached = unit.span.upto;
        }
        if reached < range.end_lsn {
            return Err(Error::new(ErrorKind::Source, format!("archived redo after {reached} is gone"))
                .on(format!("node {}", range.node))
                .remedy("take a full backup; keep archived redo until it is backed up"));
        }
        Ok(units)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut engine = self.shared.lock();
        if engine.epoch == self.epoch {
            engine.pins.remove(&self.pin);
        }
    }
}

fn range(begin: &NodePosition, end: &NodePosition) -> NodeRange {
    NodeRange { node: begin.node, begin_lsn: begin.lsn, begin_seq: begin.seq, end_lsn: end.lsn, end_seq: end.seq }
}

fn parameters(engine: &Engine) -> Vec<(String, String)> {
    let control = &engine.control;
    let named = [
        ("PAGE_SIZE", control.page_size.to_string()),
        ("HUGE_BLOCK", control.block.to_string()),
        ("NODES", control.nodes.to_string()),
        ("ARCHIVE", engine.config.archive.to_string()),
    ];
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
