//! Files that the server hands to its archive command, as units of redo: segments of the log and histories of timelines.

use std::fs;
use std::path::{Path, PathBuf};

use setpiece_core::model::{BranchHistory, BranchId, LogUnit, Lsn, LsnSpan, Seq, SourceId};
use setpiece_core::source::{CapturedUnit, SourceInfo};
use setpiece_core::{Error, ErrorKind, Result};

use crate::control::Control;
use crate::dialect::Dialect;
use crate::identity::source_id;
use crate::segments::{LogDirectory, NODE, history, written};
use crate::wal::{SegmentName, WalFile};

/// What an archive command was called for.
#[derive(Clone, Debug)]
pub enum LogFile {
    /// Something to keep.
    Keep(SourceInfo, Box<CapturedUnit>),
    /// Something that a restore does not need, such as the note about a backup that another tool took.
    Needless,
}

/// A cluster's data directory and what its archive and restore commands have to know of it.
pub struct LogHome {
    directory: PathBuf,
    dialect: Dialect,
    control: Control,
}

impl LogHome {
    /// The cluster in a data directory; archive and restore commands are run in it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none.
    pub fn open(directory: &Path) -> Result<Self> {
        let directory =
            std::path::absolute(directory).map_err(|error| Error::io(directory.display().to_string(), error))?;
        let dialect = Dialect::of_directory(&directory)?;
        let (control, _) = Control::read(&directory, dialect)?;
        Ok(LogHome { directory, dialect, control })
    }

    /// The source that the cluster is.
    #[must_use]
    pub fn source(&self) -> SourceId {
        source_id(self.control.system_identifier)
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
        Ok(LogFile::Keep(self.info()?, Box::new(CapturedUnit { unit, bytes, cookie: Vec::new(), branch })))
    }

    fn info(&self) -> Result<SourceInfo> {
        let version = self.directory.join(self.dialect.version_file());
        let version = fs::read_to_string(&version).map_err(|error| Error::io(version.display().to_string(), error))?;
        let name = self.directory.file_name().map_or_else(|| "cluster".into(), |n| n.to_string_lossy().into_owned());
        Ok(SourceInfo {
            id: self.source(),
            name,
            engine: self.dialect.engine().into(),
            version: version.trim().into(),
            tablespace_scope: false,
        })
    }

    fn segment(&self, name: SegmentName, bytes: &[u8]) -> Result<(LogUnit, BranchHistory)> {
        let log = self.log();
        Ok((log.whole_unit(name, bytes)?, log.history(name.timeline)?))
    }

    /// The last segment of a timeline that the server left, which it archives when it begins the next one. What lies
    /// behind its last record is of an older use of the file.
    fn partial(&self, name: SegmentName, bytes: &mut Vec<u8>) -> Result<(LogUnit, BranchHistory)> {
        let log = self.log();
        bytes.truncate(written(bytes)?);
        Ok((log.beginning(name, None, bytes)?, log.history(name.timeline)?))
    }

    fn log(&self) -> LogDirectory {
        LogDirectory::of(&self.directory, self.dialect, &self.control)
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
    };
    Ok((unit, history))
}
