//! Files that the server hands to its archive command, as units of redo: segments of the log and histories of timelines.

use std::fs;
use std::path::Path;
use std::time::Duration;

use setpiece_core::model::{BranchHistory, BranchId, LogUnit, Lsn, LsnSpan, Seq, SourceId};
use setpiece_core::source::{CapturedUnit, LogShelf, ShelfFile, SourceInfo};
use setpiece_core::{Error, ErrorKind, Result};

use crate::control::Control;
use crate::dialect::Dialect;
use crate::history::history;
use crate::identity::source_id;
use crate::segments::{Around, LogDirectory, NODE, written};
use crate::shelf;
use crate::wal::{SegmentName, WalFile, lsn_text};

/// How long the server may take to write the rest of a record that begins in a segment which it wants archived.
const PATIENCE: Duration = Duration::from_millis(500);

/// What an archive command was called for.
#[derive(Clone, Debug)]
pub enum LogFile {
    /// Something to keep.
    Keep(SourceInfo, Box<CapturedUnit>),
    /// Something that a restore does not need, such as the note about a backup that another tool took.
    Needless,
}

/// A cluster, and the directory in which files of its log lie.
pub struct LogHome {
    info: SourceInfo,
    log: LogDirectory,
    /// Whether the server itself works in the directory.
    live: bool,
}

impl LogHome {
    /// The log directory of the cluster in a data directory; archive and restore commands are run in it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none.
    pub fn open(directory: &Path) -> Result<Self> {
        let directory =
            std::path::absolute(directory).map_err(|error| Error::io(directory.display().to_string(), error))?;
        let dialect = Dialect::of_directory(&directory)?;
        let (control, _) = Control::read(&directory, dialect)?;
        let version = directory.join(dialect.version_file());
        let version = fs::read_to_string(&version).map_err(|error| Error::io(version.display().to_string(), error))?;
        let name = directory.file_name().map_or_else(|| "cluster".into(), |n| n.to_string_lossy().into_owned());
        let info = SourceInfo {
            id: source_id(control.system_identifier),
            name,
            engine: dialect.engine().into(),
            version: version.trim().into(),
            tablespace_scope: false,
        };
        Ok(LogHome { info, log: LogDirectory::of(&directory, dialect, &control), live: true })
    }

    /// The log of a cluster that is known, in its own log directory.
    pub(crate) fn of(info: SourceInfo, log: LogDirectory) -> Self {
        LogHome { info, log, live: true }
    }

    /// The same cluster's log in another directory, to which its files were copied.
    #[must_use]
    pub fn in_archive(self, directory: &Path) -> Self {
        LogHome { log: LogDirectory { path: directory.to_owned(), ..self.log }, live: false, ..self }
    }

    /// The source that the cluster is.
    #[must_use]
    pub fn source(&self) -> SourceId {
        self.info.id
    }

    /// The directory that its log lies in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.log.path
    }

    /// Bytes of a segment.
    pub(crate) fn segment_size(&self) -> u64 {
        u64::from(self.log.segment_size)
    }

    /// The segment behind another on the same timeline.
    pub(crate) fn segment_after(&self, name: SegmentName) -> Option<SegmentName> {
        let size = self.log.size().ok()?;
        SegmentName::new(name.timeline, name.number(size).ok()?.next()?, size)
    }

    /// Reads a file from the log directory.
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when it is of another cluster, not whole, or not what its name says.
    pub fn file(&self, path: &Path) -> Result<LogFile> {
        let place = || path.display().to_string();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".backup") {
            return Ok(LogFile::Needless);
        }
        let mut bytes = fs::read(path).map_err(|error| Error::io(place(), error))?;
        let (unit, branch) = match WalFile::parse(name) {
            Some(WalFile::History(timeline)) => history_unit(name, timeline, &bytes),
            Some(WalFile::Segment(segment)) => self.segment(segment, &bytes),
            Some(WalFile::Partial(segment)) => self.partial(segment, &mut bytes),
            _ => Err(Error::new(ErrorKind::Usage, "is no file of a log directory")
                .remedy("set archive_command to: setpiece log push --repo ... %p")),
        }
        .map_err(|error| error.on(place()))?;
        Ok(LogFile::Keep(self.info.clone(), Box::new(CapturedUnit { unit, bytes, cookie: Vec::new(), branch })))
    }

    fn segment(&self, name: SegmentName, bytes: &[u8]) -> Result<(LogUnit, BranchHistory)> {
        Ok((self.log.whole_unit(name, bytes, Around::Directory(PATIENCE))?, self.log.history(name.timeline)?))
    }

    /// The last segment of a timeline that the server left, which it archives when it begins the next one. What lies
    /// behind its last record is of an older use of the file.
    fn partial(&self, name: SegmentName, bytes: &mut Vec<u8>) -> Result<(LogUnit, BranchHistory)> {
        bytes.truncate(written(bytes)?);
        Ok((self.log.beginning(name, bytes, Around::Nothing)?, self.log.history(name.timeline)?))
    }
}

impl LogShelf for LogHome {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn files(&self) -> Result<Vec<ShelfFile>> {
        shelf::files(&self.log, self.live)
    }

    fn read(&self, path: &Path) -> Result<CapturedUnit> {
        let LogFile::Keep(_, captured) = self.file(path)? else {
            return Err(Error::new(ErrorKind::Usage, "is no redo").on(path.display().to_string()));
        };
        if captured.unit.whole().is_some() || captured.unit.span.is_empty() {
            return Ok(*captured);
        }
        self.whole(*captured).map_err(|error| error.on(path.display().to_string()))
    }

    fn is_live(&self) -> bool {
        self.live
    }
}

impl LogHome {
    /// A segment whose log does not go to its end is still being written or copied. Of a server that stands still it is
    /// the last, whose log is stored as far as it goes.
    fn whole(&self, mut captured: CapturedUnit) -> Result<CapturedUnit> {
        let written = written(&captured.bytes)?;
        if written == captured.bytes.len() {
            return Ok(captured);
        }
        let name = captured.unit.name.as_deref().and_then(SegmentName::parse);
        let rests = self.live && !shelf::runs(&self.log.path);
        let Some(name) = name.filter(|_| rests) else {
            let upto = Lsn(captured.unit.span.after.0.saturating_add(written as u64));
            let text = format!("holds log only up to {}: it is not whole, or it is damaged", lsn_text(upto));
            return Err(Error::new(ErrorKind::Damaged, text).remedy("look at it with pg_waldump"));
        };
        captured.bytes.truncate(written);
        captured.unit = self.log.beginning(name, &captured.bytes, Around::Nothing)?;
        Ok(captured)
    }
}

/// The history of a timeline is kept as a unit without redo, which no recovery asks for and the server can fetch.
pub(crate) fn history_unit(name: &str, timeline: u32, bytes: &[u8]) -> Result<(LogUnit, BranchHistory)> {
    let wrong = |_| Error::new(ErrorKind::Usage, "is no history of a timeline");
    let history = history(timeline, std::str::from_utf8(bytes).map_err(wrong)?)?;
    let fork = history.points.last().map_or(Lsn(0), |point| point.fork);
    let unit = LogUnit {
        node: NODE,
        branch: BranchId(u64::from(timeline)),
        seq: Seq(0),
        span: LsnSpan { after: fork, upto: fork },
        first_commit: None,
        last_commit: None,
        len: bytes.len() as u64,
        changes: None,
        name: Some(name.into()),
        links: None,
        timing: None,
        points: None,
    };
    Ok((unit, history))
}
