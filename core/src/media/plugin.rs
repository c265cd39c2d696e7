//! A medium behind the plugin ABI. The only road to storage: our own media take it as a vendor's do.
//!
//! A session does one thing at a time, so each writer, reader and lock has one of its own while it is open; sessions
//! that are free wait in a pool. One that met anything but an ordinary answer is closed instead of used again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use setpiece_sbt_abi::host::{self, OpenParams, Plugin, Refused, Session};
use setpiece_sbt_abi::{self as abi, Code};

use super::{Capabilities, HeldLock, LockMode, Medium, ObjectInfo, ObjectName, ObjectReader, ObjectWriter};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Timestamp;

/// How many free sessions are kept.
const MAX_IDLE: usize = 16;

/// How a plugin is opened.
#[derive(Clone, Default)]
pub struct PluginParams {
    /// For messages: what the user called the medium, without secrets.
    pub label: String,
    /// Where the objects are, in the plugin's own words. May be empty.
    pub location: String,
    /// The PARMS string as the user gave it. May be empty.
    pub parms: String,
    /// Further parameters. The values may be secrets.
    pub pairs: Vec<(String, String)>,
}

/// A medium behind the plugin ABI. Used by several threads at once.
#[derive(Debug)]
pub struct PluginMedium {
    pool: Arc<Pool>,
    capabilities: abi::Capabilities,
    /// Locks among the users of this value, where the medium has none.
    local: Arc<LocalLocks>,
}

impl PluginMedium {
    /// Opens a first session and keeps it.
    ///
    /// # Errors
    /// What the plugin says: wrong parameters are [`ErrorKind::Usage`], a place that is not there is
    /// [`ErrorKind::NotFound`].
    pub fn open(plugin: Plugin, params: PluginParams) -> Result<Self> {
        let pool = Arc::new(Pool { plugin, params, idle: Mutex::default() });
        let session = pool.take()?;
        let capabilities = session.capabilities();
        pool.put(session);
        Ok(PluginMedium { pool, capabilities, local: Arc::default() })
    }

    fn with_session<T>(
        &self,
        object: &str,
        run: impl FnOnce(&mut Session) -> host::Result<T>,
    ) -> Result<T, (Code, Error)> {
        let mut session = self.pool.take().map_err(|error| (Code::Io, error))?;
        match run(&mut session) {
            Ok(done) => {
                self.pool.put(session);
                Ok(done)
            }
            Err(error) => {
                self.pool.put_after(session, &error);
                Err((error.code(), self.pool.error(object, error)))
            }
        }
    }
}

impl Medium for PluginMedium {
    fn capabilities(&self) -> Capabilities {
        let has = |wanted| self.capabilities.has(wanted);
        Capabilities {
            list: has(abi::Capabilities::LIST),
            ranged_read: has(abi::Capabilities::RANGED_READ),
            sequential_only: has(abi::Capabilities::SEQUENTIAL_ONLY),
            atomic_publish: has(abi::Capabilities::ATOMIC_PUBLISH),
            conditional_create: has(abi::Capabilities::CONDITIONAL_CREATE),
            retention_lock: has(abi::Capabilities::RETENTION_LOCK),
            locks: has(abi::Capabilities::LOCKS) && self.pool.plugin.has_locks(),
        }
    }

    fn label(&self) -> String {
        self.pool.params.label.clone()
    }

    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>> {
        let session = self.pool.take()?;
        match session.create(name.as_str()) {
            Ok(writer) => Ok(Box::new(PluginWriter { writer, name: name.clone(), pool: Arc::clone(&self.pool) })),
            Err(refused) => Err(self.pool.refused(name.as_str(), refused)),
        }
    }

    fn open(&self, name: &ObjectName, offset: u64) -> Result<Box<dyn ObjectReader>> {
        let session = self.pool.take()?;
        match session.open_at(name.as_str(), offset) {
            Ok(reader) => {
                let pool = Arc::clone(&self.pool);
                Ok(Box::new(PluginReader { reader: Some(reader), name: name.clone(), pool }))
            }
            Err(refused) => Err(self.pool.refused(name.as_str(), refused)),
        }
    }

    fn info(&self, name: &ObjectName) -> Result<Option<ObjectInfo>> {
        match self.with_session(name.as_str(), |session| session.info(name.as_str())) {
            Ok(info) => Ok(Some(object_info(name.clone(), info))),
            Err((Code::NotFound, _)) => Ok(None),
            Err((_, error)) => Err(error),
        }
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(ObjectInfo) -> Result<()>) -> Result<()> {
        let mut failed = None;
        let mut take = |name: &str, info: abi::Info| {
            let went = ObjectName::new(name).and_then(|name| each(object_info(name, info)));
            went.map_err(|error| failed = Some(error)).is_ok()
        };
        let listed = self.with_session(prefix, |session| session.list(prefix, &mut take));
        match failed {
            Some(error) => Err(error),
            None => listed.map_err(|(_, error)| error),
        }
    }

    fn remove(&self, name: &ObjectName) -> Result<()> {
        let removed = self.with_session(name.as_str(), |session| session.remove(name.as_str()));
        removed.map_err(|(_, error)| error)
    }

    /// Where the plugin has no locks ([`Capabilities::locks`] is false), the lock holds among the users of this value
    /// only: other processes are kept from damage by objects that are never overwritten, and not by the lock.
    fn lock(&self, name: &ObjectName, mode: LockMode) -> Result<Box<dyn HeldLock>> {
        if !self.capabilities().locks {
            return LocalLocks::lock(&self.local, name, mode);
        }
        let session = self.pool.take()?;
        let abi_mode = match mode {
            LockMode::Shared => abi::LockMode::Shared,
            LockMode::Exclusive => abi::LockMode::Exclusive,
        };
        match session.lock(name.as_str(), abi_mode) {
            Ok(lock) => Ok(Box::new(PluginLock { _lock: lock })),
            Err(refused) => Err(self.pool.refused(name.as_str(), refused)),
        }
    }
}

/// The plugin, how to open it, and the sessions that are free.
struct Pool {
    plugin: Plugin,
    params: PluginParams,
    idle: Mutex<Vec<Session>>,
}

impl Pool {
    fn take(&self) -> Result<Session> {
        if let Some(session) = self.idle().pop() {
            return Ok(session);
        }
        let params = &self.params;
        let pairs: Vec<(&str, &str)> = params.pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let given = OpenParams { location: &params.location, parms: &params.parms, pairs: &pairs };
        self.plugin.open(&given).map_err(|error| self.error(&params.label, error))
    }

    fn put(&self, session: Session) {
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE && !session.is_poisoned() {
            idle.push(session);
            return;
        }
        // Closing may take its time; the others need not wait.
        drop(idle);
        drop(session);
    }

    /// Keeps a session after an ordinary answer; after anything else it is closed.
    fn put_after(&self, session: Session, error: &host::Error) {
        let ordinary = matches!(error.code(), Code::NotFound | Code::Exists | Code::Locked | Code::Unsupported);
        if ordinary {
            self.put(session);
        }
    }

    fn refused(&self, object: &str, refused: Refused) -> Error {
        self.put_after(*refused.session, &refused.error);
        self.error(object, refused.error)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error of the plugin as one of ours.
    fn error(&self, object: &str, error: host::Error) -> Error {
        let words = if error.text().is_empty() { error.code().text() } else { error.text() };
        let words = if error.code() == Code::Locked { without_object(words, object) } else { words };
        let text = format!("medium plugin {}: {words}", self.plugin.name());
        let made = Error::new(kind_of(error.code()), text).on(object).retryable(error.is_retryable());
        if error.code() == Code::Locked {
            // An ordinary answer: the cause would say the same once more.
            return made;
        }
        match remedy_of(error.code()) {
            Some(remedy) => made.remedy(remedy).because(error),
            None => made.because(error),
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("plugin", &self.plugin).field("label", &self.params.label).finish_non_exhaustive()
    }
}

fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::Usage => ErrorKind::Usage,
        Code::NotFound => ErrorKind::NotFound,
        Code::Exists => ErrorKind::Exists,
        Code::Full => ErrorKind::Full,
        Code::Locked => ErrorKind::Locked,
        Code::Unsupported | Code::Abi => ErrorKind::Unsupported,
        Code::Retention => ErrorKind::InUse,
        Code::Damaged => ErrorKind::Damaged,
        Code::Stopped | Code::Panic | Code::Internal => ErrorKind::Internal,
        _ => ErrorKind::Medium,
    }
}

/// What the user can do where the code alone says it; otherwise the plugin's own words must.
fn remedy_of(code: Code) -> Option<&'static str> {
    match code {
        Code::Retention => Some("wait until its protection ends"),
        Code::Panic | Code::Internal => Some("run `setpiece media test` on the plugin and report it to its vendor"),
        _ => None,
    }
}

/// A plugin's words without the object, or its path, that they begin with.
fn without_object<'w>(words: &'w str, object: &str) -> &'w str {
    words.split_once(": ").filter(|(place, _)| place.ends_with(object)).map_or(words, |(_, rest)| rest)
}

fn object_info(name: ObjectName, info: abi::Info) -> ObjectInfo {
    ObjectInfo { name, len: info.len, created: info.created_us.map(Timestamp) }
}

struct PluginWriter {
    writer: host::Writer,
    name: ObjectName,
    pool: Arc<Pool>,
}

impl ObjectWriter for PluginWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write(bytes).map_err(|error| self.pool.error(self.name.as_str(), error))
    }

    fn finish(self: Box<Self>) -> Result<ObjectInfo> {
        let PluginWriter { writer, name, pool } = *self;
        match writer.finish() {
            Ok((info, session)) => {
                pool.put(session);
                Ok(object_info(name, info))
            }
            Err(refused) => Err(pool.refused(name.as_str(), refused)),
        }
    }
}

struct PluginReader {
    /// There until it is dropped.
    reader: Option<host::Reader>,
    name: ObjectName,
    pool: Arc<Pool>,
}

impl ObjectReader for PluginReader {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let Some(reader) = &mut self.reader else { return Ok(0) };
        reader.read(into).map_err(|error| self.pool.error(self.name.as_str(), error))
    }
}

impl Drop for PluginReader {
    fn drop(&mut self) {
        // Sessions can be costly, and a restore opens thousands of readers. One that failed is not used again.
        if let Some(Ok(session)) = self.reader.take().filter(|reader| !reader.is_poisoned()).map(host::Reader::close) {
            self.pool.put(session);
        }
    }
}

struct PluginLock {
    _lock: host::Lock,
}

impl HeldLock for PluginLock {}

/// Locks inside this process: how many share each, or `None` when one has it alone.
#[derive(Debug, Default)]
struct LocalLocks(Mutex<BTreeMap<ObjectName, Option<usize>>>);

struct LocalLock {
    locks: Arc<LocalLocks>,
    name: ObjectName,
}

impl LocalLocks {
    fn lock(locks: &Arc<LocalLocks>, name: &ObjectName, mode: LockMode) -> Result<Box<dyn HeldLock>> {
        match (locks.held().entry(name.clone()), mode) {
            (Entry::Vacant(free), LockMode::Shared) => *free.insert(Some(1)),
            (Entry::Vacant(free), LockMode::Exclusive) => *free.insert(None),
            (Entry::Occupied(mut held), LockMode::Shared) if held.get().is_some() => {
                let sharers = held.get().map_or(1, |sharers| sharers + 1);
                held.insert(Some(sharers))
            }
            _ => {
                let text = "another part of this program holds the lock";
                return Err(Error::new(ErrorKind::Locked, text).on(name.to_string()).retryable(true));
            }
        };
        Ok(Box::new(LocalLock { locks: Arc::clone(locks), name: name.clone() }))
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Option<usize>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldLock for LocalLock {}

impl Drop for LocalLock {
    fn drop(&mut self) {
        let mut held = self.locks.held();
        match held.get_mut(&self.name) {
            Some(Some(sharers)) if *sharers > 1 => *sharers -= 1,
            _ => drop(held.remove(&self.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text).unwrap()
    }

    #[test]
    fn local_locks_share_and_exclude() {
        let locks = Arc::new(LocalLocks::default());
        let lock = |mode| LocalLocks::lock(&locks, &name("a"), mode);
        let (one, two) = (lock(LockMode::Shared).unwrap(), lock(LockMode::Shared).unwrap());
        let refused = |mode| lock(mode).map(drop).unwrap_err().kind();
        assert_eq!(refused(LockMode::Exclusive), ErrorKind::Locked);
        drop(one);
        assert_eq!(refused(LockMode::Exclusive), ErrorKind::Locked);
        drop(two);
        let alone = lock(LockMode::Exclusive).unwrap();
        assert_eq!(refused(LockMode::Shared), ErrorKind::Locked);
        assert!(LocalLocks::lock(&locks, &name("b"), LockMode::Exclusive).is_ok());
        drop(alone);
        assert!(lock(LockMode::Shared).is_ok());
    }
}
