//! A session of the disk medium: parameters, and the verbs that need no open object.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::AtFlags;
use rustix::io::Errno;
use setpiece_sbt_abi::plugin::{self, Failure, Locking, Request, Result};
use setpiece_sbt_abi::{Capabilities, Code, Info, LockMode, SessionInfo};

use crate::list::list;
use crate::lock::{DiskLock, lock};
use crate::reader::{DiskReader, no_object};
use crate::root::{Place, Root, info_of};
use crate::scratch::{Nameless, sweep};
use crate::writer::DiskWriter;

/// An open directory.
#[derive(Debug)]
pub struct DiskSession {
    root: Arc<Root>,
    nameless: Nameless,
}

impl DiskSession {
    pub(crate) fn open(request: Request) -> Result<Self> {
        let Request { location, mut parms } = request;
        // Who names the directory by a parameter can give one more; others may not know that there are any.
        let remedy = if location.is_empty() { "; make it, or pass create=yes" } else { "" };
        let path = match (location.as_str(), parms.take("path")) {
            ("", Some(path)) => path,
            (_, None) if !location.is_empty() => location,
            ("", None) => return Err(usage("no directory is given; pass path=/dir")),
            _ => return Err(usage("the directory is given twice, as location and as path")),
        };
        let create = parms.take_flag("create")?.unwrap_or(false);
        let nameless = match parms.take_flag("tmpfile")? {
            Some(false) => Nameless::No,
            _ => Nameless::where_possible(),
        };
        parms.finish("path, create and tmpfile")?;
        let root = Root::open(&PathBuf::from(path), create, remedy)?;
        sweep(&root, SystemTime::now())?;
        Ok(DiskSession { root: Arc::new(root), nameless })
    }
}

impl plugin::Session for DiskSession {
    type Writer = DiskWriter;
    type Reader = DiskReader;

    fn told(&self) -> SessionInfo {
        let capabilities = Capabilities::LIST
            .with(Capabilities::RANGED_READ)
            .with(Capabilities::ATOMIC_PUBLISH)
            .with(Capabilities::CONDITIONAL_CREATE)
            .with(Capabilities::LOCKS);
        SessionInfo { capabilities, max_object: None, best_write: Some(1 << 20) }
    }

    fn create(&mut self, name: &str) -> Result<DiskWriter> {
        DiskWriter::new(&self.root, name, self.nameless)
    }

    fn open(&mut self, name: &str, offset: u64) -> Result<DiskReader> {
        DiskReader::open(&self.root, name, offset)
    }

    fn info(&mut self, name: &str) -> Result<Info> {
        let place = self.root.find(name)?.ok_or_else(|| no_object(&self.root, name))?;
        let stat = place.stat().map_err(|errno| self.root.failure(name, errno))?;
        stat.map(|stat| info_of(&stat)).ok_or_else(|| no_object(&self.root, name))
    }

    fn list(&mut self, prefix: &str, each: &mut dyn FnMut(&str, Info) -> ControlFlow<()>) -> Result<()> {
        list(&self.root, prefix, each)
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        match self.root.find(name)? {
            Some(place) => remove_at(place).map_err(|errno| self.root.failure(name, errno)),
            None => Ok(()),
        }
    }

    fn command(&mut self, command: &str, _argument: &str) -> Result<String> {
        Err(Failure::new(Code::Unsupported, format!("the disk medium has no command {command}")))
    }
}

impl Locking for DiskSession {
    type Lock = DiskLock;

    fn lock(&mut self, name: &str, mode: LockMode) -> Result<DiskLock> {
        lock(&self.root, name, mode)
    }
}

/// Removes an object durably; succeeds when there is none.
fn remove_at(place: Place<'_>) -> rustix::io::Result<()> {
    if place.stat()?.is_none() {
        return Ok(());
    }
    match rustix::fs::unlinkat(place.dir(), place.leaf, AtFlags::empty()) {
        Ok(()) => rustix::fs::fsync(place.dir())?,
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    place.prune();
    Ok(())
}

fn usage(text: &str) -> Failure {
    Failure::new(Code::Usage, text)
}
