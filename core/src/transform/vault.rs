//! What the caller's secrets open of a repository, and the wrapping of the keys of sets.

use std::collections::BTreeMap;

use super::derive::{EPOCH_SLOT, EPOCH_WRAP, derive};
use super::descriptor::{mac_of, slot_bound, unwrap_slot};
use super::secret::{DataKey, Identity, Recipient, RepoKey, Secret, random};
use super::wrap::{epoch_identity, unwrap, unwrap_with, wrap, wrap_to};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Epoch, KeyWrap, RepoDescriptor, SetKeys, SlotKind, WrapKind};
use crate::model::SetId;

/// What the caller's secrets could open of a repository's keys.
#[derive(Clone, Debug, Default)]
pub struct Vault {
    encrypted: bool,
    /// The keys of epochs that could be opened.
    keys: BTreeMap<u32, RepoKey>,
    identities: Vec<Identity>,
    current: u32,
    /// The current epoch's public key; `None` where it is not to be written to.
    public: Option<[u8; 32]>,
    recipients: Vec<[u8; 32]>,
}

impl Vault {
    /// The vault of a repository that is not encrypted.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when it is encrypted.
    pub fn plain(descriptor: &RepoDescriptor) -> Result<Vault> {
        Vault::open(descriptor, &[])
    }

    /// Opens a descriptor with what `secrets` can open, and proves it genuine where one does.
    ///
    /// Without secrets a repository that has a recipient is opened for writing only.
    ///
    /// # Errors
    /// [`ErrorKind::Key`]: a secret was given though nothing is encrypted; none was given and there is no recipient; a
    /// secret opens nothing. [`ErrorKind::Damaged`] when the descriptor was tampered with.
    pub fn open(descriptor: &RepoDescriptor, secrets: &[Secret]) -> Result<Vault> {
        let Some(current) = descriptor.current() else {
            return if secrets.is_empty() { Ok(Vault::default()) } else { Err(needless()) };
        };
        let mut vault = Vault::of_epoch(descriptor, current);
        for secret in secrets {
            let key = open_epoch(descriptor, current, secret)?.ok_or_else(|| fits_nothing(secret))?;
            vault.keys.insert(current.id, key);
            if let Secret::Identity(identity) = secret {
                vault.identities.push(identity.clone());
            }
        }
        if let Some(key) = vault.keys.get(&current.id) {
            prove(descriptor, key)?;
            vault.open_older(descriptor)?;
        } else if vault.recipients.is_empty() {
            return Err(Error::new(ErrorKind::Key, "the repository is encrypted and no secret was given")
                .remedy("give --key-file, --passphrase-file or --identity-file"));
        }
        Ok(vault)
    }

    fn of_epoch(descriptor: &RepoDescriptor, current: &Epoch) -> Vault {
        Vault {
            encrypted: true,
            current: current.id,
            public: Some(current.public),
            recipients: descriptor.recipients().collect(),
            ..Vault::default()
        }
    }

    /// The same secrets for a descriptor made from this vault's.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when its current epoch is none that this vault has opened.
    pub fn of(&self, descriptor: &RepoDescriptor) -> Result<Vault> {
        let Some(current) = descriptor.current() else { return Ok(self.clone()) };
        let key = self.keys.get(&current.id).ok_or_else(no_secret)?;
        prove(descriptor, key)?;
        let mut vault = Vault::of_epoch(descriptor, current);
        vault.keys.clone_from(&self.keys);
        vault.identities.clone_from(&self.identities);
        Ok(vault)
    }

    pub(super) fn with_epoch(mut self, id: u32, key: RepoKey) -> Vault {
        self.keys.insert(id, key);
        self
    }

    /// The key of the newest epoch that was opened.
    pub(super) fn epoch_key(&self, id: u32) -> Result<&RepoKey> {
        self.keys.get(&id).ok_or_else(no_secret)
    }

    /// Each epoch's key is wrapped by the next newer one's.
    fn open_older(&mut self, descriptor: &RepoDescriptor) -> Result<()> {
        for epoch in descriptor.epochs.iter().skip(1) {
            let Some(slot) = epoch.slots.first() else { continue };
            let SlotKind::Epoch { newer } = slot.kind else { continue };
            let Some(key) = self.keys.get(&newer) else { break };
            let by = derive(key.as_bytes(), &slot.salt, EPOCH_SLOT, &[])?;
            let bound = slot_bound(descriptor.repo, epoch.id, slot.id);
            let opened = unwrap(&by, &slot.wrapped, &bound)?.ok_or_else(|| {
                Error::new(ErrorKind::Damaged, format!("the key of epoch {} does not open", epoch.id))
            })?;
            self.keys.insert(epoch.id, RepoKey::from_bytes(*opened));
        }
        Ok(())
    }

    /// Insists that the repository's recipients are among `trusted`. A host that can only write cannot prove the
    /// descriptor genuine, and would otherwise write to whatever keys it names: it then writes to the recipients alone,
    /// and not to the epoch's public key, so that no other slot opens what it wrote. A host with a secret has proven the
    /// descriptor and goes on writing to all of its keys.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] that names the recipient that is not trusted, or when the repository is not encrypted.
    pub fn pinned(mut self, trusted: &[Recipient]) -> Result<Vault> {
        if !self.encrypted {
            return Err(Error::new(ErrorKind::Key, "the repository is not encrypted, but a recipient was given")
                .remedy("leave the recipient out, or make sure that this is the repository you mean"));
        }
        if let Some(other) =
            self.recipients.iter().find(|recipient| !trusted.iter().any(|known| known.0 == **recipient))
        {
            return Err(Error::new(ErrorKind::Key, "the repository has a recipient that is not trusted")
                .on(Recipient(*other).to_string())
                .remedy("find out who added it, then trust it or make a new repository"));
        }
        if self.keys.is_empty() {
            self.public = None;
        }
        Ok(self)
    }

    /// Whether sets can be read.
    #[must_use]
    pub fn can_read(&self) -> bool {
        !self.encrypted || !self.keys.is_empty()
    }

    /// Whether the repository is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// A key for a new set and its wraps; `None` when nothing is encrypted.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn new_set(&self, set: SetId) -> Result<Option<(DataKey, SetKeys)>> {
        if !self.encrypted {
            return Ok(None);
        }
        let key = DataKey::generate()?;
        let keys = self.wrap_set(set, &key, 0)?;
        Ok(Some((key, keys)))
    }

    /// Wraps the key of a set: under the key of the current epoch, or to its public key by a host that has no secret
    /// (unless it was told whom to trust), and to each recipient.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] in a vault of a repository that is not encrypted.
    pub fn wrap_set(&self, set: SetId, key: &DataKey, generation: u32) -> Result<SetKeys> {
        if !self.encrypted {
            return Err(Error::new(ErrorKind::Internal, "keys are wrapped for encrypted repositories only"));
        }
        let bound = wrap_bound(set, self.current);
        let mut wraps: Vec<KeyWrap> = self.wrap_for_epoch(key, &bound)?.into_iter().collect();
        for public in &self.recipients {
            let (ephemeral, wrapped) = wrap_to(public, key.as_bytes(), &bound)?;
            let kind = WrapKind::Recipient { public: *public, ephemeral };
            wraps.push(KeyWrap { epoch: self.current, kind, wrapped });
        }
        Ok(SetKeys { set, generation, wraps })
    }

    fn wrap_for_epoch(&self, key: &DataKey, bound: &[u8]) -> Result<Option<KeyWrap>> {
        let epoch = self.current;
        if let Some(by) = self.keys.get(&epoch) {
            let salt = random()?;
            let by = derive(by.as_bytes(), &salt, EPOCH_WRAP, &[])?;
            let wrapped = wrap(&by, key.as_bytes(), bound)?;
            return Ok(Some(KeyWrap { epoch, kind: WrapKind::Epoch { salt }, wrapped }));
        }
        let Some(public) = &self.public else { return Ok(None) };
        let (ephemeral, wrapped) = wrap_to(public, key.as_bytes(), bound)?;
        Ok(Some(KeyWrap { epoch, kind: WrapKind::EpochPublic { ephemeral }, wrapped }))
    }

    /// The key of a set.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when no secret at hand opens it; [`ErrorKind::Damaged`] when the keys are of another set.
    pub fn open_set(&self, set: SetId, keys: &SetKeys) -> Result<DataKey> {
        if keys.set != set {
            return Err(Error::new(ErrorKind::Damaged, format!("these are the keys of set {}", keys.set))
                .on(format!("set {set}")));
        }
        for wrap in &keys.wraps {
            if let Some(key) = self.open_wrap(wrap, &wrap_bound(set, wrap.epoch))? {
                return Ok(key);
            }
        }
        Err(opens_nothing(keys).on(format!("set {set}")))
    }

    fn open_wrap(&self, wrap: &KeyWrap, bound: &[u8]) -> Result<Option<DataKey>> {
        let opened = match (&wrap.kind, self.keys.get(&wrap.epoch)) {
            (WrapKind::Epoch { salt }, Some(key)) => {
                unwrap(&*derive(key.as_bytes(), salt, EPOCH_WRAP, &[])?, &wrap.wrapped, bound)?
            }
            (WrapKind::EpochPublic { ephemeral }, Some(key)) => {
                unwrap_with(&epoch_identity(key)?, ephemeral, &wrap.wrapped, bound)?
            }
            (WrapKind::Recipient { public, ephemeral }, _) => {
                match self.identities.iter().find(|identity| identity.recipient().0 == *public) {
                    Some(identity) => unwrap_with(identity, ephemeral, &wrap.wrapped, bound)?,
                    None => None,
                }
            }
            _ => None,
        };
        Ok(opened.map(|key| DataKey::from_bytes(*key)))
    }

    /// The key of a set wrapped anew, for the current epoch and its recipients: the next generation of its keys.
    ///
    /// # Errors
    /// As [`Vault::open_set`].
    pub fn rewrap(&self, set: SetId, keys: &SetKeys) -> Result<SetKeys> {
        self.wrap_set(set, &self.open_set(set, keys)?, keys.generation.saturating_add(1))
    }
}

fn open_epoch(descriptor: &RepoDescriptor, epoch: &Epoch, secret: &Secret) -> Result<Option<RepoKey>> {
    for slot in &epoch.slots {
        if let Some(key) = unwrap_slot(descriptor.repo, epoch.id, slot, secret)? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

fn prove(descriptor: &RepoDescriptor, key: &RepoKey) -> Result<()> {
    let public = descriptor.current().map(|epoch| epoch.public);
    if descriptor.mac == Some(mac_of(descriptor, key)?) && public == Some(epoch_identity(key)?.recipient().0) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Damaged, "the repository descriptor was changed by someone without its key")
        .remedy("do not write to this repository until you know by whom; restore the descriptor from a copy"))
}

/// What a wrap of a set's key belongs to.
fn wrap_bound(set: SetId, epoch: u32) -> [u8; 20] {
    let mut bound = [0; 20];
    bound[..16].copy_from_slice(&set.0.0);
    bound[16..].copy_from_slice(&epoch.to_le_bytes());
    bound
}

fn needless() -> Error {
    Error::new(ErrorKind::Key, "the repository is not encrypted, but a key was given")
        .remedy("leave the key out, or make sure that this is the repository you mean")
}

fn no_secret() -> Error {
    Error::new(ErrorKind::Key, "this needs a secret of the repository")
        .remedy("give --key-file, --passphrase-file or --identity-file")
}

/// No secret at hand opens the keys of a set: which one would.
fn opens_nothing(keys: &SetKeys) -> Error {
    let recipient = |wrap: &KeyWrap| match &wrap.kind {
        WrapKind::Recipient { public, .. } => Some(Recipient(*public).to_string()),
        _ => None,
    };
    let recipients: Vec<String> = keys.wraps.iter().filter_map(recipient).collect();
    if recipients.is_empty() || recipients.len() < keys.wraps.len() {
        return Error::new(ErrorKind::Key, "no secret at hand opens the key of the set")
            .remedy("give the key file, the passphrase or the private key that the repository was made with");
    }
    let text = "it was written to recipients alone, by a host without a secret, and the private key of one is missing";
    let remedy = format!("give the private key to one of these by --identity-file: {}", recipients.join(", "));
    Error::new(ErrorKind::Key, text).remedy(remedy)
}

fn fits_nothing(secret: &Secret) -> Error {
    let what = match secret {
        Secret::Passphrase(_) => "the passphrase",
        Secret::KeyFile(_) => "the key file",
        Secret::Identity(_) => "the private key",
    };
    Error::new(ErrorKind::Key, format!("{what} does not open the repository"))
        .remedy("use the one that it was made with; `setpiece key list` names what it takes, also without a key")
}
