//! Changes of a repository's keys, as pairs of the new descriptor and what opens it.

use super::descriptor::{
    SlotRequest, new_epoch, proven, unencrypted, unwrap_slot, with_epoch, with_slot, without_slot,
};
use super::secret::Secret;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{CipherId, RepoDescriptor, Slot, SlotKind};
use crate::model::RepoId;

/// The descriptor of a new repository in which nothing will be encrypted.
#[must_use]
pub fn plain_descriptor(repo: RepoId) -> (RepoDescriptor, Vault) {
    (unencrypted(repo), Vault::default())
}

/// The descriptor of a new encrypted repository.
///
/// # Errors
/// [`ErrorKind::Key`] without slots or when one makes no sense; when the system gives no random bytes.
pub fn new_descriptor(repo: RepoId, slots: &[SlotRequest]) -> Result<(RepoDescriptor, Vault)> {
    let mut descriptor = unencrypted(repo);
    if slots.is_empty() {
        return Err(Error::new(ErrorKind::Key, "an encrypted repository needs a key that opens it")
            .remedy("give at least one key, or ask for a repository without encryption"));
    }
    let (epoch, key, after) = new_epoch(repo, 1, 1, slots)?;
    descriptor.cipher = CipherId::Aes256Gcm;
    descriptor.next_slot = after;
    descriptor.epochs.push(epoch);
    let descriptor = proven(descriptor, &key)?;
    let vault = Vault::default().with_epoch(1, key).of(&descriptor)?;
    Ok((descriptor, vault))
}

/// The next generation of a descriptor, with one more way to open it.
///
/// # Errors
/// [`ErrorKind::Key`] when the vault has no secret or nothing is encrypted.
pub fn add_slot(descriptor: &RepoDescriptor, vault: &Vault, slot: &SlotRequest) -> Result<RepoDescriptor> {
    with_slot(descriptor, vault.epoch_key(current(descriptor)?)?, slot)
}

/// The next generation of a descriptor, with one way less to open it.
///
/// # Errors
/// [`ErrorKind::Key`] when it is the last, when the vault has no secret, or when nothing is encrypted.
pub fn remove_slot(descriptor: &RepoDescriptor, vault: &Vault, slot: u32) -> Result<RepoDescriptor> {
    without_slot(descriptor, vault.epoch_key(current(descriptor)?)?, slot)
}

/// The next generation of a descriptor, with a new key that `slots` open. The keys before it can be reached by it, until
/// the keys of all sets are wrapped anew.
///
/// # Errors
/// [`ErrorKind::Key`] when the vault has no secret or nothing is encrypted.
pub fn rotate(descriptor: &RepoDescriptor, vault: &Vault, slots: &[SlotRequest]) -> Result<(RepoDescriptor, Vault)> {
    let old = vault.epoch_key(current(descriptor)?)?;
    let (next, id, key) = with_epoch(descriptor, old, slots)?;
    let vault = vault.clone().with_epoch(id, key).of(&next)?;
    Ok((next, vault))
}

/// The slots of a descriptor that none of `slots` has the key of: after a rotation to `slots` their keys open nothing.
///
/// # Errors
/// When a slot's record is damaged.
pub fn dropped_by(descriptor: &RepoDescriptor, slots: &[SlotRequest]) -> Result<Vec<Slot>> {
    let Some(epoch) = descriptor.current() else { return Ok(Vec::new()) };
    let mut dropped = Vec::new();
    for slot in &epoch.slots {
        let mut stays = false;
        for request in slots {
            stays = stays || has_key_of(request, descriptor.repo, epoch.id, slot)?;
        }
        if !stays {
            dropped.push(slot.clone());
        }
    }
    Ok(dropped)
}

fn has_key_of(request: &SlotRequest, repo: RepoId, epoch: u32, slot: &Slot) -> Result<bool> {
    let secret = match (request, &slot.kind) {
        (SlotRequest::Recipient { recipient, .. }, SlotKind::Recipient { public, .. }) => {
            return Ok(recipient.0 == *public);
        }
        (SlotRequest::KeyFile { key, .. }, SlotKind::KeyFile) => Secret::KeyFile(key.clone()),
        (SlotRequest::Passphrase { passphrase, .. }, SlotKind::Passphrase { .. }) => {
            Secret::Passphrase(passphrase.clone())
        }
        _ => return Ok(false),
    };
    unwrap_slot(repo, epoch, slot, &secret).map(|opened| opened.is_some())
}

fn current(descriptor: &RepoDescriptor) -> Result<u32> {
    let none = || Error::new(ErrorKind::Key, "the repository is not encrypted, it has no keys");
    descriptor.current().map(|epoch| epoch.id).ok_or_else(none)
}
