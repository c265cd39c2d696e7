//! A backup without access to the server's files: they come through the replication protocol, one after the other, as
//! `BASE_BACKUP` sends them, and the redo by `START_REPLICATION`. Nothing is kept on the way.
//!
//! What is lost is reading by several channels, and looking at a page again: a page that was changed while the server
//! read it is put right by the redo, and one that was not and does not fit its checksum is damaged.

mod log;
mod stream;
mod tar;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use setpiece_core::model::{
    BranchHistory, CarriedFile, FileEntry, FileId, LogUnit, Lsn, PageSet, StateMark, Tablespace, TablespaceId,
    TablespaceKind, Timestamp,
};
use setpiece_core::source::{BackupRun, ChangeMap, EndInfo, NodePosition, PageState};
use setpiece_core::{Error, ErrorKind, Result};

use self::stream::{Announced, Member, Stream};
use self::tar::Kind;
use crate::client::{Client, ConnectInfo, Mode};
use crate::control::Control;
use crate::dialect::Dialect;
use crate::history::history;
use crate::page;
use crate::run::carry;
use crate::segments::{LogDirectory, NODE};
use crate::session::{Built, ServerFacts, Session};
use crate::standby;
use crate::tree::{Root, Space, keeps_streamed, member};
use crate::wal::DEFAULT_TABLESPACE;

/// The first version whose base backup is one stream with the names of its archives.
const OLDEST: u32 = 150_000;
/// The first number of what users make.
const FIRST_MADE: u32 = 16_384;
/// The most bytes of a file that is carried in the metadata.
const CARRIED: u64 = 1 << 20;

/// A backup under way.
pub(crate) struct ProtocolRun {
    dialect: Dialect,
    standby: bool,
    built: Built,
    /// Reserves the log; the server lets it go when this ends.
    session: Mutex<Session>,
    replication: Option<Client>,
    begin: [NodePosition; 1],
    timeline: u32,
    branch: BranchHistory,
    parameters: Vec<(String, String)>,
    tablespaces: Vec<Tablespace>,
    log: LogDirectory,
    stream: Mutex<State>,
    end: Option<Lsn>,
}

struct State {
    /// Gone when the last file was read.
    stream: Option<Stream>,
    current: Option<Current>,
    carried: Vec<CarriedFile>,
}

/// The file that is read.
struct Current {
    id: FileId,
    page_size: u32,
    first_block: Option<u64>,
    /// The page that comes next.
    next: u64,
}

impl ProtocolRun {
    /// Begins a backup.
    pub(crate) fn begin(
        info: &ConnectInfo,
        dialect: Dialect,
        mut session: Session,
        facts: ServerFacts,
    ) -> Result<Self> {
        if session.version < OLDEST || dialect != Dialect::Postgresql {
            return Err(Error::new(ErrorKind::Unsupported, "its base backup cannot be read as a stream")
                .on(info.to_string())
                .remedy("back up on the server's machine without via=protocol; PostgreSQL 15 and later can do both"));
        }
        let built = session.built()?;
        let standby = session.in_recovery()?;
        session.reserve_log()?;
        let places = session.tablespaces()?;
        let mut replication = Client::connect(info, Mode::PhysicalReplication)?;
        let (stream, begin, timeline, announced) = Stream::begin(Client::connect(info, Mode::PhysicalReplication)?)?;
        refuse_unsent(&announced, &places)?;
        let branch = branch(&mut replication, timeline)?;
        let log = LogDirectory {
            path: PathBuf::new(),
            system_identifier: facts.system_identifier,
            segment_size: built.wal_segment_size,
            block_size: built.block_size,
        };
        Ok(ProtocolRun {
            dialect,
            standby,
            session: Mutex::new(session),
            replication: Some(replication),
            begin: [NodePosition { node: NODE, lsn: begin, seq: Some(log.number(begin)) }],
            timeline,
            branch,
            parameters: facts.settings,
            tablespaces: tablespaces(dialect, &announced, &places),
            built,
            log,
            stream: Mutex::new(State { stream: Some(stream), current: None, carried: Vec::new() }),
            end: None,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a member is recorded; `None` for what does not belong into a backup.
    fn member(&self, found: &Member) -> Result<Option<crate::tree::Member>> {
        if found.header.kind != Kind::File {
            return Ok(None);
        }
        let root = self.root(found.tablespace)?;
        let name = &found.header.name;
        if !keeps_streamed(self.dialect, name, &root) {
            return Ok(None);
        }
        let built = (self.built.checksums, self.built.block_size, self.built.blocks_per_segment);
        member(PathBuf::from(name), name, (found.header.len, found.header.mode), &root, built).map(Some)
    }

    fn root(&self, tablespace: Option<u32>) -> Result<Root> {
        let Some(oid) = tablespace else { return Ok(Root::top()) };
        let known = self.tablespaces.iter().find(|known| known.id.0 == oid);
        let known =
            known.ok_or_else(|| Error::new(ErrorKind::Source, format!("tablespace {oid} was not announced")))?;
        Ok(Root::of(self.dialect, oid, known.location.is_some()))
    }
}

impl State {
    fn stream(&mut self) -> Result<&mut Stream> {
        self.stream.as_mut().ok_or_else(|| Error::new(ErrorKind::Internal, "a file was asked for after the last one"))
    }

    /// Reads a small file that goes into the metadata.
    fn carry(&mut self, name: &str, len: u64) -> Result<()> {
        let len = usize::try_from(len).ok().filter(|_| len <= CARRIED);
        let len = len.ok_or_else(|| Error::new(ErrorKind::Source, "is too large").on(name.to_owned()))?;
        let mut bytes = vec![0; len];
        self.stream()?.read(&mut bytes)?;
        self.carried.push(carry(name, bytes)?);
        Ok(())
    }
}

impl BackupRun for ProtocolRun {
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
        &[]
    }

    fn sequential(&self) -> bool {
        true
    }

    fn next_file(&self) -> Result<Option<FileEntry>> {
        let mut state = self.state();
        let carried = ["backup_label".to_owned(), "tablespace_map".to_owned(), self.dialect.control_file()];
        while let Some(found) = state.stream()?.next()? {
            if found.tablespace.is_none() && carried.contains(&found.header.name) {
                state.carry(&found.header.name, found.header.len)?;
            } else if let Some(member) = self.member(&found)? {
                let (id, page_size) = (member.entry.id, member.entry.page_size);
                state.current =
                    Some(Current { id, page_size, first_block: member.place.map(|place| place.first_block), next: 0 });
                return Ok(Some(member.entry));
            }
        }
        state.current = None;
        Ok(None)
    }

    fn valid_pages(&self, _file: FileId) -> Result<Option<PageSet>> {
        Ok(None)
    }

    fn read(&self, file: FileId, first: u64, count: u64, into: &mut Vec<u8>) -> Result<()> {
        let mut state = self.state();
        let out_of_order = || Error::new(ErrorKind::Internal, "a file of a stream is read out of order");
        let current = state.current.as_mut().filter(|current| current.id == file && current.next == first);
        let current = current.ok_or_else(out_of_order)?;
        current.next = first.saturating_add(count);
        let wanted = count.saturating_mul(u64::from(current.page_size));
        let stream = state.stream()?;
        let len = usize::try_from(wanted.min(stream.left())).unwrap_or(usize::MAX);
        into.clear();
        into.resize(len, 0);
        stream.read(into)
    }

    fn inspect(&self, file: FileId, page: u64, bytes: &[u8]) -> PageState {
        let first =
            self.state().current.as_ref().filter(|current| current.id == file).and_then(|file| file.first_block);
        let Some(first) = first else { return PageState::Unversioned };
        match page::judge(bytes, first.saturating_add(page), self.built.checksums != 0) {
            // The redo holds a whole image of a page that is changed for the first time since the begin.
            PageState::Torn if page::lsn(bytes) >= self.begin[0].lsn => PageState::Unversioned,
            PageState::Torn => PageState::Bad("its checksum or its header is wrong".into()),
            state => state,
        }
    }

    fn change_map(&self, _since: Lsn, _marks: Option<&[StateMark]>) -> Result<ChangeMap> {
        Ok(ChangeMap::Unknown("the server sends its files whole".into()))
    }

    /// A database that was copied file by file has pages as old as its template, and when its directory was made the stream
    /// says too late.
    fn lsns_tell(&self, _file: FileId, _base_began: Timestamp) -> bool {
        false
    }

    fn end(&mut self) -> Result<EndInfo> {
        let mut state = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = state.stream.take();
        let stream = stream.ok_or_else(|| Error::new(ErrorKind::Internal, "a backup was ended twice"))?;
        let mut end = stream.end()?;
        let carried = std::mem::take(&mut state.carried);
        drop(state);
        let control = carried.iter().find(|file| file.path.as_str() == self.dialect.control_file());
        let control = control.ok_or_else(|| Error::new(ErrorKind::Source, "the server sent no control file"))?;
        let control = Control::decode(&control.bytes)?;
        if control.system_identifier != self.log.system_identifier {
            return Err(Error::new(ErrorKind::Source, "the server that sent the files is of another cluster")
                .remedy("name a single host, not several that a connection may go to"));
        }
        if self.standby {
            end = standby::end(&control, self.timeline, end)?;
        }
        self.end = Some(end);
        Ok(self.log.end_info((self.begin[0].lsn, end), self.parameters.clone(), carried))
    }

    fn log(&mut self, sink: &mut dyn FnMut(LogUnit, Vec<u8>) -> Result<()>) -> Result<()> {
        let missing = || Error::new(ErrorKind::Internal, "redo asked for before the end");
        let (end, client) = self.end.zip(self.replication.take()).ok_or_else(missing)?;
        // As long as the session lives the server keeps the log.
        let _reserved = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        log::units(client, &self.log, self.timeline, (self.begin[0].lsn, end), sink)
    }
}

/// The history of a timeline, as the server sends it.
fn branch(client: &mut Client, timeline: u32) -> Result<BranchHistory> {
    if timeline <= 1 {
        return history(timeline, "");
    }
    let rows = client.query(&format!("TIMELINE_HISTORY {timeline}"))?;
    let row =
        rows.first().ok_or_else(|| Error::new(ErrorKind::Source, "the server sent no history of its timeline"))?;
    history(timeline, &String::from_utf8_lossy(row.bytes("content")?.unwrap_or_default()))
}

/// Before version 16 a tablespace in the data directory, which is made for tests of the server, is not sent.
fn refuse_unsent(announced: &[Announced], known: &[Space]) -> Result<()> {
    let is_announced = |place: &&Space| announced.iter().any(|(oid, _)| *oid == place.oid);
    match known.iter().filter(|place| place.oid >= FIRST_MADE).find(|place| !is_announced(place)) {
        None => Ok(()),
        Some(place) => Err(Error::new(ErrorKind::Unsupported, "the server does not send this tablespace")
            .on(place.name.clone())
            .remedy(
                "if it was just dropped, back up again; if it lies in the data directory, back up without via=protocol",
            )),
    }
}

fn tablespaces(dialect: Dialect, announced: &[Announced], names: &[Space]) -> Vec<Tablespace> {
    let named = |oid: u32| names.iter().find(|place| place.oid == oid).map(|place| place.name.clone());
    let system = Tablespace {
        id: TablespaceId(DEFAULT_TABLESPACE),
        name: dialect.name("default"),
        kind: TablespaceKind::System,
        location: None,
    };
    let data = announced.iter().map(|(oid, place)| Tablespace {
        id: TablespaceId(*oid),
        name: named(*oid).unwrap_or_else(|| oid.to_string()),
        kind: TablespaceKind::Data,
        // One in the data directory has a relative place.
        location: place.starts_with('/').then(|| place.clone()),
    });
    std::iter::once(system).chain(data).collect()
}
