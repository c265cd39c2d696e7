//! Sets of units of redo that an engine hands over one by one, found by the names of the units.
//!
//! The set's identifier is made of the unit's name and of its content, so that a unit that is handed over twice is known
//! without being read, also by a host that cannot read what it wrote.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::media::layout::{self, SetObject};
use crate::media::repository::Repository;
use crate::model::{SetId, SourceId, Uuid};
use crate::transform::page_hash;

/// The identifier of the set that holds a unit: the first half says its name, the second its content.
pub fn set_of(source: SourceId, name: &str, bytes: &[u8]) -> SetId {
    let mut id = page_hash(&[&source.0.0[..], b"/", name.as_bytes()].concat());
    id[8..].copy_from_slice(&page_hash(bytes)[..8]);
    SetId(Uuid(id))
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
