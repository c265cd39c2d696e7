//! The plan of a restore: where to start, which redo follows, which frames are read, and how many bytes that is.
//!
//! Nothing is written while planning. Every page of every file is resolved, so that a set whose index does not hold
//! what it should is found out before the target is touched.

use std::collections::BTreeMap;

use super::doubts;
use super::locate::{self, unit_key};
use super::request::RestoreRequest;
use crate::catalog::index::{ChainIndex, SectionMap, sections};
use crate::catalog::{Catalog, Surroundings};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::events::Event;
use crate::format::{PieceKind, SetMeta};
use crate::media::repository::Repository;
use crate::model::start::StartRequest;
use crate::model::{
    BranchHistory, CarriedFile, Consistency, FileEntry, LogUnit, Lsn, RecoveryTarget, Scope, SetId, SetSummary,
    SourceId, Tablespace, TablespaceKind,
};
use crate::source::Recovery;

/// What a restore reads and writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Frames that hold a live page; each is read once.
    pub frames: u64,
    /// Frames of the chain that hold none; they are not read.
    pub dead_frames: u64,
    /// Bytes of frames to read.
    pub read_bytes: u64,
    /// Pages to write; each once.
    pub pages: u64,
    /// Bytes of pages to write.
    pub write_bytes: u64,
    /// Units of redo to apply; a plan for a moment counts the one that proves that nothing before it is missing.
    pub log_units: u64,
    /// Bytes of those units before compression.
    pub log_bytes: u64,
}

/// What one set of the chain contributes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Share {
    /// The set.
    pub set: SetId,
    /// Its name.
    pub name: String,
    /// Frames read of it.
    pub frames: u64,
    /// Bytes read of it.
    pub read_bytes: u64,
    /// Pages it has the newest image of.
    pub pages: u64,
}

/// A plan, ready to be printed or carried out.
#[non_exhaustive]
pub struct RestorePlan {
    /// The set that it starts with, the newest of the chain.
    pub start: SetSummary,
    /// Where recovery is to stop.
    pub target: RecoveryTarget,
    /// The history of the branch that the target is on.
    pub history: BranchHistory,
    /// The history of every branch of the source on record.
    pub histories: Vec<BranchHistory>,
    /// The largest LSN on record.
    pub highest: Lsn,
    /// The files to write.
    pub files: Vec<FileEntry>,
    /// The tablespaces of the source.
    pub tablespaces: Vec<Tablespace>,
    /// The tablespace that is restored alone.
    pub tablespace: Option<String>,
    /// Key files of the source that the set carries, restored with it.
    pub key_files: Vec<CarriedFile>,
    /// The redo to apply: the unit and the set that holds it, in order.
    pub log: Vec<(SetId, LogUnit)>,
    /// How far the redo on record reaches.
    pub reaches: Lsn,
    /// What each set of the chain contributes, newest first.
    pub shares: Vec<Share>,
    /// The sums.
    pub totals: Totals,
    pub(super) index: ChainIndex,
}

/// Plans a restore.
///
/// # Errors
/// [`ErrorKind::Unreachable`] when the target cannot be reached, [`ErrorKind::ChainBroken`] when a set of the chain is
/// not whole, [`ErrorKind::Damaged`] when an index does not hold every page.
pub fn plan(
    repository: &Repository,
    recoveries: &[&dyn Recovery],
    request: &RestoreRequest,
    around: Surroundings<'_>,
) -> Result<RestorePlan> {
    repository.must_be_readable()?;
    let catalog = Catalog::load(repository, around.cache)?;
    let source = find_source(&catalog, request)?;
    let scope = request.tablespace.as_ref().map_or(Scope::Database, |name| Scope::Tablespace(name.clone()));
    let set =
        request.set.as_deref().map(|word| catalog.find_of(source, word).map(|record| record.summary.id)).transpose()?;
    let units: Vec<LogUnit> = catalog.of_source(source).flat_map(|record| record.log.iter().cloned()).collect();
    let asked = StartRequest { source, scope: &scope, target: &request.target, set, found: None };
    let start = locate::start(repository, &catalog, recoveries, &asked, &units, around)?;
    if let Some(gap) = start.gap {
        let text = format!("{gap}; recovery ends before that, at LSN {}", start.reaches);
        around.observer.event(&Event::Warning { text });
    }
    doubts::tell(&catalog, request, source, &start, around);
    let archived: Vec<LogUnit> =
        start.logs.iter().flat_map(|log| log.units.iter().map(|unit| (*unit).clone())).collect();
    let index = ChainIndex::open(repository, &start.chain, false).doing(|| "opening the chain".into())?;
    let meta = &index.newest()?.meta;
    let told = meta.told_bad_pages().into_iter().map(|text| Event::Warning { text });
    told.for_each(|event| around.observer.event(&event));
    let (files, tablespaces) = (wanted_files(meta, request)?, meta.tablespaces.clone());
    let log = if request.tablespace.is_some() { Vec::new() } else { log_in_order(&catalog, meta, request, archived)? };
    let mut plan = RestorePlan {
        // As the catalog has it, whose LSN is that of the redo.
        start: catalog.get(start.set).map_or_else(|| meta.summary.clone(), |record| record.summary.clone()),
        target: request.target.clone(),
        history: start.history,
        histories: histories(&catalog, source),
        highest: catalog.highest(source),
        files,
        tablespaces,
        tablespace: request.tablespace.clone(),
        key_files: if request.tablespace.is_some() { Vec::new() } else { index.newest()?.meta.key_files.clone() },
        log,
        reaches: start.reaches,
        shares: Vec::new(),
        totals: Totals::default(),
        index,
    };
    count(repository, &mut plan, around)?;
    Ok(plan)
}

fn histories(catalog: &Catalog, source: SourceId) -> Vec<BranchHistory> {
    let known = catalog.of_source(source).map(|record| (record.summary.branch.current, &record.summary.branch));
    known.collect::<BTreeMap<_, _>>().into_values().cloned().collect()
}

fn find_source(catalog: &Catalog, request: &RestoreRequest) -> Result<SourceId> {
    if let (Some(word), None) = (&request.set, &request.source) {
        return Ok(catalog.find(word)?.summary.source);
    }
    catalog.find_source(request.source.as_deref())
}

fn wanted_files(meta: &SetMeta, request: &RestoreRequest) -> Result<Vec<FileEntry>> {
    let Some(name) = &request.tablespace else { return Ok(meta.files.clone()) };
    let tablespace = meta.tablespaces.iter().find(|tablespace| tablespace.name == *name).ok_or_else(|| {
        let known: Vec<&str> = meta.tablespaces.iter().map(|tablespace| tablespace.name.as_str()).collect();
        Error::new(ErrorKind::NotFound, "the set has no such tablespace")
            .on(name.clone())
            .remedy(format!("it has: {}", known.join(", ")))
    })?;
    if tablespace.kind == TablespaceKind::Temp {
        return Err(Error::new(ErrorKind::Usage, "temporary tablespaces are not backed up").on(name.clone()));
    }
    Ok(meta.files.iter().filter(|file| file.tablespace == tablespace.id).cloned().collect())
}

/// The set's own redo, then what is archived behind it, each with the set that holds it.
fn log_in_order(
    catalog: &Catalog,
    meta: &SetMeta,
    request: &RestoreRequest,
    archived: Vec<LogUnit>,
) -> Result<Vec<(SetId, LogUnit)>> {
    let mut units: Vec<LogUnit> =
        if meta.summary.consistency == Consistency::WithLog { meta.log.clone() } else { Vec::new() };
    let beyond = !request.ends_with_set() || meta.summary.consistency == Consistency::WithoutLog;
    if beyond {
        let held: Vec<_> = units.iter().map(|unit| (unit.node, unit.branch, unit.span)).collect();
        units.extend(archived.into_iter().filter(|unit| !held.contains(&(unit.node, unit.branch, unit.span))));
        let whole: Vec<LogUnit> = units.iter().filter(|unit| unit.name.is_some()).cloned().collect();
        units.retain(|unit| !whole.iter().any(|more| more.span.upto > unit.span.upto && more.supersedes(unit)));
    }
    units.sort_by_key(|unit| (unit.span.after, unit.node, unit.span.upto));
    let mut holders: BTreeMap<_, SetId> = catalog.units().map(|(set, unit)| (unit_key(unit), set)).collect();
    holders.extend(meta.log.iter().map(|unit| (unit_key(unit), meta.summary.id)));
    let found = units.into_iter().map(|unit| match holders.get(&unit_key(&unit)) {
        Some(set) => Ok((*set, unit)),
        None => Err(Error::new(ErrorKind::Internal, "redo was chosen that no set holds")),
    });
    found.collect()
}

fn count(repository: &Repository, plan: &mut RestorePlan, around: Surroundings<'_>) -> Result<()> {
    let names = plan.index.sets().iter().map(|set| &set.meta.summary);
    let mut shares: Vec<Share> =
        names.map(|set| Share { set: set.id, name: set.name.clone(), frames: 0, read_bytes: 0, pages: 0 }).collect();
    for file in &plan.files {
        for section in 0..sections(file) {
            around.cancel.check()?;
            let map = resolve(repository, &plan.index, file, section)?;
            for frame in &map.frames {
                let share = &mut shares[frame.set];
                share.frames += 1;
                share.read_bytes += u64::from(frame.entry.stored_len);
                share.pages += frame.pages.len();
            }
        }
    }
    let pieces =
        plan.index.sets().iter().flat_map(|set| &set.pieces).filter(|piece| piece.info.kind == PieceKind::Data);
    let all: u64 = pieces.map(|piece| u64::from(piece.root.entries)).sum();
    let sum = |part: fn(&Share) -> u64| shares.iter().map(part).sum::<u64>();
    let frames = sum(|share| share.frames);
    plan.totals = Totals {
        frames,
        dead_frames: all.saturating_sub(frames),
        read_bytes: sum(|share| share.read_bytes),
        pages: sum(|share| share.pages),
        write_bytes: plan.files.iter().map(|file| file.len).sum(),
        log_units: plan.log.len() as u64,
        log_bytes: plan.log.iter().map(|(_, unit)| unit.len).sum(),
    };
    plan.shares = shares;
    Ok(())
}

/// Resolves a section of which every page must be found.
pub(super) fn resolve(
    repository: &Repository,
    index: &ChainIndex,
    file: &FileEntry,
    section: u64,
) -> Result<SectionMap> {
    let map = index.section(repository, file, section)?;
    if let Some(lost) = map.unknown.runs().first() {
        let set = &index.newest()?.meta.summary;
        return Err(Error::damaged(
            format!("set {} file {}", set.name, file.path),
            format!("no set of the chain holds page {} and {} more", lost.first, map.unknown.len() - 1),
        )
        .remedy("use another set"));
    }
    Ok(map)
}
