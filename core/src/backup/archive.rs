//! Units of redo that an engine hands over one by one, each a set of its own: what an archive command does.
//!
//! The set's identifier is made of the unit's name and of its content, so that a unit that is handed over twice is known
//! without being read, also by a host that cannot read what it wrote.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use super::log::{StreamOptions, StreamReport, store};
use crate::catalog::Surroundings;
use crate::error::{Error, ErrorKind, Result};
use crate::media::HeldLock;
use crate::media::layout::{self, SetObject};
use crate::media::repository::Repository;
use crate::model::{SetId, SourceId, Uuid};
use crate::source::{CapturedUnit, LogFeed, SourceInfo};
use crate::transform::page_hash;

/// How often a unit is tried to be handed over while another one is.
const PATIENCE: Duration = Duration::from_millis(20);

/// What became of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archived {
    /// It is durable now, in so many bytes.
    Stored(u64),
    /// The same unit with the same bytes was there already.
    Already,
}

/// Stores a unit of redo under its name, durably.
///
/// # Errors
/// [`ErrorKind::Exists`] when a unit of this name with other bytes is there; whatever the medium fails with. Nothing is
/// published then.
///
/// # Crash safety
/// The unit is there when its metadata is. What a crash leaves is removed by the next attempt.
pub fn archive(
    repository: &Repository,
    info: &SourceInfo,
    captured: &CapturedUnit,
    options: &StreamOptions,
    around: Surroundings<'_>,
) -> Result<Archived> {
    let name = captured
        .unit
        .name
        .as_deref()
        .ok_or_else(|| Error::new(ErrorKind::Internal, "a unit without a name cannot be handed over by itself"))?;
    let _only = wait_for_turn(repository, info.id, around)?;
    let wanted = set_of(info.id, name, &captured.bytes);
    for set in sets_named(repository, info.id, name)? {
        let objects = repository.set_objects(set)?;
        match (objects.meta.is_some(), set == wanted) {
            (true, true) => return Ok(Archived::Already),
            (true, false) => {
                return Err(Error::new(ErrorKind::Exists, "the repository has this unit of redo with other bytes")
                    .on(format!("{name} of {}", info.name))
                    .remedy("two servers archive into one repository, or one was restored and goes on as the same branch: find out which before anything is removed"));
            }
            (false, _) => repository.remove_set(set, &objects)?,
        }
    }
    let mut report = StreamReport::default();
    store(repository, info, captured, wanted, options, around, &mut report)?;
    Ok(Archived::Stored(report.stored_bytes))
}

/// Reads a unit back by its name.
///
/// # Errors
/// [`ErrorKind::NotFound`] when no such unit was handed over; [`ErrorKind::Damaged`] when it is not what was stored.
pub fn fetch(repository: &Repository, source: SourceId, name: &str, around: Surroundings<'_>) -> Result<Vec<u8>> {
    let missing = || Error::new(ErrorKind::NotFound, "no unit of redo of this name is in the repository").on(name);
    for set in sets_named(repository, source, name)? {
        if repository.set_objects(set)?.meta.is_none() {
            continue;
        }
        let meta = repository.open_set(set)?.meta;
        let unit = meta.log.into_iter().find(|unit| unit.name.as_deref() == Some(name)).ok_or_else(missing)?;
        let units = [(set, unit)];
        let mut feed = crate::restore::feed::Feed::new(repository, &units, around.cancel);
        return feed.next()?.map(|(_, bytes)| bytes).ok_or_else(missing);
    }
    Err(missing())
}

/// The identifier of the set that holds a unit: the first half says its name, the second its content.
fn set_of(source: SourceId, name: &str, bytes: &[u8]) -> SetId {
    let mut id = page_hash(&[&source.0.0[..], b"/", name.as_bytes()].concat());
    id[8..].copy_from_slice(&page_hash(bytes)[..8]);
    SetId(Uuid(id))
}

/// The sets, whole or not, of units of a name.
fn sets_named(repository: &Repository, source: SourceId, name: &str) -> Result<BTreeSet<SetId>> {
    let text = layout::set_prefix(set_of(source, name, &[]));
    // The first half of the identifier as text: eight, four and four digits with a dash behind each.
    let half = &text[..layout::SETS_PREFIX.len() + 19];
    let mut found = BTreeSet::new();
    repository.medium().list(half, &mut |info| {
        found.extend(layout::parse_object(&info.name).map(|(set, _): (SetId, SetObject)| set));
        Ok(())
    })?;
    Ok(found)
}

/// One unit of a source at a time.
fn wait_for_turn(repository: &Repository, source: SourceId, around: Surroundings<'_>) -> Result<Box<dyn HeldLock>> {
    loop {
        match repository.lock_source(source, "archive") {
            Err(error) if error.kind() == ErrorKind::Locked => {
                around.cancel.check()?;
                thread::sleep(PATIENCE);
            }
            result => return result,
        }
    }
}
