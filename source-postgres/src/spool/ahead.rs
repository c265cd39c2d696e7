//! Storing files of the log before the server asks for it.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use setpiece_core::pipeline::Cancel;
use setpiece_core::source::{CapturedUnit, SourceInfo};
use setpiece_core::{Error, ErrorKind, Result};

use super::{DONE, Direction, FAILED, Spool, marks, names_in};
use crate::archive::{LogFile, LogHome};
use crate::wal::WalFile;

/// How often is looked for files that are ready.
const LOOK: Duration = Duration::from_millis(50);
/// Files that are stored between two looks, for each job.
const AT_ONCE: usize = 8;
/// How the server ends the names of its marks for files that are to be archived.
const READY: &str = ".ready";

/// Stores a unit durably.
type Push<'a> = dyn Fn(&SourceInfo, &CapturedUnit) -> Result<()> + Sync + 'a;

impl Spool {
    /// Stores what the server has marked as ready, `jobs` files at a time, until nothing came for as long as `linger`, and
    /// leaves a note for each. Gives the number of files; at once when another process is at it.
    ///
    /// # Errors
    /// When the directories cannot be read. That a file cannot be stored is left in a note.
    pub fn push_ahead(
        &self,
        home: &LogHome,
        jobs: usize,
        linger: Duration,
        push: &Push<'_>,
        cancel: &Cancel,
    ) -> Result<usize> {
        let Some(_lock) = self.lock(Direction::Push)? else { return Ok(0) };
        let (mut done, mut busy) = (0, Instant::now());
        while !cancel.is_cancelled() && home.directory().is_dir() {
            let ready = ready(home)?;
            self.tidy(&ready)?;
            let mut todo: Vec<&String> = ready.iter().filter(|name| self.is_open(home, name)).collect();
            todo.truncate(jobs.max(1) * AT_ONCE);
            if todo.is_empty() {
                if busy.elapsed() >= linger {
                    break;
                }
                thread::sleep(LOOK);
                continue;
            }
            self.push_all(home, &todo, jobs.max(1), push);
            done += todo.len();
            busy = Instant::now();
        }
        Ok(done)
    }

    /// Whether nobody has stored the file or failed to since its last change.
    fn is_open(&self, home: &LogHome, name: &str) -> bool {
        let marks = fs::metadata(home.directory().join(name)).ok().map(|about| marks(&about));
        let stored = marks.is_some() && self.read(name, DONE) == marks;
        !stored && !self.path(name, FAILED).exists()
    }

    fn push_all(&self, home: &LogHome, names: &[&String], jobs: usize, push: &Push<'_>) {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                match push_one(home, name, push) {
                    Ok(marks) => self.note(name, DONE, &marks),
                    Err(error) => self.note_failure(name, &error),
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..jobs.min(names.len()) {
                scope.spawn(work);
            }
            work();
        });
    }

    /// Takes notes away that nobody will ask for any more: the server has taken its mark away.
    fn tidy(&self, ready: &[String]) -> Result<()> {
        for name in names_in(&self.directory)? {
            let about = [DONE, FAILED].iter().find_map(|kind| name.strip_suffix(kind)?.strip_suffix('.'));
            let left =
                about.is_some_and(|about| WalFile::parse(about).is_some() && !ready.iter().any(|one| one == about));
            if left {
                drop(fs::remove_file(self.directory.join(&name)));
            }
        }
        Ok(())
    }
}

/// Stores one file; gives the marks of the file that was stored.
fn push_one(home: &LogHome, name: &str, push: &Push<'_>) -> Result<String> {
    let path = home.directory().join(name);
    let look =
        || fs::metadata(&path).map(|about| marks(&about)).map_err(|error| Error::io(path.display().to_string(), error));
    let before = look()?;
    if let LogFile::Keep(info, captured) = home.file(&path)? {
        push(&info, &captured)?;
    }
    if look()? != before {
        return Err(Error::new(ErrorKind::Source, "was changed while it was stored").on(path.display().to_string()));
    }
    Ok(before)
}

/// What the server waits for, histories of timelines first.
fn ready(home: &LogHome) -> Result<Vec<String>> {
    let marks = names_in(&home.directory().join("archive_status"))?;
    let mut ready: Vec<String> = marks.iter().filter_map(|name| name.strip_suffix(READY)).map(str::to_owned).collect();
    ready.sort_by_key(|name| (!name.ends_with(".history"), name.clone()));
    Ok(ready)
}
