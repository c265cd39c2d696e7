//! One backup: a snapshot between two transactions, so that it begins and ends at the same LSN and needs no redo.

use std::os::unix::fs::MetadataExt;

use setpiece_core::error::Context;
use setpiece_core::model::log::FileChanges;
use setpiece_core::model::{
    BranchHistory, FileEntry, FileId, FileKind, Lsn, NodeId, NodeRange, PageRun, PageSet, RelPath, StateMark,
    Tablespace, TablespaceId, TablespaceKind, Tracking,
};
use setpiece_core::source::{BackupRun, ChangeMap, EndInfo, NodePosition, PageState};
use setpiece_core::{Error, ErrorKind, Result};

use crate::dbfile::DbHeader;
use crate::freelist::used_pages;
use crate::identity::Identity;
use crate::mark;
use crate::place::{Cookie, Point, frame_of, place};
use crate::site::Site;
use crate::snapshot::Snapshot;

/// The number of the database file; there is no other.
pub(crate) const FILE: FileId = FileId(1);
/// The log stream; there is no other.
pub(crate) const NODE: NodeId = NodeId(0);
const TABLESPACE: TablespaceId = TablespaceId(0);
/// Where changed pages are known from.
const HOW: &str = "the database's own log";

/// A backup that runs.
pub(crate) struct Run {
    snapshot: Option<Snapshot>,
    branch: BranchHistory,
    point: Point,
    cookie: Cookie,
    begin: [NodePosition; 1],
    tablespaces: [Tablespace; 1],
    files: [FileEntry; 1],
}

impl Run {
    /// Takes the snapshot and gives it its LSN. `cookie` is the newest on record; a new number is at least `floor`.
    pub(crate) fn begin(site: &Site, identity: &Identity, mut cookie: Cookie, floor: u32) -> Result<Self> {
        let branch = identity.branch.current;
        let watch = cookie.point(branch).map(|point| point.frame);
        let snapshot = Snapshot::take(site, watch).doing(|| "taking a snapshot".into())?;
        let point = place(&cookie, branch, snapshot.seen(), floor)?.point;
        cookie.note(point);
        let files = [file_entry(site, &snapshot)?];
        Ok(Run {
            snapshot: Some(snapshot),
            branch: identity.branch.clone(),
            point,
            cookie,
            begin: [NodePosition { node: NODE, lsn: point.lsn(), seq: None }],
            tablespaces: [Tablespace {
                id: TABLESPACE,
                name: "main".into(),
                kind: TablespaceKind::Data,
                location: None,
            }],
            files,
        })
    }

    /// What the next observer of the log should know.
    pub(crate) fn cookie(&self) -> &Cookie {
        &self.cookie
    }

    fn lsn(&self) -> Lsn {
        self.point.lsn()
    }

    fn snapshot(&self) -> Result<&Snapshot> {
        self.snapshot.as_ref().ok_or_else(|| Error::new(ErrorKind::Usage, "the backup has ended"))
    }

    fn own(&self, file: FileId) -> Result<&Snapshot> {
        if file == FILE {
            return self.snapshot();
        }
        Err(Error::new(ErrorKind::Usage, format!("a SQLite database has no file number {file}")))
    }

    /// The pages changed since the state with `marks` at `since`, or why that cannot be told. Numbers are not asked: the
    /// same number may have been given to another state.
    fn changed_since(&self, snapshot: &Snapshot, since: Lsn, marks: &[StateMark]) -> Result<Result<PageSet, String>> {
        if mark::of_point(&self.point).iter().any(|mark| marks.contains(mark)) {
            return Ok(Ok(PageSet::new()));
        }
        if snapshot.is_journal() {
            return Ok(Err("the database keeps a rollback journal, not a write-ahead log".into()));
        }
        let Some(frame) = snapshot.proven_since(frame_of(since), marks)? else {
            return Ok(Err("the write-ahead log does not hold all that was written after the base".into()));
        };
        let pages = snapshot.changed_behind(frame).map(|page| PageRun::new(u64::from(page) - 1, 1));
        Ok(Ok(pages.collect()))
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

    fn valid_pages(&self, file: FileId) -> Result<Option<PageSet>> {
        let snapshot = self.own(file)?;
        if snapshot.pages() == 0 {
            return Ok(None);
        }
        let page = |number: u32| {
            let mut bytes = Vec::new();
            snapshot.read(u64::from(number) - 1, 1, &mut bytes).map(|()| bytes)
        };
        let Ok(header) = DbHeader::parse(&page(1)?) else { return Ok(None) };
        used_pages(header.first_free, header.free, snapshot.pages(), page)
    }

    fn read(&self, file: FileId, first: u64, count: u64, into: &mut Vec<u8>) -> Result<()> {
        self.own(file)?.read(first, count, into)
    }

    fn inspect(&self, _file: FileId, page: u64, bytes: &[u8]) -> PageState {
        inspect_page(self.files[0].page_size, page, bytes)
    }

    fn change_map(&self, since: Lsn, marks: Option<&[StateMark]>) -> Result<ChangeMap> {
        let Some(marks) = marks.filter(|marks| !marks.is_empty()) else {
            return Ok(ChangeMap::Unknown("the set below cannot prove which state it is".into()));
        };
        Ok(match self.changed_since(self.snapshot()?, since, marks)? {
            Ok(pages) if pages.is_empty() => ChangeMap::Complete { changes: Vec::new(), how: HOW.into() },
            Ok(pages) => ChangeMap::Complete { changes: vec![FileChanges { file: FILE, pages }], how: HOW.into() },
            Err(why) => ChangeMap::Unknown(why),
        })
    }

    fn end(&mut self) -> Result<EndInfo> {
        let parameters = parameters(self.snapshot()?)?;
        self.snapshot = None;
        let lsn = self.lsn();
        Ok(EndInfo {
            nodes: vec![NodeRange { node: NODE, begin_lsn: lsn, begin_seq: None, end_lsn: lsn, end_seq: None }],
            bak_end_lsn: lsn,
            needs_log: false,
            cookie: self.cookie.encode(),
            marks: Some(mark::of_point(&self.point)),
            parameters,
            carried: Vec::new(),
        })
    }

    fn log(&mut self, _sink: &mut dyn FnMut(setpiece_core::model::LogUnit, Vec<u8>) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

/// Judges a page. SQLite's pages carry neither checksum nor LSN, so only the begin of page 1 can be judged.
pub(crate) fn inspect_page(page_size: u32, page: u64, bytes: &[u8]) -> PageState {
    if page != 0 {
        return PageState::Unversioned;
    }
    match DbHeader::parse(bytes) {
        Ok(header) if header.page_size == page_size => PageState::Unversioned,
        Ok(header) => PageState::Bad(format!("page 1 says {} bytes a page, not {page_size}", header.page_size)),
        Err(what) => PageState::Bad(what.into()),
    }
}

fn file_entry(site: &Site, snapshot: &Snapshot) -> Result<FileEntry> {
    let name = site.path.file_name().unwrap_or_default();
    let odd = || {
        Error::new(ErrorKind::Source, "the name of the database file cannot be recorded")
            .on(site.path.display().to_string())
            .remedy("use a name of UTF-8 characters without backslash")
    };
    let path = name.to_str().and_then(|name| RelPath::new(name).ok()).ok_or_else(odd)?;
    let metadata = snapshot.file().metadata().map_err(|error| Error::io(site.path.display().to_string(), error))?;
    Ok(FileEntry {
        id: FILE,
        // VACUUM can change the page size; the pages then have nothing to do with those of before.
        generation: u64::from(snapshot.page_size()),
        tablespace: TABLESPACE,
        path,
        kind: FileKind::Paged,
        page_size: snapshot.page_size(),
        len: u64::from(snapshot.pages()) * u64::from(snapshot.page_size()),
        tracking: Tracking::PageHash,
        mode: Some(metadata.mode() & 0o777),
    })
}

/// What the database was made with, as of the snapshot.
fn parameters(snapshot: &Snapshot) -> Result<Vec<(String, String)>> {
    const NUMBERS: [&str; 5] = ["page_size", "auto_vacuum", "user_version", "application_id", "schema_version"];
    const WORDS: [&str; 2] = ["encoding", "journal_mode"];
    let mut all = vec![("sqlite_version".to_owned(), rusqlite::version().to_owned())];
    for name in NUMBERS {
        all.push((name.into(), snapshot.value::<i64>(&format!("PRAGMA {name}"))?.to_string()));
    }
    for name in WORDS {
        all.push((name.into(), snapshot.value::<String>(&format!("PRAGMA {name}"))?));
    }
    Ok(all)
}
