//! The place a restore writes to: a hidden directory that takes the target's name at the end.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};

use crate::catalog::fresh::uuid;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{CarriedFile, FileEntry, Tablespace};

/// The directory that is being filled.
pub(super) struct Workplace {
    target: PathBuf,
    path: PathBuf,
    /// Files that get other permissions than they are made with.
    modes: Mutex<Vec<(PathBuf, u32)>>,
}

/// The permissions that files are made and recovered with.
const MODE: u32 = 0o600;

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::io(path.display().to_string(), error)
}

impl Workplace {
    /// Makes the hidden directory beside `target`, on the same file system, for its owner only.
    pub(super) fn make(target: &Path) -> Result<Self> {
        let target = resolved(target)?;
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
        Ok(Workplace { target, path, modes: Mutex::default() })
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

    /// Makes a file of its final length, all zeros, and says where. It gets its permissions at the end: they may forbid writing to it.
    pub(super) fn create(
        &self,
        file: &FileEntry,
        tablespace: Option<&Tablespace>,
        map: &Places<'_>,
    ) -> Result<(File, PathBuf)> {
        let path = map.place(&self.path, file, tablespace)?;
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed(directory))?;
        }
        let made = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path).map_err(failed(&path))?;
        made.set_len(file.len).map_err(failed(&path))?;
        if let Some(mode) = file.mode.map(|mode| mode & 0o777).filter(|mode| *mode != MODE) {
            self.modes.lock().unwrap_or_else(PoisonError::into_inner).push((path.clone(), mode));
        }
        Ok((made, path))
    }

    /// Writes a key file that the set carried, for its owner only.
    pub(super) fn key_file(&self, copy: &CarriedFile) -> Result<()> {
        let path = copy.path.below(&self.path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed(directory))?;
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed(&path))?;
        file.write_all_at(&copy.bytes, 0).map_err(failed(&path))
    }

    /// Gives files their permissions, makes everything written durable, then gives the directory its name.
    pub(super) fn publish(self) -> Result<()> {
        let modes = || self.set_modes();
        let done = sync_tree(&self.path, modes).and_then(|()| refuse_used(&self.target)).and_then(|()| self.rename());
        done.inspect_err(|_| self.throw_away())
    }

    /// A file that the recovery took away needs none.
    fn set_modes(&self) -> Result<()> {
        for (path, mode) in &*self.modes.lock().unwrap_or_else(PoisonError::into_inner) {
            match fs::set_permissions(path, Permissions::from_mode(*mode)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(path)(error)),
                _ => {}
            }
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

/// Whether a restore could write to `target`: it does not exist, or is an empty directory. Writes nothing.
///
/// # Errors
/// [`ErrorKind::Target`], as the restore itself would fail.
pub fn check_target(target: &Path) -> Result<()> {
    refuse_used(&resolved(target)?)
}

/// The target as an absolute path; that of the directory itself when a symbolic link leads to it, for the directory is
/// what gets replaced.
fn resolved(target: &Path) -> Result<PathBuf> {
    let refused = |what: &str, remedy: &str| {
        Err(Error::new(ErrorKind::Target, what).on(target.display().to_string()).remedy(remedy))
    };
    match fs::canonicalize(target) {
        Ok(path) if is_mount_point(&path) => {
            let remedy = "name a directory below it that does not exist yet";
            refused("is a mount point, which cannot be replaced by a directory", remedy)
        }
        Ok(path) => Ok(path),
        Err(_) if target.is_symlink() => {
            refused("is a symbolic link that leads nowhere", "name the directory that it was to lead to")
        }
        Err(_) => std::path::absolute(target).map_err(failed(target)),
    }
}

/// Where the kernel cannot tell, it is taken for none, and renaming fails at the end.
fn is_mount_point(path: &Path) -> bool {
    let root = StatxAttributes::MOUNT_ROOT;
    rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
        .is_ok_and(|stat| stat.stx_attributes.contains(root))
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

/// Makes everything below `root` durable; `finish` is called when the files are open and before they are synced.
fn sync_tree(root: &Path, finish: impl FnOnce() -> Result<()>) -> Result<()> {
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
        finish()?;
        let root_file = File::open(root).map_err(failed(root))?;
        return rustix::fs::syncfs(&root_file).map_err(|error| failed(root)(error.into()));
    }
    // A descriptor opened anew sees errors of write-back that happened before.
    let open = |file: &PathBuf| OpenOptions::new().write(true).open(file).map_err(failed(file));
    let opened = files.iter().map(open).collect::<Result<Vec<_>>>()?;
    finish()?;
    files.iter().zip(opened).try_for_each(|(path, file)| file.sync_all().map_err(failed(path)))?;
    directories.iter().rev().try_for_each(|directory| sync_directory(directory))
}

fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(failed(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_refused_and_a_link_is_followed() {
        assert!(is_mount_point(Path::new("/proc")));
        assert_eq!(Workplace::make(Path::new("/proc")).map(|_| ()).unwrap_err().kind(), ErrorKind::Target);
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_mount_point(dir.path()));
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let error = Workplace::make(&link).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("leads nowhere"), "{error}");
        fs::create_dir(&real).unwrap();
        let workplace = Workplace::make(&link).unwrap();
        fs::write(workplace.path().join("file"), "x").unwrap();
        workplace.publish().unwrap();
        assert!(link.is_symlink() && real.join("file").is_file());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
