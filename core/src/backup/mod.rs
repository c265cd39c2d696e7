//! Taking a backup: the steps in their order, and undoing them when one fails.
//!
//! ```text
//! lock -> begin -> base -> pages, by channels -> end -> redo -> metadata
//! ```
//!
//! The metadata is written last: before that the set does not exist, whatever happens. What an error leaves behind is
//! removed at once where that is possible, and is an orphan for `expire` where it isn't.

pub mod archive;
mod base;
mod channel;
mod continuity;
mod filter;
pub mod log;
mod options;
mod packer;
mod parts;
mod superseded;
pub mod sweep;
mod unit;
mod work;

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub use crate::catalog::fresh::repository_id as new_repository_id;
pub use crate::catalog::{MAX_CHANNELS, Surroundings};
pub use channel::{BadPage, OnBadPage};
pub use options::{BackupOptions, BackupReport};
pub use packer::MIN_PIECE_SIZE;

use crate::catalog::fresh::{now, set_id};
use crate::catalog::named::set_of;
use crate::catalog::{Catalog, SetRecord};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::events::Event;
use crate::format::{CipherId, Parameter, PieceInfo, PieceKind, SECTION, SetKeys, SetMeta};
use crate::media::layout::{self, SetObject};
use crate::media::repository::Repository;
use crate::media::turn::among_writers;
use crate::model::{FileEntry, Level, LogUnit, Lsn, PieceNo, Scope, SetId, SetSummary, Timestamp};
use crate::pipeline::run::{Stop, workers};
use crate::source::{BackupRun, BeginRequest, EndInfo, Source, SourceInfo};
use crate::transform::DataKey;

use base::{Inputs, Plan, choose};
use channel::{Channel, Made, Shared};
use options::{check, check_name};
use packer::{Packer, PieceFactory, Pieces};
use work::WorkQueue;

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
    let _writer = among_writers(repository, || around.cancel.check())?;
    let _only = repository.lock_source(info.id, "backup")?;
    around.step("catalog")?;
    let catalog = Catalog::load(repository, around.cache)?;
    check_name(&catalog, options)?;
    let set = set_id()?;
    let keys = repository.vault().new_set(set)?;
    let inputs = Inputs { repository, source, info, catalog, options };
    let job = Job { repository, options, around, inputs, set, keys };
    let numbers = Arc::new(AtomicU32::new(1));
    let result = job.run(&numbers).doing(|| format!("backing up {}", job.inputs.info.name));
    if result.is_err() {
        job.undo(numbers.load(Ordering::Relaxed));
    }
    result
}

/// One backup and what it works with.
struct Job<'a> {
    repository: &'a Repository,
    options: &'a BackupOptions,
    around: Surroundings<'a>,
    inputs: Inputs<'a>,
    set: SetId,
    keys: Option<(DataKey, SetKeys)>,
}

/// The pages of a set, stored.
struct Stored {
    made: Vec<Made>,
    files: Vec<FileEntry>,
    read_bytes: u64,
}

impl Job<'_> {
    fn run(&self, numbers: &Arc<AtomicU32>) -> Result<BackupReport> {
        let began = now();
        self.around.step("begin")?;
        let (source, readable) = (self.inputs.source, self.repository.vault().can_read());
        let cookie = self.inputs.catalog.memory_of(source, self.inputs.info.id, readable)?;
        let request = BeginRequest {
            scope: &self.options.scope,
            level: self.options.level,
            without_log: self.options.without_log,
            cookie: cookie.as_deref(),
        };
        let (mut run, plan) = choose(&self.inputs, &request)?;
        self.must_be_its_own(&*run)?;
        plan.decisions.iter().for_each(|text| self.around.decision(text));
        let files_len: u64 = run.files().iter().map(|file| file.len).sum();
        self.around.observer.event(&Event::Started { operation: "backup", total_bytes: files_len });
        self.around.step("pages")?;
        let stored = self.store_pages(&*run, &plan, numbers)?;
        self.around.step("end")?;
        let end = run.end().doing(|| "ending the backup at the source".into())?;
        self.check_end(&plan, &end)?;
        self.around.step("log")?;
        let (units, log_pieces) = self.store_log(&mut *run, &end, numbers)?;
        self.around.step("publish")?;
        let mut meta = self.meta(&*run, &plan, end, units, &stored, log_pieces, began);
        meta.put_back = self.put_back(&meta.summary);
        let published = self.repository.publish(&meta, self.keys.as_ref().map(|(key, keys)| (keys, key)))?;
        self.around.observer.event(&Event::Step { name: "published" });
        meta.summary = self.inputs.catalog.aligned(meta.summary, meta.put_back);
        Ok(report(meta, &stored, published.len))
    }

    /// Two databases that were restored from one set may both go on as the same branch. Redo of one, taken for the other's,
    /// would bring back what neither ever held.
    fn must_be_its_own(&self, run: &dyn BackupRun) -> Result<()> {
        let id = self.inputs.info.id;
        let on_branch = |record: &&SetRecord| record.captured && record.summary.branch.current == run.branch().current;
        let records = self.inputs.catalog.of_source(id).filter(on_branch);
        let mut units: Vec<(SetId, &LogUnit)> =
            records.flat_map(|record| record.log.iter().map(|unit| (record.summary.id, unit))).collect();
        units.sort_by_key(|(_, unit)| Reverse(unit.span.upto));
        for (set, unit) in units.into_iter().filter(|(_, unit)| unit.whole().is_none() && !unit.span.is_empty()) {
            let (Some(name), Some(own)) = (&unit.name, run.own_redo(unit)?) else { continue };
            if set_of(id, name, &own) == set {
                return Ok(());
            }
            let text = format!("is not the server whose redo of branch {} is on record", unit.branch);
            return Err(Error::new(ErrorKind::Exists, text).on(format!("unit {name} of {}", self.inputs.info.name)).remedy(
                "two servers were restored and go on as the same branch: restore one of them again, so that it becomes a \
                 branch of its own, or back it up into another repository",
            ));
        }
        Ok(())
    }

    /// A source that lags behind the one its base was taken of, as a standby may, has older pages than the base: they make
    /// no consistent set together.
    fn check_end(&self, plan: &Plan<'_>, end: &EndInfo) -> Result<()> {
        let base = plan.base.and_then(|base| self.inputs.catalog.get(base)).map(|record| &record.summary);
        let Some(base) = base.filter(|base| base.bak_end_lsn > end.bak_end_lsn) else { return Ok(()) };
        let (at, needed) = (end.bak_end_lsn, base.bak_end_lsn);
        Err(Error::new(ErrorKind::Source, format!("is at LSN {at}, behind LSN {needed} where its base ends"))
            .on(self.inputs.info.name.clone())
            .remedy("wait until the standby has caught up, or take a full backup")
            .retryable(true))
    }

    /// Where redo on record has the state that was backed up, if it goes on from there. The catalog was read before the
    /// backup began: what it holds was there before.
    fn put_back(&self, set: &SetSummary) -> Option<Lsn> {
        let left = self.inputs.catalog.left_behind(set.source, set.branch.current, set.marks.as_deref()?)?;
        let text = format!(
            "the database is in the state that it had at LSN {} again, though it has gone on to LSN {} since: was it put \
             back? From now on the latest state is that of set {}; to get what was undone, restore to LSN {} or before",
            left.at, left.upto, set.name, left.upto
        );
        self.around.observer.event(&Event::Warning { text });
        Some(left.at)
    }

    fn store_pages(&self, run: &dyn BackupRun, plan: &Plan<'_>, numbers: &Arc<AtomicU32>) -> Result<Stored> {
        let read_bytes = AtomicU64::new(0);
        let shared = Shared {
            run,
            baseline: plan.baseline.as_ref(),
            on_bad_page: self.options.on_bad_page,
            observer: self.around.observer,
            read_bytes: &read_bytes,
        };
        if run.sequential() {
            return self.store_stream(&shared, plan, numbers);
        }
        let queue = WorkQueue::new(run.files(), |entry| filter::plan(plan.baseline.as_ref(), run, entry));
        let stop = Stop::new(self.around.cancel);
        let made = workers("backup", usize::from(self.options.channels), &stop, |number| {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            let pieces = Pieces::new(self.factory(numbers), number, PieceKind::Data)?;
            let mut channel = Channel::new(&shared, Packer::new(pieces));
            while let Some(extent) = if stop.is_set() { None } else { queue.next()? } {
                channel.extent(&run.files()[extent.file], &extent)?;
            }
            // An abandoned piece must not be published: dropping the channel throws it away.
            if stop.is_set() { Ok(Made::default()) } else { channel.finish() }
        })?;
        Ok(Stored { made, files: run.files().to_vec(), read_bytes: read_bytes.into_inner() })
    }

    /// Stores the files of a sequential source as they come, in one channel.
    fn store_stream(&self, shared: &Shared<'_>, plan: &Plan<'_>, numbers: &Arc<AtomicU32>) -> Result<Stored> {
        let pieces = Pieces::new(self.factory(numbers), 0, PieceKind::Data)?;
        let mut channel = Channel::new(shared, Packer::new(pieces));
        let mut files = Vec::new();
        while let Some(entry) = shared.run.next_file()? {
            let file = std::slice::from_ref(&entry);
            let queue = WorkQueue::new(file, |entry| filter::plan(plan.baseline.as_ref(), shared.run, entry));
            while let Some(extent) = queue.next()? {
                self.around.cancel.check()?;
                channel.extent(&entry, &extent)?;
            }
            files.push(entry);
        }
        files.sort_by_key(|file| file.id);
        if let Some(twice) = files.windows(2).find(|two| two[0].id == two[1].id) {
            let text = format!("{} and {} have the same number", twice[0].path, twice[1].path);
            return Err(Error::new(ErrorKind::Source, text));
        }
        let made = vec![channel.finish()?];
        Ok(Stored { made, files, read_bytes: shared.read_bytes.load(Ordering::Relaxed) })
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
            name: self.options.name.clone().unwrap_or_else(|| made_up_name(&self.inputs.info.name, plan.level, began)),
            source: self.inputs.info.id,
            source_name: self.inputs.info.name.clone(),
            engine: self.inputs.info.engine.clone(),
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
            marks: end.marks,
        };
        SetMeta {
            summary,
            tool: concat!("setpiece ", env!("CARGO_PKG_VERSION")).into(),
            tablespaces: run.tablespaces().to_vec(),
            files: stored.files.clone(),
            raw_bytes: pieces.iter().map(|piece| piece.raw_bytes).sum(),
            stored_bytes: pieces.iter().map(|piece| piece.len).sum(),
            pieces,
            log,
            parameters: parameters(&self.inputs.info, end.parameters),
            key_files: self.options.key_files.iter().cloned().chain(end.carried).collect(),
            cookie: end.cookie,
            decisions: plan.decisions.clone(),
            bad_pages: bad.into_iter().map(Into::into).collect(),
            compression: self.options.compression,
            cipher: if self.keys.is_some() { CipherId::Aes256Gcm } else { CipherId::None },
            section: SECTION,
            captured: false,
            channels: self.options.channels,
            put_back: None,
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
