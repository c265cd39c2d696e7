//! The files below a directory, written in place. Nothing is synced: a crash of the model is simulated, not real.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use setpiece_core::{Error, Result};

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |error| Error::io(path.display().to_string(), error)
}

/// Reads `len` bytes from `offset` on; what lies behind the end of the file is zeros.
pub(crate) fn read_at(path: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(failed(path))?;
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut bytes[done..], offset + done as u64).map_err(failed(path))? {
            0 => break,
            count => done += count,
        }
    }
    Ok(bytes)
}

/// Writes `bytes` at `offset` into a file that exists.
pub(crate) fn write_at(path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path).map_err(failed(path))?;
    file.write_all_at(bytes, offset).map_err(failed(path))
}

/// Makes a file of `len` zeros, in place of any that is there.
pub(crate) fn create(path: &Path, len: u64) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    let file = File::create(path).map_err(failed(path))?;
    file.set_len(len).map_err(failed(path))
}

/// Cuts a file or extends it by zeros.
pub(crate) fn set_len(path: &Path, len: u64) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path).map_err(failed(path))?;
    file.set_len(len).map_err(failed(path))
}

/// Removes a file; it may be gone already.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}

/// Gives a file that exists a new content. Not by rename or after truncation to nothing: ext4 would write such a file to
/// the device at once, which makes long histories slow.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path).map_err(failed(path))?;
    file.write_all_at(bytes, 0).map_err(failed(path))?;
    file.set_len(bytes.len() as u64).map_err(failed(path))
}

/// Reads a whole file.
pub(crate) fn read_all(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(failed(path))
}

/// Adds to the end of a file, which is made if need be, and returns where the bytes went.
pub(crate) fn append(path: &Path, bytes: &[u8]) -> Result<u64> {
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed(path))?;
    let at = file.metadata().map_err(failed(path))?.len();
    std::io::Write::write_all(&mut &file, bytes).map_err(failed(path))?;
    Ok(at)
}

/// The paths of all files below `dir`, relative to it, with `/` between names.
pub(crate) fn walk(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(below) = open.pop() {
        let here = dir.join(&below);
        for item in fs::read_dir(&here).map_err(failed(&here))? {
            let item = item.map_err(failed(&here))?;
            let name = item.file_name().to_string_lossy().into_owned();
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            if item.file_type().map_err(failed(&here))?.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
