//! A look at the log: the frames in its file that SQLite considers committed.

use std::fs::File;
use std::time::Duration;

use setpiece_core::model::StateMark;
use setpiece_core::{Error, ErrorKind, Result};

use crate::connect::{Link, Published};
use crate::fault::unsettled;
use crate::site::Site;
use crate::wal::{Cursor, FRAME_HEADER, PageMap, Place, WalHeader};

/// How often the log is looked at before writers are asked to wait for a moment.
const LOOKS: u64 = 10;

/// A log as it was found.
#[derive(Debug)]
pub(crate) struct Log {
    /// The file.
    pub(crate) file: File,
    /// Its generation.
    pub(crate) header: WalHeader,
    /// Its committed pages; there is at least one transaction.
    pub(crate) map: PageMap,
}

impl Log {
    /// The page at `place`, or `None` when the log was restarted since, which makes the database file right.
    pub(crate) fn page<'b>(&self, site: &Site, place: &Place, scratch: &'b mut Vec<u8>) -> Result<Option<&'b [u8]>> {
        let fail = |error| Error::io(site.log_path().display().to_string(), error);
        let good = self.header.read_frame(&self.file, place.frame, place.before, scratch).map_err(fail)?;
        let good = good.is_some_and(|frame| frame.page == place.page);
        if good {
            return Ok(scratch.get(FRAME_HEADER..));
        }
        match WalHeader::read(&self.file).map_err(fail)? {
            Some(now) if now.salts == self.header.salts => {
                let what =
                    format!("frame {} of the log, page {}, changed while it was in use", place.frame, place.page);
                Err(Error::new(ErrorKind::Source, what)
                    .on(site.log_path().display().to_string())
                    .remedy("check the disk; make sure that nothing but SQLite writes to the log"))
            }
            _ => Ok(None),
        }
    }
}

impl Log {
    /// The marks of the committed state behind frame `frame`, as the log tells it.
    pub(crate) fn mark_at(&self, site: &Site, frame: u32) -> Result<Option<StateMark>> {
        let inside = frame > 0 && self.map.last.is_some_and(|last| frame <= last.at.frame);
        if !inside {
            return Ok(None);
        }
        let sum = self.header.sum_at(&self.file, frame);
        let sum = sum.map_err(|error| Error::io(site.log_path().display().to_string(), error))?;
        Ok(sum.map(|sum| crate::mark::of_log(self.header.salts, Cursor { frame, sum })))
    }
}

/// What a look at the log found.
pub(crate) enum Look {
    /// No log: the database has a rollback journal.
    Journal,
    /// No frames.
    Empty,
    /// Frames.
    Log(Log),
}

/// Looks at the log until what is in the file is what SQLite considers committed. At last writers wait for a moment.
pub(crate) fn look_until_settled(site: &Site, probe: &Link, watch: Option<u32>) -> Result<Look> {
    for attempt in 0..LOOKS {
        if let Some(found) = look(site, probe, watch)? {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(attempt));
    }
    let writer = site.link()?;
    if !writer.begin_write(site.busy)? {
        return Err(unsettled(&site.path, "a writer does not come to an end"));
    }
    let found = look(site, probe, watch);
    writer.end();
    found?.ok_or_else(|| unsettled(&site.path, "the log holds what a crashed writer left half done"))
}

/// One look. `None` when somebody wrote meanwhile, or when the file holds more or less than is committed.
fn look(site: &Site, probe: &Link, watch: Option<u32>) -> Result<Option<Look>> {
    let fail = |error| Error::io(site.log_path().display().to_string(), error);
    let published = probe.published()?;
    if published == Published::NotWal {
        return Ok(Some(Look::Journal));
    }
    let log = match site.log()? {
        None => None,
        Some(file) => match WalHeader::read(&file).map_err(fail)? {
            None => None,
            Some(header) => {
                let limit = match published {
                    Published::Log { frames: frames @ 1.., .. } => frames,
                    _ => u32::MAX,
                };
                let map = PageMap::read(&file, &header, limit, watch).map_err(fail)?;
                Some(Log { file, header, map }).filter(|log| log.map.last.is_some())
            }
        },
    };
    let last = log.as_ref().and_then(|log| log.map.last).map_or(0, |last| last.at.frame);
    let agreed = match published {
        Published::Log { frames, .. } => frames == last && still(probe, last)?,
        _ => true,
    };
    Ok(agreed.then(|| log.map_or(Look::Empty, Look::Log)))
}

/// Whether frame `last` is still committed. There may be more by now; if there are fewer, the log was restarted.
fn still(probe: &Link, last: u32) -> Result<bool> {
    Ok(matches!(probe.published()?, Published::Log { frames, .. } if frames >= last))
}
