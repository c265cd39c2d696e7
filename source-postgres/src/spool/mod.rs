//! A directory of notes between archive and restore commands and a process that works ahead of them.
//!
//! A server calls its archive command for one file at a time and waits for it. So a process in the background stores what
//! the server has marked as ready, several files at a time, and leaves a note for each; the command only reads the note.
//! In the other direction segments are fetched before a recovery asks for them.
//!
//! The directory may be lost at any time: without a note a file is stored again, which is no work where it is there
//! already. A note says of which file it speaks, byte count, moment of change and place on the disk, so that it says
//! nothing of another file of the same name.

mod ahead;
mod fetched;

use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use setpiece_core::transform::page_hash;
use setpiece_core::{Error, ErrorKind, Result};

use crate::archive::LogHome;

const DONE: &str = "ok";
const FAILED: &str = "error";
/// Errors are told when they are this young; an older one is of a try that nobody waited for.
const YOUNG: Duration = Duration::from_secs(20);
/// The longest note that is read.
const LONGEST: u64 = 64 << 10;
/// The note of a process that could not begin.
const WORKER: &str = "worker";

/// The notes for one cluster and one repository.
#[derive(Clone, Debug)]
pub struct Spool {
    directory: PathBuf,
}

/// What is known of a file that is to be stored.
#[derive(Debug)]
pub enum Pushed {
    /// It is durable in the repository.
    Durable,
    /// Storing it failed. The note is taken away, so that it is tried again.
    Failed(Error),
    /// Nothing yet.
    Unknown,
}

impl Spool {
    /// The notes below `directory` for a cluster's log and the repository at a URL. Made where there are none.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(directory: &Path, home: &LogHome, repository: &str) -> Result<Self> {
        let place = home.directory().as_os_str().as_encoded_bytes();
        let hash = page_hash(&[repository.as_bytes(), b"\0", place].concat());
        let hash: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let directory = directory.join(format!("{}-{hash}", home.source()));
        if !directory.is_dir() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made.map_err(|error| Error::io(directory.display().to_string(), error))?;
        }
        Ok(Spool { directory })
    }

    /// What is known of a file of the log directory.
    ///
    /// # Errors
    /// When the file is not there.
    pub fn pushed(&self, file: &Path) -> Result<Pushed> {
        let name = name_of(file)?;
        let about = fs::metadata(file).map_err(|error| Error::io(file.display().to_string(), error))?;
        if self.read(name, DONE).is_some_and(|note| note == marks(&about)) {
            return Ok(Pushed::Durable);
        }
        Ok([name, WORKER].into_iter().find_map(|name| self.failure(name)).map_or(Pushed::Unknown, Pushed::Failed))
    }

    /// Whether the server has marked a file as ready to be stored.
    #[must_use]
    pub fn is_ready(home: &LogHome, file: &Path) -> bool {
        let there = |name: &str| home.directory().join("archive_status").join(format!("{name}.ready")).is_file();
        name_of(file).is_ok_and(there)
    }

    /// Leaves word of why a process in the background could not begin.
    pub fn give_up(&self, error: &Error) {
        self.note_failure(WORKER, error);
    }

    /// The error that was noted, if it is of now; its note is gone then.
    fn failure(&self, name: &str) -> Option<Error> {
        let path = self.path(name, FAILED);
        let age =
            fs::metadata(&path).ok()?.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
        let note = self.read(name, FAILED);
        drop(fs::remove_file(&path));
        let note = note.filter(|_| age.is_none_or(|age| age < YOUNG))?;
        let (code, text) = note.split_once('\n').unwrap_or(("", &note));
        let kind = ErrorKind::ALL.iter().find(|kind| (**kind as u16).to_string() == code);
        Some(Error::new(kind.copied().unwrap_or(ErrorKind::Medium), text.trim()))
    }

    fn note_failure(&self, name: &str, error: &Error) {
        self.note(name, FAILED, &format!("{}\n{error}\n", error.kind() as u16));
    }

    /// A note that cannot be written costs only that the work is done again.
    fn note(&self, name: &str, kind: &str, text: &str) {
        let temporary = self.directory.join(format!("{name}.{kind}.tmp"));
        let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, self.path(name, kind)));
        if let Err(error) = written {
            tracing::warn!(%error, "no note can be left in {}", self.directory.display());
        }
    }

    fn read(&self, name: &str, kind: &str) -> Option<String> {
        let path = self.path(name, kind);
        fs::metadata(&path).ok().filter(|about| about.len() <= LONGEST)?;
        fs::read_to_string(path).ok()
    }

    fn path(&self, name: &str, kind: &str) -> PathBuf {
        self.directory.join(format!("{name}.{kind}"))
    }

    /// Whether a process works ahead in this direction.
    #[must_use]
    pub fn is_busy(&self, direction: Direction) -> bool {
        matches!(self.lock(direction), Ok(None))
    }

    /// Makes the caller the only one who works ahead; `None` when another does.
    fn lock(&self, direction: Direction) -> Result<Option<File>> {
        let path = self.directory.join(direction.lock());
        let failed = |error| Error::io(path.display().to_string(), error);
        let file = File::options().create(true).write(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// Which way a process works ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Into the repository.
    Push,
    /// Out of it.
    Get,
}

impl Direction {
    fn lock(self) -> &'static str {
        match self {
            Direction::Push => "push.lock",
            Direction::Get => "get.lock",
        }
    }
}

/// What tells one file of a name from another. The server gives files of the log other names and writes over them.
fn marks(about: &Metadata) -> String {
    let parts = [about.dev(), about.ino(), about.len()];
    format!("{parts:?} {} {}\n", about.mtime(), about.mtime_nsec())
}

fn name_of(file: &Path) -> Result<&str> {
    let name = file.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| Error::new(ErrorKind::Usage, "is no file of a log").on(file.display().to_string()))
}

/// Names in a directory; of one that is not there none.
fn names_in(directory: &Path) -> Result<Vec<String>> {
    let failed = |error| Error::io(directory.display().to_string(), error);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
    entries.map(|entry| name(entry).map_err(failed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool() -> (tempfile::TempDir, Spool, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("000000010000000000000001");
        fs::write(&file, "log").unwrap();
        let spool = Spool { directory: dir.path().to_owned() };
        (dir, spool, file)
    }

    #[test]
    fn a_note_counts_for_the_very_file_only() {
        let (_dir, spool, file) = spool();
        assert!(matches!(spool.pushed(&file), Ok(Pushed::Unknown)));
        spool.note("000000010000000000000001", DONE, &marks(&fs::metadata(&file).unwrap()));
        assert!(matches!(spool.pushed(&file), Ok(Pushed::Durable)));
        let other = file.with_file_name("other");
        fs::write(&other, "log").unwrap();
        fs::rename(&other, &file).unwrap();
        assert!(matches!(spool.pushed(&file), Ok(Pushed::Unknown)), "another file of that name");
    }

    #[test]
    fn an_error_is_told_once_and_only_when_it_is_young() {
        let (_dir, spool, file) = spool();
        let error = Error::new(ErrorKind::Full, "no room").remedy("make some");
        spool.note_failure("000000010000000000000001", &error);
        let Ok(Pushed::Failed(told)) = spool.pushed(&file) else { panic!("no error") };
        assert_eq!((told.kind(), told.to_string()), (ErrorKind::Full, "no room (make some)".into()));
        assert!(matches!(spool.pushed(&file), Ok(Pushed::Unknown)));
        spool.give_up(&error);
        assert!(matches!(spool.pushed(&file), Ok(Pushed::Failed(_))));
        spool.give_up(&error);
        let old = File::options().write(true).open(spool.path(WORKER, FAILED)).unwrap();
        old.set_modified(SystemTime::now() - 2 * YOUNG).unwrap();
        assert!(matches!(spool.pushed(&file), Ok(Pushed::Unknown)));
    }

    #[test]
    fn one_works_ahead_at_a_time() {
        let (_dir, spool, _) = spool();
        let held = spool.lock(Direction::Push).unwrap().unwrap();
        assert!(spool.is_busy(Direction::Push) && !spool.is_busy(Direction::Get));
        drop(held);
        assert!(!spool.is_busy(Direction::Push));
    }
}
