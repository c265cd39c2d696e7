//! A source of plain page files: 8 KiB pages that carry an LSN and a CRC-32.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use setpiece::model::*;
use setpiece::source::{
    BackupRun, BeginRequest, CapturedPoint, ChangeMap, EndInfo, IncrementRule, LogFeed, LogStream, NamedPosition,
    NodePosition, PageState, RecoverRequest, Recovered, Recovery, Source, SourceInfo,
};
use setpiece::{Error, ErrorKind, Result};

/// Bytes in a page.
pub const PAGE: usize = 8192;

/// Gives a page its LSN and checksum.
pub fn seal_page(page: &mut [u8], lsn: u64) {
    page[8..16].copy_from_slice(&lsn.to_le_bytes());
    let crc = crc32fast::hash(&page[8..]);
    page[..4].copy_from_slice(&crc.to_le_bytes());
}

fn judge(page: &[u8]) -> PageState {
    if page.iter().all(|byte| *byte == 0) {
        return PageState::Unversioned;
    }
    if crc32fast::hash(&page[8..]).to_le_bytes() != page[..4] {
        return PageState::Bad("checksum".into());
    }
    PageState::At(Lsn(u64::from_le_bytes(page[8..16].try_into().unwrap())))
}

/// The files of a directory.
pub struct PageFiles {
    entries: Vec<FileEntry>,
    files: Vec<File>,
    lsn: Lsn,
    branch: BranchHistory,
}

impl PageFiles {
    /// `lsn` is the newest in any page.
    pub fn open(dir: &Path, lsn: u64) -> Self {
        let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let files: Vec<File> = paths.iter().map(|path| File::open(path).unwrap()).collect();
        let entry = |(number, (path, file)): (usize, (&std::path::PathBuf, &File))| FileEntry {
            id: FileId(number as u64 + 1),
            generation: 0,
            tablespace: TablespaceId(0),
            path: RelPath::new(path.file_name().unwrap().to_str().unwrap()).unwrap(),
            kind: FileKind::Paged,
            page_size: PAGE as u32,
            len: file.metadata().unwrap().len(),
            tracking: Tracking::PageLsn,
            mode: None,
        };
        let entries = paths.iter().zip(&files).enumerate().map(entry).collect();
        PageFiles { entries, files, lsn: Lsn(lsn), branch: BranchHistory::first(BranchId(1)) }
    }
}

impl Source for PageFiles {
    fn info(&self) -> Result<SourceInfo> {
        Ok(SourceInfo {
            id: SourceId(Uuid([1; 16])),
            name: "pages".into(),
            engine: "pages".into(),
            version: "1".into(),
            tablespace_scope: false,
        })
    }

    fn increment_rule(&self) -> IncrementRule {
        IncrementRule::KeepFromBaseBegin
    }

    fn positions(&self) -> Result<Vec<NamedPosition>> {
        Ok(Vec::new())
    }

    fn checkpoint(&self) -> Result<Vec<NodePosition>> {
        Ok(vec![self.position()])
    }

    fn begin(&self, _request: &BeginRequest<'_>) -> Result<Box<dyn BackupRun + '_>> {
        Ok(Box::new(Run { of: self, begin: [self.position()] }))
    }

    fn log_stream(&self, _last: Option<&CapturedPoint>) -> Result<Box<dyn LogStream + '_>> {
        Err(Error::new(ErrorKind::Unsupported, "page files have no log"))
    }
}

impl PageFiles {
    fn position(&self) -> NodePosition {
        NodePosition { node: NodeId(0), lsn: self.lsn, seq: None }
    }
}

struct Run<'a> {
    of: &'a PageFiles,
    begin: [NodePosition; 1],
}

impl BackupRun for Run<'_> {
    fn online(&self) -> bool {
        false
    }

    fn begin(&self) -> &[NodePosition] {
        &self.begin
    }

    fn branch(&self) -> &BranchHistory {
        &self.of.branch
    }

    fn tablespaces(&self) -> &[Tablespace] {
        &[]
    }

    fn files(&self) -> &[FileEntry] {
        &self.of.entries
    }

    fn valid_pages(&self, _file: FileId) -> Result<Option<PageSet>> {
        Ok(None)
    }

    fn read(&self, file: FileId, first: u64, count: u64, into: &mut Vec<u8>) -> Result<()> {
        into.resize(count as usize * PAGE, 0);
        let file = &self.of.files[file.0 as usize - 1];
        file.read_exact_at(into, first * PAGE as u64).map_err(|error| Error::io("a page file", error))
    }

    fn inspect(&self, _file: FileId, _page: u64, bytes: &[u8]) -> PageState {
        judge(bytes)
    }

    fn change_map(&self, _since: Lsn, _marks: Option<&[StateMark]>) -> Result<ChangeMap> {
        Ok(ChangeMap::Unknown("page files keep none".into()))
    }

    fn end(&mut self) -> Result<EndInfo> {
        let lsn = self.of.lsn;
        let node = NodeRange { node: NodeId(0), begin_lsn: lsn, begin_seq: None, end_lsn: lsn, end_seq: None };
        Ok(EndInfo {
            nodes: vec![node],
            bak_end_lsn: lsn,
            needs_log: false,
            cookie: Vec::new(),
            marks: None,
            parameters: Vec::new(),
            carried: Vec::new(),
        })
    }

    fn log(&mut self, _sink: &mut dyn FnMut(LogUnit, Vec<u8>) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

/// Nothing to recover: the files are what they are.
pub struct NoLog;

impl Recovery for NoLog {
    fn engine(&self) -> &str {
        "pages"
    }

    fn recover(&self, request: &RecoverRequest<'_>, _log: &mut dyn LogFeed) -> Result<Recovered> {
        Ok(Recovered { lsn: request.consistent_from, time: None, branch: Some(request.new_branch) })
    }

    fn inspect(&self, _file: &FileEntry, _page: u64, bytes: &[u8]) -> PageState {
        judge(bytes)
    }
}
