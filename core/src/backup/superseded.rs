//! Beginnings of units that were stored while the units were still being written: they go when more of them is there.

use std::collections::BTreeSet;

use super::archive::other_bytes;
use crate::catalog::named::{beginning_len, set_of, sets_named};
use crate::error::{ErrorKind, Result};
use crate::media::repository::Repository;
use crate::model::SetId;
use crate::model::log::BEGINNING;
use crate::source::{CapturedUnit, SourceInfo};

/// Beginnings that can go.
#[derive(Default)]
pub(super) struct Superseded(BTreeSet<SetId>);

impl Superseded {
    /// Notes the beginnings on record that `captured` says all of again. To be asked before it is stored.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] when what is on record begins otherwise.
    pub(super) fn by(repository: &Repository, info: &SourceInfo, captured: &CapturedUnit) -> Result<Self> {
        let mut found = Superseded::default();
        let Some(name) = &captured.unit.name else { return Ok(found) };
        let whole = captured.unit.whole().unwrap_or(name);
        let beginning = format!("{whole}{BEGINNING}");
        let own = set_of(info.id, name, &captured.bytes);
        for set in sets_named(repository, info.id, &beginning)? {
            let Some(bytes) = captured.bytes.get(..beginning_len(set)).filter(|_| set != own) else { continue };
            if set_of(info.id, &beginning, bytes) != set {
                return Err(other_bytes(&beginning, info));
            }
            found.0.insert(set);
        }
        Ok(found)
    }

    /// Takes over those of `more`, whose unit is durable now.
    pub(super) fn add(&mut self, more: Superseded) {
        self.0.extend(more.0);
    }

    /// Removes them, unless others write: a backup may take long, and they are in nobody's way.
    ///
    /// # Errors
    /// Whatever the medium fails with.
    pub(super) fn remove(&mut self, repository: &Repository) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let _alone = match repository.lock_for_removal() {
            Err(error) if error.kind() == ErrorKind::Locked => return Ok(()),
            locked => locked?,
        };
        while let Some(set) = self.0.pop_first() {
            repository.remove_set(set, &repository.set_objects(set)?)?;
        }
        Ok(())
    }
}
