//! A medium in memory written with the plugin side, and wrong on purpose where a [`Fault`] says so.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use setpiece_sbt_abi::plugin::{Failure, Locking, Medium, Reader, Request, Result, Session, Writer};
use setpiece_sbt_abi::{Capabilities, Code, Info, LockMode, SessionInfo};

/// What is wrong with the plugin.
pub(crate) trait Fault: Send + Sync + 'static {
    const OVERWRITES: bool = false;
    const VISIBLE_EARLY: bool = false;
    const KEEPS_ABORTED: bool = false;
    const SHORT_LIST: bool = false;
    const SLOPPY_PREFIX: bool = false;
    const TAKES_ANY_PARMS: bool = false;
    const DENIES_LOCKS: bool = true;
    const SILENT: bool = false;
    const OFFSET_IGNORED: bool = false;
    const REMOVE_STRICT: bool = false;
    const WRITE_PANICS: bool = false;
    const WRITE_FAILS: bool = false;
}

pub(crate) struct Sound;
impl Fault for Sound {}

type Objects = BTreeMap<String, Arc<Vec<u8>>>;

#[derive(Default)]
pub(crate) struct Store {
    objects: Mutex<Objects>,
    /// Holders that share, or -1 for one alone.
    locks: Mutex<BTreeMap<String, i32>>,
}

impl Store {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locks(&self) -> MutexGuard<'_, BTreeMap<String, i32>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stores by location: the medium itself.
static STORES: Mutex<BTreeMap<String, Arc<Store>>> = Mutex::new(BTreeMap::new());

pub(crate) struct Memory<F>(PhantomData<F>);

pub(crate) struct MemorySession<F> {
    store: Arc<Store>,
    fault: PhantomData<F>,
}

impl<F: Fault> Medium for Memory<F> {
    const NAME: &'static str = "memory";
    const VERSION: &'static str = "1";
    const DESCRIPTION: &'static str = "objects in memory";
    type Session = MemorySession<F>;

    fn open(request: Request) -> Result<MemorySession<F>> {
        if !F::TAKES_ANY_PARMS {
            request.parms.finish("none")?;
        }
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(MemorySession { store: Arc::clone(stores.entry(request.location).or_default()), fault: PhantomData })
    }
}

impl<F: Fault> MemorySession<F> {
    fn missing(name: &str) -> Failure {
        Failure::new(Code::NotFound, if F::SILENT { String::new() } else { format!("{name}: no such object") })
    }

    fn get(&self, name: &str) -> Result<Arc<Vec<u8>>> {
        self.store.objects().get(name).cloned().ok_or_else(|| Self::missing(name))
    }
}

fn info_of(bytes: &[u8]) -> Info {
    Info { len: bytes.len() as u64, created_us: None }
}

impl<F: Fault> Session for MemorySession<F> {
    type Writer = MemoryWriter<F>;
    type Reader = MemoryReader;

    fn told(&self) -> SessionInfo {
        let capabilities = Capabilities::LIST
            .with(Capabilities::RANGED_READ)
            .with(Capabilities::CONDITIONAL_CREATE)
            .with(Capabilities::LOCKS);
        SessionInfo { capabilities, ..SessionInfo::default() }
    }

    fn create(&mut self, name: &str) -> Result<MemoryWriter<F>> {
        if !F::OVERWRITES && self.store.objects().contains_key(name) {
            return Err(Failure::new(Code::Exists, format!("{name}: taken")));
        }
        let store = Arc::clone(&self.store);
        Ok(MemoryWriter { store, name: name.to_owned(), bytes: Vec::new(), done: false, fault: PhantomData })
    }

    fn open(&mut self, name: &str, offset: u64) -> Result<MemoryReader> {
        let bytes = self.get(name)?;
        let at = if F::OFFSET_IGNORED { 0 } else { usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len()) };
        Ok(MemoryReader { bytes, at })
    }

    fn info(&mut self, name: &str) -> Result<Info> {
        self.get(name).map(|bytes| info_of(&bytes))
    }

    fn list(&mut self, prefix: &str, each: &mut dyn FnMut(&str, Info) -> ControlFlow<()>) -> Result<()> {
        let objects = self.store.objects();
        let most = if F::SHORT_LIST { 100 } else { usize::MAX };
        let prefix = if F::SLOPPY_PREFIX { prefix.rsplit_once('/').map_or("", |(above, _)| above) } else { prefix };
        for (name, bytes) in objects.iter().filter(|(name, _)| name.starts_with(prefix)).take(most) {
            if each(name, info_of(bytes)).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        let was = self.store.objects().remove(name);
        if F::REMOVE_STRICT && was.is_none() { Err(Self::missing(name)) } else { Ok(()) }
    }

    fn command(&mut self, command: &str, argument: &str) -> Result<String> {
        match command {
            "echo" => Ok(argument.to_owned()),
            "panic" => panic!("{argument}"),
            _ => Err(Failure::new(Code::Unsupported, format!("{command}: no such command"))),
        }
    }
}

pub(crate) struct MemoryWriter<F: Fault> {
    store: Arc<Store>,
    name: String,
    bytes: Vec<u8>,
    done: bool,
    fault: PhantomData<F>,
}

impl<F: Fault> Writer for MemoryWriter<F> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        assert!(!F::WRITE_PANICS, "write panics on purpose");
        if F::WRITE_FAILS {
            return Err(Failure::new(Code::Full, "no room on purpose").retryable(true));
        }
        self.bytes.extend_from_slice(bytes);
        if F::VISIBLE_EARLY {
            self.store.objects().insert(self.name.clone(), Arc::new(self.bytes.clone()));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Info> {
        self.done = true;
        let info = info_of(&self.bytes);
        let mut objects = self.store.objects();
        if !F::OVERWRITES && !F::VISIBLE_EARLY && objects.contains_key(&self.name) {
            return Err(Failure::new(Code::Exists, format!("{}: taken", self.name)));
        }
        objects.insert(self.name.clone(), Arc::new(std::mem::take(&mut self.bytes)));
        Ok(info)
    }
}

impl<F: Fault> Drop for MemoryWriter<F> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if F::VISIBLE_EARLY {
            self.store.objects().remove(&self.name);
        }
        if F::KEEPS_ABORTED {
            self.store.objects().insert(self.name.clone(), Arc::new(std::mem::take(&mut self.bytes)));
        }
    }
}

pub(crate) struct MemoryReader {
    bytes: Arc<Vec<u8>>,
    at: usize,
}

impl Reader for MemoryReader {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let got = rest.len().min(into.len());
        into[..got].copy_from_slice(&rest[..got]);
        self.at += got;
        Ok(got)
    }
}

pub(crate) struct MemoryLock<F: Fault> {
    store: Arc<Store>,
    name: String,
    fault: PhantomData<F>,
}

impl<F: Fault> Locking for MemorySession<F> {
    type Lock = MemoryLock<F>;

    fn lock(&mut self, name: &str, mode: LockMode) -> Result<MemoryLock<F>> {
        let mut locks = self.store.locks();
        let held = locks.entry(name.to_owned()).or_insert(0);
        *held = match (mode, *held) {
            (LockMode::Exclusive, 0) => -1,
            (LockMode::Shared, n @ 0..) => n + 1,
            (LockMode::Exclusive, n @ 1..) if !F::DENIES_LOCKS => n,
            _ => return Err(Failure::new(Code::Locked, format!("{name}: held"))),
        };
        Ok(MemoryLock { store: Arc::clone(&self.store), name: name.to_owned(), fault: PhantomData })
    }
}

impl<F: Fault> Drop for MemoryLock<F> {
    fn drop(&mut self) {
        let mut locks = self.store.locks();
        if let Some(held) = locks.get_mut(&self.name) {
            *held = if *held < 0 { 0 } else { *held - 1 };
        }
    }
}
