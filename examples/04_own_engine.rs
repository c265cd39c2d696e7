//! An engine of one's own behind the traits of `setpiece::source`: a file of counters, a page each thousand of them.
//! `cargo run --example 04_own_engine`.
//!
//! The engine keeps an LSN in each page, so increments find changed pages by themselves; and its backups are snapshots
//! between transactions, so they need no redo.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use setpiece::backup::BackupOptions;
use setpiece::model::{
    BranchHistory, BranchId, FileEntry, FileId, FileKind, Level, Lsn, NodeId, NodeRange, PageSet, RelPath, SourceId,
    StateMark, Tablespace, TablespaceId, TablespaceKind, Tracking, Uuid,
};
use setpiece::restore::RestoreRequest;
use setpiece::source::*;
use setpiece::verify::Depth;
use setpiece::{Error, ErrorKind, Result, Setpiece};

const PAGE: usize = 4096;
const PER_PAGE: usize = (PAGE - 8) / 4;
const FILE: FileId = FileId(1);

/// The database: pages that begin with the LSN of their last change.
struct Counters {
    pages: Mutex<Vec<[u8; PAGE]>>,
}

impl Counters {
    fn new(pages: usize) -> Self {
        Counters { pages: Mutex::new(vec![[0; PAGE]; pages]) }
    }

    /// Adds one to a counter: a transaction. Its LSN is one more than the last.
    fn increment(&self, counter: usize) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let lsn = newest(&pages) + 1;
        let page = &mut pages[counter / PER_PAGE];
        let at = 8 + counter % PER_PAGE * 4;
        let value = page[at].wrapping_add(1);
        page[at] = value;
        page[..8].copy_from_slice(&lsn.to_le_bytes());
    }

    fn snapshot(&self) -> Vec<[u8; PAGE]> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn lsn_of(page: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&page[..8]);
    u64::from_le_bytes(bytes)
}

fn newest(pages: &[[u8; PAGE]]) -> u64 {
    pages.iter().map(|page| lsn_of(page)).max().unwrap_or(0)
}

fn position(lsn: u64) -> NodePosition {
    NodePosition { node: NodeId(0), lsn: Lsn(lsn), seq: None }
}

impl Source for Counters {
    fn info(&self) -> Result<SourceInfo> {
        let id = SourceId(Uuid(*b"the counters 001"));
        let (name, engine, version) = ("counters".into(), "counters".into(), "1".into());
        Ok(SourceInfo { id, name, engine, version, tablespace_scope: false })
    }

    fn increment_rule(&self) -> IncrementRule {
        IncrementRule::KeepFromBaseBegin
    }

    fn positions(&self) -> Result<Vec<NamedPosition>> {
        let lsn = Lsn(newest(&self.snapshot()));
        Ok(vec![NamedPosition { node: NodeId(0), name: "CUR".into(), lsn, seq: None }])
    }

    fn checkpoint(&self) -> Result<Vec<NodePosition>> {
        Ok(vec![position(newest(&self.snapshot()))])
    }

    fn begin(&self, _request: &BeginRequest<'_>) -> Result<Box<dyn BackupRun + '_>> {
        Ok(Box::new(Run::new(self.snapshot())?))
    }

    fn log_stream(&self, _last: Option<&CapturedPoint>) -> Result<Box<dyn LogStream + '_>> {
        Err(Error::new(ErrorKind::Unsupported, "the counters have no log").on("counters"))
    }
}

/// One backup: a snapshot of all pages.
struct Run {
    pages: Vec<[u8; PAGE]>,
    begin: [NodePosition; 1],
    branch: BranchHistory,
    tablespaces: Vec<Tablespace>,
    files: Vec<FileEntry>,
}

impl Run {
    fn new(pages: Vec<[u8; PAGE]>) -> Result<Self> {
        let path = RelPath::new("counters.dat").map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?;
        let tablespace = TablespaceId(0);
        let file = FileEntry {
            id: FILE,
            generation: 0,
            tablespace,
            path,
            kind: FileKind::Paged,
            page_size: PAGE as u32,
            len: (pages.len() * PAGE) as u64,
            tracking: Tracking::PageLsn,
            mode: None,
        };
        let main = Tablespace { id: tablespace, name: "main".into(), kind: TablespaceKind::Data, location: None };
        Ok(Run {
            begin: [position(newest(&pages))],
            branch: BranchHistory::first(BranchId(1)),
            tablespaces: vec![main],
            files: vec![file],
            pages,
        })
    }
}

impl BackupRun for Run {
    fn online(&self) -> bool {
        true
    }

    fn begin(&self) -> &[NodePosition] {
        &self.begin
    }

    fn branch(&self) -> &BranchHistory {
        &self.branch
    }

    fn tablespaces(&self) -> &[Tablespace] {
        &self.tablespaces
    }

    fn files(&self) -> &[FileEntry] {
        &self.files
    }

    fn valid_pages(&self, _file: FileId) -> Result<Option<PageSet>> {
        Ok(None)
    }

    fn read(&self, _file: FileId, first: u64, count: u64, into: &mut Vec<u8>) -> Result<()> {
        into.clear();
        let (first, count) = (first as usize, count as usize);
        self.pages[first..first + count].iter().for_each(|page| into.extend_from_slice(page));
        Ok(())
    }

    fn inspect(&self, _file: FileId, _page: u64, bytes: &[u8]) -> PageState {
        PageState::At(Lsn(lsn_of(bytes)))
    }

    fn change_map(&self, _since: Lsn, _marks: Option<&[StateMark]>) -> Result<ChangeMap> {
        Ok(ChangeMap::Unknown("the counters keep no list of changes".into()))
    }

    fn end(&mut self) -> Result<EndInfo> {
        let lsn = self.begin[0].lsn;
        let node = NodeRange { node: NodeId(0), begin_lsn: lsn, end_lsn: lsn, ..NodeRange::default() };
        Ok(EndInfo {
            nodes: vec![node],
            bak_end_lsn: lsn,
            needs_log: false,
            cookie: Vec::new(),
            marks: None,
            parameters: vec![("counters_per_page".into(), PER_PAGE.to_string())],
            carried: Vec::new(),
        })
    }

    fn log(&mut self, _sink: &mut dyn FnMut(setpiece::model::LogUnit, Vec<u8>) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

/// The way back. There is no redo to apply, and nothing to prepare.
struct CountersRecovery;

impl Recovery for CountersRecovery {
    fn engine(&self) -> &str {
        "counters"
    }

    fn recover(&self, request: &RecoverRequest<'_>, _log: &mut dyn LogFeed) -> Result<Recovered> {
        Ok(Recovered { lsn: request.consistent_from, time: None, branch: Some(request.new_branch) })
    }

    fn inspect(&self, _file: &FileEntry, _page: u64, bytes: &[u8]) -> PageState {
        PageState::At(Lsn(lsn_of(bytes)))
    }
}

fn file_is(path: &Path, pages: &[[u8; PAGE]]) -> std::io::Result<bool> {
    Ok(std::fs::read(path)? == pages.concat())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let setpiece =
        Setpiece::init_plain(&format!("disk:{}/repo", dir.path().display()))?.recovered_by(&CountersRecovery);
    let database = Counters::new(500);
    (0..500 * PER_PAGE).step_by(77).for_each(|counter| database.increment(counter));
    let full = setpiece.backup(&database, &BackupOptions::default())?;
    let before = database.snapshot();

    (0..20).for_each(|counter| database.increment(counter * PER_PAGE));
    let mut options = BackupOptions::default();
    options.level = Level::Differential;
    let increment = setpiece.backup(&database, &options)?;
    println!("full: {} pages, differential: {} pages", full.pages, increment.pages);
    assert!(increment.pages < full.pages / 2);

    assert!(setpiece.check(&[], Depth::Pages, 2)?.findings.is_empty());
    setpiece.restore(&RestoreRequest::default(), &dir.path().join("latest"))?;
    assert!(file_is(&dir.path().join("latest/counters.dat"), &database.snapshot())?);
    let mut request = RestoreRequest::default();
    request.set = Some(full.summary.id.to_string());
    request.target.until = setpiece::model::Until::SetEnd;
    setpiece.restore(&request, &dir.path().join("before"))?;
    assert!(file_is(&dir.path().join("before/counters.dat"), &before)?);
    println!("both states came back");
    Ok(())
}
