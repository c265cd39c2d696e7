//! Writing at a place in a file, and making directories durable.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What failed at a path.
pub(super) fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |error| Error::io(path.display().to_string(), error)
}

/// Writes all of `bytes` at a place in a file.
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64, name: &str) -> Result<()> {
    file.write_all_at(bytes, offset).map_err(|error| Error::io(format!("{name} at byte {offset}"), error))
}

/// Files up to which each is synced by itself; above, the file system is synced once.
const SYNC_EACH: usize = 64;

/// Makes everything below `root` durable; `finish` is called when the files are open and before they are synced.
pub(super) fn sync_tree(root: &Path, finish: impl FnOnce() -> Result<()>) -> Result<()> {
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
        return sync_file_system(root);
    }
    // A descriptor opened anew sees errors of write-back that happened before.
    let open = |file: &PathBuf| OpenOptions::new().write(true).open(file).map_err(failed(file));
    let opened = files.iter().map(open).collect::<Result<Vec<_>>>()?;
    finish()?;
    files.iter().zip(opened).try_for_each(|(path, file)| file.sync_all().map_err(failed(path)))?;
    directories.iter().rev().try_for_each(|directory| sync_directory(directory))
}

pub(super) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(failed(directory))
}

/// Makes everything durable on the file system that `path` is on.
pub(super) fn sync_file_system(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(failed(path))?;
    rustix::fs::syncfs(&file).map_err(|error| failed(path)(error.into()))
}
