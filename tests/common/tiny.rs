//! A source of a few small files in memory, and its recovery: as little as can be backed up and compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use setpiece_core::model::*;
use setpiece_core::source::*;
use setpiece_core::{Error, ErrorKind, Result};

/// Bytes in a page.
pub const PAGE: usize = 512;
/// The engine's name.
pub const ENGINE: &str = "tiny";

/// Files of pages whose first 8 bytes are their LSN, one file without LSNs, and one plain file with a short end.
pub struct Tiny {
    state: Mutex<State>,
}

#[derive(Clone)]
struct State {
    files: BTreeMap<FileId, (Tracking, Vec<u8>)>,
    lsn: u64,
    branch: BranchHistory,
    vanished: bool,
    mode: Option<u32>,
}

impl Tiny {
    /// A source with `pages` pages in each paged file.
    pub fn new(pages: usize) -> Self {
        let mut files = BTreeMap::new();
        files.insert(FileId(1), (Tracking::PageLsn, vec![0; pages * PAGE]));
        files.insert(FileId(2), (Tracking::PageHash, vec![0; pages * PAGE]));
        files.insert(FileId(3), (Tracking::Always, b"settings = few\n".to_vec()));
        let state = State { files, lsn: 0, branch: BranchHistory::first(BranchId(1)), vanished: false, mode: None };
        let tiny = Tiny { state: Mutex::new(state) };
        for page in 0..pages / 2 {
            tiny.write(1, page, (page as u8).wrapping_add(1));
            tiny.write(2, page, (page as u8).wrapping_add(101));
        }
        tiny
    }

    /// Fills a page; the file grows when it has to.
    pub fn write(&self, file: u64, page: usize, fill: u8) {
        let mut state = self.state.lock().unwrap();
        state.lsn += 1;
        let lsn = state.lsn;
        let (_, bytes) = state.files.get_mut(&FileId(file)).unwrap();
        if bytes.len() < (page + 1) * PAGE {
            bytes.resize((page + 1) * PAGE, 0);
        }
        let target = &mut bytes[page * PAGE..(page + 1) * PAGE];
        // Not of one byte throughout, so that a codec cannot shrink it to nothing.
        target.iter_mut().enumerate().for_each(|(at, byte)| *byte = fill ^ (at as u8).wrapping_mul(37) ^ (lsn as u8));
        target[..8].copy_from_slice(&lsn.to_le_bytes());
    }

    /// Cuts a file.
    pub fn truncate(&self, file: u64, len: usize) {
        self.state.lock().unwrap().files.get_mut(&FileId(file)).unwrap().1.truncate(len);
    }

    /// Gives the files permissions.
    pub fn chmod(&self, mode: u32) {
        self.state.lock().unwrap().mode = Some(mode);
    }

    /// From now on every read fails.
    pub fn vanish(&self) {
        self.state.lock().unwrap().vanished = true;
    }

    /// The first difference between the source and a restored directory.
    pub fn difference(&self, dir: &Path) -> Option<String> {
        let state = self.state.lock().unwrap();
        for (id, (_, bytes)) in &state.files {
            let restored = fs::read(dir.join(format!("file-{id}"))).unwrap_or_default();
            if restored != *bytes {
                let at = restored.iter().zip(bytes).position(|(a, b)| a != b);
                return Some(format!(
                    "file {id}: {} bytes of {}, first difference {at:?}",
                    restored.len(),
                    bytes.len()
                ));
            }
        }
        None
    }
}

impl Source for Tiny {
    fn info(&self) -> Result<SourceInfo> {
        Ok(SourceInfo {
            id: SourceId(Uuid([9; 16])),
            name: "tiny".into(),
            engine: ENGINE.into(),
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
        Ok(Vec::new())
    }

    fn begin(&self, _request: &BeginRequest<'_>) -> Result<Box<dyn BackupRun + '_>> {
        let state = self.state.lock().unwrap().clone();
        let entry = |(id, (tracking, bytes)): (&FileId, &(Tracking, Vec<u8>))| FileEntry {
            id: *id,
            generation: 0,
            tablespace: TablespaceId(0),
            path: RelPath::new(format!("file-{id}")).unwrap(),
            kind: FileKind::Paged,
            page_size: PAGE as u32,
            len: bytes.len() as u64,
            tracking: *tracking,
            mode: state.mode,
        };
        let entries = state.files.iter().map(entry).collect();
        let tablespace =
            Tablespace { id: TablespaceId(0), name: "MAIN".into(), kind: TablespaceKind::Data, location: None };
        let begin = [NodePosition { node: NodeId(0), lsn: Lsn(state.lsn), seq: None }];
        Ok(Box::new(Run { of: self, state, entries, tablespaces: [tablespace], begin }))
    }

    fn log_stream(&self, _last: Option<&CapturedPoint>) -> Result<Box<dyn LogStream + '_>> {
        Err(Error::new(ErrorKind::Unsupported, "tiny has no log"))
    }
}

struct Run<'a> {
    of: &'a Tiny,
    state: State,
    entries: Vec<FileEntry>,
    tablespaces: [Tablespace; 1],
    begin: [NodePosition; 1],
}

impl BackupRun for Run<'_> {
    fn online(&self) -> bool {
        true
    }

    fn begin(&self) -> &[NodePosition] {
        &self.begin
    }

    fn branch(&self) -> &BranchHistory {
        &self.state.branch
    }

    fn tablespaces(&self) -> &[Tablespace] {
        &self.tablespaces
    }

    fn files(&self) -> &[FileEntry] {
        &self.entries
    }

    fn valid_pages(&self, _file: FileId) -> Result<Option<PageSet>> {
        Ok(None)
    }

    fn read(&self, file: FileId, first: u64, count: u64, into: &mut Vec<u8>) -> Result<()> {
        if self.of.state.lock().unwrap().vanished {
            return Err(Error::new(ErrorKind::Source, "the source is gone").on(format!("file {file}")));
        }
        let bytes = &self.state.files[&file].1;
        into.clear();
        into.extend_from_slice(&bytes[first as usize * PAGE..((first + count) as usize * PAGE).min(bytes.len())]);
        Ok(())
    }

    fn inspect(&self, file: FileId, _page: u64, bytes: &[u8]) -> PageState {
        if self.state.files[&file].0 == Tracking::PageLsn && bytes.len() == PAGE {
            return PageState::At(Lsn(u64::from_le_bytes(bytes[..8].try_into().unwrap())));
        }
        PageState::Unversioned
    }

    fn change_map(&self, _since: Lsn, _marks: Option<&[StateMark]>) -> Result<ChangeMap> {
        Ok(ChangeMap::Unknown("tiny keeps none".into()))
    }

    fn end(&mut self) -> Result<EndInfo> {
        let lsn = Lsn(self.state.lsn);
        let node = NodeRange { node: NodeId(0), begin_lsn: lsn, begin_seq: None, end_lsn: lsn, end_seq: None };
        let parameters = vec![("page_size".into(), PAGE.to_string())];
        Ok(EndInfo { nodes: vec![node], bak_end_lsn: lsn, needs_log: false, cookie: vec![1], marks: None, parameters })
    }

    fn log(&mut self, _sink: &mut dyn FnMut(LogUnit, Vec<u8>) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

/// Nothing to do: what is restored is a snapshot.
pub struct TinyRecovery;

impl Recovery for TinyRecovery {
    fn engine(&self) -> &str {
        ENGINE
    }

    fn recover(&self, request: &RecoverRequest<'_>, _log: &mut dyn LogFeed) -> Result<Recovered> {
        Ok(Recovered { lsn: request.consistent_from, time: None, branch: request.new_branch })
    }

    fn inspect(&self, _file: &FileEntry, _page: u64, _bytes: &[u8]) -> PageState {
        PageState::Unversioned
    }
}
