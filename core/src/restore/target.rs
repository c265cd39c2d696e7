//! The place a restore writes to: a hidden directory that takes the target's name at the end, or the target itself.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, OFlags, StatxAttributes, StatxFlags};

use super::durable::{failed, sync_directory, sync_file_system, sync_tree};
use super::places::Places;
use super::reuse::Rewrite;
use crate::catalog::fresh::uuid;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{CarriedFile, FileEntry, RelPath, Tablespace};

/// The directory that is being filled: a hidden one beside the target, or the target itself where it is rewritten.
pub(super) struct Workplace {
    target: PathBuf,
    path: PathBuf,
    rewrite: Option<Rewrite>,
    /// Files that get other permissions than they are made with.
    modes: Mutex<Vec<(PathBuf, u32)>>,
}

/// The permissions that files are made and recovered with.
const MODE: u32 = 0o600;

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
        Ok(Workplace { target, path, rewrite: None, modes: Mutex::default() })
    }

    /// The directory that is rewritten.
    pub(super) fn over(rewrite: Rewrite) -> Self {
        let root = rewrite.root().to_owned();
        Workplace { target: root.clone(), path: root, rewrite: Some(rewrite), modes: Mutex::default() }
    }

    /// The file that is not written until all else is done.
    pub(super) fn keystone(&self) -> Option<&RelPath> {
        self.rewrite.as_ref().map(Rewrite::keystone)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it will be.
    pub(super) fn target(&self) -> &Path {
        &self.target
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

    /// Makes a file of its final length, all zeros but for what it holds already. It gets its permissions at the end: they
    /// may forbid writing to it.
    pub(super) fn create(
        &self,
        file: &FileEntry,
        tablespace: Option<&Tablespace>,
        map: &Places<'_>,
    ) -> Result<Created> {
        let path = map.place(&self.path, file, tablespace)?;
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed(directory))?;
        }
        let old = if self.rewrite.is_some() { open_old(&path)? } else { None };
        let made = match old {
            Some(old) => old,
            None => OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path).map_err(failed(&path))?,
        };
        let held = made.metadata().map_err(failed(&path))?.len().min(file.len);
        made.set_len(file.len).map_err(failed(&path))?;
        if let Some(mode) = file.mode.map(|mode| mode & 0o777).filter(|mode| *mode != MODE) {
            self.modes.lock().unwrap_or_else(PoisonError::into_inner).push((path.clone(), mode));
        }
        Ok(Created { file: made, path, held })
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

    /// Gives files their permissions, makes everything written durable, then makes it the target. `outside` are the
    /// directories of tablespaces elsewhere.
    pub(super) fn publish(self, outside: &[PathBuf]) -> Result<()> {
        let outside = outside.iter().filter(|place| !place.starts_with(&self.target));
        let synced = sync_tree(&self.path, || self.set_modes())
            .and_then(|()| outside.clone().try_for_each(|place| sync_file_system(place)));
        let Some(rewrite) = &self.rewrite else {
            let done = synced.and_then(|()| refuse_used(&self.target)).and_then(|()| self.rename());
            return done.inspect_err(|_| self.throw_away());
        };
        synced.and_then(|()| rewrite.finish())
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

    /// What is there already stays in a directory that is rewritten, so that the restore can go on.
    pub(super) fn throw_away(&self) {
        if self.rewrite.is_some() {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the hidden directory of a failed restore stays");
        }
    }
}

/// A file that is being written.
pub(super) struct Created {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// So many bytes from its begin on were there before.
    pub(super) held: u64,
}

/// A file that is there already, if it is one that can be rewritten in place: one with other names is left to those.
fn open_old(path: &Path) -> Result<Option<File>> {
    let about = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        about => about.map_err(failed(path))?,
    };
    if !about.is_file() || about.nlink() != 1 {
        fs::remove_file(path).map_err(failed(path))?;
        return Ok(None);
    }
    if about.mode() & 0o777 != MODE {
        fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed(path))?;
    }
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(failed(path))?;
    Ok(Some(file))
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
        workplace.publish(&[]).unwrap();
        assert!(link.is_symlink() && real.join("file").is_file());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
