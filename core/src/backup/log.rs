//! Redo captured as it is written: each unit becomes a set of its own, durable and recoverable to at once.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::{Duration, Instant};

use super::continuity::Continuity;
use super::packer::{PieceFactory, Pieces};
use crate::catalog::fresh::{now, set_id};
use crate::catalog::{Catalog, Surroundings};
use crate::error::{Context, ErrorKind, Result};
use crate::events::Event;
use crate::format::{CipherId, Compression, PieceKind, SECTION, SetMeta};
use crate::media::HeldLock;
use crate::media::repository::Repository;
use crate::model::{Consistency, Level, Lsn, NodeRange, Scope, SetId, SetSummary, SourceId, Timestamp};
use crate::source::{CapturedPoint, CapturedUnit, Source, SourceInfo};

/// How redo is captured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamOptions {
    /// How long to wait for redo before looking again whether to stop.
    pub poll: Duration,
    /// Stop when nothing was written for so long; go on until cancelled when not given.
    pub stop_when_idle: Option<Duration>,
    /// How frames are compressed.
    pub compression: Compression,
}

impl Default for StreamOptions {
    fn default() -> Self {
        StreamOptions { poll: Duration::from_millis(200), stop_when_idle: None, compression: Compression::Zstd(1) }
    }
}

/// What was captured.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StreamReport {
    /// Units stored.
    pub units: u64,
    /// Bytes of redo before compression.
    pub raw_bytes: u64,
    /// Bytes on the medium.
    pub stored_bytes: u64,
    /// The last LSN that is durable on the medium.
    pub upto: Lsn,
}

/// Captures redo of `source` until cancelled, or idle for as long as the options say. Being cancelled is no failure.
///
/// The source may reuse its log only behind what is durable on the medium.
///
/// # Errors
/// Whatever the source or the medium fails with, [`ErrorKind::Locked`] while another capture of the source runs. What
/// was stored before stays, and the next capture goes on behind it.
pub fn stream(
    repository: &Repository,
    source: &dyn Source,
    options: &StreamOptions,
    around: Surroundings<'_>,
) -> Result<StreamReport> {
    let info = source.info().doing(|| "asking the source who it is".into())?;
    let _only = repository.lock_source(info.id, "log")?;
    let catalog = Catalog::load(repository, around.cache)?;
    let last = last_captured(&catalog, info.id);
    let newest = catalog.memory_of(source, info.id, repository.vault().can_read())?;
    let mut stream =
        source.log_stream_behind(last.as_ref(), newest.as_deref()).doing(|| "beginning to capture redo".into())?;
    around.step("capturing")?;
    let mut report =
        StreamReport { upto: last.as_ref().map_or(Lsn(0), |point| point.unit.span.upto), ..Default::default() };
    let mut continuity = Continuity::new(repository, info.id, around);
    if let Some(begin) = stream.begins() {
        continuity.begin(&catalog, begin);
    }
    let mut idle_since = Instant::now();
    while !around.cancel.is_cancelled() {
        let Some(captured) = stream.next(options.poll)? else {
            if options.stop_when_idle.is_some_and(|limit| idle_since.elapsed() >= limit) {
                break;
            }
            continue;
        };
        continuity.goes_on(&captured)?;
        store(repository, &info, &captured, set_id()?, options, around, &mut report)?;
        stream.durable(captured.unit.span.upto)?;
        idle_since = Instant::now();
    }
    Ok(report)
}

fn last_captured(catalog: &Catalog, source: SourceId) -> Option<CapturedPoint> {
    let captured = catalog.of_source(source).filter(|record| record.captured);
    let newest = captured.max_by_key(|record| (record.end(), record.summary.id))?;
    let unit = newest.log.iter().max_by_key(|unit| unit.span.upto)?.clone();
    Some(CapturedPoint { unit, cookie: newest.cookie.clone() })
}

/// Stores one unit as a set: a piece, then the metadata.
pub(super) fn store(
    repository: &Repository,
    info: &SourceInfo,
    captured: &CapturedUnit,
    set: SetId,
    options: &StreamOptions,
    around: Surroundings<'_>,
    report: &mut StreamReport,
) -> Result<()> {
    let _writer = wait_for_writing(repository, around)?;
    let began = now();
    let keys = repository.vault().new_set(set)?;
    let factory = PieceFactory {
        medium: repository.medium().clone(),
        set,
        compression: options.compression,
        key: keys.as_ref().map(|(key, _)| key.clone()),
        max_piece_size: u64::MAX,
        numbers: Arc::new(AtomicU32::new(1)),
    };
    let mut pieces = Pieces::new(factory, 0, PieceKind::Log)?;
    pieces.log(captured.unit.clone(), &captured.bytes)?;
    let pieces = pieces.finish()?;
    let unit = &captured.unit;
    let mut meta = SetMeta {
        summary: summary(info, captured, set, began),
        tool: concat!("setpiece ", env!("CARGO_PKG_VERSION")).into(),
        tablespaces: Vec::new(),
        files: Vec::new(),
        raw_bytes: unit.len,
        stored_bytes: pieces.iter().map(|piece| piece.len).sum(),
        pieces,
        log: vec![crate::format::bounded_unit(unit.clone())?],
        parameters: Vec::new(),
        key_files: Vec::new(),
        cookie: captured.cookie.clone(),
        decisions: Vec::new(),
        bad_pages: Vec::new(),
        compression: options.compression,
        cipher: if keys.is_some() { CipherId::Aes256Gcm } else { CipherId::None },
        section: SECTION,
        captured: true,
        channels: 1,
        put_back: None,
    };
    meta.summary.ended = now();
    let published = repository.publish(&meta, keys.as_ref().map(|(key, keys)| (keys, key)))?;
    report.units += 1;
    report.raw_bytes += unit.len;
    report.stored_bytes += meta.stored_bytes + published.len;
    report.upto = unit.span.upto;
    around.observer.event(&Event::Progress { bytes: unit.len });
    Ok(())
}

/// Removal takes moments; captured redo waits for it instead of failing.
fn wait_for_writing(repository: &Repository, around: Surroundings<'_>) -> Result<Box<dyn HeldLock>> {
    loop {
        match repository.lock_for_writing() {
            Err(error) if error.kind() == ErrorKind::Locked => {
                around.cancel.check()?;
                thread::sleep(Duration::from_millis(100));
            }
            result => return result,
        }
    }
}

fn summary(info: &SourceInfo, captured: &CapturedUnit, set: SetId, began: Timestamp) -> SetSummary {
    let unit = &captured.unit;
    SetSummary {
        id: set,
        name: format!("{}-log-{}-{}", info.name, unit.branch, unit.seq),
        source: info.id,
        source_name: info.name.clone(),
        engine: info.engine.clone(),
        level: Level::Full,
        scope: Scope::Log,
        base: None,
        consistency: Consistency::WithoutLog,
        online: true,
        branch: captured.branch.clone(),
        nodes: vec![NodeRange {
            node: unit.node,
            begin_lsn: unit.span.after,
            begin_seq: Some(unit.seq),
            end_lsn: unit.span.upto,
            end_seq: Some(unit.seq),
        }],
        bak_end_lsn: unit.span.upto,
        began,
        ended: began,
        bad_pages: 0,
        marks: None,
    }
}
