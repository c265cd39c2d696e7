//! What lies in a directory of archived log: which files are of use, and in which order.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use setpiece_core::source::{OnShelf, ShelfFile};
use setpiece_core::{Error, Result};

use crate::segments::LogDirectory;
use crate::wal::{self, DESCRIBED, WalFile};

/// What other tools end the names of compressed or encrypted segments with.
const WRAPPED: [&str; 8] = ["gz", "zst", "zstd", "lz4", "bz2", "xz", "br", "gpg"];

/// The files of a directory, histories first, then segments in the order of the log.
pub(crate) fn files(log: &LogDirectory, live: bool) -> Result<Vec<ShelfFile>> {
    let failed = |error| Error::io(log.path.display().to_string(), error);
    let mut found = Vec::new();
    for entry in fs::read_dir(&log.path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.path().is_file();
        if live && (!is_file || name.starts_with("xlogtemp")) {
            continue;
        }
        let (order, what) = if is_file { judge(&name) } else { (3, passed("is no file")) };
        let spare = live && what == OnShelf::Unit && !is_of_its_name(log, &entry.path());
        if !spare {
            found.push((order, name, ShelfFile { path: entry.path(), what }));
        }
    }
    found.sort_by(|one, two| (one.0, &one.1).cmp(&(two.0, &two.1)));
    Ok(found.into_iter().map(|(_, _, file)| file).collect())
}

/// Whether a server runs to whose data directory a log directory belongs.
pub(crate) fn runs(log: &Path) -> bool {
    let data = log.parent().unwrap_or(log);
    ["postmaster.pid", "kingbase.pid"].iter().any(|name| data.join(name).exists())
}

/// What a file is by its name, and which kind comes first.
fn judge(name: &str) -> (u8, OnShelf) {
    match WalFile::parse(name) {
        Some(WalFile::History(_)) => (0, OnShelf::History),
        Some(WalFile::Segment(_) | WalFile::Partial(_)) => (1, OnShelf::Unit),
        Some(WalFile::Backup(..)) => (2, passed("is the note of a backup, which no restore here needs")),
        None => (3, passed(&strange(name))),
    }
}

fn strange(name: &str) -> String {
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    if WRAPPED.contains(&ending) && WalFile::parse(stem).is_some() {
        return format!("is compressed or encrypted by another tool: unpack it to {stem} to have it stored");
    }
    "is no file of a log".into()
}

fn passed(why: &str) -> OnShelf {
    OnShelf::Passed(why.into())
}

/// Servers keep files for later under names of segments that are not written yet.
fn is_of_its_name(log: &LogDirectory, path: &Path) -> bool {
    let mut head = [0; DESCRIBED];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    let name = path.file_name().and_then(|name| name.to_str()).and_then(WalFile::parse);
    let (Ok(()), Some(WalFile::Segment(name) | WalFile::Partial(name))) = (read, name) else { return true };
    wal::describe(&head).and_then(|info| info.check(name, log.system_identifier)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_judged_by_their_names() {
        let said = |name: &str| match judge(name) {
            (order, OnShelf::Passed(why)) => format!("{order} {why}"),
            (order, what) => format!("{order} {what:?}"),
        };
        assert_eq!(said("000000010000000000000001"), "1 Unit");
        assert_eq!(said("000000010000000000000001.partial"), "1 Unit");
        assert_eq!(said("00000002.history"), "0 History");
        assert!(said("000000010000000000000001.00000028.backup").contains("note of a backup"));
        assert!(said("000000010000000000000001.zst").contains("unpack it to 000000010000000000000001"));
        assert_eq!(said("lost+found"), "3 is no file of a log");
        assert_eq!(said("notes.gz"), "3 is no file of a log");
    }
}
