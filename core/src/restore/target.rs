//! The place a restore writes to: a hidden directory that takes the target's name at the end.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::catalog::fresh::uuid;
use crate::error::{Error, ErrorKind, Result};
use crate::format::KeyFileCopy;
use crate::model::{FileEntry, Tablespace};

/// The directory that is being filled.
pub(super) struct Workplace {
    target: PathBuf,
    path: PathBuf,
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::io(path.display().to_string(), error)
}

impl Workplace {
    /// Makes the hidden directory beside `target`, on the same file system, for its owner only.
    pub(super) fn make(target: &Path) -> Result<Self> {
        let target = std::path::absolute(target).map_err(failed(target))?;
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Error::new(ErrorKind::Target, "is not a directory that can be made")
                .on(target.display().to_string())
                .remedy("name a directory that does not exist yet"));
        };
        refuse_used(&target)?;
        fs::create_dir_all(parent).map_err(failed(parent))?;
        let hidden = format!(".{}.setpiece-{}", name.to_string_lossy(), uuid()?);
        let path = parent.join(hidden);
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed(&path))?;
        Ok(Workplace { target, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where each tablespace that lay outside of the source's directory will be once this is published.
    pub(super) fn tablespaces(
        &self,
        tablespaces: &[Tablespace],
        places: &Places<'_>,
    ) -> Result<Vec<(Tablespace, PathBuf)>> {
        let outside = tablespaces.iter().filter(|tablespace| tablespace.location.is_some());
        let placed = outside.map(|tablespace| Ok((tablespace.clone(), places.directory(&self.target, tablespace)?)));
        let placed = placed.collect::<Result<Vec<_>>>()?;
        Ok(placed.into_iter().filter_map(|(tablespace, directory)| Some((tablespace, directory?))).collect())
    }

    /// Makes a file of its final length, all zeros.
    pub(super) fn create(&self, file: &FileEntry, tablespace: Option<&Tablespace>, map: &Places<'_>) -> Result<File> {
        let path = map.place(&self.path, file, tablespace)?;
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed(directory))?;
        }
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file.mode.map_or(0o600, |mode| mode & 0o777))
            .open(&path)
            .map_err(failed(&path))?;
        made.set_len(file.len).map_err(failed(&path))?;
        Ok(made)
    }

    /// Writes a key file that the set carried, for its owner only.
    pub(super) fn key_file(&self, copy: &KeyFileCopy) -> Result<()> {
        let path = copy.path.below(&self.path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed(directory))?;
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed(&path))?;
        file.write_all_at(&copy.bytes, 0).map_err(failed(&path))
    }

    /// Makes everything written durable, then gives the directory its name.
    pub(super) fn publish(self) -> Result<()> {
        sync_tree(&self.path)?;
        if let Err(error) = refuse_used(&self.target).and_then(|()| self.rename()) {
            self.throw_away();
            return Err(error);
        }
        Ok(())
    }

    /// A rename replaces an empty directory, and fails when something was put into it meanwhile.
    fn rename(&self) -> Result<()> {
        fs::rename(&self.path, &self.target).map_err(failed(&self.target))?;
        sync_directory(self.target.parent().unwrap_or(&self.target))
    }

    pub(super) fn throw_away(&self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the hidden directory of a failed restore stays");
        }
    }
}

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
    fn place(&self, root: &Path, file: &FileEntry, tablespace: Option<&Tablespace>) -> Result<PathBuf> {
        let directory = tablespace.map(|tablespace| self.directory(root, tablespace)).transpose()?.flatten();
        Ok(file.path.below(directory.as_deref().unwrap_or(root)))
    }
}

/// Refuses a target that holds anything.
fn refuse_used(target: &Path) -> Result<()> {
    match fs::read_dir(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::new(ErrorKind::Target, "is not an empty directory")
            .on(target.display().to_string())
            .remedy("name a directory that does not exist yet or is empty")
            .because(error)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::Target, "is not empty")
                .on(target.display().to_string())
                .remedy("name a directory that does not exist yet or is empty")),
        },
    }
}

/// Writes all of `bytes` at a place in a file.
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64, name: &str) -> Result<()> {
    file.write_all_at(bytes, offset).map_err(|error| Error::io(format!("{name} at byte {offset}"), error))
}

/// Files up to which each is synced by itself; above, the file system is synced once.
const SYNC_EACH: usize = 64;

fn sync_tree(root: &Path) -> Result<()> {
    let (mut files, mut directories) = (Vec::new(), vec![root.to_owned()]);
    let mut at = 0;
    while let Some(directory) = directories.get(at).cloned() {
        for entry in fs::read_dir(&directory).map_err(failed(&directory))? {
            let entry = entry.map_err(failed(&directory))?;
            let is_directory = entry.file_type().map_err(failed(&directory))?.is_dir();
            if is_directory { directories.push(entry.path()) } else { files.push(entry.path()) }
        }
        at += 1;
    }
    if files.len() > SYNC_EACH {
        let root_file = File::open(root).map_err(failed(root))?;
        return rustix::fs::syncfs(&root_file).map_err(|error| failed(root)(error.into()));
    }
    for file in &files {
        // A descriptor opened anew sees errors of write-back that happened before.
        let opened = OpenOptions::new().write(true).open(file).map_err(failed(file))?;
        opened.sync_all().map_err(failed(file))?;
    }
    directories.iter().rev().try_for_each(|directory| sync_directory(directory))
}

fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(failed(directory))
}
