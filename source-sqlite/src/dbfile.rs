//! The database file: descriptors that are never closed, and the header in page 1.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use minicbor::{Decode, Encode};
use setpiece_core::{Error, ErrorKind, Result};

use crate::bytes::{be16, be32, is_page_size};
use crate::fault::lock;

/// A file, however it is called.
type FileKey = (u64, u64);

/// One descriptor for each database file that was ever read in this process, never closed.
///
/// POSIX drops all locks that a process holds on a file as soon as it closes any descriptor of that file. SQLite keeps
/// its locks on the database file with such locks, so closing a descriptor of ours would take the locks of every
/// connection that the host has on the same database, unnoticed. That is why this one thing is kept for the life of
/// the process. The log (`-wal`) carries no locks and may be closed; the index of the log (`-shm`) carries the most
/// important ones and is never opened here.
static DESCRIPTORS: OnceLock<Mutex<HashMap<FileKey, Arc<File>>>> = OnceLock::new();

/// Descriptors opened in vain (another thread was faster, or the file changed its name just then): kept open as well.
static SPARE: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// The descriptor for the database at `path`, for reading.
pub(crate) fn descriptor(path: &Path) -> Result<Arc<File>> {
    let fail = |error| Error::io(path.display().to_string(), error);
    let known = DESCRIPTORS.get_or_init(Mutex::default);
    let named = std::fs::metadata(path).map_err(fail)?;
    if !named.is_file() {
        return Err(Error::new(ErrorKind::Source, "not a plain file")
            .on(path.display().to_string())
            .remedy("name the file of the database itself"));
    }
    let mut known = lock(known);
    if let Some(file) = known.get(&(named.dev(), named.ino())) {
        return Ok(Arc::clone(file));
    }
    let file = File::open(path).map_err(fail)?;
    let key = match file.metadata() {
        Ok(opened) => (opened.dev(), opened.ino()),
        Err(error) => {
            lock(&SPARE).push(file);
            return Err(fail(error));
        }
    };
    if let Some(first) = known.get(&key) {
        lock(&SPARE).push(file);
        return Ok(Arc::clone(first));
    }
    let file = Arc::new(file);
    known.insert(key, Arc::clone(&file));
    Ok(file)
}

/// Whether `path` still names `file`.
pub(crate) fn is_named(file: &File, path: &Path) -> bool {
    let key = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().ok().map(key) == std::fs::metadata(path).ok().map(key)
}

/// What tells whether a database file was written to: SQLite writes to it by `write`, which moves the time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct FileMark {
    #[n(0)]
    inode: u64,
    #[n(1)]
    len: u64,
    #[n(2)]
    seconds: i64,
    #[n(3)]
    nanos: i64,
}

impl FileMark {
    /// File systems count time in ticks of up to 10 ms.
    const TICK: Duration = Duration::from_millis(20);
    /// Old ones count in steps of up to 2 seconds.
    const COARSE_TICK: Duration = Duration::from_secs(3);

    /// The mark of `file` now; `None` when it cannot be had.
    pub(crate) fn of(file: &File) -> Option<Self> {
        let now = file.metadata().ok()?;
        Some(FileMark { inode: now.ino(), len: now.len(), seconds: now.mtime(), nanos: now.mtime_nsec() })
    }

    /// What it is made of.
    pub(crate) fn numbers(&self) -> [u64; 4] {
        [self.inode, self.len, self.seconds.cast_unsigned(), self.nanos.cast_unsigned()]
    }

    /// The mark of `file`, which nobody writes to at the moment, when a later write is sure to get another time; `None`
    /// where that cannot be waited for.
    pub(crate) fn settled(file: &File) -> Option<Self> {
        let mark = FileMark::of(file)?;
        let written = file.metadata().and_then(|now| now.modified()).ok()?;
        // No age at all means that a clock was set back; then a tick must pass as well.
        let age = SystemTime::now().duration_since(written);
        if mark.nanos == 0 {
            // A file system that counts in seconds, or the one write in a thousand million that looks like it.
            return age.is_ok_and(|age| age > FileMark::COARSE_TICK).then_some(mark);
        }
        if age.is_ok_and(|age| age > FileMark::TICK) {
            return Some(mark);
        }
        std::thread::sleep(FileMark::TICK);
        Some(mark)
    }
}

/// Bytes of the header at the begin of page 1.
pub(crate) const DB_HEADER: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What the header in page 1 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DbHeader {
    /// Bytes of a page.
    pub(crate) page_size: u32,
    /// Pages of the database, if the header can be trusted in this.
    pub(crate) pages: Option<u32>,
    /// The first trunk page of the free list; 0 when the list is empty.
    pub(crate) first_free: u32,
    /// Pages in the free list.
    pub(crate) free: u32,
}

impl DbHeader {
    /// Reads the header.
    ///
    /// # Errors
    /// Words that say what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() < DB_HEADER {
            return Err("page 1 is shorter than the header of a SQLite database");
        }
        if !bytes.starts_with(MAGIC) {
            return Err("page 1 does not begin like a SQLite database");
        }
        let page_size = match be16(bytes, 16) {
            1 => 65536,
            size => u32::from(size),
        };
        if !is_page_size(page_size) {
            return Err("page 1 names a page size that SQLite cannot have");
        }
        // Old versions of SQLite don't keep the number of pages; then the two counters differ.
        let pages = Some(be32(bytes, 28)).filter(|&pages| pages != 0 && be32(bytes, 24) == be32(bytes, 92));
        Ok(DbHeader { page_size, pages, first_free: be32(bytes, 32), free: be32(bytes, 36) })
    }
}
