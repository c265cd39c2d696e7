//! Changing who can open a repository. Pieces are never touched.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::{RepoDescriptor, SetKeys, Slot};
use crate::media::layout::{self, SetObject};
use crate::media::repository::Repository;
use crate::media::turn::alone;
use crate::model::SetId;
use crate::transform::{Recipient, SlotRequest, Vault, add_slot, dropped_by, peek_keys, remove_slot, rotate};

/// Lets one more key open the repository.
///
/// # Errors
/// [`ErrorKind::Key`] when the repository is not encrypted or no secret was given. [`ErrorKind::Locked`] while a backup is
/// running; redo that is being stored is waited for.
///
/// # Crash safety
/// One new object; before it is there nothing has changed.
pub fn add(repository: &mut Repository, slot: &SlotRequest) -> Result<()> {
    let _alone = alone(repository, || Ok(()))?;
    let descriptor = add_slot(repository.descriptor(), repository.vault(), slot)?;
    replace(repository, descriptor)
}

/// Takes a key's slot out of the repository. Whoever had a secret for it may have kept the repository's own key: rotate
/// to shut them out for good.
///
/// # Errors
/// [`ErrorKind::Key`] when it is the last, there is no such slot, or no secret was given.
pub fn remove(repository: &mut Repository, slot: u32) -> Result<()> {
    let _alone = alone(repository, || Ok(()))?;
    let descriptor = remove_slot(repository.descriptor(), repository.vault(), slot)?;
    replace(repository, descriptor)
}

fn replace(repository: &mut Repository, descriptor: RepoDescriptor) -> Result<()> {
    let vault = repository.vault().of(&descriptor)?;
    repository.replace_descriptor(descriptor, vault)
}

/// What opens a repository after its key is renewed.
#[derive(Clone, Copy, Debug)]
pub struct Renewal<'a> {
    /// Every key that is to open it from then on, those of before included.
    pub slots: &'a [SlotRequest],
    /// Leave no recipient where there was one: hosts without a secret can no longer write.
    pub drop_recipients: bool,
}

/// What renewing did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Renewed {
    /// Sets whose keys were wrapped anew.
    pub sets: usize,
    /// The slots of before whose keys open the repository no more.
    pub dropped: Vec<Slot>,
}

/// Gives the repository a new key, opened by the slots named and nothing else, and wraps the keys of all sets anew.
/// Recipients have to be named again like every other key: renewing is for shutting someone out.
///
/// # Errors
/// [`ErrorKind::Usage`] when the last recipient would go and that was not asked for. [`ErrorKind::Key`] when the caller's
/// secrets do not open the keys of every set: those that a host wrote to its recipients alone need the private key of
/// one of them. Nothing has changed then.
///
/// # Crash safety
/// The old key stays in the descriptor until every set is done; run again after a crash.
pub fn renew(repository: &mut Repository, renewal: &Renewal<'_>) -> Result<Renewed> {
    let _alone = alone(repository, || Ok(()))?;
    check_recipients(repository.descriptor(), renewal)?;
    let (descriptor, vault) = rotate(repository.descriptor(), repository.vault(), renewal.slots)?;
    let dropped = dropped_by(repository.descriptor(), renewal.slots)?;
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
    Ok(Renewed { sets: todo.len(), dropped })
}

/// Hosts that only write would find out at their next backup.
fn check_recipients(before: &RepoDescriptor, renewal: &Renewal<'_>) -> Result<()> {
    let stays = renewal.slots.iter().any(|slot| matches!(slot, SlotRequest::Recipient { .. }));
    let recipients: Vec<String> = before.recipients().map(|public| Recipient(public).to_string()).collect();
    if stays || renewal.drop_recipients || recipients.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, "no public key is named: hosts without a secret could no longer write")
        .on(recipients.join(", "))
        .remedy("name the public keys that are to stay (--new-recipient), or say --drop-recipients"))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::media::memory::MemoryMedium;
    use crate::model::RepoId;
    use crate::transform::plain_descriptor;

    /// An archive command that was storing a segment made the change of a key fail.
    #[test]
    fn keys_change_when_those_who_write_are_done() {
        let (descriptor, vault) = plain_descriptor(RepoId::default());
        let mut repository = Repository::init(Arc::new(MemoryMedium::new()), descriptor, vault).unwrap();
        let writing = repository.lock_for_writing().unwrap();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            drop(writing);
        });
        let error = remove(&mut repository, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Key, "it was its turn, and there is no such key");
    }
}
