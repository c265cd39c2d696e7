//! Writes an object: a scratch file, its bytes on their way to the disk while it grows, and its name at the end.

use std::io::Write as _;
use std::num::NonZeroU64;
use std::sync::Arc;

use rustix::fs::Advice;
use rustix::io::Errno;
use setpiece_sbt_abi::plugin::{self, Failure, Result};
use setpiece_sbt_abi::{Code, Info};

use crate::root::{Root, info_of};
use crate::scratch::{Nameless, Scratch, publish_failure};

/// Bytes after which those written so far are sent on their way, so that `finish` need not wait for all of them.
const WINDOW: u64 = 32 << 20;
/// How often a directory is made again that another session removes because it is empty at that moment.
const TRIES: u32 = 200;

/// An object being written.
#[derive(Debug)]
pub struct DiskWriter {
    root: Arc<Root>,
    name: String,
    scratch: Scratch,
    written: u64,
    /// Up to where the bytes are on their way to the disk.
    flowing: u64,
}

impl DiskWriter {
    pub(crate) fn new(root: &Arc<Root>, name: &str, nameless: Nameless) -> Result<Self> {
        if let Some(place) = root.find(name)?
            && place.stat().map_err(|errno| root.failure(name, errno))?.is_some()
        {
            return Err(publish_failure(root, name, Errno::EXIST));
        }
        let scratch = Scratch::new(root, nameless)?;
        Ok(DiskWriter { root: Arc::clone(root), name: name.to_owned(), scratch, written: 0, flowing: 0 })
    }

    /// Has the kernel begin to write what has come since the last time. The advice that the pages are not needed does
    /// that without waiting; they stay in memory because they are not clean yet.
    fn keep_flowing(&mut self) {
        let Some(window) = NonZeroU64::new(self.written - self.flowing) else { return };
        // Only advice: where it is not taken, `finish` waits longer.
        let _taken = rustix::fs::fadvise(&self.scratch.file, self.flowing, Some(window), Advice::DontNeed);
        self.flowing = self.written;
    }

    fn publish(&mut self) -> Result<()> {
        for _ in 0..TRIES {
            let Some(place) = self.root.make(&self.name)? else { continue };
            match self.scratch.publish(&place) {
                Ok(()) => {}
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(publish_failure(&self.root, &self.name, errno)),
            }
            return place.sync().map_err(|errno| {
                // Visible but perhaps not for long: better gone now than after the next power failure.
                let _gone = rustix::fs::unlinkat(place.dir(), place.leaf, rustix::fs::AtFlags::empty());
                self.root.failure(&self.name, errno)
            });
        }
        let text = "its directory is removed again and again while it is made";
        Err(Failure::new(Code::Io, format!("{}: {text}", self.root.path_of(&self.name))).retryable(true))
    }
}

impl plugin::Writer for DiskWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let wrote = self.scratch.file.write_all(bytes);
        wrote.map_err(|error| self.root.failure(&self.name, error))?;
        self.written += bytes.len() as u64;
        if self.written - self.flowing >= WINDOW {
            self.keep_flowing();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Info> {
        rustix::fs::fsync(&self.scratch.file).map_err(|errno| self.root.failure(&self.name, errno))?;
        self.publish()?;
        let stat = rustix::fs::fstat(&self.scratch.file).map_err(|errno| self.root.failure(&self.name, errno))?;
        Ok(info_of(&stat))
    }
}
