//! The redo log of one node: a buffer of transactions, packages that are closed but not written, and files of packages.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use setpiece_core::model::{BranchId, LogUnit, Lsn, NodeId, Seq};
use setpiece_core::source::NodePosition;
use setpiece_core::{Error, ErrorKind, Result};

use crate::control::LogStart;
use crate::disk;
use crate::redo::{Package, Ptx};
use crate::rng::Rng;

/// Packages in one file.
const PACKAGES_IN_FILE: usize = 16;

/// A written package and where it lies.
#[derive(Clone, Debug)]
struct Written {
    unit: LogUnit,
    path: PathBuf,
    offset: u64,
}

/// The log stream of a node on one branch.
#[derive(Debug)]
pub(crate) struct NodeLog {
    node: NodeId,
    branch: BranchId,
    dir: PathBuf,
    tell_changes: bool,
    buffer: Vec<Ptx>,
    closed: VecDeque<Package>,
    written: Vec<Written>,
    start: LogStart,
}

impl NodeLog {
    /// Opens the log below `dir` with what is written there; `start` is where it begins when nothing is.
    pub(crate) fn open(
        dir: &Path,
        node: NodeId,
        branch: BranchId,
        start: LogStart,
        tell_changes: bool,
    ) -> Result<Self> {
        let (buffer, closed) = (Vec::new(), VecDeque::new());
        let dir = dir.to_path_buf();
        let mut log = NodeLog { node, branch, dir, tell_changes, buffer, closed, written: Vec::new(), start };
        fs::create_dir_all(&log.dir).map_err(|error| Error::io(log.dir.display().to_string(), error))?;
        log.scan()?;
        Ok(log)
    }

    /// Reads the files of this stream. A package that was being written when the engine died is cut off.
    fn scan(&mut self) -> Result<()> {
        let prefix = format!("b{}-n{}-", self.branch, self.node);
        for name in disk::walk(&self.dir)?.into_iter().filter(|name| name.starts_with(&prefix)) {
            let path = self.dir.join(name);
            let bytes = disk::read_all(&path)?;
            let mut at = 0;
            while let Ok((package, len)) = Package::decode(&bytes[at..]) {
                let unit = package.unit(len as u64, self.tell_changes);
                self.written.push(Written { unit, path: path.clone(), offset: at as u64 });
                at += len;
            }
            if at < bytes.len() {
                disk::set_len(&path, at as u64)?;
            }
        }
        Ok(())
    }

    /// Adds a transaction to the buffer.
    pub(crate) fn push(&mut self, ptx: Ptx) {
        self.buffer.push(ptx);
    }

    /// Whether there is redo that is not on disk.
    pub(crate) fn has_pending(&self) -> bool {
        !self.buffer.is_empty() || !self.closed.is_empty()
    }

    fn last_closed(&self) -> (Lsn, u64) {
        match self.closed.back() {
            Some(package) => (package.span.upto, package.seq.0),
            None => (self.file_lsn(), self.file_seq()),
        }
    }

    /// FLUSH_LSN: up to here redo is on its way to disk.
    pub(crate) fn flush_lsn(&self) -> Lsn {
        self.last_closed().0
    }

    /// CUR_SEQ: the last package number given.
    pub(crate) fn cur_seq(&self) -> u64 {
        self.last_closed().1
    }

    /// FILE_LSN: up to here redo is on disk.
    pub(crate) fn file_lsn(&self) -> Lsn {
        self.written.last().map_or(self.start.upto, |last| last.unit.span.upto)
    }

    /// FILE_SEQ: the last package on disk, 0 when there has been none.
    pub(crate) fn file_seq(&self) -> u64 {
        self.written.last().map_or(self.start.seq, |last| last.unit.seq.0)
    }

    /// FILE_LSN and FILE_SEQ.
    pub(crate) fn file_position(&self) -> NodePosition {
        NodePosition { node: self.node, lsn: self.file_lsn(), seq: numbered(self.file_seq()) }
    }

    /// The end of the last package that lies wholly at or before `ckpt`: redo is needed from there on.
    pub(crate) fn boundary(&self, ckpt: Lsn) -> NodePosition {
        let before = self.written.iter().rev().find(|written| written.unit.span.upto <= ckpt);
        let (lsn, seq) = before.map_or((self.start.upto, self.start.seq), |w| (w.unit.span.upto, w.unit.seq.0));
        NodePosition { node: self.node, lsn, seq: numbered(seq) }
    }

    /// Closes a package with what is in the buffer, vouching for everything up to `cur`. An empty buffer makes a package
    /// only if `even_if_empty`. With several `streams` the transactions of each are kept together.
    pub(crate) fn close(&mut self, cur: Lsn, streams: u32, even_if_empty: bool, rng: &mut Rng) {
        let (after, seq) = self.last_closed();
        if (self.buffer.is_empty() && !even_if_empty) || cur <= after {
            return;
        }
        let mut parts: Vec<Vec<Ptx>> = vec![Vec::new(); streams.max(1) as usize];
        for ptx in self.buffer.drain(..) {
            let part = rng.index(parts.len());
            parts[part].push(ptx);
        }
        let span = setpiece_core::model::LsnSpan { after, upto: cur };
        let transactions = parts.into_iter().flatten().collect();
        self.closed.push_back(Package { node: self.node, branch: self.branch, seq: Seq(seq + 1), span, transactions });
    }

    /// Writes the oldest closed package, if there is one.
    pub(crate) fn write_one(&mut self) -> Result<()> {
        let Some(package) = self.closed.pop_front() else { return Ok(()) };
        let bytes = package.encode()?;
        let path = self.next_path(package.seq);
        let offset = disk::append(&path, &bytes)?;
        let unit = package.unit(bytes.len() as u64, self.tell_changes);
        self.written.push(Written { unit, path, offset });
        Ok(())
    }

    fn next_path(&self, seq: Seq) -> PathBuf {
        let fresh = self.dir.join(format!("b{}-n{}-{:08}.redo", self.branch, self.node, seq.0));
        match self.written.last() {
            Some(last) if self.written.iter().filter(|w| w.path == last.path).count() < PACKAGES_IN_FILE => {
                last.path.clone()
            }
            _ => fresh,
        }
    }

    /// Writes everything that is closed.
    pub(crate) fn write_all(&mut self) -> Result<()> {
        while !self.closed.is_empty() {
            self.write_one()?;
        }
        Ok(())
    }

    /// The machine stops: what is not written is lost, and a part of the next package may have reached the disk.
    /// Returns the LSNs that are lost.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> Result<Vec<Lsn>> {
        if let Some(package) = self.closed.front()
            && rng.chance(500)
        {
            let bytes = package.encode()?;
            disk::append(&self.next_path(package.seq), &bytes[..rng.index(bytes.len())])?;
        }
        let closed = std::mem::take(&mut self.closed);
        let lost = closed.into_iter().flat_map(|package| package.transactions).chain(self.buffer.drain(..));
        Ok(lost.map(|ptx| ptx.lsn).collect())
    }

    /// The packages on disk that reach beyond `after`, in order.
    pub(crate) fn units(&self, after: Lsn) -> impl Iterator<Item = &LogUnit> {
        self.written.iter().map(|written| &written.unit).filter(move |unit| unit.span.upto > after)
    }

    /// The bytes of a package on disk.
    pub(crate) fn read(&self, seq: Seq) -> Result<Vec<u8>> {
        let written = self.written.iter().find(|written| written.unit.seq == seq).ok_or_else(|| self.gone(seq))?;
        disk::read_at(&written.path, written.offset, written.unit.len as usize)
    }

    fn gone(&self, seq: Seq) -> Error {
        Error::new(ErrorKind::Source, "redo package is no longer there")
            .on(format!("package {seq} of node {}", self.node))
            .remedy("take a full backup, and remove redo only after it was backed up")
    }

    /// The LSN behind which all redo is still on disk.
    pub(crate) fn available_after(&self) -> Lsn {
        let mut pairs = self.written.iter().rev();
        let Some(mut oldest) = pairs.next() else { return self.start.upto };
        for before in pairs {
            if before.unit.seq.next() != Some(oldest.unit.seq) {
                break;
            }
            oldest = before;
        }
        oldest.unit.span.after
    }

    /// Where the log will begin once everything up to `upto` is gone.
    pub(crate) fn start_after_purge(&self, upto: Lsn) -> LogStart {
        let gone = self.purgeable(upto);
        gone.last().map_or(self.start, |last| LogStart { upto: last.unit.span.upto, seq: last.unit.seq.0 })
    }

    /// The packages of whole files of which every package is at or before `upto`.
    fn purgeable(&self, upto: Lsn) -> &[Written] {
        let kept = self.written.iter().find(|written| written.unit.span.upto > upto);
        let end = kept.and_then(|kept| self.written.iter().position(|w| w.path == kept.path));
        &self.written[..end.unwrap_or(self.written.len())]
    }

    /// Removes the files of which every package is at or before `upto`.
    pub(crate) fn purge(&mut self, upto: Lsn) -> Result<()> {
        let start = self.start_after_purge(upto);
        let count = self.purgeable(upto).len();
        for gone in self.written.drain(..count) {
            disk::remove(&gone.path)?;
        }
        self.start = start;
        Ok(())
    }

    /// Loses one package, as a careless hand in the archive would. Says whether it was there.
    pub(crate) fn lose(&mut self, seq: Seq) -> bool {
        let before = self.written.len();
        self.written.retain(|written| written.unit.seq != seq);
        self.written.len() < before
    }
}

fn numbered(seq: u64) -> Option<Seq> {
    (seq > 0).then_some(Seq(seq))
}
