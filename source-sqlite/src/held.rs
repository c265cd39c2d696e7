//! The files of the log that a stream's connections have open, and whether they are still the ones at their paths.
//!
//! SQLite neither removes nor replaces them as long as a connection is open. Who does (an older copy of the database is
//! put back with `cp`, and `-wal` and `-shm` are removed) leaves the connections with files that nobody else sees, while
//! the application writes to others: the inode of the database tells nothing of that, those of the two others do. They
//! cannot be given to other files meanwhile, since they are open.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use setpiece_core::{Error, Result};

use crate::dbfile::is_named;
use crate::site::{Site, beside};

/// Device and inode.
type FileKey = (u64, u64);

/// The log and its index as they were when connections had just opened them.
#[derive(Debug)]
pub(crate) struct Held {
    log: File,
    log_path: PathBuf,
    /// The index is never opened here: closing it would drop the locks on it.
    index: FileKey,
    index_path: PathBuf,
}

impl Held {
    /// The files at their paths; `None` when there is no log.
    pub(crate) fn now(site: &Site) -> Result<Option<Self>> {
        let index_path = beside(&site.path, "-shm");
        let Some(log) = site.log()? else { return Ok(None) };
        let index = key(&index_path).map_err(|error| Error::io(index_path.display().to_string(), error))?;
        Ok(Some(Held { log, log_path: site.log_path(), index, index_path }))
    }

    /// The log that the connections have open.
    pub(crate) fn log(&self) -> &File {
        &self.log
    }

    /// Whether others who open the database open the same files.
    pub(crate) fn in_place(&self) -> bool {
        is_named(&self.log, &self.log_path) && key(&self.index_path).is_ok_and(|key| key == self.index)
    }
}

fn key(path: &Path) -> std::io::Result<FileKey> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
