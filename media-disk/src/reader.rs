//! Reads an object, from any offset on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::fs::{Advice, Mode, OFlags};
use rustix::io::Errno;
use setpiece_sbt_abi::Code;
use setpiece_sbt_abi::plugin::{self, Failure, Result};

use crate::root::Root;

/// An object being read.
#[derive(Debug)]
pub struct DiskReader {
    root: Arc<Root>,
    name: String,
    file: File,
    at: u64,
}

impl DiskReader {
    pub(crate) fn open(root: &Arc<Root>, name: &str, offset: u64) -> Result<Self> {
        let place = root.find(name)?.ok_or_else(|| no_object(root, name))?;
        // Not waiting: what is there may be a pipe, which would wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(place.dir(), place.leaf, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Err(no_object(root, name)),
            Err(errno) => return Err(root.failure(name, errno)),
        };
        if !file.metadata().map_err(|error| root.failure(name, error))?.is_file() {
            return Err(no_object(root, name));
        }
        // Only advice: it doubles how far the kernel reads ahead.
        let _taken = rustix::fs::fadvise(&file, offset.min(i64::MAX as u64), None, Advice::Sequential);
        Ok(DiskReader { root: Arc::clone(root), name: name.to_owned(), file, at: offset })
    }
}

impl plugin::Reader for DiskReader {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        // The kernel refuses offsets beyond the largest file; there is nothing there to read.
        if self.at > i64::MAX as u64 {
            return Ok(0);
        }
        loop {
            match self.file.read_at(into, self.at) {
                Ok(got) => {
                    self.at += got as u64;
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.root.failure(&self.name, error)),
            }
        }
    }
}

pub(crate) fn no_object(root: &Root, name: &str) -> Failure {
    Failure::new(Code::NotFound, format!("{}: no such object", root.path_of(name)))
}
