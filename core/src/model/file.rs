//! Files and tablespaces of a source, as a set records them.

use std::fmt;
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};

use super::id::{FileId, TablespaceId};

/// The longest path that is recorded, in bytes.
pub const MAX_PATH: usize = 4096;

/// A path below the directory of a source or a target: relative, with `/` between names, no `.` or `..`, nothing
/// empty, no NUL. Such a path cannot leave the directory that it is joined to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct RelPath(#[n(0)] String);

/// The path is absolute, empty, too long, or could lead out of its directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path {0:?} is not a plain path below a directory")]
pub struct NotRelative(pub String);

impl RelPath {
    /// Checks `path`.
    ///
    /// # Errors
    /// [`NotRelative`] when it could name something outside of the directory it is joined to.
    pub fn new(path: impl Into<String>) -> Result<Self, NotRelative> {
        let path = path.into();
        let plain = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains(['\0', '\\']);
        if path.len() <= MAX_PATH && path.split('/').all(plain) { Ok(RelPath(path)) } else { Err(NotRelative(path)) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below `directory`.
    #[must_use]
    pub fn below(&self, directory: &Path) -> PathBuf {
        directory.join(&self.0)
    }
}

impl<'b, C> Decode<'b, C> for RelPath {
    fn decode(d: &mut minicbor::Decoder<'b>, _ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        RelPath::new(d.str()?).map_err(|error| minicbor::decode::Error::message(error.to_string()))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a tablespace is for. Temporary ones are never backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum TablespaceKind {
    /// The dictionary; DM's SYSTEM.
    #[n(0)]
    System,
    /// Undo; DM's ROLL.
    #[n(1)]
    Undo,
    /// User data; DM's MAIN and whatever users make.
    #[n(2)]
    Data,
    /// Data whose content does not outlive the server; recorded by name, never stored.
    #[n(3)]
    Temp,
}

/// A tablespace of the source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Tablespace {
    /// Its number.
    #[n(0)]
    pub id: TablespaceId,
    /// Its name.
    #[n(1)]
    pub name: String,
    /// What it is for.
    #[n(2)]
    pub kind: TablespaceKind,
    /// Where it was outside of the source's directory, if it was; a restore may map it elsewhere.
    #[n(3)]
    pub location: Option<String>,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum FileKind {
    /// Pages of the engine.
    #[n(0)]
    Paged,
    /// Anything else: DM's HUGE files, configuration, key files. Handled in blocks of the entry's page size.
    #[n(1)]
    Plain,
}

/// How a changed page of the file is recognised when no change map says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Tracking {
    /// By the LSN in its header.
    #[n(0)]
    PageLsn,
    /// By comparing its hash with the one in the base's index. Sets store the hashes of such files.
    #[n(1)]
    PageHash,
    /// Not at all: every page goes into every set.
    #[n(2)]
    Always,
}

/// A file of the source as it was when the set was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct FileEntry {
    /// Its number.
    #[n(0)]
    pub id: FileId,
    /// Counts how often the number was given anew. A base with another generation has nothing to offer for this file.
    #[n(1)]
    pub generation: u64,
    /// The tablespace it belongs to.
    #[n(2)]
    pub tablespace: TablespaceId,
    /// Where it lies below the source's directory, or below the tablespace's location if that has one.
    #[n(3)]
    pub path: RelPath,
    /// What it holds.
    #[n(4)]
    pub kind: FileKind,
    /// Bytes in a page, 512 to 1 MiB. The last page of a file may be shorter.
    #[n(5)]
    pub page_size: u32,
    /// Bytes in the file.
    #[n(6)]
    pub len: u64,
    /// How changed pages are found.
    #[n(7)]
    pub tracking: Tracking,
    /// Permission bits to restore with, if they matter.
    #[n(8)]
    pub mode: Option<u32>,
}

impl FileEntry {
    /// The number of pages, the last one counted even if it is short.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.len.div_ceil(u64::from(self.page_size.max(1)))
    }

    /// The byte at which a page begins; saturates at the largest number.
    #[must_use]
    pub fn offset(&self, page: u64) -> u64 {
        page.saturating_mul(u64::from(self.page_size))
    }
}

/// A small file of the source that a set's metadata carries, such as the key of a tablespace which the engine encrypts
/// itself, or what the engine says at the end of a backup.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct CarriedFile {
    /// Where it belongs, below the source's directory.
    #[n(0)]
    pub path: RelPath,
    /// Its content.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

impl fmt::Debug for CarriedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CarriedFile({}, {} bytes)", self.path, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_the_directory_are_refused() {
        for wrong in ["", "/", "/etc/passwd", "a//b", "a/", "./a", "..", "a/../b", "a\0b", "a\\b"] {
            assert!(RelPath::new(wrong).is_err(), "{wrong:?}");
        }
        for right in ["a", "base/5/1259", "a b", "..a", "ü.db"] {
            assert!(RelPath::new(right).is_ok(), "{right:?}");
        }
    }
}
