//! One unit of redo by its name: what a restore command asks for.

use super::feed::Feed;
use crate::catalog::Surroundings;
use crate::catalog::named::sets_named;
use crate::error::{Error, ErrorKind, Result};
use crate::media::repository::Repository;
use crate::model::SourceId;
use crate::source::LogFeed;

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
        let mut feed = Feed::new(repository, source, &units, around.cancel);
        return feed.next()?.map(|(_, bytes)| bytes).ok_or_else(missing);
    }
    Err(missing())
}
