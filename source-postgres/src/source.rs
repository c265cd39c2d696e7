//! A running server as a source.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use setpiece_core::model::Seq;
use setpiece_core::source::{
    BackupRun, BeginRequest, CapturedPoint, IncrementRule, LogStream, NamedPosition, NodePosition, Source, SourceInfo,
};
use setpiece_core::{Error, ErrorKind, Result};

use crate::client::ConnectInfo;
use crate::control::Control;
use crate::dialect::Dialect;
use crate::identity::source_id;
use crate::protocol::ProtocolRun;
use crate::run::{Files, Run};
use crate::segments::{LogDirectory, NODE};
use crate::session::{ServerFacts, Session};
use crate::tree::walk;

/// A server that runs on this machine, or whose data directory is mounted here.
pub struct PostgresSource {
    connect: ConnectInfo,
    dialect: Dialect,
    /// Whether the files are to come through the replication protocol.
    via_protocol: bool,
    /// Asked once: who a server is does not change.
    facts: Mutex<Option<ServerFacts>>,
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
        let dialect = connect.dialect();
        PostgresSource { connect, dialect, via_protocol: false, facts: Mutex::default() }
    }

    fn session(&self) -> Result<Session> {
        Session::connect(&self.connect, self.dialect)
    }

    fn facts(&self) -> Result<ServerFacts> {
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(facts) => Ok(facts.clone()),
            None => Ok(known.insert(self.session()?.facts()?).clone()),
        }
    }

    /// The data directory, once it is certain that it is this server's.
    fn directory(&self, facts: &ServerFacts) -> Result<(PathBuf, Control)> {
        let path = facts.data_directory.clone();
        let place = || format!("{} of {}", path.display(), self.connect);
        let (control, _) = Control::read(&path, self.dialect).map_err(|error| {
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
            engine: self.dialect.engine().into(),
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

    fn begin(&self, _request: &BeginRequest<'_>) -> Result<Box<dyn BackupRun + '_>> {
        let facts = self.facts()?;
        refuse_unfit(&facts)?;
        if self.via_protocol {
            return Ok(Box::new(ProtocolRun::begin(&self.connect, self.dialect, self.session()?, facts)?));
        }
        let (directory, control) = self.directory(&facts)?;
        let log = LogDirectory::of(&directory, self.dialect, &control);
        let mut session = self.session()?;
        if let Err(error) = session.reserve_log() {
            tracing::warn!(%error, "the server keeps its log for the backup only as long as its settings say");
        }
        let standby = session.in_recovery()?;
        let begin = session.start()?;
        let timeline = session.timeline()?;
        let branch = log.history(timeline)?;
        let tree = walk(&directory, self.dialect, &control, &session.tablespaces()?)?;
        Ok(Box::new(Run {
            directory,
            dialect: self.dialect,
            begin: [NodePosition { node: NODE, lsn: begin, seq: Some(log.number(begin)) }],
            timeline,
            branch,
            parameters: facts.settings,
            files: Files::new(tree),
            control,
            standby,
            session: Some(Mutex::new(session)),
            log,
            end: None,
        }))
    }

    fn log_stream(&self, _last: Option<&CapturedPoint>) -> Result<Box<dyn LogStream + '_>> {
        Err(Error::new(ErrorKind::Unsupported, "the log of a server is not captured as a stream yet")
            .on(self.connect.to_string())
            .remedy("let the server archive it with `setpiece log push`"))
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
