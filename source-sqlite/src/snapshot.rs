//! A snapshot of the database: pinned by a read transaction, read by our own descriptors.
//!
//! The state that is read is that after the last transaction M of the log when the snapshot was taken: for each page
//! the newest frame up to M, otherwise the database file. Why that stays true while others write and checkpoint:
//!
//! A read transaction of SQLite holds a lock on a mark R in the log, R <= M. Checkpoints copy no frame behind R into
//! the database file, and pages of frames up to R are in our map and are taken from the log. So whatever is read from
//! the database file is not being written.
//!
//! If R > 0, nobody restarts the log, so all frames up to M stay.
//!
//! If R = 0, the whole log had been copied into the database file when the transaction began, and no checkpoint can
//! write to that file as long as it is held. The log may be restarted once (a second restart would need a checkpoint),
//! or truncated; then frames of ours are overwritten. Hence each frame is proven when it is read: page number, salts and
//! running checksum. If it doesn't fit and the log has another header by now, R was 0, and the page in the database file
//! is the one we want. If M lies in the restarted log, its frames stay for the same reason as above.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use setpiece_core::model::StateMark;
use setpiece_core::{Error, ErrorKind, Result};

use crate::connect::{Link, Published};
use crate::dbfile::{DB_HEADER, DbHeader, FileMark, descriptor, is_named};
use crate::fault::{lock, unsettled};
use crate::look::{Log, Look, look_until_settled};
use crate::mark;
use crate::place::Seen;
use crate::site::Site;
use crate::wal::ReadAt;

/// A snapshot. Reading is possible from several threads at once.
#[derive(Debug)]
pub(crate) struct Snapshot {
    site: Site,
    file: Arc<File>,
    log: Option<Log>,
    journal: bool,
    page_size: u32,
    pages: u32,
    links: Mutex<Links>,
}

/// The connections; dropping them ends the transaction.
#[derive(Debug)]
struct Links {
    reader: Link,
    probe: Link,
}

impl Snapshot {
    /// Takes a snapshot and notes the checksum at frame `watch` of the log.
    pub(crate) fn take(site: &Site, watch: Option<u32>) -> Result<Self> {
        let file = descriptor(&site.path)?;
        refuse_other_names(site, &file)?;
        let links = Links { probe: site.link()?, reader: site.link()? };
        links.reader.begin_read()?;
        if !is_named(&file, &site.path) {
            return Err(unsettled(&site.path, "the database was replaced by another one just now"));
        }
        let seen = look_until_settled(site, &links.probe, watch)?;
        let (log, journal) = match seen {
            Look::Journal => (None, true),
            Look::Empty => (None, false),
            Look::Log(log) => (Some(log), false),
        };
        let (page_size, pages) = match &log {
            Some(log) => (log.header.page_size, log.map.last.map_or(0, |last| last.database)),
            None => size_by_file(site, &file, &links.reader)?,
        };
        Ok(Snapshot { site: site.clone(), file, log, journal, page_size, pages, links: Mutex::new(links) })
    }

    /// Bytes of a page.
    pub(crate) fn page_size(&self) -> u32 {
        self.page_size
    }

    /// Pages of the database.
    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    /// Whether the database has a rollback journal instead of a log.
    pub(crate) fn is_journal(&self) -> bool {
        self.journal
    }

    /// The database file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// What gets a number.
    pub(crate) fn seen(&self) -> Seen {
        seen(self.log.as_ref(), &self.file)
    }

    /// From which frame on the log holds all that was written since the state with `marks`, which is thought to be that
    /// of frame `frame`; `None` when the log does not prove it.
    pub(crate) fn proven_since(&self, frame: u32, marks: &[StateMark]) -> Result<Option<u32>> {
        let Some(log) = &self.log else { return Ok(None) };
        if log.mark_at(&self.site, frame)?.is_some_and(|mark| marks.contains(&mark)) {
            return Ok(Some(frame));
        }
        // Nothing of the log is in the database file yet, which is as it was then.
        let file = FileMark::of(&self.file).is_some_and(|file| marks.contains(&mark::of_file(&file)));
        Ok(file.then_some(0))
    }

    /// The pages, counted from 1, whose newest image is in a frame behind `frame`.
    pub(crate) fn changed_behind(&self, frame: u32) -> impl Iterator<Item = u32> {
        let places = self.log.as_ref().map_or(&[][..], |log| &log.map.places);
        places.iter().filter(move |place| place.frame > frame).map(|place| place.page)
    }

    /// Asks the connection that holds the snapshot.
    pub(crate) fn value<T: rusqlite::types::FromSql>(&self, query: &str) -> Result<T> {
        lock(&self.links).reader.value(query)
    }

    /// Reads `count` pages from page index `first` on, counted from 0, into `into`.
    pub(crate) fn read(&self, first: u64, count: u64, into: &mut Vec<u8>) -> Result<()> {
        let end =
            first.checked_add(count).filter(|&end| end <= u64::from(self.pages)).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("{count} pages from {first} on are not all in the database"))
                    .on(self.site.path.display().to_string())
            })?;
        let size = self.page_size as usize;
        into.clear();
        into.resize((end - first) as usize * size, 0);
        // A page behind the end of the file was never written; to SQLite it is all zeros, too.
        let from = first * u64::from(self.page_size);
        self.file.fill(into, from).map_err(|error| Error::io(self.site.path.display().to_string(), error))?;
        let Some(log) = &self.log else { return Ok(()) };
        let mut scratch = Vec::new();
        for place in log.map.within(first + 1, end + 1) {
            let at = (u64::from(place.page) - 1 - first) as usize * size;
            if let Some(page) = log.page(&self.site, place, &mut scratch)? {
                into[at..at + size].copy_from_slice(page);
            }
        }
        Ok(())
    }

    /// Ends the transaction and closes the connections.
    fn close(&mut self) {
        let links = lock(&self.links);
        links.reader.end();
        // A log without frames may go, as with any other connection that is the last to close. Any other stays, so
        // that redo that nobody captured yet is still there.
        if self.log.is_none()
            && !self.journal
            && matches!(links.probe.published(), Ok(Published::Log { frames: 0, .. }))
        {
            for link in [&links.reader, &links.probe] {
                // Failing to say so leaves two empty files behind, nothing worse.
                let _best_effort = link.keep_log(false);
            }
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.close();
    }
}

/// SQLite keeps log and journal beside the name that the database was opened by. Under another name of the file they are
/// not found, and what is in them would be left out.
fn refuse_other_names(site: &Site, file: &File) -> Result<()> {
    let metadata = file.metadata().map_err(|error| Error::io(site.path.display().to_string(), error))?;
    if metadata.nlink() <= 1 {
        return Ok(());
    }
    let what =
        format!("the file has {} names (hard links), and SQLite's log is found by one of them only", metadata.nlink());
    Err(Error::new(ErrorKind::Source, what).on(site.path.display().to_string()).remedy(
        "find the other names with `find -samefile` and remove all but the one that applications open; a copy or a \
         symbolic link does no harm",
    ))
}

/// What gets a number: the log as it was found, or the database file as long as it is pinned.
pub(crate) fn seen(log: Option<&Log>, file: &File) -> Seen {
    match log.and_then(|log| Some((log, log.map.last?))) {
        Some((log, last)) => {
            Seen::Log { header: log.header, end: last.at, watched: log.map.watched, file: FileMark::of(file) }
        }
        None => Seen::Nothing { file: FileMark::settled(file) },
    }
}

/// Page size and pages of a database whose log has no frames.
fn size_by_file(site: &Site, file: &File, reader: &Link) -> Result<(u32, u32)> {
    let fail = |error| Error::io(site.path.display().to_string(), error);
    let len = file.metadata().map_err(fail)?.len();
    if len == 0 {
        let size: u32 = reader.value("PRAGMA page_size")?;
        return Ok((size, 0));
    }
    let mut head = [0; DB_HEADER];
    let have = file.fill(&mut head, 0).map_err(fail)?;
    let header = DbHeader::parse(&head[..have]).map_err(|what| {
        Error::new(ErrorKind::Source, what).on(site.path.display().to_string()).remedy("it is no SQLite database")
    })?;
    let by_len = u32::try_from(len / u64::from(header.page_size)).unwrap_or(u32::MAX);
    Ok((header.page_size, header.pages.unwrap_or(by_len)))
}
