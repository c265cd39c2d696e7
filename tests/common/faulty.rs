//! A medium that fails once, at the call of a given number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use setpiece_core::media::{
    Capabilities, HeldLock, LockMode, Medium, ObjectInfo, ObjectName, ObjectReader, ObjectWriter,
};
use setpiece_core::{Error, ErrorKind, Result};

/// How the call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error, nothing done.
    Io,
    /// No space left.
    Full,
    /// A write takes half of the bytes, then fails; other calls fail as with `Io`.
    Short,
    /// `finish` succeeds, and the answer is lost; other calls fail as with `Io`.
    AnswerLost,
}

/// Counts calls and fails at one of them.
#[derive(Clone)]
pub struct Countdown {
    left: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
    fault: Fault,
}

impl Countdown {
    /// Fails at the call with this number, counted from 1; never when 0.
    pub fn new(at: u64, fault: Fault) -> Self {
        Countdown { left: Arc::new(AtomicU64::new(at)), calls: Arc::default(), fault }
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Fails at the call with this number from now on, counted from 1.
    pub fn arm(&self, at: u64) {
        self.left.store(at, Ordering::SeqCst);
    }

    fn strikes(&self) -> Option<Fault> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let before =
            self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).unwrap_or(0);
        (before == 1).then_some(self.fault)
    }

    fn step(&self) -> Result<()> {
        self.strikes().map_or(Ok(()), |fault| Err(error(fault)))
    }
}

fn error(fault: Fault) -> Error {
    let kind = if fault == Fault::Full { ErrorKind::Full } else { ErrorKind::Medium };
    Error::new(kind, format!("injected fault {fault:?}"))
}

/// The medium around which faults happen.
pub struct FaultyMedium {
    inner: Arc<dyn Medium>,
    countdown: Countdown,
}

impl FaultyMedium {
    /// Wraps a medium.
    pub fn new(inner: Arc<dyn Medium>, countdown: Countdown) -> Self {
        FaultyMedium { inner, countdown }
    }
}

impl Medium for FaultyMedium {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn label(&self) -> String {
        self.inner.label()
    }

    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>> {
        self.countdown.step()?;
        Ok(Box::new(Writer { inner: self.inner.create(name)?, countdown: self.countdown.clone() }))
    }

    fn open(&self, name: &ObjectName, offset: u64) -> Result<Box<dyn ObjectReader>> {
        self.countdown.step()?;
        Ok(Box::new(Reader { inner: self.inner.open(name, offset)?, countdown: self.countdown.clone() }))
    }

    fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>> {
        self.countdown.step()?;
        self.inner.info(name)
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        self.countdown.step()?;
        self.inner.list(prefix, each)
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        self.countdown.step()?;
        self.inner.remove(name)
    }

    fn lock(&self, name: &ObjectName, mode: LockMode) -> Result<Box<dyn HeldLock>> {
        self.countdown.step()?;
        self.inner.lock(name, mode)
    }
}

struct Writer {
    inner: Box<dyn ObjectWriter>,
    countdown: Countdown,
}

impl ObjectWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self.countdown.strikes() {
            None => self.inner.write(bytes),
            Some(Fault::Short) => {
                self.inner.write(&bytes[..bytes.len() / 2])?;
                Err(error(Fault::Short))
            }
            Some(fault) => Err(error(fault)),
        }
    }

    fn finish(self: Box<Self>) -> Result<ObjectInfo> {
        match self.countdown.strikes() {
            None => self.inner.finish(),
            Some(Fault::AnswerLost) => {
                self.inner.finish()?;
                Err(error(Fault::AnswerLost))
            }
            Some(fault) => Err(error(fault)),
        }
    }
}

struct Reader {
    inner: Box<dyn ObjectReader>,
    countdown: Countdown,
}

impl ObjectReader for Reader {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        self.countdown.step()?;
        self.inner.read(into)
    }
}
