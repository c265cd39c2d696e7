//! Locks: `flock` on a file in `.locks/`. The kernel releases them with the process, and they work between sessions of
//! one process as well as between processes. The files stay: to remove one would race with who opens it.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::sync::Arc;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use setpiece_sbt_abi::plugin::{Failure, Result};
use setpiece_sbt_abi::{Code, LockMode};

use crate::root::{FILE_MODE, Root, make_dir, open_dir};

const DIR: &str = ".locks";

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct DiskLock {
    /// Closing it is what releases the lock.
    file: File,
    mode: LockMode,
}

impl Drop for DiskLock {
    fn drop(&mut self) {
        if self.mode == LockMode::Exclusive {
            // The number in the file is for messages only, so nothing depends on its removal.
            drop(self.file.set_len(0));
        }
    }
}

pub(crate) fn lock(root: &Arc<Root>, name: &str, mode: LockMode) -> Result<DiskLock> {
    let failure = |errno: Errno| root.failure(DIR, errno);
    make_dir(root.fd(), DIR).map_err(failure)?;
    let dir = open_dir(root.fd(), DIR).map_err(failure)?;
    // One flat directory: `+` is not allowed in names, so two names never share a file.
    let flat = name.replace('/', "+");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, &flat, flags, FILE_MODE).map_err(failure)?;
    let mut file = File::from(file);
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
    Ok(DiskLock { file, mode })
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
