//! Redo captured as it is written: each unit becomes a set of its own, durable and recoverable to at once.

use std::time::{Duration, Instant};

use super::archive::{Archived, archive};
use super::continuity::Continuity;
use super::superseded::Superseded;
use super::unit::store;
use crate::catalog::fresh::set_id;
use crate::catalog::{Catalog, Surroundings};
use crate::error::{Context, ErrorKind, Result};
use crate::events::Event;
use crate::format::Compression;
use crate::media::repository::Repository;
use crate::model::{Lsn, SourceId};
use crate::source::{CapturedPoint, CapturedUnit, LogStream, Source, SourceInfo};

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
    let mut continuity = Continuity::new(repository, info.id, around);
    if let Some(begin) = stream.begins() {
        continuity.begin(&catalog, begin);
    }
    let upto = last.as_ref().map_or(Lsn(0), |point| point.unit.span.upto);
    let report = StreamReport { upto, ..Default::default() };
    let mut capture = Capture { repository, info, options, around, continuity, report, old: Superseded::default() };
    match capture.run(&mut *stream) {
        // What is not stored yet is captured again by the next one.
        Err(error) if error.kind() == ErrorKind::Cancelled => {}
        ended => ended?,
    }
    Ok(capture.report)
}

/// A capture under way.
struct Capture<'a> {
    repository: &'a Repository,
    info: SourceInfo,
    options: &'a StreamOptions,
    around: Surroundings<'a>,
    continuity: Continuity<'a>,
    report: StreamReport,
    old: Superseded,
}

impl Capture<'_> {
    fn run(&mut self, stream: &mut dyn LogStream) -> Result<()> {
        let mut idle_since = Instant::now();
        let mut told = false;
        while !self.around.cancel.is_cancelled() {
            if let Some(captured) = stream.next(self.options.poll)? {
                self.keep(stream, &captured)?;
                idle_since = Instant::now();
                continue;
            }
            let trouble = stream.trouble();
            if let Some(trouble) = trouble.as_ref().filter(|_| !told) {
                let text = format!("nothing is captured at the moment, and it is tried on: {trouble}");
                self.around.observer.event(&Event::Warning { text });
            }
            told = trouble.is_some();
            if self.options.stop_when_idle.is_some_and(|limit| idle_since.elapsed() >= limit) {
                match trouble {
                    Some(trouble) => return Err(trouble),
                    None => break,
                }
            }
        }
        while let Some(captured) = stream.rest()? {
            self.keep(stream, &captured)?;
        }
        Ok(())
    }

    /// Makes a unit durable and lets the source know.
    fn keep(&mut self, stream: &mut dyn LogStream, captured: &CapturedUnit) -> Result<()> {
        let unit = &captured.unit;
        if !unit.span.is_empty() {
            self.continuity.goes_on(captured)?;
        }
        let (repository, compression) = (self.repository, self.options.compression);
        let old = Superseded::by(repository, &self.info, captured)?;
        let bytes = if unit.name.is_some() {
            match archive(repository, &self.info, captured, compression, self.around)? {
                Archived::Stored(bytes) => bytes,
                Archived::Already => 0,
            }
        } else {
            store(repository, &self.info, captured, set_id()?, compression, self.around)?
        };
        self.report.units += 1;
        self.report.raw_bytes += unit.len;
        self.report.stored_bytes += bytes;
        if !unit.span.is_empty() {
            self.report.upto = unit.span.upto;
        }
        stream.durable(unit.span.upto)?;
        self.old.add(old);
        if let Err(error) = self.old.remove(repository) {
            tracing::warn!(%error, "beginnings of redo that are there as a whole stay on the medium");
        }
        Ok(())
    }
}

fn last_captured(catalog: &Catalog, source: SourceId) -> Option<CapturedPoint> {
    let captured = catalog.of_source(source).filter(|record| record.captured);
    let newest = captured.max_by_key(|record| (record.end(), record.summary.id))?;
    let unit = newest.log.iter().max_by_key(|unit| unit.span.upto)?.clone();
    Some(CapturedPoint { unit, cookie: newest.cookie.clone() })
}
