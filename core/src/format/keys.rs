//! Records of wrapped keys: the descriptor of a repository and the keys of a set. No cipher here, only the records.

use minicbor::{Decode, Encode};

use super::cbor;
use super::envelope::{Envelope, KEYS_MAGIC, REPO_MAGIC};
use super::limits::{MAX_ARGON2_KIB, MAX_ARGON2_LANES, MAX_ARGON2_PASSES, MAX_EPOCHS, MAX_LABEL, MAX_SLOTS};
use super::words::CipherId;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{RepoId, SetId, Uuid};

/// Wraps that a set's keys may have: the epoch's, the epoch's public key's, and one a recipient.
pub const MAX_WRAPS: usize = MAX_SLOTS + 2;
/// Bytes of a wrapped 32-byte key with its tag.
pub const WRAPPED_LEN: usize = 48;

/// What a passphrase costs to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Argon2Cost {
    /// Memory in KiB.
    #[n(0)]
    pub memory_kib: u32,
    /// Passes over the memory.
    #[n(1)]
    pub passes: u32,
    /// Lanes.
    #[n(2)]
    pub lanes: u32,
}

impl Default for Argon2Cost {
    fn default() -> Self {
        Argon2Cost { memory_kib: 64 << 10, passes: 3, lanes: 1 }
    }
}

impl Argon2Cost {
    /// Checks that trying a passphrase costs something, and not more than a machine has.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn validate(&self) -> Result<()> {
        let lanes = (1..=MAX_ARGON2_LANES).contains(&self.lanes);
        let memory = self.memory_kib <= MAX_ARGON2_KIB && self.memory_kib >= 8u32.saturating_mul(self.lanes);
        if lanes && memory && (1..=MAX_ARGON2_PASSES).contains(&self.passes) {
            return Ok(());
        }
        let text = format!("a passphrase slot asks for {self:?}, which is out of range");
        Err(Error::new(ErrorKind::Unsupported, text))
    }
}

/// How a slot wraps the key of its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SlotKind {
    /// By a key made of a passphrase by Argon2id with the slot's salt.
    #[n(0)]
    Passphrase {
        /// What it costs to try.
        #[n(0)]
        cost: Argon2Cost,
    },
    /// By a key derived from a random key file.
    #[n(1)]
    KeyFile,
    /// To an X25519 public key.
    #[n(2)]
    Recipient {
        /// The public key.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        public: [u8; 32],
        /// The public half of the pair made for this wrap.
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        ephemeral: [u8; 32],
    },
    /// By the key of the next newer epoch.
    #[n(3)]
    Epoch {
        /// The newer epoch.
        #[n(0)]
        newer: u32,
    },
}

/// One way to the key of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Slot {
    /// The slot's number; never given to another slot of the same repository.
    #[n(0)]
    pub id: u32,
    /// For people.
    #[n(1)]
    pub label: String,
    /// How the key is wrapped.
    #[n(2)]
    pub kind: SlotKind,
    /// Random for each wrap.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub salt: [u8; 32],
    /// The wrapped key.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub wrapped: [u8; WRAPPED_LEN],
}

/// A time in the life of a repository during which it had one key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Epoch {
    /// Counted from 1.
    #[n(0)]
    pub id: u32,
    /// The ways to its key. An epoch that is not the current one has one slot, of kind [`SlotKind::Epoch`].
    #[n(1)]
    #[cbor(decode_with = "cbor::list::<MAX_SLOTS, _, _>")]
    pub slots: Vec<Slot>,
    /// The X25519 public key whose private half is derived from the epoch's key: a writer without secrets wraps to it.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub public: [u8; 32],
}

/// What a repository is: object `repo/<generation>.repo`. The newest generation counts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RepoDescriptor {
    /// The repository.
    #[n(0)]
    pub repo: RepoId,
    /// Counts the descriptors of the repository from 1.
    #[n(1)]
    pub generation: u32,
    /// How sets are sealed; [`CipherId::None`] is a choice that was said aloud.
    #[n(2)]
    pub cipher: CipherId,
    /// The epochs, the current one first. None when nothing is encrypted.
    #[n(3)]
    #[cbor(decode_with = "cbor::list::<MAX_EPOCHS, _, _>")]
    pub epochs: Vec<Epoch>,
    /// The number that the next slot gets.
    #[n(4)]
    pub next_slot: u32,
    /// HMAC-SHA256 of the record with 32 zeros here, by a key derived from that of the current epoch; absent when
    /// nothing is encrypted.
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub mac: Option<[u8; 32]>,
}

impl RepoDescriptor {
    /// The object's bytes.
    ///
    /// # Errors
    /// When the descriptor would be refused by [`RepoDescriptor::decode`].
    pub fn encode(&self) -> Result<Vec<u8>> {
        self.validate()?;
        let body = cbor::to_vec(self)?;
        Envelope { id: self.repo.0, generation: self.generation, body: &body }.encode(&REPO_MAGIC)
    }

    /// Reads a descriptor. It is proven only when a secret opens it.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`]; [`ErrorKind::Unsupported`] for a newer format.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let envelope = Envelope::decode(bytes, &REPO_MAGIC, "a repository descriptor")?;
        let descriptor: RepoDescriptor = cbor::from_slice(envelope.body, "the record of a repository descriptor")?;
        if descriptor.repo.0 != envelope.id || descriptor.generation != envelope.generation {
            return Err(Error::new(ErrorKind::Damaged, "the repository descriptor contradicts its own header"));
        }
        descriptor.validate()?;
        Ok(descriptor)
    }

    /// Whether sets are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.cipher != CipherId::None
    }

    /// The epoch whose key new sets are wrapped under; `None` when nothing is encrypted.
    #[must_use]
    pub fn current(&self) -> Option<&Epoch> {
        self.epochs.first()
    }

    /// The public keys that may read what is written.
    pub fn recipients(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        let slots = self.current().into_iter().flat_map(|epoch| epoch.slots.iter());
        slots.filter_map(|slot| match slot.kind {
            SlotKind::Recipient { public, .. } => Some(public),
            _ => None,
        })
    }

    fn validate(&self) -> Result<()> {
        let wrong = |what: &str| Error::new(ErrorKind::Damaged, format!("the repository descriptor is wrong: {what}"));
        let keyed = self.is_encrypted();
        if keyed == self.epochs.is_empty() || keyed != self.mac.is_some() || self.generation == 0 {
            return Err(wrong("its keys do not fit its choice of encryption"));
        }
        if self.epochs.windows(2).any(|pair| pair[0].id <= pair[1].id) || self.epochs.len() > MAX_EPOCHS {
            return Err(wrong("its epochs are not in order"));
        }
        for (at, epoch) in self.epochs.iter().enumerate() {
            let newer = at.checked_sub(1).and_then(|at| self.epochs.get(at)).map(|epoch| epoch.id);
            epoch.validate(newer, self.next_slot)?;
        }
        Ok(())
    }
}

impl Epoch {
    fn validate(&self, newer: Option<u32>, next_slot: u32) -> Result<()> {
        let wrong = |what: &str| Error::new(ErrorKind::Damaged, format!("epoch {} is wrong: {what}", self.id));
        if self.slots.is_empty() || self.slots.len() > MAX_SLOTS {
            return Err(wrong("number of slots out of range"));
        }
        for (at, slot) in self.slots.iter().enumerate() {
            let fits = match (&slot.kind, newer) {
                (SlotKind::Epoch { newer }, Some(expected)) => *newer == expected && self.slots.len() == 1,
                (SlotKind::Epoch { .. }, None) | (_, Some(_)) => false,
                _ => true,
            };
            if !fits || slot.label.len() > MAX_LABEL || slot.id >= next_slot {
                return Err(wrong("a slot does not fit"));
            }
            if self.slots[..at].iter().any(|other| other.id == slot.id) {
                return Err(wrong("two slots have one number"));
            }
            if let SlotKind::Passphrase { cost } = &slot.kind {
                cost.validate()?;
            }
        }
        Ok(())
    }
}

/// How the key of a set is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum WrapKind {
    /// Under the key of an epoch.
    #[n(0)]
    Epoch {
        /// Random for each wrap.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        salt: [u8; 32],
    },
    /// To the public key of an epoch.
    #[n(1)]
    EpochPublic {
        /// The public half of the pair made for this wrap.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        ephemeral: [u8; 32],
    },
    /// To the public key of a recipient.
    #[n(2)]
    Recipient {
        /// The recipient.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        public: [u8; 32],
        /// The public half of the pair made for this wrap.
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        ephemeral: [u8; 32],
    },
}

/// The key of a set, wrapped once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyWrap {
    /// The epoch at whose time it was made.
    #[n(0)]
    pub epoch: u32,
    /// How.
    #[n(1)]
    pub kind: WrapKind,
    /// The wrapped key.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub wrapped: [u8; WRAPPED_LEN],
}

/// The wrapped key of a set: in the open part of its metadata, or in an object `keys.<generation>` that overrides it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SetKeys {
    /// The set.
    #[n(0)]
    pub set: SetId,
    /// 0 in the metadata, counted from 1 in objects beside it. The newest counts.
    #[n(1)]
    pub generation: u32,
    /// The wraps.
    #[n(2)]
    #[cbor(decode_with = "cbor::list::<MAX_WRAPS, _, _>")]
    pub wraps: Vec<KeyWrap>,
}

impl SetKeys {
    /// The bytes of an object `keys.<generation>`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the record is too large.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let body = cbor::to_vec(self)?;
        Envelope { id: self.set.0, generation: self.generation, body: &body }.encode(&KEYS_MAGIC)
    }

    /// Reads an object `keys.<generation>`.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`]; [`ErrorKind::Unsupported`] for a newer format.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let envelope = Envelope::decode(bytes, &KEYS_MAGIC, "the keys of a set")?;
        let keys: SetKeys = cbor::from_slice(envelope.body, "the keys of a set")?;
        let same = |set: Uuid| set == keys.set.0;
        if !same(envelope.id) || keys.generation != envelope.generation {
            return Err(Error::new(ErrorKind::Damaged, "the keys of a set contradict their own header"));
        }
        Ok(keys)
    }
}
