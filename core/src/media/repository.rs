//! A repository on a medium: its descriptor, its sets' objects, its locks. Everything above works on this.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::layout::{self, SetObject};
use super::{HeldLock, LockMode, Medium, ObjectInfo, ObjectName};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::limits::{MAX_KEYS, MAX_META_STORED};
use crate::format::{RepoDescriptor, SetKeys, SetMeta};
use crate::model::{RepoId, SetId, SourceId};
use crate::transform::{DataKey, OpenedMeta, Recipient, Secret, Vault, decode_meta, encode_meta};

/// The longest descriptor and the longest object of keys: a header, and a record that is bounded.
const MAX_KEY_OBJECT: u64 = MAX_KEYS as u64 + 4096;
/// The longest metadata object.
const MAX_META_OBJECT: u64 = (MAX_META_STORED + MAX_KEYS + 4096) as u64;

/// What is on the medium below one set's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetObjects {
    /// The metadata, if the set exists.
    pub meta: Option<ObjectInfo>,
    /// Every object, the metadata too.
    pub objects: Vec<(SetObject, ObjectInfo)>,
}

impl SetObjects {
    /// Bytes in all objects.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|(_, info)| info.len).sum()
    }

    /// The highest generation of keys wrapped anew.
    #[must_use]
    pub fn keys(&self) -> Option<u32> {
        self.objects
            .iter()
            .filter_map(|(object, _)| if let SetObject::Keys(n) = object { Some(*n) } else { None })
            .max()
    }
}

/// An opened repository. May be shared by threads.
pub struct Repository {
    medium: Arc<dyn Medium>,
    descriptor: RepoDescriptor,
    vault: Vault,
}

impl Repository {
    /// Makes a repository where there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] when there is one, or when there are sets: those of a repository whose descriptor was lost
    /// must not get another one, which could not open them.
    ///
    /// # Crash safety
    /// The descriptor is one object: the repository exists once it does.
    pub fn init(medium: Arc<dyn Medium>, descriptor: RepoDescriptor, vault: Vault) -> Result<Self> {
        if newest_descriptor(&*medium)?.is_some() {
            return Err(Error::new(ErrorKind::Exists, "there is a repository already")
                .on(medium.label())
                .remedy("use it, or choose another place"));
        }
        refuse_sets(&*medium)?;
        let repository = Repository { medium, descriptor, vault };
        let name = layout::descriptor(repository.descriptor.generation)?;
        repository.write_object(&name, &repository.descriptor.encode()?)?;
        Ok(repository)
    }

    /// Opens a repository with whatever secrets the caller has.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none, [`ErrorKind::Key`] when the secrets do not fit how it is keyed.
    pub fn open(medium: Arc<dyn Medium>, secrets: &[Secret]) -> Result<Self> {
        let descriptor = Repository::unproven_descriptor(&*medium)?;
        let vault = Vault::open(&descriptor, secrets).map_err(|error| error.on(medium.label()))?;
        Ok(Repository { medium, descriptor, vault })
    }

    /// How the repository on a medium says that it is keyed. Without a secret nothing proves that nobody changed it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none, [`ErrorKind::Damaged`] when it cannot be read.
    pub fn unproven_descriptor(medium: &dyn Medium) -> Result<RepoDescriptor> {
        let generation = newest_descriptor(medium)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no repository here")
                .on(medium.label())
                .remedy("make one with `setpiece init`")
        })?;
        let name = layout::descriptor(generation)?;
        let bytes = read_object(medium, &name, MAX_KEY_OBJECT)?;
        let descriptor = RepoDescriptor::decode(&bytes).map_err(|error| error.on(name.to_string()))?;
        if descriptor.generation != generation {
            return Err(Error::damaged(name.to_string(), format!("is generation {}", descriptor.generation)));
        }
        Ok(descriptor)
    }

    /// Whether the secrets at hand open what is in it.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when they do not: it is encrypted, and was opened to be written to.
    pub fn must_be_readable(&self) -> Result<()> {
        if self.vault.can_read() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Key, "the repository is encrypted and no secret was given")
            .on(self.medium.label())
            .remedy("give the key file, the passphrase file or the private key"))
    }

    /// Writes to these recipients and no others.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when the descriptor names another.
    pub fn trusting(mut self, recipients: &[Recipient]) -> Result<Self> {
        self.vault = self.vault.pinned(recipients).map_err(|error| error.on(self.medium.label()))?;
        Ok(self)
    }

    /// The medium it is on.
    #[must_use]
    pub fn medium(&self) -> &Arc<dyn Medium> {
        &self.medium
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> RepoId {
        self.descriptor.repo
    }

    /// How it is keyed.
    #[must_use]
    pub fn descriptor(&self) -> &RepoDescriptor {
        &self.descriptor
    }

    /// What the caller's secrets opened.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Writes a changed descriptor as the next generation and uses it from now on. Older generations are removed, so
    /// that a key that was taken out opens nothing any more.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] when another has changed it meanwhile.
    pub fn replace_descriptor(&mut self, descriptor: RepoDescriptor, vault: Vault) -> Result<()> {
        let old = self.descriptor.generation;
        if descriptor.generation <= old {
            return Err(Error::new(ErrorKind::Internal, "a changed descriptor must be of a later generation"));
        }
        self.write_object(&layout::descriptor(descriptor.generation)?, &descriptor.encode()?)?;
        self.descriptor = descriptor;
        self.vault = vault;
        for generation in 1..=old {
            self.medium.remove(&layout::descriptor(generation)?)?;
        }
        Ok(())
    }

    /// All that is on the medium for every set, published or not.
    ///
    /// # Errors
    /// When the medium cannot list.
    pub fn sets(&self) -> Result<BTreeMap<SetId, SetObjects>> {
        let mut sets: BTreeMap<SetId, SetObjects> = BTreeMap::new();
        self.medium.list(layout::SETS_PREFIX, &mut |info| {
            if let Some((set, object)) = layout::parse_object(&info.name) {
                let entry = sets.entry(set).or_default();
                if object == SetObject::Meta {
                    entry.meta = Some(info.clone());
                }
                entry.objects.push((object, info));
            }
            Ok(())
        })?;
        Ok(sets)
    }

    /// What is on the medium for one set.
    ///
    /// # Errors
    /// When the medium cannot list.
    pub fn set_objects(&self, set: SetId) -> Result<SetObjects> {
        let mut found = SetObjects::default();
        self.medium.list(&layout::set_prefix(set), &mut |info| {
            if let Some((_, object)) = layout::parse_object(&info.name) {
                if object == SetObject::Meta {
                    found.meta = Some(info.clone());
                }
                found.objects.push((object, info));
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The bytes of a set's metadata as they are on the medium.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the set does not exist.
    pub fn meta_bytes(&self, set: SetId) -> Result<Vec<u8>> {
        read_object(&*self.medium, &layout::object(set, SetObject::Meta)?, MAX_META_OBJECT)
    }

    /// The keys of a set that were wrapped anew, if they were.
    ///
    /// # Errors
    /// When they cannot be read or are damaged.
    pub fn newer_keys(&self, set: SetId, generation: Option<u32>) -> Result<Option<SetKeys>> {
        let Some(generation) = generation else { return Ok(None) };
        let name = layout::object(set, SetObject::Keys(generation))?;
        let bytes = read_object(&*self.medium, &name, MAX_KEY_OBJECT)?;
        SetKeys::decode(&bytes).map(Some).map_err(|error| error.on(name.to_string()))
    }

    /// Decodes metadata read before.
    ///
    /// # Errors
    /// When it is damaged, too new, of another set, or cannot be opened with the caller's secrets.
    pub fn decode_meta(&self, set: SetId, bytes: &[u8], newer: Option<&SetKeys>) -> Result<OpenedMeta> {
        let name = layout::object(set, SetObject::Meta)?;
        let opened = decode_meta(bytes, &self.vault, newer).map_err(|error| error.on(name.to_string()))?;
        if opened.meta.summary.id != set {
            let found = opened.meta.summary.id;
            return Err(Error::damaged(name.to_string(), format!("is the metadata of set {found}"))
                .remedy("someone moved objects; restore them to where they were"));
        }
        Ok(opened)
    }

    /// A set's metadata and the key of its pieces.
    ///
    /// # Errors
    /// As [`Repository::decode_meta`], and [`ErrorKind::NotFound`] when the set does not exist.
    pub fn open_set(&self, set: SetId) -> Result<OpenedMeta> {
        let generation = if self.vault.is_encrypted() { self.set_objects(set)?.keys() } else { None };
        let newer = self.newer_keys(set, generation)?;
        let bytes = self.meta_bytes(set)?;
        self.decode_meta(set, &bytes, newer.as_ref()).doing(|| format!("opening set {set}"))
    }

    /// Writes the metadata: from here on the set exists.
    ///
    /// # Errors
    /// When the medium fails; the set does not exist then.
    pub fn publish(&self, meta: &SetMeta, keys: Option<(&SetKeys, &DataKey)>) -> Result<ObjectInfo> {
        let bytes = encode_meta(meta, keys)?;
        self.write_object(&layout::object(meta.summary.id, SetObject::Meta)?, &bytes)
    }

    /// Writes a small object in one go.
    ///
    /// # Errors
    /// When the medium fails or the object exists.
    pub fn write_object(&self, name: &ObjectName, bytes: &[u8]) -> Result<ObjectInfo> {
        let mut writer = self.medium.create(name)?;
        writer.write(bytes)?;
        writer.finish()
    }

    /// Removes all of a set's objects, the metadata first, so that the set is gone whole.
    ///
    /// # Errors
    /// When the medium refuses; run again, what is left is an orphan.
    pub fn remove_set(&self, set: SetId, objects: &SetObjects) -> Result<()> {
        self.medium.remove(&layout::object(set, SetObject::Meta)?)?;
        for (object, info) in &objects.objects {
            if *object != SetObject::Meta {
                self.medium.remove(&info.name)?;
            }
        }
        Ok(())
    }

    /// Joins the writers, which keeps removal out.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] while sets are being removed.
    pub fn lock_for_writing(&self) -> Result<Box<dyn HeldLock>> {
        self.medium
            .lock(&layout::repository_lock()?, LockMode::Shared)
            .map_err(when_locked("sets are being removed from the repository: try again when that is done"))
    }

    /// Keeps every writer out.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] while others write.
    pub fn lock_for_removal(&self) -> Result<Box<dyn HeldLock>> {
        self.medium
            .lock(&layout::repository_lock()?, LockMode::Exclusive)
            .map_err(when_locked("a backup or another removal is running: try again when it is done"))
    }

    /// Makes the caller the only writer of one kind for a source.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] when there is one.
    pub fn lock_source(&self, source: SourceId, what: &str) -> Result<Box<dyn HeldLock>> {
        let words = if what == "log" { "log stream" } else { what };
        self.medium
            .lock(&layout::source_lock(source, what)?, LockMode::Exclusive)
            .map_err(when_locked(&format!("another {words} of this source is running: wait for it or stop it")))
    }
}

/// What to do when another holds a lock. Where it cannot be taken for other reasons, as on a medium that is read-only,
/// nobody needs to be waited for.
fn when_locked(remedy: &str) -> impl FnOnce(Error) -> Error {
    move |error| if error.kind() == ErrorKind::Locked { error.remedy(remedy) } else { error }
}

/// Reads a whole object that may not be longer than `limit`.
///
/// # Errors
/// [`ErrorKind::NotFound`], [`ErrorKind::Damaged`] when it is longer, or when the medium fails.
pub fn read_object(medium: &dyn Medium, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
    let info = medium.info(name)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "is not on the medium").on(name.to_string()).remedy("look at `setpiece sets`")
    })?;
    if info.len > limit {
        return Err(Error::damaged(
            name.to_string(),
            format!("has {} bytes where at most {limit} make sense", info.len),
        ));
    }
    read_range(medium, name, 0, info.len)
}

/// Reads exactly `len` bytes from `offset` on. The caller has bounded `len`.
///
/// # Errors
/// [`ErrorKind::Damaged`] when the object ends before that, or when the medium fails.
pub fn read_range(medium: &dyn Medium, name: &ObjectName, offset: u64, len: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| Error::new(ErrorKind::Unsupported, "object too large"))?];
    let mut reader = medium.open(name, offset)?;
    read_full(&mut *reader, &mut bytes, name, offset)?;
    Ok(bytes)
}

/// Fills `into` or says where the object ended.
///
/// # Errors
/// [`ErrorKind::Damaged`] when the object ends before that, or when the medium fails.
pub fn read_full(reader: &mut dyn super::ObjectReader, into: &mut [u8], name: &ObjectName, offset: u64) -> Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        let got = reader.read(&mut into[filled..])?;
        if got == 0 {
            return Err(Error::damaged(
                format!("{name} at offset {}", offset + filled as u64),
                format!("ends here, {} bytes are missing", into.len() - filled),
            )
            .remedy("the object is cut short: use another copy of the set"));
        }
        filled += got;
    }
    Ok(())
}

/// Refuses a medium that holds a set of whatever repository.
fn refuse_sets(medium: &dyn Medium) -> Result<()> {
    medium.list(layout::SETS_PREFIX, &mut |info| match layout::parse_object(&info.name) {
        None => Ok(()),
        Some((set, _)) => {
            Err(Error::new(ErrorKind::Exists, format!("there is set {set} of a repository without descriptor"))
                .on(medium.label())
                .remedy(format!("bring {}*.repo back from a copy, or choose another place", layout::REPO_PREFIX)))
        }
    })
}

fn newest_descriptor(medium: &dyn Medium) -> Result<Option<u32>> {
    let mut newest = None;
    medium.list(layout::REPO_PREFIX, &mut |info| {
        newest = newest.max(layout::parse_descriptor(&info.name));
        Ok(())
    })?;
    Ok(newest)
}
