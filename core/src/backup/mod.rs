//! Taking a backup: the steps in their order, and undoing them when one fails.
//!
//! ```text
//! lock -> begin -> base -> pages, by channels -> end -> redo -> metadata
//! ```
//!
//! The metadata is written last: before that the set does not exist, whatever happens. What an error leaves behind is
//! removed at once where that is possible, and is an orphan for `expire` where it isn't.

mod base;
mod channel;
mod filter;
pub mod log;
mod packer;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

pub use channel::{BadPage, OnBadPage};
pub use packer::MIN_PIECE_SIZE;

use crate::catalog::Catalog;
use crate::catalog::cache::Cache;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::events::{Event, Observer};
use crate::format::{CipherId, Compression, KeyFileCopy, Parameter, PieceInfo, PieceKind, SECTION, SetKeys, SetMeta};
use crate::media::layout::{self, SetObject};
use crate::media::repository::Repository;
use crate::model::{Level, LogUnit, PieceNo, RepoId, Scope, SetId, SetSummary, Timestamp, Uuid};
use crate::pipeline::Cancel;
use crate::pipeline::run::{Stop, workers};
use crate::source::{BackupRun, BeginRequest, EndInfo, Source, SourceInfo};
use crate::transform::DataKey;

use base::{Plan, choose};
use channel::{Channel, Made, Shared};
use packer::{Packer, PieceFactory, Pieces};
use work::WorkQueue;

/// The most channels a backup or a restore can have.
pub const MAX_CHANNELS: u16 = 255;

/// How a backup is to be taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackupOptions {
    /// How much.
    pub level: Level,
    /// Of what.
    pub scope: Scope,
    /// What the set is called; made of source, level and time when not given.
    pub name: Option<String>,
    /// The base to build on; the nearest that fits when not given.
    pub base: Option<SetId>,
    /// Leave the redo out: the set is then of use only together with archived log.
    pub without_log: bool,
    /// Streams in parallel, 1 to [`MAX_CHANNELS`].
    pub channels: u16,
    /// How frames are compressed.
    pub compression: Compression,
    /// The most bytes in a piece, at least [`MIN_PIECE_SIZE`].
    pub max_piece_size: u64,
    /// What to do about damaged pages.
    pub on_bad_page: OnBadPage,
    /// Files to carry in the metadata, such as the engine's own key files.
    pub key_files: Vec<KeyFileCopy>,
}

impl Default for BackupOptions {
    fn default() -> Self {
        BackupOptions {
            level: Level::Full,
            scope: Scope::Database,
            name: None,
            base: None,
            without_log: false,
            channels: 2,
            compression: Compression::Zstd(1),
            max_piece_size: 4 << 30,
            on_bad_page: OnBadPage::Fail,
            key_files: Vec::new(),
        }
    }
}

/// What was taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackupReport {
    /// The set.
    pub summary: SetSummary,
    /// Why this level and base, and how changed pages were found.
    pub decisions: Vec<String>,
    /// Pieces.
    pub pieces: u32,
    /// Pages stored.
    pub pages: u64,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// Bytes stored before compression.
    pub raw_bytes: u64,
    /// Bytes on the medium, metadata and all.
    pub stored_bytes: u64,
    /// Damaged pages of the source, stored as they are.
    pub bad_pages: Vec<BadPage>,
}

/// What a use case works with.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Told of progress, warnings and decisions.
    pub observer: &'a dyn Observer,
    /// Looked at between frames.
    pub cancel: &'a Cancel,
    /// Copies of metadata, if the caller keeps any.
    pub cache: Option<&'a Cache>,
}

impl Surroundings<'_> {
    pub(crate) fn step(&self, name: &'static str) -> Result<()> {
        self.observer.event(&Event::Step { name });
        self.cancel.check()
    }

    pub(crate) fn decision(&self, text: &str) {
        self.observer.event(&Event::Decision { text: text.into() });
    }
}

/// Takes a backup of `source` into `repository`.
///
/// # Errors
/// Whatever the source or the medium fails with, [`ErrorKind::Locked`] while another backup of the same source runs,
/// [`ErrorKind::BadPage`] for damaged pages, [`ErrorKind::Usage`] for options that make no sense. Nothing is published
/// then.
///
/// # Crash safety
/// The set exists once its metadata does. What a crash leaves are objects without metadata, which `expire` removes.
pub fn backup(
    repository: &Repository,
    source: &dyn Source,
    options: &BackupOptions,
    around: Surroundings<'_>,
) -> Result<BackupReport> {
    check(options)?;
    around.step("lock")?;
    let info = source.info().doing(|| "asking the source who it is".into())?;
    if matches!(options.scope, Scope::Tablespace(_)) && !info.tablespace_scope {
        return Err(Error::new(ErrorKind::Usage, format!("{} has no tablespaces to back up alone", info.engine))
            .remedy("back up the database"));
    }
    let _writer = repository.lock_for_writing()?;
    let _only = repository.lock_source(info.id, "backup")?;
    around.step("catalog")?;
    let catalog = Catalog::load(repository, around.cache)?;
    check_name(&catalog, options)?;
    let set = new_set()?;
    let keys = repository.vault().new_set(set)?;
    let job = Job { repository, source, info, options, around, catalog, set, keys };
    let numbers = Arc::new(AtomicU32::new(1));
    let result = job.run(&numbers).doing(|| format!("backing up {}", job.info.name));
    if result.is_err() {
        job.undo(numbers.load(Ordering::Relaxed));
    }
    result
}

fn check(options: &BackupOptions) -> Result<()> {
    let usage = |what: &str, remedy: &str| Err(Error::new(ErrorKind::Usage, what).remedy(remedy));
    if !(1..=MAX_CHANNELS).contains(&options.channels) {
        return usage("the number of channels is out of range", "use 1 to 255");
    }
    if options.max_piece_size < MIN_PIECE_SIZE {
        return usage("pieces would be too small", "use a piece size of at least 16 MiB");
    }
    match options.scope {
        Scope::Log => usage("redo is not backed up like this", "use `setpiece log`"),
        Scope::Table(_) => usage("no source can back up a single table yet", "back up its database"),
        _ => Ok(()),
    }
}

fn check_name(catalog: &Catalog, options: &BackupOptions) -> Result<()> {
    let Some(name) = &options.name else { return Ok(()) };
    let plain = |c: char| c.is_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 128 || !name.chars().all(plain) || name == "latest" {
        return Err(Error::new(ErrorKind::Usage, "not a name for a set")
            .on(name.clone())
            .remedy("use letters, digits, dots, dashes and underscores, 128 at most, and not `latest`"));
    }
    if catalog.records().any(|record| record.summary.name == *name) {
        return Err(Error::new(ErrorKind::Exists, "there is a set of that name")
            .on(name.clone())
            .remedy("use another"));
    }
    Ok(())
}

/// A fresh identifier, by the clock.
pub(crate) fn new_uuid() -> Result<Uuid> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)
        .map_err(|error| Error::new(ErrorKind::Io, "the system gives no random bytes").because(error))?;
    Ok(Uuid::from_time(now().unix_millis(), random))
}

/// A fresh identifier for a set.
pub(crate) fn new_set() -> Result<SetId> {
    new_uuid().map(SetId)
}

/// A fresh identifier for a repository.
///
/// # Errors
/// When the system gives no random bytes.
pub fn new_repository_id() -> Result<RepoId> {
    new_uuid().map(RepoId)
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// One backup and what it works with.
struct Job<'a> {
    repository: &'a Repository,
    source: &'a dyn Source,
    info: SourceInfo,
    options: &'a BackupOptions,
    around: Surroundings<'a>,
    catalog: Catalog,
    set: SetId,
    keys: Option<(DataKey, SetKeys)>,
}

/// The pages of a set, stored.
struct Stored {
    made: Vec<Made>,
    read_bytes: u64,
}

impl Job<'_> {
    fn run(&self, numbers: &Arc<AtomicU32>) -> Result<BackupReport> {
        let began = now();
        self.around.step("begin")?;
        let cookie = self.catalog.newest_memory(self.info.id).map(|record| record.cookie.as_slice());
        let request = BeginRequest {
            scope: &self.options.scope,
            level: self.options.level,
            without_log: self.options.without_log,
            cookie,
        };
        let (mut run, plan) = choose(self, &request)?;
        plan.decisions.iter().for_each(|text| self.around.decision(text));
        let files_len: u64 = run.files().iter().map(|file| file.len).sum();
        self.around.observer.event(&Event::Started { operation: "backup", total_bytes: files_len });
        self.around.step("pages")?;
        let stored = self.store_pages(&*run, &plan, numbers)?;
        self.around.step("end")?;
        let end = run.end().doing(|| "ending the backup at the source".into())?;
        self.around.step("log")?;
        let (units, log_pieces) = self.store_log(&mut *run, &end, numbers)?;
        self.around.step("publish")?;
        let meta = self.meta(&*run, &plan, end, units, &stored, log_pieces, began);
        let published = self.repository.publish(&meta, self.keys.as_ref().map(|(key, keys)| (keys, key)))?;
        self.around.observer.event(&Event::Step { name: "published" });
        Ok(report(meta, &stored, published.len))
    }

    fn store_pages(&self, run: &dyn BackupRun, plan: &Plan<'_>, numbers: &Arc<AtomicU32>) -> Result<Stored> {
        let read_bytes = AtomicU64::new(0);
        let shared = Shared {
            run,
            files: run.files(),
            baseline: plan.baseline.as_ref(),
            on_bad_page: self.options.on_bad_page,
            observer: self.around.observer,
            read_bytes: &read_bytes,
        };
        let queue = WorkQueue::new(run.files(), |entry| filter::plan(plan.baseline.as_ref(), run, entry));
        let stop = Stop::new(self.around.cancel);
        let made = workers("backup", usize::from(self.options.channels), &stop, |number| {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            let pieces = Pieces::new(self.factory(numbers), number, PieceKind::Data)?;
            let mut channel = Channel::new(&shared, Packer::new(pieces));
            while let Some(extent) = if stop.is_set() { None } else { queue.next()? } {
                channel.extent(&extent)?;
            }
            // An abandoned piece must not be published: dropping the channel throws it away.
            if stop.is_set() { Ok(Made::default()) } else { channel.finish() }
        })?;
        Ok(Stored { made, read_bytes: read_bytes.into_inner() })
    }

    fn store_log(
        &self,
        run: &mut dyn BackupRun,
        end: &EndInfo,
        numbers: &Arc<AtomicU32>,
    ) -> Result<(Vec<LogUnit>, Vec<PieceInfo>)> {
        if !end.needs_log || self.options.without_log {
            return Ok(Default::default());
        }
        let mut units = Vec::new();
        let mut pieces = Pieces::new(self.factory(numbers), 0, PieceKind::Log)?;
        run.log(&mut |unit, bytes| {
            self.around.cancel.check()?;
            pieces.log(unit.clone(), &bytes)?;
            units.push(unit);
            Ok(())
        })
        .doing(|| "storing the redo that the set needs".into())?;
        base::check_log(&end.nodes, &units)?;
        Ok((units, pieces.finish()?))
    }

    fn factory(&self, numbers: &Arc<AtomicU32>) -> PieceFactory {
        PieceFactory {
            medium: self.repository.medium().clone(),
            set: self.set,
            compression: self.options.compression,
            key: self.keys.as_ref().map(|(key, _)| key.clone()),
            max_piece_size: self.options.max_piece_size,
            numbers: numbers.clone(),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the steps of a backup each add their part to the metadata")]
    fn meta(
        &self,
        run: &dyn BackupRun,
        plan: &Plan<'_>,
        end: EndInfo,
        log: Vec<LogUnit>,
        stored: &Stored,
        log_pieces: Vec<PieceInfo>,
        began: Timestamp,
    ) -> SetMeta {
        let data_pieces = stored.made.iter().flat_map(|made| made.pieces.clone());
        let mut pieces: Vec<PieceInfo> = data_pieces.chain(log_pieces).collect();
        pieces.sort_by_key(|piece| piece.piece);
        let bad: Vec<_> = stored.made.iter().flat_map(|made| made.bad_pages.clone()).collect();
        let ended = now();
        let summary = SetSummary {
            id: self.set,
            name: self.options.name.clone().unwrap_or_else(|| made_up_name(&self.info.name, plan.level, began)),
            source: self.info.id,
            source_name: self.info.name.clone(),
            engine: self.info.engine.clone(),
            level: plan.level,
            scope: self.options.scope.clone(),
            base: plan.base,
            consistency: end.consistency(self.options.without_log),
            online: run.online(),
            branch: run.branch().clone(),
            nodes: end.nodes,
            bak_end_lsn: end.bak_end_lsn,
            began,
            ended,
            bad_pages: bad.len() as u64,
        };
        SetMeta {
            summary,
            tool: concat!("setpiece ", env!("CARGO_PKG_VERSION")).into(),
            tablespaces: run.tablespaces().to_vec(),
            files: run.files().to_vec(),
            raw_bytes: pieces.iter().map(|piece| piece.raw_bytes).sum(),
            stored_bytes: pieces.iter().map(|piece| piece.len).sum(),
            pieces,
            log,
            parameters: parameters(&self.info, end.parameters),
            key_files: self.options.key_files.clone(),
            cookie: end.cookie,
            decisions: plan.decisions.clone(),
            bad_pages: bad.into_iter().map(Into::into).collect(),
            compression: self.options.compression,
            cipher: if self.keys.is_some() { CipherId::Aes256Gcm } else { CipherId::None },
            section: SECTION,
            captured: false,
            channels: self.options.channels,
        }
    }

    /// Removes what a failed backup wrote, the metadata first: it may have been published although the medium said that
    /// it failed. Failing at this as well changes nothing: what stays is an orphan, or a set that is whole.
    fn undo(&self, next_number: u32) {
        let pieces = (1..next_number).map(|number| SetObject::Piece(PieceNo(number)));
        for object in std::iter::once(SetObject::Meta).chain(pieces) {
            let removed = layout::object(self.set, object).and_then(|name| self.repository.medium().remove(&name));
            if let Err(error) = removed {
                let text = format!("what the failed backup wrote stays until `expire` removes it: {error}");
                self.around.observer.event(&Event::Warning { text });
                return;
            }
        }
    }
}

fn parameters(info: &SourceInfo, of_source: Vec<(String, String)>) -> Vec<Parameter> {
    let version = ("engine_version".to_owned(), info.version.clone());
    std::iter::once(version).chain(of_source).map(|(name, value)| Parameter { name, value }).collect()
}

impl From<BadPage> for crate::format::BadPage {
    fn from(bad: BadPage) -> Self {
        crate::format::BadPage { file: bad.file, page: crate::model::PageNo(bad.page), why: bad.fault }
    }
}

fn report(meta: SetMeta, stored: &Stored, meta_len: u64) -> BackupReport {
    BackupReport {
        decisions: meta.decisions,
        pieces: u32::try_from(meta.pieces.len()).unwrap_or(u32::MAX),
        pages: stored.made.iter().map(|made| made.pages).sum(),
        read_bytes: stored.read_bytes,
        raw_bytes: meta.raw_bytes,
        stored_bytes: meta.stored_bytes + meta_len,
        bad_pages: stored.made.iter().flat_map(|made| made.bad_pages.clone()).collect(),
        summary: meta.summary,
    }
}

/// `app.db-full-20261122T025356Z`, with as much of the source's name as names of sets can take.
fn made_up_name(source: &str, level: Level, began: Timestamp) -> String {
    let plain = source.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' });
    let source: String = plain.take(64).collect();
    let time: String = Timestamp(began.0.div_euclid(1000) * 1000).to_string().replace(['-', ':'], "");
    format!("{source}-{level}-{time}")
}
