//! Asks the system to write files back while they are still being filled, so that the sync at the end has little to
//! wait for.

use std::fs::File;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};

use crate::error::{Error, ErrorKind, Result};

/// A thread that syncs what it is handed, one file after the other.
pub struct WriteBack {
    files: Option<Sender<Arc<File>>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl WriteBack {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> Result<Self> {
        let (files, todo) = bounded::<Arc<File>>(1);
        let work = move || {
            todo.iter().try_for_each(|file| file.sync_data().map_err(|error| Error::io("a restored file", error)))
        };
        let thread = thread::Builder::new()
            .name("sp-write-back".into())
            .spawn(work)
            .map_err(|error| Error::io("a write-back thread", error))?;
        Ok(WriteBack { files: Some(files), thread: Some(thread) })
    }

    /// Suggests a file. Returns at once; a suggestion that comes too soon is dropped.
    pub fn suggest(&self, file: &Arc<File>) {
        if let Some(files) = &self.files {
            // Whether it was taken does not matter: the sync at the end covers it.
            drop(files.try_send(file.clone()));
        }
    }

    /// Waits until the thread is done.
    ///
    /// # Errors
    /// The first error of write-back. The system may report it only once, so it must not be lost.
    pub fn finish(mut self) -> Result<()> {
        self.files = None;
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the write-back thread panicked")))
    }
}
