//! Making and changing repository descriptors: epochs, slots and the proof that nobody else changed them.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::derive::{DESCRIPTOR_MAC, EPOCH_SLOT, KEY_FILE_SLOT, derive};
use super::secret::{KeyFile, Passphrase, Recipient, RepoKey, Secret, random};
use super::wrap::{epoch_identity, stretch, unwrap, unwrap_with, wrap, wrap_to};
use crate::error::{Error, ErrorKind, Result};
use crate::format::limits::MAX_SLOTS;
use crate::format::{Argon2Cost, CipherId, Epoch, RepoDescriptor, Slot, SlotKind, cbor};
use crate::model::RepoId;

/// A slot to be made.
#[derive(Clone, Debug)]
pub enum SlotRequest {
    /// Opened by a passphrase.
    Passphrase {
        /// For people.
        label: String,
        /// The passphrase.
        passphrase: Passphrase,
        /// What it shall cost to try.
        cost: Argon2Cost,
    },
    /// Opened by a key file.
    KeyFile {
        /// For people.
        label: String,
        /// The key in the file.
        key: KeyFile,
    },
    /// Opened by the private half of a public key. Hosts without any secret can write as soon as there is one.
    Recipient {
        /// For people.
        label: String,
        /// The public key.
        recipient: Recipient,
    },
}

/// What a slot belongs to.
pub(super) fn slot_bound(repo: RepoId, epoch: u32, slot: u32) -> [u8; 24] {
    let mut bound = [0; 24];
    bound[..16].copy_from_slice(&repo.0.0);
    bound[16..20].copy_from_slice(&epoch.to_le_bytes());
    bound[20..].copy_from_slice(&slot.to_le_bytes());
    bound
}

/// The epoch's key, if the secret opens the slot.
pub(super) fn unwrap_slot(repo: RepoId, epoch: u32, slot: &Slot, secret: &Secret) -> Result<Option<RepoKey>> {
    let bound = slot_bound(repo, epoch, slot.id);
    let opened = match (&slot.kind, secret) {
        (SlotKind::Passphrase { cost }, Secret::Passphrase(passphrase)) => {
            unwrap(&*stretch(passphrase.as_str(), &slot.salt, cost)?, &slot.wrapped, &bound)?
        }
        (SlotKind::KeyFile, Secret::KeyFile(key)) => {
            unwrap(&*derive(key.as_bytes(), &slot.salt, KEY_FILE_SLOT, &[])?, &slot.wrapped, &bound)?
        }
        (SlotKind::Recipient { public, ephemeral }, Secret::Identity(identity))
            if identity.recipient().0 == *public =>
        {
            unwrap_with(identity, ephemeral, &slot.wrapped, &bound)?
        }
        _ => None,
    };
    Ok(opened.map(|key| RepoKey::from_bytes(*key)))
}

fn make_slot(repo: RepoId, epoch: u32, id: u32, key: &RepoKey, request: &SlotRequest) -> Result<Slot> {
    let salt = random()?;
    let bound = slot_bound(repo, epoch, id);
    let (label, kind, wrapped) = match request {
        SlotRequest::Passphrase { label, passphrase, cost } => {
            let by = stretch(passphrase.as_str(), &salt, cost)?;
            (label, SlotKind::Passphrase { cost: *cost }, wrap(&by, key.as_bytes(), &bound)?)
        }
        SlotRequest::KeyFile { label, key: file } => {
            let by = derive(file.as_bytes(), &salt, KEY_FILE_SLOT, &[])?;
            (label, SlotKind::KeyFile, wrap(&by, key.as_bytes(), &bound)?)
        }
        SlotRequest::Recipient { label, recipient } => {
            let (ephemeral, wrapped) = wrap_to(&recipient.0, key.as_bytes(), &bound)?;
            (label, SlotKind::Recipient { public: recipient.0, ephemeral }, wrapped)
        }
    };
    Ok(Slot { id, label: label.clone(), kind, salt, wrapped })
}

/// A new epoch with a new key, and the number of the slot after its last.
pub(super) fn new_epoch(repo: RepoId, id: u32, next_slot: u32, slots: &[SlotRequest]) -> Result<(Epoch, RepoKey, u32)> {
    if slots.is_empty() || slots.len() > MAX_SLOTS {
        return Err(Error::new(ErrorKind::Usage, format!("a key needs 1 to {MAX_SLOTS} ways to open it")));
    }
    let key = RepoKey::generate()?;
    let numbered = (next_slot..).zip(slots);
    let made = numbered.map(|(slot, request)| make_slot(repo, id, slot, &key, request)).collect::<Result<Vec<_>>>()?;
    let after = next_slot.saturating_add(u32::try_from(slots.len()).unwrap_or(u32::MAX));
    let public = epoch_identity(&key)?.recipient().0;
    Ok((Epoch { id, slots: made, public }, key, after))
}

/// Puts the proof into a descriptor that was made or changed by someone who has `key`.
pub(super) fn proven(mut descriptor: RepoDescriptor, key: &RepoKey) -> Result<RepoDescriptor> {
    descriptor.mac = Some(mac_of(&descriptor, key)?);
    Ok(descriptor)
}

/// A descriptor of a repository that is not encrypted.
pub(super) fn unencrypted(repo: RepoId) -> RepoDescriptor {
    RepoDescriptor { repo, generation: 1, cipher: CipherId::None, epochs: Vec::new(), next_slot: 1, mac: None }
}

/// The next generation with one slot more.
pub(super) fn with_slot(descriptor: &RepoDescriptor, key: &RepoKey, request: &SlotRequest) -> Result<RepoDescriptor> {
    let mut next = next_generation(descriptor)?;
    let slot = next.next_slot;
    next.next_slot = slot.saturating_add(1);
    let repo = next.repo;
    let epoch = next.epochs.first_mut().ok_or_else(not_encrypted)?;
    if epoch.slots.len() >= MAX_SLOTS {
        return Err(Error::new(ErrorKind::Usage, format!("there are {MAX_SLOTS} ways to open the key already")));
    }
    epoch.slots.push(make_slot(repo, epoch.id, slot, key, request)?);
    proven(next, key)
}

/// The next generation without a slot.
pub(super) fn without_slot(descriptor: &RepoDescriptor, key: &RepoKey, slot: u32) -> Result<RepoDescriptor> {
    let mut next = next_generation(descriptor)?;
    let epoch = next.epochs.first_mut().ok_or_else(not_encrypted)?;
    let before = epoch.slots.len();
    epoch.slots.retain(|have| have.id != slot);
    if epoch.slots.len() == before {
        return Err(
            Error::new(ErrorKind::NotFound, format!("there is no slot {slot}")).remedy("see `setpiece key list`")
        );
    }
    if epoch.slots.is_empty() {
        return Err(Error::new(ErrorKind::Key, "this is the last way to open the repository")
            .remedy("add another key before this one is removed"));
    }
    proven(next, key)
}

/// The next generation with a new epoch; the one before is opened by the new one's key and nothing else.
pub(super) fn with_epoch(
    descriptor: &RepoDescriptor,
    old_key: &RepoKey,
    slots: &[SlotRequest],
) -> Result<(RepoDescriptor, u32, RepoKey)> {
    let mut next = next_generation(descriptor)?;
    let old = next.epochs.first().map(|epoch| epoch.id).ok_or_else(not_encrypted)?;
    let id = old.saturating_add(1);
    let (epoch, key, after) = new_epoch(next.repo, id, next.next_slot, slots)?;
    let salt = random()?;
    let by = derive(key.as_bytes(), &salt, EPOCH_SLOT, &[])?;
    let wrapped = wrap(&by, old_key.as_bytes(), &slot_bound(next.repo, old, after))?;
    let kind = SlotKind::Epoch { newer: id };
    if let Some(previous) = next.epochs.first_mut() {
        previous.slots = vec![Slot { id: after, label: String::new(), kind, salt, wrapped }];
    }
    next.next_slot = after.saturating_add(1);
    next.epochs.insert(0, epoch);
    Ok((proven(next, &key)?, id, key))
}

fn next_generation(descriptor: &RepoDescriptor) -> Result<RepoDescriptor> {
    let generation = descriptor.generation.checked_add(1);
    let generation = generation.ok_or_else(|| Error::new(ErrorKind::Internal, "generations are used up"))?;
    Ok(RepoDescriptor { generation, ..descriptor.clone() })
}

fn not_encrypted() -> Error {
    Error::new(ErrorKind::Key, "the repository is not encrypted, it has no keys")
        .remedy("make an encrypted repository and copy or back up into it")
}

/// The proof of a descriptor: HMAC-SHA256 of its record with zeros in the place of the proof.
pub(super) fn mac_of(descriptor: &RepoDescriptor, key: &RepoKey) -> Result<[u8; 32]> {
    let by = derive(key.as_bytes(), &[], DESCRIPTOR_MAC, &[])?;
    let record = cbor::to_vec(&RepoDescriptor { mac: Some([0; 32]), ..descriptor.clone() })?;
    let mut mac = Hmac::<Sha256>::new_from_slice(by.as_slice())
        .map_err(|_| Error::new(ErrorKind::Internal, "a key of 32 bytes was refused"))?;
    mac.update(&record);
    let mut out = [0; 32];
    out.copy_from_slice(&mac.finalize().into_bytes());
    Ok(out)
}
