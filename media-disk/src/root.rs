//! The directory that objects live below, and the way from an object's name to its place in it.
//!
//! Every step is taken relative to an open directory and never through a symbolic link, so that no name and nobody
//! who may write below the directory can lead out of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use setpiece_sbt_abi::plugin::{Failure, Result};
use setpiece_sbt_abi::{Code, Info};

/// Mode of new files: backups are nobody's business but the owner's and the group's. The umask takes more away.
pub(crate) const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
const DIR_MODE: Mode = Mode::from_raw_mode(0o750);
const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The open directory.
#[derive(Debug)]
pub(crate) struct Root {
    dir: OwnedFd,
    path: PathBuf,
    /// The directories down to the object that was made durable last. They are held open: as long as they are, nothing
    /// else takes their place unnoticed.
    durable: Mutex<Vec<OwnedFd>>,
}

/// Where an object is or will be: the directories from the root down, and the last part of its name.
pub(crate) struct Place<'a> {
    root: &'a Root,
    dirs: Vec<OwnedFd>,
    parents: Vec<&'a str>,
    pub(crate) leaf: &'a str,
}

impl Root {
    /// Opens the directory, making it first when `create` says so. `remedy` is what to do when it is not there.
    pub(crate) fn open(path: &Path, create: bool, remedy: &str) -> Result<Root> {
        if !path.is_absolute() {
            let text = format!("{}: the directory must be given by an absolute path", path.display());
            return Err(Failure::new(Code::Usage, text));
        }
        if create {
            make_dirs(path).map_err(|error| Failure::io(path.display(), &error))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => Failure::new(Code::NotFound, format!("{}: no such directory{remedy}", path.display())),
            Errno::NOTDIR => Failure::new(Code::Usage, format!("{}: not a directory", path.display())),
            errno => Failure::io(path.display(), &errno.into()),
        })?;
        Ok(Root { dir, path: path.to_owned(), durable: Mutex::default() })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The whole path of something below, for messages only.
    pub(crate) fn path_of(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// A failure of the operating system with something below.
    pub(crate) fn failure(&self, name: &str, error: impl Into<io::Error>) -> Failure {
        Failure::io(self.path_of(name), &error.into())
    }

    /// The place of an object whose directories must be there; `None` when they are not.
    pub(crate) fn find<'a>(&'a self, name: &'a str) -> Result<Option<Place<'a>>> {
        let mut place = self.place(name);
        for part in place.parents.clone() {
            match open_dir(place.dir(), part) {
                Ok(dir) => place.dirs.push(dir),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(errno) => return Err(self.failure(name, errno)),
            }
        }
        Ok(Some(place))
    }

    /// The place of a new object; directories that are missing are made. `None` when another session removes one of
    /// them at this moment because it is empty: try again.
    pub(crate) fn make<'a>(&'a self, name: &'a str) -> Result<Option<Place<'a>>> {
        let mut place = self.place(name);
        for part in place.parents.clone() {
            let dir = match open_dir(place.dir(), part) {
                Err(Errno::NOENT) => make_dir(place.dir(), part).and_then(|()| open_dir(place.dir(), part)),
                other => other,
            };
            match dir {
                Ok(dir) => place.dirs.push(dir),
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(self.not_a_place(name, part, errno)),
            }
        }
        Ok(Some(place))
    }

    fn place<'a>(&'a self, name: &'a str) -> Place<'a> {
        let (parents, leaf) = match name.rsplit_once('/') {
            Some((parents, leaf)) => (parents.split('/').collect(), leaf),
            None => (Vec::new(), name),
        };
        Place { root: self, dirs: Vec::new(), parents, leaf }
    }

    fn not_a_place(&self, name: &str, part: &str, errno: Errno) -> Failure {
        match errno {
            Errno::NOTDIR | Errno::LOOP => {
                let text = format!("{}: {part} is no directory, so nothing can be below it", self.path_of(name));
                Failure::new(Code::Exists, text)
            }
            errno => self.failure(name, errno),
        }
    }
}

impl Place<'_> {
    /// The directory that the object is in.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dirs.last().map_or(self.root.fd(), AsFd::as_fd)
    }

    /// What is at the place; `None` when it is nothing or not a file, which is no object.
    pub(crate) fn stat(&self) -> rustix::io::Result<Option<Stat>> {
        match rustix::fs::statat(self.dir(), self.leaf, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_file() => Ok(Some(stat)),
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Makes the names durable, from the object's directory up to the root: all that this session did not make durable
    /// before, also those that were not made here. Another session may have made one a moment ago and not be done.
    pub(crate) fn sync(&self) -> rustix::io::Result<()> {
        let mut durable = self.root.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known(&durable)?;
        // A directory's name lies in the one above it.
        for dir in self.dirs.iter().skip(known.saturating_sub(1)).rev() {
            rustix::fs::fsync(dir)?;
        }
        if known == 0 {
            rustix::fs::fsync(self.root.fd())?;
        }
        *durable =
            self.dirs.iter().map(|dir| rustix::io::fcntl_dupfd_cloexec(dir, 0)).collect::<rustix::io::Result<_>>()?;
        Ok(())
    }

    /// How many of the directories, from the root down, are those whose names are durable.
    fn known(&self, durable: &[OwnedFd]) -> rustix::io::Result<usize> {
        for (at, (dir, before)) in self.dirs.iter().zip(durable).enumerate() {
            let (dir, before) = (rustix::fs::fstat(dir)?, rustix::fs::fstat(before)?);
            if (dir.st_dev, dir.st_ino) != (before.st_dev, before.st_ino) {
                return Ok(at);
            }
        }
        Ok(self.dirs.len().min(durable.len()))
    }

    /// Removes directories that have become empty. One that is being filled again by another session stays, and a
    /// session that loses its directory to this one makes it again.
    pub(crate) fn prune(mut self) {
        while let (Some(dir), Some(part)) = (self.dirs.pop(), self.parents.pop()) {
            drop(dir);
            if rustix::fs::unlinkat(self.dir(), part, AtFlags::REMOVEDIR).is_err() {
                return;
            }
        }
    }
}

/// What is known of a file.
pub(crate) fn info_of(stat: &Stat) -> Info {
    let micros = i64::try_from(stat.st_mtime_nsec).unwrap_or(0) / 1000;
    let created = stat.st_mtime.checked_mul(1_000_000).and_then(|at| at.checked_add(micros));
    Info { len: u64::try_from(stat.st_size).unwrap_or(0), created_us: created }
}

pub(crate) fn open_dir(at: BorrowedFd<'_>, part: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(at, part, DIR_FLAGS, Mode::empty())
}

/// Makes a directory; another one may be faster.
pub(crate) fn make_dir(at: BorrowedFd<'_>, part: &str) -> rustix::io::Result<()> {
    match rustix::fs::mkdirat(at, part, DIR_MODE) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Makes a directory with those above it, each durable in the one above.
fn make_dirs(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let Some(above) = path.parent() else { return Ok(()) };
    make_dirs(above)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = rustix::fs::open(above, flags, Mode::empty())?;
    match rustix::fs::mkdir(path, DIR_MODE) {
        Ok(()) | Err(Errno::EXIST) => Ok(rustix::fs::fsync(above)?),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_durable_once_but_not_taken_for_others() {
        let top = std::env::temp_dir().join(format!("setpiece-disk-names-{}", std::process::id()));
        let root = Root::open(&top, true, "").unwrap();
        let known = |name: &str| {
            let place = root.make(name).unwrap().unwrap();
            let known = place.known(&root.durable.lock().unwrap()).unwrap();
            place.sync().unwrap();
            known
        };
        assert_eq!([known("sets/a/1"), known("sets/a/2"), known("sets/b/1"), known("sets/a/3")], [0, 2, 1, 1]);
        // A directory of the same name is another one.
        std::fs::remove_dir(top.join("sets/a")).unwrap();
        assert_eq!([known("sets/a/1"), known("x"), known("sets/a/1")], [1, 0, 0]);
        std::fs::remove_dir_all(top).unwrap();
    }
}
