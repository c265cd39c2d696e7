//! Lists objects: walks the directories that can hold names with the prefix, and no others.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;
use setpiece_sbt_abi::plugin::Result;
use setpiece_sbt_abi::{Info, NAME_MAX, is_name};

use crate::root::{Root, info_of, open_dir};

type Each<'a> = &'a mut dyn FnMut(&str, Info) -> ControlFlow<()>;

/// Hands every object whose name begins with `prefix` to `each`. Hidden names, names that no object can have, links
/// and devices are passed over; so is what vanishes meanwhile.
pub(crate) fn list(root: &Root, prefix: &str, each: Each<'_>) -> Result<()> {
    let walk = Walk { prefix };
    let mut begin = || match prefix.rsplit_once('/') {
        // What lies beside a directory that the prefix names as a whole need not be looked at.
        Some((above, _)) if is_name(above) => match open_dirs(root, above)? {
            Some(dir) => walk.dir(dir.as_fd(), &format!("{above}/"), each),
            None => Ok(ControlFlow::Continue(())),
        },
        _ => walk.dir(root.fd(), "", each),
    };
    begin().map(|_| ()).map_err(|errno| root.failure(prefix, errno))
}

/// A directory below the root; `None` when it is none.
fn open_dirs(root: &Root, path: &str) -> rustix::io::Result<Option<OwnedFd>> {
    let mut at: Option<OwnedFd> = None;
    for part in path.split('/') {
        match open_dir(at.as_ref().map_or(root.fd(), AsFd::as_fd), part) {
            Ok(dir) => at = Some(dir),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
    Ok(at)
}

struct Walk<'a> {
    prefix: &'a str,
}

impl Walk<'_> {
    /// Walks one directory whose name, with a `/` at its end, is `above`. A name bounds how deep this can go.
    fn dir(&self, at: BorrowedFd<'_>, above: &str, each: Each<'_>) -> rustix::io::Result<ControlFlow<()>> {
        for entry in Dir::read_from(at)? {
            let entry = entry?;
            let Ok(part) = entry.file_name().to_str() else { continue };
            let name = format!("{above}{part}");
            if !is_name(&name) {
                continue;
            }
            if self.entry(at, part, name, entry.file_type(), each)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn entry(
        &self,
        at: BorrowedFd<'_>,
        part: &str,
        mut name: String,
        kind: FileType,
        each: Each<'_>,
    ) -> rustix::io::Result<ControlFlow<()>> {
        // Some file systems do not say the kind with the name; both ways are tried then.
        if kind != FileType::Directory && name.starts_with(self.prefix) {
            match rustix::fs::statat(at, part, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_file() => return Ok(each(&name, info_of(&stat))),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        name.push('/');
        let may_hold = name.starts_with(self.prefix) || self.prefix.starts_with(&name);
        if !matches!(kind, FileType::Directory | FileType::Unknown) || !may_hold || name.len() >= NAME_MAX {
            return Ok(ControlFlow::Continue(()));
        }
        match open_dir(at, part) {
            Ok(dir) => self.dir(dir.as_fd(), &name, each),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(ControlFlow::Continue(())),
            Err(errno) => Err(errno),
        }
    }
}
