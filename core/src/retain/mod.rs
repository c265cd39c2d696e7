//! What goes: sets that a policy or a user no longer wants, and what crashes left behind.
//!
//! A set is removed with its metadata first, so that it is gone whole at once. Sets that others are built on go after
//! those, or not at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::fresh::now;
use crate::catalog::{Catalog, SetRecord, Surroundings};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::events::Event;
use crate::media::repository::{Repository, SetObjects};
use crate::media::turn::alone;
use crate::model::chain::dependents;
use crate::model::retention::{KeepReason, Policy, expire_plan};
use crate::model::{LogUnit, SetId};

/// Something that was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// The set.
    pub set: SetId,
    /// Its name; `None` for what a crash left behind.
    pub name: Option<String>,
    /// Bytes on the medium.
    pub bytes: u64,
}

/// What expiring did, or would do.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ExpireReport {
    /// Sets removed, in that order.
    pub removed: Vec<Removed>,
    /// What crashes had left behind.
    pub orphans: Vec<Removed>,
    /// Sets kept, and why.
    pub kept: Vec<(SetId, KeepReason)>,
}

/// Removes one set; with `cascade` also every set that is built on it.
///
/// # Errors
/// [`ErrorKind::InUse`] when others are built on it and `cascade` is not given, or when it is not known of a set that
/// cannot be read whether that one is; [`ErrorKind::Key`] without a secret; [`ErrorKind::Locked`] while others write.
///
/// # Crash safety
/// Each set is gone once its metadata is; what a crash leaves of it is an orphan.
pub fn remove(repository: &Repository, word: &str, cascade: bool, around: Surroundings<'_>) -> Result<Vec<Removed>> {
    repository.must_be_readable()?;
    let _alone = alone(repository, || around.cancel.check())?;
    let catalog = Catalog::load_proven(repository, around.cache)?;
    let going = removal(&catalog, word, cascade)?;
    going.iter().map(|gone| take_away(repository, &catalog, gone.set)).collect()
}

/// What [`remove`] would remove, in that order. What could still be reached then, [`Catalog::windows_without`] says.
///
/// # Errors
/// As [`remove`], except that nothing is locked.
pub fn plan_removal(
    repository: &Repository,
    word: &str,
    cascade: bool,
    around: Surroundings<'_>,
) -> Result<Vec<Removed>> {
    repository.must_be_readable()?;
    let mut going = removal(&Catalog::load_proven(repository, around.cache)?, word, cascade)?;
    for gone in &mut going {
        gone.bytes = repository.set_objects(gone.set)?.bytes();
    }
    Ok(going)
}

fn removal(catalog: &Catalog, word: &str, cascade: bool) -> Result<Vec<Removed>> {
    let set = named(catalog, word)?;
    refuse_unknown_dependents(catalog, set)?;
    // Those that are built on others come later in a list of what depends on a set: they have to go first.
    let mut going: Vec<SetId> = vec![set];
    going.extend(dependents(set, &catalog.summaries()));
    if going.len() > 1 && !cascade {
        let names: Vec<&str> =
            going[1..].iter().filter_map(|id| catalog.get(*id)).map(|record| record.summary.name.as_str()).collect();
        return Err(Error::new(ErrorKind::InUse, format!("other sets are built on it: {}", names.join(", ")))
            .on(word)
            .remedy("remove those too with --cascade"));
    }
    going.sort();
    Ok(going.iter().rev().map(|set| describe(catalog, *set)).collect())
}

/// What a set is built on is not known as long as its metadata cannot be read. A set that is itself of no use can go.
fn refuse_unknown_dependents(catalog: &Catalog, set: SetId) -> Result<()> {
    let Some((other, error)) = catalog.damaged().iter().find(|_| catalog.get(set).is_some()) else { return Ok(()) };
    Err(Error::new(ErrorKind::InUse, format!("set {other} may be built on it, which cannot be read: {error}"))
        .on(set.to_string())
        .remedy("bring that set back from a copy, or remove it first"))
}

/// A damaged set can be removed too, by its identifier.
fn named(catalog: &Catalog, word: &str) -> Result<SetId> {
    let damaged = catalog.damaged().iter().map(|(set, _)| *set).find(|set| set.to_string() == word);
    damaged.map_or_else(|| catalog.find(word).map(|record| record.summary.id), Ok)
}

/// Removes what the policy no longer wants and what crashes left behind; with `dry_run` only says what that would be.
///
/// # Errors
/// [`ErrorKind::Key`] without a secret; [`ErrorKind::Locked`] while others write: what they have not published yet looks like what a crash leaves.
pub fn expire(
    repository: &Repository,
    policy: &Policy,
    dry_run: bool,
    around: Surroundings<'_>,
) -> Result<ExpireReport> {
    repository.must_be_readable()?;
    let _alone = if dry_run { None } else { Some(alone(repository, || around.cancel.check())?) };
    let catalog = Catalog::load_proven(repository, around.cache)?;
    for (set, error) in catalog.damaged() {
        let text = format!("set {set} cannot be read and is left alone: {error}");
        around.observer.event(&Event::Warning { text });
    }
    let usable = |set: SetId| catalog.whole(set).map_err(|error| error.to_string());
    let plan = expire_plan(&catalog.summaries(), policy, &usable, &|set| catalog.log_archived(set), now());
    let mut going = plan.remove;
    let mut report = ExpireReport { kept: plan.keep, ..Default::default() };
    let superseded = superseded(&catalog);
    report.kept.retain(|(set, _)| !superseded.contains(set));
    going.retain(|set| !superseded.contains(set));
    for set in superseded.into_iter().chain(going) {
        around.cancel.check()?;
        let gone = if dry_run { describe(&catalog, set) } else { take_away(repository, &catalog, set)? };
        report.removed.push(gone);
    }
    // Metadata that cannot be read may still name these pieces, so only sets without any metadata are orphans.
    let mut seen = BTreeSet::new();
    for (set, objects) in catalog.orphans() {
        around.cancel.check()?;
        if !dry_run && seen.insert(*set) {
            repository.remove_set(*set, objects).doing(|| format!("removing what a crash left of set {set}"))?;
        }
        report.orphans.push(Removed { set: *set, name: None, bytes: objects.bytes() });
    }
    Ok(report)
}

/// Captured beginnings of units of which more was captured since. Redo in a backup is no reason: it goes with the backup.
fn superseded(catalog: &Catalog) -> BTreeSet<SetId> {
    let captured: Vec<&SetRecord> =
        catalog.records().filter(|record| record.captured && record.missing.is_empty()).collect();
    let mut by_place: BTreeMap<_, Vec<&LogUnit>> = BTreeMap::new();
    for (unit, record) in captured.iter().flat_map(|record| record.log.iter().map(move |unit| (unit, record))) {
        by_place.entry((record.summary.source, unit.node, unit.branch, unit.seq)).or_default().push(unit);
    }
    let said_again = |record: &SetRecord| {
        record.log.iter().all(|unit| {
            let others = by_place.get(&(record.summary.source, unit.node, unit.branch, unit.seq));
            // Of two that are as long, which are of different histories then, neither goes.
            others.is_some_and(|others| {
                others.iter().any(|other| other.supersedes(unit) && other.span.upto > unit.span.upto)
            })
        })
    };
    let going = captured.iter().filter(|record| !record.log.is_empty() && said_again(record));
    going.map(|record| record.summary.id).collect()
}

fn describe(catalog: &Catalog, set: SetId) -> Removed {
    let record = catalog.get(set);
    Removed {
        set,
        name: record.map(|record| record.summary.name.clone()),
        bytes: record.map_or(0, |record| record.stored_bytes),
    }
}

fn take_away(repository: &Repository, catalog: &Catalog, set: SetId) -> Result<Removed> {
    let objects: SetObjects = repository.set_objects(set)?;
    repository.remove_set(set, &objects).doing(|| format!("removing set {set}"))?;
    Ok(Removed { bytes: objects.bytes(), ..describe(catalog, set) })
}
