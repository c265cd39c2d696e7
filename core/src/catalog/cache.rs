//! Copies of metadata objects in a local directory, byte for byte as on the medium.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::{RepoId, SetId};

/// A directory of copies. Several processes may use it at once: files appear whole and are never changed.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Uses the part of `root` that belongs to the repository, and makes it where it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(root: &Path, repository: RepoId) -> Result<Self> {
        let directory = root.join(repository.to_string());
        fs::create_dir_all(&directory).map_err(|error| Error::io(directory.display().to_string(), error))?;
        Ok(Cache { directory })
    }

    /// The copy of a set's metadata, if there is one of that length.
    #[must_use]
    pub fn get(&self, set: SetId, len: u64) -> Option<Vec<u8>> {
        let bytes = fs::read(self.path(set)).ok()?;
        (bytes.len() as u64 == len).then_some(bytes)
    }

    /// Keeps a copy.
    ///
    /// # Errors
    /// When the directory cannot be written to.
    pub fn put(&self, set: SetId, bytes: &[u8]) -> Result<()> {
        let path = self.path(set);
        let wrote = |error| Error::io(path.display().to_string(), error);
        let temporary = self.directory.join(format!(".{set}.{}", std::process::id()));
        let mut file = fs::File::create(&temporary).map_err(wrote)?;
        file.write_all(bytes).map_err(wrote)?;
        fs::rename(&temporary, &path).map_err(wrote)
    }

    /// Forgets every set that `keep` does not want.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn keep_only(&self, keep: &dyn Fn(SetId) -> bool) -> Result<()> {
        let failed = |error| Error::io(self.directory.display().to_string(), error);
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let set = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            let unwanted = set.is_some_and(|set| !keep(set));
            if unwanted && let Err(error) = fs::remove_file(&path) {
                tracing::debug!(path = %path.display(), %error, "stale copy of metadata stays");
            }
        }
        Ok(())
    }

    fn path(&self, set: SetId) -> PathBuf {
        self.directory.join(format!("{set}.meta"))
    }
}
