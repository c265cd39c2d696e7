//! Changing who can open a repository. Pieces are never touched.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::{RepoDescriptor, SetKeys};
use crate::media::layout::{self, SetObject};
use crate::media::repository::Repository;
use crate::model::SetId;
use crate::transform::{SlotRequest, Vault, add_slot, peek_keys, remove_slot, rotate};

/// Lets one more key open the repository.
///
/// # Errors
/// [`ErrorKind::Key`] when the repository is not encrypted or no secret was given.
///
/// # Crash safety
/// One new object; before it is there nothing has changed.
pub fn add(repository: &mut Repository, slot: &SlotRequest) -> Result<()> {
    let _alone = repository.lock_for_removal()?;
    let descriptor = add_slot(repository.descriptor(), repository.vault(), slot)?;
    replace(repository, descriptor)
}

/// Takes a key's slot out of the repository. Whoever had a secret for it may have kept the repository's own key: rotate
/// to shut them out for good.
///
/// # Errors
/// [`ErrorKind::Key`] when it is the last, there is no such slot, or no secret was given.
pub fn remove(repository: &mut Repository, slot: u32) -> Result<()> {
    let _alone = repository.lock_for_removal()?;
    let descriptor = remove_slot(repository.descriptor(), repository.vault(), slot)?;
    replace(repository, descriptor)
}

fn replace(repository: &mut Repository, descriptor: RepoDescriptor) -> Result<()> {
    let vault = repository.vault().of(&descriptor)?;
    repository.replace_descriptor(descriptor, vault)
}

/// Gives the repository a new key, opened by `slots` and nothing else, and wraps the keys of all sets anew. Returns how
/// many sets that were.
///
/// # Errors
/// [`ErrorKind::Key`] when the caller's secrets do not open the keys of every set: those that a host wrote to its
/// recipients alone need the private key of one of them. Nothing has changed then.
///
/// # Crash safety
/// The old key stays in the descriptor until every set is done; run again after a crash.
pub fn renew(repository: &mut Repository, slots: &[SlotRequest]) -> Result<usize> {
    let _alone = repository.lock_for_removal()?;
    let (descriptor, vault) = rotate(repository.descriptor(), repository.vault(), slots)?;
    let mut todo = Vec::new();
    for (set, objects) in repository.sets()? {
        if objects.meta.is_some() {
            let keys = wrapped_anew(repository, &vault, set, objects.keys())
                .doing(|| format!("wrapping the key of set {set}"))?;
            todo.push((set, objects.keys(), keys));
        }
    }
    repository.replace_descriptor(descriptor, vault)?;
    for (set, newest, keys) in &todo {
        replace_keys(repository, *set, *newest, keys).doing(|| format!("replacing the keys of set {set}"))?;
    }
    Ok(todo.len())
}

fn wrapped_anew(repository: &Repository, vault: &Vault, set: SetId, newest: Option<u32>) -> Result<SetKeys> {
    let old: SetKeys = match repository.newer_keys(set, newest)? {
        Some(keys) => keys,
        None => peek_keys(&repository.meta_bytes(set)?)?
            .ok_or_else(|| Error::new(ErrorKind::Key, "the set has no keys in an encrypted repository"))?,
    };
    vault.rewrap(set, &old)
}

fn replace_keys(repository: &Repository, set: SetId, newest: Option<u32>, keys: &SetKeys) -> Result<()> {
    repository.write_object(&layout::object(set, SetObject::Keys(keys.generation))?, &keys.encode()?)?;
    match newest {
        Some(generation) => repository.medium().remove(&layout::object(set, SetObject::Keys(generation))?),
        None => Ok(()),
    }
}
