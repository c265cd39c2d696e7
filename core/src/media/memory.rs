//! A medium in memory: for tests of Setpiece and of programs that embed it. Nothing outlives the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Capabilities, HeldLock, LockMode, Medium, ObjectInfo, ObjectName, ObjectReader, ObjectWriter};
use crate::error::{Error, ErrorKind, Result};

/// Objects in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryMedium {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<ObjectName, Arc<Vec<u8>>>,
    /// Holders of each lock: how many share it, or `None` when one has it alone.
    locks: BTreeMap<ObjectName, Option<usize>>,
}

impl MemoryMedium {
    /// An empty medium.
    #[must_use]
    pub fn new() -> Self {
        MemoryMedium::default()
    }

    /// Every object's name and content.
    #[must_use]
    pub fn objects(&self) -> Vec<(ObjectName, Arc<Vec<u8>>)> {
        self.lock_state().objects.iter().map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
    }

    /// Replaces an object's content, as damage does.
    pub fn corrupt(&self, name: &ObjectName, bytes: Vec<u8>) {
        self.lock_state().objects.insert(name.clone(), Arc::new(bytes));
    }

    /// A medium of its own with the same objects.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = State { objects: self.lock_state().objects.clone(), locks: BTreeMap::new() };
        MemoryMedium { state: Arc::new(Mutex::new(state)) }
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, name: &ObjectName) -> Option<Arc<Vec<u8>>> {
        self.lock_state().objects.get(name).cloned()
    }
}

impl Medium for MemoryMedium {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            list: true,
            ranged_read: true,
            sequential_only: false,
            atomic_publish: true,
            conditional_create: true,
            retention_lock: false,
            locks: true,
        }
    }

    fn label(&self) -> String {
        "memory".into()
    }

    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>> {
        if self.object(name).is_some() {
            return Err(exists(name));
        }
        Ok(Box::new(Writer { medium: self.clone(), name: name.clone(), bytes: Vec::new() }))
    }

    fn open(&self, name: &ObjectName, offset: u64) -> Result<Box<dyn ObjectReader>> {
        let bytes =
            self.object(name).ok_or_else(|| Error::new(ErrorKind::NotFound, "no such object").on(name.as_str()))?;
        let at = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Ok(Box::new(Reader { bytes, at }))
    }

    fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>> {
        Ok(self.object(name).map(|bytes| info(name, bytes.len())))
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        let objects = self.objects();
        let wanted = objects.iter().filter(|(name, _)| name.as_str().starts_with(prefix));
        wanted.map(|(name, bytes)| info(name, bytes.len())).try_for_each(each)
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.lock_state().objects.remove(name);
        Ok(())
    }

    fn lock(&self, name: &ObjectName, mode: LockMode) -> Result<Box<dyn HeldLock>> {
        let mut state = self.lock_state();
        let held = state.locks.get(name).copied();
        let next = match (held, mode) {
            (None, LockMode::Exclusive) => None,
            (None, LockMode::Shared) => Some(1),
            (Some(Some(sharing)), LockMode::Shared) => Some(sharing + 1),
            _ => return Err(Error::new(ErrorKind::Locked, "is locked").on(name.as_str())),
        };
        state.locks.insert(name.clone(), next);
        Ok(Box::new(Lock { medium: self.clone(), name: name.clone() }))
    }
}

fn info(name: &ObjectName, len: usize) -> ObjectInfo {
    ObjectInfo { name: name.clone(), len: len as u64, created: None }
}

fn exists(name: &ObjectName) -> Error {
    Error::new(ErrorKind::Exists, "there is an object of that name").on(name.as_str())
}

struct Writer {
    medium: MemoryMedium,
    name: ObjectName,
    bytes: Vec<u8>,
}

impl ObjectWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<ObjectInfo> {
        let mut state = self.medium.lock_state();
        if state.objects.contains_key(&self.name) {
            return Err(exists(&self.name));
        }
        let done = info(&self.name, self.bytes.len());
        state.objects.insert(self.name.clone(), Arc::new(self.bytes));
        Ok(done)
    }
}

struct Reader {
    bytes: Arc<Vec<u8>>,
    at: usize,
}

impl ObjectReader for Reader {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let got = into.len().min(self.bytes.len() - self.at);
        into[..got].copy_from_slice(&self.bytes[self.at..self.at + got]);
        self.at += got;
        Ok(got)
    }
}

struct Lock {
    medium: MemoryMedium,
    name: ObjectName,
}

impl HeldLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.medium.lock_state();
        match state.locks.get_mut(&self.name) {
            Some(Some(sharing)) if *sharing > 1 => *sharing -= 1,
            _ => drop(state.locks.remove(&self.name)),
        }
    }
}
