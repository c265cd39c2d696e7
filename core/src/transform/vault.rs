//! Repository keys: making and changing descriptors, opening them, and wrapping the keys of sets.

use super::secret::{DataKey, KeyFile, Passphrase, Recipient, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Argon2Cost, RepoDescriptor, SetKeys};
use crate::model::{RepoId, SetId};

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

/// What the caller's secrets could open of a repository's keys.
#[derive(Clone, Debug)]
pub struct Vault {}

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
        let _ = (descriptor, secrets);
        Err(soon())
    }

    /// Insists that the repository's recipients are among `trusted`. A host that can only write cannot prove the
    /// descriptor genuine, and would otherwise write to whatever keys it names.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] that names the recipient that is not trusted.
    pub fn pinned(self, trusted: &[Recipient]) -> Result<Vault> {
        let _ = trusted;
        Err(soon())
    }

    /// Whether sets can be read.
    #[must_use]
    pub fn can_read(&self) -> bool {
        false
    }

    /// Whether the repository is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        false
    }

    /// A key for a new set and its wraps; `None` when nothing is encrypted.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn new_set(&self, set: SetId) -> Result<Option<(DataKey, SetKeys)>> {
        let _ = set;
        Err(soon())
    }

    /// The key of a set.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when no secret at hand opens it; [`ErrorKind::Damaged`] when the keys are of another set.
    pub fn open_set(&self, set: SetId, keys: &SetKeys) -> Result<DataKey> {
        let _ = (set, keys);
        Err(soon())
    }

    /// The key of a set wrapped anew, for the current epoch and its recipients: the next generation of its keys.
    ///
    /// # Errors
    /// As [`Vault::open_set`].
    pub fn wrap_set(&self, set: SetId, key: &DataKey, generation: u32) -> Result<SetKeys> {
        let _unused = (set, key, generation);
        Err(soon())
    }

    /// The same secrets for a descriptor that was made from this vault's by adding or removing slots.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when its current epoch is none that this vault has opened.
    pub fn of(&self, descriptor: &RepoDescriptor) -> Result<Vault> {
        let _unused = descriptor;
        Err(soon())
    }

    /// Wraps a set's key anew.
    pub fn rewrap(&self, set: SetId, keys: &SetKeys) -> Result<SetKeys> {
        let _ = (set, keys);
        Err(soon())
    }
}

/// Generation 1 of a repository: with slots it is encrypted, with none it is not.
///
/// # Errors
/// When a slot is impossible or the operating system has no random bytes.
pub fn new_descriptor(repo: RepoId, slots: &[SlotRequest]) -> Result<(RepoDescriptor, Vault)> {
    let _ = (repo, slots);
    Err(soon())
}

/// The next generation, with a slot more.
///
/// # Errors
/// [`ErrorKind::Key`] when the vault could not open the current epoch or nothing is encrypted.
pub fn add_slot(descriptor: &RepoDescriptor, vault: &Vault, slot: &SlotRequest) -> Result<RepoDescriptor> {
    let _ = (descriptor, vault, slot);
    Err(soon())
}

/// The next generation, with a slot less. Whoever knows the removed secret and kept the repository's key can still read;
/// [`rotate`] ends that for new sets.
///
/// # Errors
/// [`ErrorKind::Key`] as [`add_slot`]; [`ErrorKind::NotFound`]; [`ErrorKind::InUse`] when it is the last slot.
pub fn remove_slot(descriptor: &RepoDescriptor, vault: &Vault, slot: u32) -> Result<RepoDescriptor> {
    let _ = (descriptor, vault, slot);
    Err(soon())
}

/// The next generation, with a new epoch and a new key. Recipients are taken over; slots opened by passphrases and key
/// files must be given anew, since their secrets are needed, and are gone where they are not.
///
/// # Errors
/// [`ErrorKind::Key`] as [`add_slot`], or when no slot would be left.
pub fn rotate(descriptor: &RepoDescriptor, vault: &Vault, slots: &[SlotRequest]) -> Result<(RepoDescriptor, Vault)> {
    let _ = (descriptor, vault, slots);
    Err(soon())
}

fn soon() -> Error {
    Error::new(ErrorKind::Internal, "not there yet")
}
