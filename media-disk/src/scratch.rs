//! The file that an object is written to before it has its name, and how it gets it.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use setpiece_sbt_abi::plugin::{Failure, Result};

use crate::root::{FILE_MODE, Place, Root};

/// What hidden names of writers begin with.
const HIDDEN: &str = ".tmp-";
/// How old a hidden file must be before it can be taken for one whose writer is dead.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Whether writers may use files without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nameless {
    /// Where the file system has them.
    Try,
    /// Never.
    No,
}

impl Nameless {
    /// A file without a name gets one through `/proc`; without it, the hidden name is the only way.
    pub(crate) fn where_possible() -> Nameless {
        if Path::new("/proc/self/fd").is_dir() { Nameless::Try } else { Nameless::No }
    }
}

/// A file being written that is no object yet. Dropping it leaves nothing.
#[derive(Debug)]
pub(crate) struct Scratch {
    root: Arc<Root>,
    pub(crate) file: File,
    /// Its hidden name, where the file system has no files without a name.
    hidden: Option<String>,
}

impl Scratch {
    /// Makes a file to write to, in the root: directories for the object are made when it is done, so that an object
    /// that is given up leaves no empty directory either.
    pub(crate) fn new(root: &Arc<Root>, nameless: Nameless) -> Result<Scratch> {
        if nameless == Nameless::Try
            && let Some(file) = nameless_file(root)?
        {
            return Ok(Scratch { root: Arc::clone(root), file, hidden: None });
        }
        let name = hidden_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(root.fd(), &name, flags, FILE_MODE);
        let file = File::from(file.map_err(|errno| root.failure(&name, errno))?);
        // Tells other sessions that the writer is alive. Where locks do not work, its age protects the file.
        let _locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok(Scratch { root: Arc::clone(root), file, hidden: Some(name) })
    }

    /// Gives the file its name, unless the name is taken ([`Errno::EXIST`]).
    pub(crate) fn publish(&mut self, place: &Place<'_>) -> rustix::io::Result<()> {
        let Some(hidden) = &self.hidden else { return self.link_nameless(place) };
        match rustix::fs::renameat_with(self.root.fd(), hidden, place.dir(), place.leaf, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.hidden = None;
                Ok(())
            }
            // Network file systems often cannot rename without replacing, but all that matter can link.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                // The hidden name goes when `self` is dropped.
                rustix::fs::linkat(self.root.fd(), hidden, place.dir(), place.leaf, AtFlags::empty())
            }
            Err(errno) => Err(errno),
        }
    }

    fn link_nameless(&self, place: &Place<'_>) -> rustix::io::Result<()> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, own, place.dir(), place.leaf, AtFlags::SYMLINK_FOLLOW)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // What cannot be removed now is swept a day later.
            let _gone = rustix::fs::unlinkat(self.root.fd(), hidden, AtFlags::empty());
        }
    }
}

/// A file without a name, or `None` where the file system has none.
fn nameless_file(root: &Root) -> Result<Option<File>> {
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    match rustix::fs::openat(root.fd(), ".", flags, FILE_MODE) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(errno) => Err(root.failure("", errno)),
    }
}

fn hidden_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    format!("{HIDDEN}{process}-{nanos:x}-{count}")
}

/// Removes hidden files of writers that are dead: older than a day and not locked. They hurt nobody but take room.
pub(crate) fn sweep(root: &Root, now: SystemTime) -> Result<()> {
    let entries = Dir::read_from(root.fd()).map_err(|errno| root.failure("", errno))?;
    for entry in entries {
        let entry = entry.map_err(|errno| root.failure("", errno))?;
        match entry.file_name().to_str() {
            Ok(name) if name.starts_with(HIDDEN) => sweep_one(root, name, now),
            _ => {}
        }
    }
    Ok(())
}

/// Removes one; whatever goes wrong, the file stays and the next session tries again.
fn sweep_one(root: &Root, name: &str, now: SystemTime) {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(root.fd(), name, flags, Mode::empty()) else { return };
    let file = File::from(file);
    let modified = file.metadata().and_then(|meta| meta.modified());
    let stale = modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > STALE));
    if stale && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        let _gone = rustix::fs::unlinkat(root.fd(), name, AtFlags::empty());
    }
}

/// What a failure to publish means to the user.
pub(crate) fn publish_failure(root: &Root, name: &str, errno: Errno) -> Failure {
    use setpiece_sbt_abi::Code;
    match errno {
        Errno::EXIST => Failure::new(Code::Exists, format!("{}: the name is taken", root.path_of(name))),
        Errno::PERM | Errno::OPNOTSUPP => {
            let text = "the file system can neither rename without replacing nor link; use another one";
            Failure::new(Code::Unsupported, format!("{}: {text}", root.path_of(name)))
        }
        errno => root.failure(name, errno),
    }
}
