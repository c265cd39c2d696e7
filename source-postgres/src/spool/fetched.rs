//! Segments that were fetched before a recovery asks for them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use setpiece_core::{Error, ErrorKind, Result};

use super::{Direction, Spool, names_in};
use crate::archive::LogHome;
use crate::wal::SegmentName;

/// Where fetched segments lie.
const PLACE: &str = "get";

impl Spool {
    /// Moves a segment to where the server wants it; `false` when it is not here.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn take(&self, home: &LogHome, name: &str, to: &Path) -> Result<bool> {
        let from = self.fetched(name);
        let whole = fs::metadata(&from).is_ok_and(|about| about.len() == home.segment_size());
        if SegmentName::parse(name).is_none() || !whole {
            return Ok(false);
        }
        let moved = fs::rename(&from, to).or_else(|error| match error.kind() {
            io::ErrorKind::CrossesDevices => copy(&from, to).and_then(|()| fs::remove_file(&from)),
            _ => Err(error),
        });
        moved.map(|()| true).map_err(|error| Error::io(to.display().to_string(), error))
    }

    /// Fetches up to `count` segments that follow `name`, as far as there are any, and forgets others. Gives the number of
    /// those that are there then; at once when another process is at it.
    ///
    /// # Errors
    /// Whatever `fetch` fails with; that there is no such segment is no failure.
    pub fn get_ahead(
        &self,
        home: &LogHome,
        name: &str,
        count: usize,
        fetch: &dyn Fn(&str) -> Result<Vec<u8>>,
    ) -> Result<usize> {
        let Some(_lock) = self.lock(Direction::Get)? else { return Ok(0) };
        let place = self.directory.join(PLACE);
        fs::create_dir_all(&place).map_err(|error| Error::io(place.display().to_string(), error))?;
        let wanted = following(home, name, count);
        for old in names_in(&place)?.iter().filter(|old| !wanted.contains(old)) {
            drop(fs::remove_file(place.join(old)));
        }
        for (at, name) in wanted.iter().enumerate() {
            let path = self.fetched(name);
            if path.exists() {
                continue;
            }
            let bytes = match fetch(name) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(at),
                fetched => fetched?,
            };
            let temporary = place.join(format!("{name}.tmp"));
            // As a whole and durable: the server takes it for what was archived.
            let written = write(&temporary, &bytes).and_then(|()| fs::rename(&temporary, &path));
            written.map_err(|error| Error::io(path.display().to_string(), error))?;
        }
        Ok(wanted.len())
    }

    fn fetched(&self, name: &str) -> PathBuf {
        self.directory.join(PLACE).join(name)
    }
}

fn following(home: &LogHome, name: &str, count: usize) -> Vec<String> {
    let mut next = SegmentName::parse(name);
    let names = std::iter::from_fn(|| {
        next = next.and_then(|name| home.segment_after(name));
        next
    });
    names.take(count).map(|name| name.to_string()).collect()
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use setpiece_core::model::{SourceId, Uuid};
    use setpiece_core::source::SourceInfo;

    use super::*;
    use crate::segments::LogDirectory;

    fn home(path: &Path) -> LogHome {
        let info = SourceInfo {
            id: SourceId(Uuid([1; 16])),
            name: "c".into(),
            engine: "postgresql".into(),
            version: "15".into(),
            tablespace_scope: false,
        };
        let log = LogDirectory { path: path.into(), system_identifier: 7, segment_size: 1 << 20, block_size: 8192 };
        LogHome::of(info, log)
    }

    #[test]
    fn what_follows_is_fetched_once_and_the_rest_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(dir.path());
        let spool = Spool::open(dir.path(), &home, "disk:/r").unwrap();
        let name = |number: u32| format!("0000000100000000{number:08X}");
        let asked = RefCell::new(Vec::new());
        let fetch = |wanted: &str| {
            asked.borrow_mut().push(wanted.to_owned());
            let there = wanted < name(6).as_str();
            let missing = || Error::new(ErrorKind::NotFound, "no such unit");
            there.then(|| vec![wanted.as_bytes()[23]; 1 << 20]).ok_or_else(missing)
        };
        assert_eq!(spool.get_ahead(&home, &name(1), 3, &fetch).unwrap(), 3);
        assert_eq!(spool.get_ahead(&home, &name(3), 3, &fetch).unwrap(), 2);
        assert_eq!(*asked.borrow(), [2, 3, 4, 5, 6].map(name));
        let to = dir.path().join("to");
        assert!(!spool.take(&home, &name(2), &to).unwrap(), "it was passed");
        assert!(spool.take(&home, &name(4), &to).unwrap());
        assert_eq!(fs::read(&to).unwrap(), vec![b'4'; 1 << 20]);
        assert!(!spool.take(&home, &name(4), &to).unwrap(), "it is moved");
        File::options().write(true).open(spool.fetched(&name(5))).unwrap().set_len(5).unwrap();
        assert!(!spool.take(&home, &name(5), &to).unwrap(), "it is cut short");
        assert!(!spool.take(&home, "../../to", &to).unwrap());
    }
}
