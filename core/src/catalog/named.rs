//! Sets of units of redo that an engine hands over one by one, found by the names of the units.
//!
//! The set's identifier is made of the unit's name and of its content, so that a unit that is handed over twice is known
//! without being read, also by a host that cannot read what it wrote.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::media::layout::{self, SetObject};
use crate::media::repository::Repository;
use crate::model::log::BEGINNING;
use crate::model::{LogUnit, SetId, SourceId, Uuid};
use crate::transform::page_hash;

/// The identifier of the set that holds a unit: the first half says its name, the second its content. That of a
/// beginning says how long it is as well, so that it can be told which is a beginning of what.
pub fn set_of(source: SourceId, name: &str, bytes: &[u8]) -> SetId {
    let mut id = page_hash(&[&source.0.0[..], b"/", name.as_bytes()].concat());
    let content = page_hash(bytes);
    if name.ends_with(BEGINNING) {
        id[8..12].copy_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        id[12..].copy_from_slice(&content[..4]);
    } else {
        id[8..].copy_from_slice(&content[..8]);
    }
    SetId(Uuid(id))
}

/// How long the beginning of a unit is that is in a set, by the set's identifier.
pub fn beginning_len(set: SetId) -> usize {
    let id = set.0.0;
    u32::from_le_bytes([id[8], id[9], id[10], id[11]]) as usize
}

/// The sets, whole or not, of units of a name.
///
/// # Errors
/// Whatever the medium fails with.
pub fn sets_named(repository: &Repository, source: SourceId, name: &str) -> Result<BTreeSet<SetId>> {
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

/// A unit that says all of `unit` again, and the set that holds it: to be used where the set of a beginning is gone,
/// because more of it has been stored since.
///
/// # Errors
/// Whatever the medium fails with.
pub fn standing_in(repository: &Repository, source: SourceId, unit: &LogUnit) -> Result<Option<(SetId, LogUnit)>> {
    let (Some(whole), Some(name)) = (unit.whole(), &unit.name) else { return Ok(None) };
    for name in [whole, name] {
        for set in sets_named(repository, source, name)? {
            if repository.set_objects(set)?.meta.is_none() {
                continue;
            }
            let found = repository.open_set(set)?.meta.log.into_iter().find(|found| found.supersedes(unit));
            if let Some(found) = found {
                return Ok(Some((set, found)));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_one_name_share_half_and_beginnings_tell_their_length() {
        let source = SourceId(Uuid([3; 16]));
        let (one, two) = (set_of(source, "A", b"1"), set_of(source, "A", b"2"));
        assert_eq!((one.0.0[..8] == two.0.0[..8], one == two), (true, false));
        let beginning = set_of(source, "A.partial", b"12345");
        assert_eq!(beginning_len(beginning), 5);
        assert_ne!(beginning.0.0[..8], one.0.0[..8]);
        assert_ne!(beginning, set_of(source, "A.partial", b"12346"));
    }
}
