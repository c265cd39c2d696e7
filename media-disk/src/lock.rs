//! Locks: `flock` on a file in `.locks/`. The kernel releases them with the process, and they work between sessions of
//! one process as well as between processes.
//!
//! The last holder of a lock removes its file, and the directory with the last file. So that nobody locks a file that
//! has just lost its name, who takes a lock shares the directory (`flock` on it, too) until the file is locked, and who
//! clears away has the directory alone. Where that cannot be, the file stays, which hurts nobody.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, OFlags};
use rustix::io::Errno;
use setpiece_sbt_abi::plugin::{Failure, Result};
use setpiece_sbt_abi::{Code, LockMode};

use crate::root::{FILE_MODE, Root, make_dir, open_dir};

const DIR: &str = ".locks";
/// How often to try while others clear the directory away, a millisecond apart.
const ATTEMPTS: usize = 2000;

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct DiskLock {
    root: Arc<Root>,
    /// The name of the file in the directory of locks.
    flat: String,
    /// Closing it is what releases the lock.
    file: File,
    mode: LockMode,
}

impl Drop for DiskLock {
    fn drop(&mut self) {
        if self.clear_away().is_err() && self.mode == LockMode::Exclusive {
            // The number in the file is for messages only, so nothing depends on its removal.
            drop(self.file.set_len(0));
        }
    }
}

impl DiskLock {
    /// Removes the file, and the directory if it was the last in it. Fails, and leaves it, while another one shares the
    /// lock or is about to take one.
    fn clear_away(&self) -> rustix::io::Result<()> {
        let dir = open_dir(self.root.fd(), DIR)?;
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
        rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive)?;
        let (own, there) =
            (rustix::fs::fstat(&self.file)?, rustix::fs::statat(&dir, &self.flat, AtFlags::SYMLINK_NOFOLLOW)?);
        // Somebody may have removed the directory by hand, and another one has made it again.
        if (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino) {
            return Err(Errno::NOENT);
        }
        rustix::fs::unlinkat(&dir, &self.flat, AtFlags::empty())?;
        // It stays as long as there is another file in it.
        let _gone = rustix::fs::unlinkat(self.root.fd(), DIR, AtFlags::REMOVEDIR);
        Ok(())
    }
}

pub(crate) fn lock(root: &Arc<Root>, name: &str, mode: LockMode) -> Result<DiskLock> {
    let failure = |errno: Errno| root.failure(DIR, errno);
    // One flat directory: `+` is not allowed in names, so two names never share a file.
    let flat = name.replace('/', "+");
    let (_shared, mut file) = open(root, &flat).map_err(|errno| match errno {
        Errno::WOULDBLOCK => Failure::new(Code::Locked, "locks are taken and released without end").retryable(true),
        errno => failure(errno),
    })?;
    let operation = match mode {
        LockMode::Shared => FlockOperation::NonBlockingLockShared,
        LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::fs::flock(&file, operation) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(held(root, name, &mut file)),
        Err(errno) => return Err(failure(errno)),
    }
    note_holder(&mut file, mode);
    Ok(DiskLock { root: Arc::clone(root), flat, file, mode })
}

/// Opens the file of a lock. As long as the directory that comes with it is open, the file keeps its name.
fn open(root: &Root, flat: &str) -> rustix::io::Result<(OwnedFd, File)> {
    for _ in 0..ATTEMPTS {
        match try_open(root, flat) {
            // Somebody clears away at this moment, or has removed the directory since it was opened.
            Err(Errno::WOULDBLOCK | Errno::NOENT) => thread::sleep(Duration::from_millis(1)),
            done => return done,
        }
    }
    Err(Errno::WOULDBLOCK)
}

fn try_open(root: &Root, flat: &str) -> rustix::io::Result<(OwnedFd, File)> {
    make_dir(root.fd(), DIR)?;
    let dir = open_dir(root.fd(), DIR)?;
    // Any other failure is that of a file system which does not lock directories; there nobody clears away either.
    if let Err(Errno::WOULDBLOCK) = rustix::fs::flock(&dir, FlockOperation::NonBlockingLockShared) {
        return Err(Errno::WOULDBLOCK);
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, flat, flags, FILE_MODE)?;
    Ok((dir, File::from(file)))
}

/// Leaves the number of the process that holds the lock alone, for messages. A full disk does not matter.
fn note_holder(file: &mut File, mode: LockMode) {
    let cleared = file.set_len(0);
    if cleared.is_ok() && mode == LockMode::Exclusive {
        drop(file.rewind().and_then(|()| write!(file, "{}", std::process::id())));
    }
}

fn held(root: &Root, name: &str, file: &mut File) -> Failure {
    let mut holder = String::new();
    let read = file.take(20).read_to_string(&mut holder);
    let known = read.is_ok() && !holder.is_empty() && holder.bytes().all(|byte| byte.is_ascii_digit());
    let who = if known { format!("process {holder}") } else { "another one".to_owned() };
    let text = format!("{}: {who} holds the lock", root.path_of(name));
    Failure::new(Code::Locked, text).retryable(true)
}
