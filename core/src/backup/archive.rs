//! Units of redo that an engine hands over one by one, each a set of its own: what an archive command does.

use super::unit::store;
use crate::catalog::Surroundings;
use crate::catalog::named::{set_of, sets_named};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Compression;
use crate::media::HeldLock;
use crate::media::repository::Repository;
use crate::media::turn::in_turn;
use crate::model::SourceId;
use crate::source::{CapturedUnit, SourceInfo};

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
    compression: Compression,
    around: Surroundings<'_>,
) -> Result<Archived> {
    let name = captured
        .unit
        .name
        .as_deref()
        .ok_or_else(|| Error::new(ErrorKind::Internal, "a unit without a name cannot be handed over by itself"))?;
    let _only = wait_for_turn(repository, info.id, name, around)?;
    let wanted = set_of(info.id, name, &captured.bytes);
    for set in sets_named(repository, info.id, name)? {
        let objects = repository.set_objects(set)?;
        match (objects.meta.is_some(), set == wanted) {
            (true, true) => return Ok(Archived::Already),
            // Others as long or not: which of them is of use is seen when they are read.
            (true, false) if captured.unit.whole().is_some() => {}
            (true, false) => {
                return Err(other_bytes(name, info));
            }
            (false, _) => repository.remove_set(set, &objects)?,
        }
    }
    store(repository, info, captured, wanted, compression, around).map(Archived::Stored)
}

/// What is on record and what the engine hands over are not of one history.
pub(super) fn other_bytes(name: &str, info: &SourceInfo) -> Error {
    Error::new(ErrorKind::Exists, "the repository has this unit of redo with other bytes")
        .on(format!("{name} of {}", info.name))
        .remedy("two servers archive into one repository, or one was restored and goes on as the same branch: find out which before anything is removed")
}

/// Each name once at a time; others are handed over beside it.
fn wait_for_turn(
    repository: &Repository,
    source: SourceId,
    name: &str,
    around: Surroundings<'_>,
) -> Result<Box<dyn HeldLock>> {
    let what = format!("archive-{}", set_of(source, name, &[]));
    in_turn(None, || around.cancel.check(), || repository.lock_source(source, &what))
}
