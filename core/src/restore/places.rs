//! Where each file of a plan goes: below the target, or to the new place of its tablespace.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::model::{FileEntry, Tablespace};

/// Where the tablespaces of a plan go.
pub(super) struct Places<'a> {
    /// Old location and new.
    pub(super) map: &'a [(String, PathBuf)],
}

impl Places<'_> {
    /// The directory of a tablespace that lay outside of the source's directory, when the restored files lie in `root`.
    pub(super) fn directory(&self, root: &Path, tablespace: &Tablespace) -> Result<Option<PathBuf>> {
        let Some(location) = &tablespace.location else { return Ok(None) };
        let mapped = self.map.iter().find(|(old, _)| old == location || *old == tablespace.name);
        if let Some((_, new)) = mapped {
            return Ok(Some(new.clone()));
        }
        let name = crate::model::RelPath::new(tablespace.name.replace('/', "_"))
            .map_err(|error| Error::damaged("a tablespace's name", error.to_string()))?;
        Ok(Some(name.below(&root.join("tablespaces"))))
    }

    /// The path of a file: below the workplace, or below the new place of its tablespace.
    pub(super) fn place(&self, root: &Path, file: &FileEntry, tablespace: Option<&Tablespace>) -> Result<PathBuf> {
        let directory = tablespace.map(|tablespace| self.directory(root, tablespace)).transpose()?.flatten();
        Ok(file.path.below(directory.as_deref().unwrap_or(root)))
    }
}
