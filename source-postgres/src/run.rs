//! One backup: the files of the data directory, read while the server runs or stands still.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use setpiece_core::model::{
    BranchHistory, CarriedFile, FileEntry, FileId, LogUnit, Lsn, PageRun, PageSet, RelPath, StateMark, Tablespace,
    Timestamp,
};
use setpiece_core::source::{BackupRun, ChangeMap, EndInfo, JoinedChanges, NodePosition, PageState};
use setpiece_core::{Error, ErrorKind, Result};

use crate::changes::{file_changes, live_changes, pages_of, summarized_changes};
use crate::client::ConnectInfo;
use crate::control::Control;
use crate::dialect::Dialect;
use crate::page;
use crate::segments::{Last, LogDirectory};
use crate::session::Session;
use crate::standby;
use crate::tree::{Member, Tree};
use crate::wal::{GLOBAL_TABLESPACE, SegmentName, lsn_text};

/// Files that are kept open for the pages that come next.
const OPEN: usize = 32;

/// Microseconds by which the clocks of files and of backups may disagree on what was first.
const CLOCKS: i64 = 1_000_000;

/// A backup under way.
pub(crate) struct Run {
    pub(crate) directory: PathBuf,
    pub(crate) dialect: Dialect,
    pub(crate) control: Control,
    /// Whether the server is a standby, which ends no segment of the log when a backup ends.
    pub(crate) standby: bool,
    /// The connection that the backup was begun on; none when the server stands still.
    pub(crate) session: Option<Mutex<Session>>,
    /// How to reach the server once more; none when it stands still.
    pub(crate) connect: Option<ConnectInfo>,
    pub(crate) begin: [NodePosition; 1],
    pub(crate) timeline: u32,
    pub(crate) branch: BranchHistory,
    pub(crate) log: LogDirectory,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) files: Files,
    /// Where the redo that the set needs ends; known from the end on.
    pub(crate) end: Option<Lsn>,
}

/// The files of a backup and those that are open.
pub(crate) struct Files {
    entries: Vec<FileEntry>,
    members: Vec<Member>,
    tablespaces: Vec<Tablespace>,
    open: Mutex<VecDeque<(usize, Option<Arc<File>>)>>,
}

impl Files {
    pub(crate) fn new(tree: Tree) -> Self {
        let entries = tree.members.iter().map(|member| member.entry.clone()).collect();
        Files { entries, members: tree.members, tablespaces: tree.tablespaces, open: Mutex::default() }
    }

    fn find(&self, file: FileId) -> Result<usize> {
        let none = || Error::new(ErrorKind::Internal, format!("file {} is not part of the backup", file.0));
        self.entries.binary_search_by_key(&file, |entry| entry.id).map_err(|_| none())
    }

    /// The file, opened; `None` when it has vanished.
    fn opened(&self, at: usize) -> Result<Option<Arc<File>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = open.iter().find(|(have, _)| *have == at) {
            return Ok(file.clone());
        }
        let path = &self.members[at].path;
        let file = match File::open(path) {
            Ok(file) => Some(Arc::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io(path.display().to_string(), error)),
        };
        if open.len() >= OPEN {
            open.pop_front();
        }
        open.push_back((at, file.clone()));
        Ok(file)
    }

    /// Fills `into` from a place in a file, with zeros where the file ends early or is gone.
    fn read(&self, at: usize, offset: u64, into: &mut [u8]) -> Result<()> {
        let Some(file) = self.opened(at)? else {
            into.fill(0);
            return Ok(());
        };
        let mut filled = 0;
        while filled < into.len() {
            match file.read_at(&mut into[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(self.members[at].path.display().to_string(), error)),
            }
        }
        into[filled..].fill(0);
        Ok(())
    }
}

impl BackupRun for Run {
    fn online(&self) -> bool {
        self.session.is_some()
    }

    fn begin(&self) -> &[NodePosition] {
        &self.begin
    }

    fn branch(&self) -> &BranchHistory {
        &self.branch
    }

    fn tablespaces(&self) -> &[Tablespace] {
        &self.files.tablespaces
    }

    fn files(&self) -> &[FileEntry] {
        &self.files.entries
    }

    fn valid_pages(&self, _file: FileId) -> Result<Option<PageSet>> {
        Ok(None)
    }

    fn read(&self, file: FileId, first: u64, count: u64, into: &mut Vec<u8>) -> Result<()> {
        let at = self.files.find(file)?;
        let entry = &self.files.entries[at];
        let offset = entry.offset(first);
        let len = (count * u64::from(entry.page_size)).min(entry.len.saturating_sub(offset));
        into.clear();
        into.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        self.files.read(at, offset, into)
    }

    fn inspect(&self, file: FileId, page: u64, bytes: &[u8]) -> PageState {
        let member = self.files.find(file).ok().map(|at| &self.files.members[at]);
        match member.and_then(|member| member.place) {
            Some(place) => page::judge(bytes, place.first_block + page, self.control.checksums != 0),
            None => PageState::Unversioned,
        }
    }

    fn change_map(&self, since: Lsn, _marks: Option<&[StateMark]>) -> Result<ChangeMap> {
        let upto = self.begin[0].lsn;
        let minimal = "wal_level is minimal, at which the server's log does not tell everything";
        let live = match self.control.wal_level {
            0 => Err(minimal.to_owned()),
            _ => live_changes(&self.log.files()?, &self.branch, since, upto).and_then(|changes| file_changes(&changes)),
        };
        let gone = match live {
            Ok(changes) => {
                let how = format!("the server's own log since {}", lsn_text(since));
                return Ok(ChangeMap::Complete { changes, how });
            }
            Err(why) => why,
        };
        let Some(connect) = &self.connect else { return Ok(ChangeMap::Unknown(gone)) };
        // On a connection of its own: whatever happens to it, the backup goes on.
        let told = Session::connect(connect, self.dialect)
            .and_then(|mut session| summarized_changes(&mut session, &self.branch, since, upto));
        Ok(match told {
            Ok(Ok(changes)) => {
                let how = format!("the server's summaries of its log since {}, because {gone}", lsn_text(since));
                ChangeMap::Complete { changes, how }
            }
            Ok(Err(why)) => ChangeMap::Unknown(format!("{gone}, and {why}")),
            Err(error) => ChangeMap::Unknown(format!("{gone}, and its summaries cannot be read: {error}")),
        })
    }

    fn changed_pages(&self, file: &FileEntry, changes: &JoinedChanges) -> PageSet {
        let member = self.files.find(file.id).ok().map(|at| &self.files.members[at]);
        match member.and_then(|member| member.place) {
            Some(place) => pages_of(place, file.pages(), changes),
            None => [PageRun::new(0, file.pages())].into_iter().collect(),
        }
    }

    /// A database that was copied file by file has pages as old as its template, and may have taken the directory of
    /// another: it was given that one's number, or moved away and back.
    fn lsns_tell(&self, file: FileId, base_began: Timestamp) -> bool {
        let member = self.files.find(file).ok().map(|at| &self.files.members[at]);
        let Some(place) = member.and_then(|member| member.place) else { return false };
        let made = member.and_then(|member| member.made?.duration_since(UNIX_EPOCH).ok());
        let made = made.and_then(|made| i64::try_from(made.as_micros()).ok());
        let before = |made: i64| made.saturating_add(CLOCKS) < base_began.0;
        // Relations that all databases share lie in a directory that is made with the cluster.
        place.fork.tablespace == GLOBAL_TABLESPACE || made.is_some_and(before)
    }

    fn own_redo(&self, unit: &LogUnit) -> Result<Option<Vec<u8>>> {
        let Some(name) = unit.name.as_deref().and_then(SegmentName::parse) else { return Ok(None) };
        let Some(mut file) = self.log.files()?.open(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
        read.map_err(|error| Error::io(name.to_string(), error))?;
        Ok(Some(bytes))
    }

    fn end(&mut self) -> Result<EndInfo> {
        let mut carried = Vec::new();
        let mut end = match &self.session {
            Some(session) => {
                let stopped = session.lock().unwrap_or_else(PoisonError::into_inner).stop()?;
                carried.push(carry("backup_label", stopped.label.into_bytes())?);
                if !stopped.tablespace_map.is_empty() {
                    carried.push(carry("tablespace_map", stopped.tablespace_map.into_bytes())?);
                }
                stopped.lsn
            }
            None => Lsn(self.control.checkpoint.0 + 1),
        };
        // Behind everything else, as the server's documentation asks for.
        let (control, bytes) = Control::read(&self.directory, self.dialect)?;
        if control.system_identifier != self.control.system_identifier {
            return Err(Error::new(ErrorKind::Source, "the cluster was replaced by another one during the backup")
                .on(self.directory.display().to_string()));
        }
        if self.standby {
            end = standby::end(&control, self.timeline, end)?;
        }
        carried.push(carry(&self.dialect.control_file(), bytes)?);
        self.end = Some(end);
        Ok(self.log.end_info((self.begin[0].lsn, end), self.parameters.clone(), carried))
    }

    fn log(&mut self, sink: &mut dyn FnMut(LogUnit, Vec<u8>) -> Result<()>) -> Result<()> {
        let end = self.end.ok_or_else(|| Error::new(ErrorKind::Internal, "redo asked for before the end"))?;
        let last = if self.standby { Last::UpToEnd } else { Last::AsWritten };
        self.log.units(self.timeline, (self.begin[0].lsn, end), last, sink)
    }
}

pub(crate) fn carry(path: &str, bytes: Vec<u8>) -> Result<CarriedFile> {
    let path = RelPath::new(path).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
    Ok(CarriedFile { path, bytes })
}
