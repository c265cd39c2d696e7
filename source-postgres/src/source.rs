//! A running server as a source.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use setpiece_core::model::Seq;
use setpiece_core::source::{
    BackupRun, BeginRequest, CapturedPoint, IncrementRule, LogStream, NamedPosition, NodePosition, Source, SourceInfo,
};
use setpiece_core::{Error, ErrorKind, Result};

use crate::archive::LogHome;
use crate::client::ConnectInfo;
use crate::control::Control;
use crate::identity::source_id;
use crate::protocol::ProtocolRun;
use crate::run::{Files, Run};
use crate::segments::{LogDirectory, NODE};
use crate::session::{ServerFacts, Session};
use crate::stream::{CaptureOptions, PostgresStream, Server};
use crate::tree::walk;

/// A server that runs on this machine, or whose data directory is mounted here.
pub struct PostgresSource {
    connect: ConnectInfo,
    capture: CaptureOptions,
    /// Whether the files are to come through the replication protocol.
    via_protocol: bool,
    /// Asked once: who a server is does not change.
    facts: Mutex<Option<ServerFacts>>,
    /// The connection on which that was asked, for what is asked next.
    idle: Mutex<Option<Session>>,
}

impl PostgresSource {
    /// The server at a connection URI of libpq's form, with one more parameter: with `via=protocol` the files come through
    /// the replication protocol, from a server whose data directory cannot be read here. Connects when something is asked
    /// of it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the URI is none.
    pub fn open(uri: &str) -> Result<Self> {
        let (uri, via_protocol) = without_via(uri)?;
        Ok(PostgresSource { via_protocol, ..PostgresSource::at(uri.parse()?) })
    }

    /// The server that a connection leads to. Connects when something is asked of it.
    #[must_use]
    pub fn at(connect: ConnectInfo) -> Self {
        PostgresSource {
            connect,
            capture: CaptureOptions::default(),
            via_protocol: false,
            facts: Mutex::default(),
            idle: Mutex::default(),
        }
    }

    /// Captures its log in another way than the usual one.
    #[must_use]
    pub fn capturing(mut self, options: CaptureOptions) -> Self {
        self.capture = options;
        self
    }

    fn session(&self) -> Result<Session> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It may have been cut off meanwhile.
        match idle.and_then(Session::still_there) {
            Some(session) => Ok(session),
            None => Session::connect(&self.connect, self.connect.dialect()),
        }
    }

    fn facts(&self) -> Result<ServerFacts> {
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(facts) => Ok(facts.clone()),
            None => {
                let mut session = self.session()?;
                let facts = session.facts()?;
                *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
                Ok(known.insert(facts).clone())
            }
        }
    }

    /// The cluster's log as a directory that is nowhere yet.
    fn log(&self) -> Result<LogDirectory> {
        let facts = self.facts()?;
        let setting = |name: &str| {
            let found =
                facts.settings.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.parse().ok());
            let strange = || Error::new(ErrorKind::Source, format!("the server does not tell its {name}"));
            found.ok_or_else(|| strange().on(self.connect.to_string()))
        };
        Ok(LogDirectory {
            path: PathBuf::new(),
            system_identifier: facts.system_identifier,
            segment_size: setting("wal_segment_size")?,
            block_size: setting("block_size")?,
        })
    }

    /// The files of its log: those that were copied to a directory, or else those in its own.
    ///
    /// # Errors
    /// When the server cannot be reached, or its data directory is not on this machine and is needed.
    pub fn log_home(&self, archive: Option<&Path>) -> Result<LogHome> {
        match archive {
            Some(archive) => Ok(LogHome::of(self.info()?, self.log()?).in_archive(archive)),
            None => {
                let facts = self.facts()?;
                let (directory, control) = self.directory(&facts)?;
                Ok(LogHome::of(self.info()?, LogDirectory::of(&directory, facts.dialect, &control)))
            }
        }
    }

    /// The data directory, once it is certain that it is this server's.
    fn directory(&self, facts: &ServerFacts) -> Result<(PathBuf, Control)> {
        let path = facts.data_directory.clone();
        if path.as_os_str().is_empty() {
            return Err(Error::new(ErrorKind::Source, "the user may not see where the data directory is")
                .on(self.connect.to_string())
                .remedy("back up as a superuser, or as a member of pg_read_all_settings"));
        }
        let place = || format!("{} of {}", path.display(), self.connect);
        let (control, _) = Control::read(&path, facts.dialect).map_err(|error| {
            error.on(place()).remedy(
                "back up on the server's machine, as the user that the server runs as, or add via=protocol to the URL",
            )
        })?;
        if control.system_identifier != facts.system_identifier {
            return Err(Error::new(ErrorKind::Source, "the data directory at this path is another cluster's")
                .on(place())
                .remedy("back up on the machine that the server runs on, or add via=protocol to the URL"));
        }
        Ok((path, control))
    }
}

impl Source for PostgresSource {
    fn info(&self) -> Result<SourceInfo> {
        let facts = self.facts()?;
        Ok(SourceInfo {
            id: source_id(facts.system_identifier),
            name: name_of(&facts),
            engine: facts.dialect.engine().into(),
            version: facts.version,
            tablespace_scope: false,
        })
    }

    fn increment_rule(&self) -> IncrementRule {
        IncrementRule::KeepFromBaseBegin
    }

    fn positions(&self) -> Result<Vec<NamedPosition>> {
        let lsn = self.session()?.log_end()?;
        Ok(vec![NamedPosition { node: NODE, name: "current".into(), lsn, seq: None }])
    }

    fn checkpoint(&self) -> Result<Vec<NodePosition>> {
        let lsn = self.session()?.checkpoint()?;
        Ok(vec![NodePosition { node: NODE, lsn, seq: None::<Seq> }])
    }

    fn begin(&self, request: &BeginRequest<'_>) -> Result<Box<dyn BackupRun + '_>> {
        let facts = self.facts()?;
        refuse_unfit(&facts)?;
        if request.without_log {
            self.session()?.refuse_unkept_log(&facts)?;
        }
        if self.via_protocol {
            return Ok(Box::new(ProtocolRun::begin(&self.connect, facts.dialect, self.session()?, facts)?));
        }
        let (directory, control) = self.directory(&facts)?;
        let log = LogDirectory::of(&directory, facts.dialect, &control);
        let mut session = self.session()?;
        if let Err(error) = session.reserve_log() {
            tracing::warn!(%error, "the server keeps its log for the backup only as long as its settings say");
        }
        let standby = session.in_recovery()?;
        let begin = session.start()?;
        let timeline = session.timeline()?;
        let branch = log.history(timeline)?;
        let tree = walk(&directory, facts.dialect, &control, &session.tablespaces()?)?;
        Ok(Box::new(Run {
            directory,
            dialect: facts.dialect,
            begin: [NodePosition { node: NODE, lsn: begin, seq: Some(log.number(begin)) }],
            timeline,
            branch,
            parameters: facts.settings,
            files: Files::new(tree),
            control,
            standby,
            session: Some(Mutex::new(session)),
            connect: Some(self.connect.clone()),
            log,
            end: None,
        }))
    }

    fn log_stream(&self, last: Option<&CapturedPoint>) -> Result<Box<dyn LogStream + '_>> {
        let log = self.log()?;
        let size = log.size()?;
        let (connect, dialect, options) = (self.connect.clone(), self.facts()?.dialect, self.capture.clone());
        Ok(Box::new(PostgresStream::begin(Server { connect, dialect, options, log, size }, last)?))
    }
}

/// The cluster's own name, or that of its directory.
fn name_of(facts: &ServerFacts) -> String {
    let directory = facts.data_directory.file_name().map(|name| name.to_string_lossy().into_owned());
    if facts.cluster_name.is_empty() {
        directory.unwrap_or_else(|| "cluster".into())
    } else {
        facts.cluster_name.clone()
    }
}

/// A URI without the parameter `via`, and whether that asked for the protocol.
fn without_via(uri: &str) -> Result<(String, bool)> {
    let Some((server, parameters)) = uri.split_once('?') else { return Ok((uri.to_owned(), false)) };
    let (via, rest): (Vec<&str>, Vec<&str>) = parameters.split('&').partition(|one| one.starts_with("via="));
    if via.iter().any(|one| !matches!(*one, "via=protocol" | "via=files")) {
        let text = format!("{:?} is no way to a server's files", via.join("&"));
        return Err(Error::new(ErrorKind::Usage, text).remedy("say via=files, which is the default, or via=protocol"));
    }
    let rest = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    Ok((format!("{server}{rest}"), via.contains(&"via=protocol")))
}

fn refuse_unfit(facts: &ServerFacts) -> Result<()> {
    if facts.wal_level == "minimal" {
        return Err(Error::new(ErrorKind::Source, "wal_level is minimal: the log does not hold what a restore needs")
            .remedy("set wal_level = replica and restart the server"));
    }
    Ok(())
}
