//! The data directory of a server that stands still as a source.

use std::fs;
use std::path::{Path, PathBuf};

use setpiece_core::source::{
    BackupRun, BeginRequest, CapturedPoint, IncrementRule, LogStream, NamedPosition, NodePosition, Source, SourceInfo,
};
use setpiece_core::{Error, ErrorKind, Result};

use crate::control::{Control, State};
use crate::dialect::Dialect;
use crate::identity::source_id;
use crate::run::{Files, Run};
use crate::segments::{LogDirectory, NODE};
use crate::tree::walk;

/// A cluster that was shut down.
pub struct PostgresDirectory {
    path: PathBuf,
    dialect: Dialect,
}

impl PostgresDirectory {
    /// The cluster in a data directory.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(PostgresDirectory { path: path.to_owned(), dialect: Dialect::of_directory(path)? })
    }

    fn control(&self) -> Result<Control> {
        Control::read(&self.path, self.dialect).map(|(control, _)| control)
    }

    /// Refuses a cluster that runs or that was not shut down cleanly.
    fn at_rest(&self) -> Result<Control> {
        let place = || self.path.display().to_string();
        if let Some(lock) = lock_file(&self.path) {
            return Err(Error::new(ErrorKind::Source, format!("the server runs: {} exists", lock.display()))
                .on(place())
                .remedy("back it up online with --source postgres://..., or stop it first"));
        }
        let control = self.control()?;
        match control.state {
            State::ShutDown | State::ShutDownInRecovery => Ok(control),
            state => Err(Error::new(ErrorKind::Source, format!("the server was not shut down cleanly ({state:?})"))
                .on(place())
                .remedy("start it so that it recovers, then stop it or back it up online")),
        }
    }

    fn position(control: &Control) -> NodePosition {
        NodePosition { node: NODE, lsn: control.redo, seq: None }
    }
}

/// The file that a server keeps in its directory while it runs.
pub(crate) fn lock_file(directory: &Path) -> Option<PathBuf> {
    ["postmaster.pid", "kingbase.pid"].map(|name| directory.join(name)).into_iter().find(|lock| lock.exists())
}

impl Source for PostgresDirectory {
    fn info(&self) -> Result<SourceInfo> {
        let control = self.control()?;
        let version = self.path.join(self.dialect.version_file());
        let version = fs::read_to_string(&version).map_err(|error| Error::io(version.display().to_string(), error))?;
        let name = self.path.file_name().map_or_else(|| "cluster".into(), |name| name.to_string_lossy().into_owned());
        Ok(SourceInfo {
            id: source_id(control.system_identifier),
            name,
            engine: self.dialect.engine().into(),
            version: version.trim().into(),
            tablespace_scope: false,
        })
    }

    fn increment_rule(&self) -> IncrementRule {
        IncrementRule::KeepFromBaseBegin
    }

    fn positions(&self) -> Result<Vec<NamedPosition>> {
        let lsn = self.control()?.checkpoint;
        Ok(vec![NamedPosition { node: NODE, name: "checkpoint".into(), lsn, seq: None }])
    }

    fn checkpoint(&self) -> Result<Vec<NodePosition>> {
        Ok(vec![PostgresDirectory::position(&self.at_rest()?)])
    }

    fn begin(&self, _request: &BeginRequest<'_>) -> Result<Box<dyn BackupRun + '_>> {
        let control = self.at_rest()?;
        if control.wal_level == 0 {
            let text = "it ran with wal_level = minimal, and a server does not recover from such a log";
            return Err(Error::new(ErrorKind::Source, text)
                .on(self.path.display().to_string())
                .remedy("set wal_level = replica, start the server and stop it again, then back it up"));
        }
        let log = LogDirectory::of(&self.path, self.dialect, &control);
        let tree = walk(&self.path, self.dialect, &control, &[])?;
        Ok(Box::new(Run {
            directory: self.path.clone(),
            dialect: self.dialect,
            begin: [PostgresDirectory::position(&control)],
            timeline: control.timeline,
            branch: log.history(control.timeline)?,
            parameters: vec![("data_checksums".into(), control.checksums.to_string())],
            files: Files::new(tree),
            control,
            standby: false,
            session: None,
            connect: None,
            log,
            end: None,
        }))
    }

    fn log_stream(&self, _last: Option<&CapturedPoint>) -> Result<Box<dyn LogStream + '_>> {
        Err(Error::new(ErrorKind::Unsupported, "a server that stands still writes no log")
            .on(self.path.display().to_string()))
    }
}
