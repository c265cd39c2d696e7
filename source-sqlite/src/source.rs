//! A SQLite database as a source.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use setpiece_core::model::{Scope, SourceId};
use setpiece_core::source::{
    BackupRun, BeginRequest, CapturedPoint, IncrementRule, LogStream, NamedPosition, NodePosition, Source, SourceInfo,
};
use setpiece_core::{Error, ErrorKind, Result};

use crate::fault::lock;
use crate::identity::Identity;
use crate::place::{Clock, Cookie, Memory, number_by_hours};
use crate::run::{NODE, Run};
use crate::site::Site;
use crate::stream::Stream;

/// The name of the engine, in sets and on the command line.
pub(crate) const ENGINE: &str = "sqlite";

/// How a database is opened as a source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// What people call the source; the name of the file when not given.
    pub name: Option<String>,
    /// The source's identifier. When not given it is the one that a recovery wrote beside the database, or else one
    /// made of this machine and the path, so a database that is moved becomes another source unless it is given.
    pub id: Option<SourceId>,
    /// How long to wait for a lock that another connection holds. 10 seconds unless said otherwise.
    pub busy_timeout: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        SqliteOptions { name: None, id: None, busy_timeout: Duration::from_secs(10) }
    }
}

/// A SQLite database that can be backed up while other connections and processes use it.
#[derive(Clone, Debug)]
pub struct SqliteSource {
    site: Site,
    name: String,
    id: Option<SourceId>,
    /// What runs and streams of this process have seen, which may be newer than what is on record.
    known: Arc<Mutex<Option<Cookie>>>,
}

impl SqliteSource {
    /// The database at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when there is none, [`ErrorKind::Source`] when it is no SQLite database.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        SqliteSource::open_with(path, SqliteOptions::default())
    }

    /// The database at `path`, with options.
    ///
    /// # Errors
    /// As [`SqliteSource::open`].
    pub fn open_with(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self> {
        let path = path.as_ref();
        let path = path.canonicalize().map_err(|error| missing(path, error))?;
        let name = options.name.unwrap_or_else(|| {
            path.file_name().map_or_else(|| "sqlite".to_owned(), |name| name.to_string_lossy().into_owned())
        });
        let site = Site { path, busy: options.busy_timeout };
        drop(crate::snapshot::Snapshot::take(&site, None)?);
        Ok(SqliteSource { site, name, id: options.id, known: Arc::default() })
    }

    /// The identifier of the database at `path`, also when the database is no longer there: what a recovery wrote beside
    /// it, or else what is derived from this machine and the path.
    ///
    /// # Errors
    /// When the file that a recovery wrote cannot be read.
    pub fn id_at(path: impl AsRef<Path>) -> Result<SourceId> {
        Identity::of(&without_links(path.as_ref()), None).map(|identity| identity.id)
    }

    /// The file of the database, without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.site.path
    }

    fn identity(&self) -> Result<Identity> {
        Identity::of(&self.site.path, self.id)
    }

    /// What is known of the log: from the records, and from what this process saw.
    fn memory(&self, identity: &Identity, records: &[&[u8]]) -> Result<Memory> {
        let readable = records.iter().filter(|bytes| !bytes.is_empty());
        let mut cookies = readable.map(|bytes| Cookie::decode(bytes)).collect::<Result<Vec<_>>>()?;
        let clock = (cookies.len() < records.len()).then_some(Clock);
        cookies.extend(lock(&self.known).clone());
        let nothing = cookies.is_empty() && clock.is_none();
        let cookie = identity.cookie(if nothing { number_by_hours(SystemTime::now()) } else { 0 }, &cookies);
        let floor = clock.map_or(0, |clock| clock.next(cookie.highest()));
        Ok(Memory { cookie, floor, clock })
    }

    fn remember(&self, cookie: &Cookie) {
        match &mut *lock(&self.known) {
            Some(known) => known.merge(cookie),
            none => *none = Some(cookie.clone()),
        }
    }

    fn run(&self, record: Option<&[u8]>) -> Result<Run> {
        let identity = self.identity()?;
        let Memory { cookie, floor, .. } = self.memory(&identity, record.as_slice())?;
        let run = Run::begin(&self.site, &identity, cookie, floor)?;
        self.remember(run.cookie());
        Ok(run)
    }

    fn stream(&self, last: Option<&CapturedPoint>, newest: Option<&[u8]>) -> Result<Box<dyn LogStream + '_>> {
        let identity = self.identity()?;
        let records: Vec<&[u8]> = newest.into_iter().chain(last.map(|last| last.cookie.as_slice())).collect();
        let memory = self.memory(&identity, &records)?;
        Ok(Box::new(Stream::begin(&self.site, &identity, memory, Arc::clone(&self.known), last)?))
    }

    /// Where the log is. The number of its generation is that of the record when it is told by `newest`, or when a backup
    /// or a log stream of this process has been.
    fn current(&self, newest: Option<&[u8]>) -> Result<NodePosition> {
        let identity = self.identity()?;
        let Memory { cookie, floor, .. } = self.memory(&identity, newest.as_slice())?;
        let run = Run::begin(&self.site, &identity, cookie, floor)?;
        Ok(run.begin().first().copied().unwrap_or_default())
    }
}

impl Source for SqliteSource {
    fn info(&self) -> Result<SourceInfo> {
        if !self.site.path.is_file() {
            let gone = Error::new(ErrorKind::Source, "the database is gone");
            return Err(gone.on(self.site.path.display().to_string()));
        }
        Ok(SourceInfo {
            id: self.identity()?.id,
            name: self.name.clone(),
            engine: ENGINE.into(),
            version: rusqlite::version().into(),
            tablespace_scope: false,
        })
    }

    fn increment_rule(&self) -> IncrementRule {
        IncrementRule::KeepFromBaseBegin
    }

    fn positions(&self) -> Result<Vec<NamedPosition>> {
        self.positions_behind(None)
    }

    fn positions_behind(&self, newest: Option<&[u8]>) -> Result<Vec<NamedPosition>> {
        let NodePosition { node, lsn, seq } = self.current(newest)?;
        Ok(vec![NamedPosition { node, name: "COMMIT".into(), lsn, seq }])
    }

    fn checkpoint(&self) -> Result<Vec<NodePosition>> {
        self.site.link()?.checkpoint()?;
        Ok(vec![NodePosition { node: NODE, ..self.current(None)? }])
    }

    fn begin(&self, request: &BeginRequest<'_>) -> Result<Box<dyn BackupRun + '_>> {
        if *request.scope != Scope::Database {
            let what = format!("a SQLite database cannot be backed up by {}", request.scope);
            return Err(Error::new(ErrorKind::Usage, what).remedy("back up the whole database"));
        }
        Ok(Box::new(self.run(request.cookie)?))
    }

    fn log_stream(&self, last: Option<&CapturedPoint>) -> Result<Box<dyn LogStream + '_>> {
        self.stream(last, None)
    }

    fn join_memories(&self, cookies: &[&[u8]]) -> Result<Option<Vec<u8>>> {
        let mut all = cookies.iter().map(|bytes| Cookie::decode(bytes)).collect::<Result<Vec<_>>>()?.into_iter().rev();
        let Some(mut joined) = all.next() else { return Ok(None) };
        all.for_each(|other| joined.merge(&other));
        Ok(Some(joined.encode()))
    }

    fn log_stream_behind(
        &self,
        last: Option<&CapturedPoint>,
        newest: Option<&[u8]>,
    ) -> Result<Box<dyn LogStream + '_>> {
        self.stream(last, newest)
    }
}

/// A path without symbolic links, as far as it exists.
fn without_links(path: &Path) -> PathBuf {
    let beside = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(beside).unwrap_or_else(|| path.to_owned())
}

/// Why there is no file at `path`.
fn missing(path: &Path, error: std::io::Error) -> Error {
    let name = path.display().to_string();
    if error.kind() != std::io::ErrorKind::NotFound {
        return Error::io(name, error);
    }
    let made = match path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        Some(parent) => Error::new(ErrorKind::Io, format!("there is no directory {}", parent.display())),
        None => Error::new(ErrorKind::Io, "there is no database"),
    };
    made.on(name).remedy("correct the path: a database is never made here")
}

/// A source for each database that is attached to a connection: give the name of the schema and the file, columns 2
/// and 3 of `PRAGMA database_list`. `temp` and databases in memory, which have no file, are passed over.
///
/// # Errors
/// When one of them cannot be opened.
pub fn attached_sources<S, P>(rows: impl IntoIterator<Item = (S, P)>) -> Result<Vec<SqliteSource>>
where
    S: AsRef<str>,
    P: AsRef<Path>,
{
    let filed = rows.into_iter().filter(|(schema, path)| {
        !schema.as_ref().eq_ignore_ascii_case("temp") && !path.as_ref().as_os_str().is_empty()
    });
    filed
        .map(|(schema, path)| {
            let options = SqliteOptions { name: Some(schema.as_ref().to_owned()), ..SqliteOptions::default() };
            SqliteSource::open_with(path, options)
        })
        .collect()
}
