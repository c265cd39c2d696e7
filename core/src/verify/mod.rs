//! Proving that sets are what was written, without restoring them, at three depths.
//!
//! | depth | what is read | what it proves |
//! |---|---|---|
//! | meta | the metadata, the sizes of the pieces, the chain | nothing is missing |
//! | frames | every byte of every piece, front to back | every checksum and every seal is right, and the index fits |
//! | pages | the same, decompressed | every page is the one that was stored, and in order by the engine's own rules |
//!
//! What is wrong with one set does not keep the others from being checked, nor does what is wrong with one frame.

mod index;
mod piece;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use work::Depth;

use crate::catalog::{Catalog, Surroundings, check_channels};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::media::repository::Repository;
use crate::model::SetId;
use crate::pipeline::run::{Stop, workers};
use crate::source::Recovery;
use crate::transform::OpenedMeta;

use work::{Counters, Todo};

/// What is wrong with a set.
#[derive(Debug)]
pub struct Finding {
    /// The set.
    pub set: SetId,
    /// Its name, if the metadata could be read.
    pub name: Option<String>,
    /// What, where, and what to do.
    pub error: Error,
}

/// What was checked.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// Sets looked at.
    pub sets: u64,
    /// Pieces read.
    pub pieces: u64,
    /// Frames checked.
    pub frames: u64,
    /// Pages checked.
    pub pages: u64,
    /// Bytes read from the medium.
    pub stored_bytes: u64,
    /// Bytes that these stand for before compression.
    pub raw_bytes: u64,
    /// What is wrong. Empty means that all is well.
    pub findings: Vec<Finding>,
}

/// Checks sets; all of them when `words` is empty.
///
/// # Errors
/// When the repository cannot be read at all, [`ErrorKind::Key`] without a secret. Damage is reported, not returned.
pub fn check(
    repository: &Repository,
    recoveries: &[&dyn Recovery],
    words: &[String],
    depth: Depth,
    channels: u16,
    around: Surroundings<'_>,
) -> Result<CheckReport> {
    check_channels(channels)?;
    repository.must_be_readable()?;
    // Copies of metadata prove nothing about the medium, so none are used.
    let catalog = Catalog::load(repository, None)?;
    let sets = wanted(&catalog, words)?;
    let mut report = CheckReport { sets: sets.len() as u64, ..Default::default() };
    if words.is_empty() {
        for (set, error) in catalog.damaged() {
            let error = Error::new(error.kind(), error.to_string());
            report.findings.push(Finding { set: *set, name: None, error });
            report.sets += 1;
        }
    }
    let mut opened = BTreeMap::new();
    for set in sets {
        around.cancel.check()?;
        let name = catalog.get(set).map(|record| record.summary.name.clone());
        match meta_depth(repository, &catalog, set) {
            Ok(meta) => {
                // They are stored as they were found, so they are no damage of the set; whoever relies on it has to know.
                let told = meta.meta.told_bad_pages().into_iter().map(|text| Event::Warning { text });
                told.for_each(|event| around.observer.event(&event));
                opened.insert(set, meta);
            }
            Err(error) => report.findings.push(Finding { set, name, error }),
        }
    }
    if depth > Depth::Meta {
        read_pieces(repository, recoveries, &opened, depth, channels, around, &mut report)?;
    }
    report.findings = still_there(repository, std::mem::take(&mut report.findings), around)?;
    report.findings.sort_by_key(|finding| finding.set);
    Ok(report)
}

/// What was found wrong with sets that are there still: others may remove some while they are read, as a log stream does.
fn still_there(repository: &Repository, findings: Vec<Finding>, around: Surroundings<'_>) -> Result<Vec<Finding>> {
    let suspects: BTreeSet<SetId> = findings.iter().map(|finding| finding.set).collect();
    let mut gone = BTreeSet::new();
    for set in suspects {
        if repository.set_objects(set)?.meta.is_none() {
            let text = format!("set {set} was removed while it was checked");
            around.observer.event(&Event::Warning { text });
            gone.insert(set);
        }
    }
    Ok(findings.into_iter().filter(|finding| !gone.contains(&finding.set)).collect())
}

fn wanted(catalog: &Catalog, words: &[String]) -> Result<Vec<SetId>> {
    if words.is_empty() {
        return Ok(catalog.records().map(|record| record.summary.id).collect());
    }
    words.iter().map(|word| catalog.find(word).map(|record| record.summary.id)).collect()
}

fn meta_depth(repository: &Repository, catalog: &Catalog, set: SetId) -> Result<OpenedMeta> {
    if catalog.get(set).is_some_and(|record| record.summary.holds_pages()) {
        catalog.chain(set)?;
    } else {
        catalog.whole(set)?;
    }
    repository.open_set(set)
}

fn read_pieces(
    repository: &Repository,
    recoveries: &[&dyn Recovery],
    opened: &BTreeMap<SetId, OpenedMeta>,
    depth: Depth,
    channels: u16,
    around: Surroundings<'_>,
    report: &mut CheckReport,
) -> Result<()> {
    let todo: Vec<Todo<'_>> = opened
        .values()
        .flat_map(|set| set.meta.pieces.iter().map(|piece| Todo { meta: &set.meta, key: set.key.as_ref(), piece }))
        .collect();
    let total = todo.iter().map(|todo| todo.piece.raw_bytes).sum();
    around.observer.event(&Event::Started { operation: "check", total_bytes: total });
    let (next, counters) = (AtomicUsize::new(0), Counters::default());
    let findings = Mutex::new(Vec::new());
    let stop = Stop::new(around.cancel);
    workers("check", usize::from(channels), &stop, |_| {
        while let Some(todo) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.is_set() {
                break;
            }
            let engine = recoveries.iter().find(|recovery| recovery.engine() == todo.meta.summary.engine).copied();
            let checked = piece::check(repository, todo, engine, depth, &counters, around);
            let errors = match checked {
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => vec![error],
                Ok(errors) => errors,
            };
            let summary = &todo.meta.summary;
            let finding = |error| Finding { set: summary.id, name: Some(summary.name.clone()), error };
            findings.lock().unwrap_or_else(PoisonError::into_inner).extend(errors.into_iter().map(finding));
        }
        Ok(())
    })?;
    report.pieces = todo.len() as u64;
    report.frames = counters.frames.into_inner();
    report.pages = counters.pages.into_inner();
    report.stored_bytes = counters.stored.into_inner();
    report.raw_bytes = counters.raw.into_inner();
    report.findings.extend(findings.into_inner().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}
