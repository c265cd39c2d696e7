//! The directory that a cluster lives in: data, socket, log and tablespaces, reachable for the server's user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::{Account, is_root};

/// The longest directory in which a socket can be: an address has 108 bytes, with the name `.s.PGSQL.65535` and a zero.
const LONGEST_SOCKET_DIR: usize = 108 - 16;

/// A temporary directory that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
    account: Account,
}

impl Home {
    pub(crate) fn new(account: Account) -> Self {
        let dir = tempfile::Builder::new().prefix("pg-").tempdir_in(short_temp_dir()).expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("it is ours");
        let home = Home { dir, account };
        home.make("socket", 0o711);
        home.make("dirs", 0o711);
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new directory of the server's.
    pub(crate) fn make(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{} cannot be made: {error}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        self.account.own(&path);
        path
    }
}

fn short_temp_dir() -> PathBuf {
    let dir = std::env::temp_dir();
    let room = "/pg-123456/socket".len();
    if dir.as_os_str().len() + room <= LONGEST_SOCKET_DIR && is_open(&dir) { dir } else { "/tmp".into() }
}

/// Whether all directories down to this one can be passed by anybody.
fn is_open(dir: &Path) -> bool {
    dir.ancestors().all(|at| !at.is_dir() || at.metadata().is_ok_and(|about| about.mode() & 1 == 1))
}

/// Lets the server's user pass the directories above `path`, as far as they are temporary ones and ours.
pub(crate) fn open_way_to(path: &Path) {
    let temp = std::env::temp_dir();
    for dir in path.ancestors().skip(1).filter(|_| is_root()) {
        let mode = dir.metadata().map_or(0o777, |about| about.mode() & 0o7777);
        if mode & 1 == 1 {
            continue;
        }
        assert!(
            dir.starts_with(&temp) && dir != temp,
            "the server's user cannot get to {}: {} is shut; use a directory below {}",
            path.display(),
            dir.display(),
            temp.display()
        );
        fs::set_permissions(dir, fs::Permissions::from_mode(mode | 0o111)).expect("root may do so");
    }
}
