//! Where a database and its log are.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpiece_core::{Error, Result};

use crate::connect::Link;

/// Where the database is, and how long to wait for its locks.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// The database file, without symbolic links: SQLite puts the log beside the file itself.
    pub(crate) path: PathBuf,
    /// How long to wait for a lock of others.
    pub(crate) busy: Duration,
}

impl Site {
    /// A connection.
    pub(crate) fn link(&self) -> Result<Link> {
        let link = Link::open(&self.path, self.busy)?;
        link.settle()?;
        Ok(link)
    }

    /// The log.
    pub(crate) fn log_path(&self) -> PathBuf {
        beside(&self.path, "-wal")
    }

    /// The open log; `None` when there is none.
    pub(crate) fn log(&self) -> Result<Option<File>> {
        let path = self.log_path();
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path.display().to_string(), error)),
        }
    }
}

/// The file whose name is that of `path` with `ending`.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
