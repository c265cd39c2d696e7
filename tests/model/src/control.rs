//! The control file: who the database is, its files and tablespaces, its branch, and where a restart begins.

use std::collections::BTreeMap;
use std::path::Path;

use minicbor::{Decode, Encode};
use setpiece_core::model::{
    BranchHistory, FileEntry, FileId, FileKind, Lsn, RelPath, SourceId, Tablespace, TablespaceId, Timestamp, Tracking,
};
use setpiece_core::{Error, ErrorKind, Result};

use crate::disk;
use crate::page::FileKey;

/// Where it lies below the directory of the database.
pub(crate) const CONTROL: &str = "control.mdl";
/// Its number among the files.
pub(crate) const CONTROL_ID: FileId = FileId(0);
/// The largest control file that is read.
const MAX_CONTROL: usize = 16 << 20;

/// Where the redo of a node begins on disk: the last package that is no longer there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct LogStart {
    #[n(0)]
    pub(crate) upto: Lsn,
    #[n(1)]
    pub(crate) seq: u64,
}

/// Files and tablespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Table {
    #[n(0)]
    pub(crate) spaces: BTreeMap<TablespaceId, Tablespace>,
    #[n(1)]
    pub(crate) files: BTreeMap<FileId, FileEntry>,
    /// The generation last given for each number, also for dropped files.
    #[n(2)]
    pub(crate) generations: BTreeMap<FileId, u64>,
}

impl Table {
    /// The file, if it still lives in this generation.
    pub(crate) fn file(&self, key: FileKey) -> Option<&FileEntry> {
        self.files.get(&key.id).filter(|entry| entry.generation == key.generation)
    }

    /// Whether a file lies at `path`.
    pub(crate) fn path_taken(&self, path: &RelPath) -> bool {
        self.files.values().any(|entry| entry.path == *path)
    }

    /// Adds a file and remembers its generation.
    pub(crate) fn add(&mut self, entry: FileEntry) {
        let last = self.generations.entry(entry.id).or_default();
        *last = (*last).max(entry.generation);
        self.files.insert(entry.id, entry);
    }
}

/// What the control file holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Control {
    #[n(0)]
    pub(crate) source: SourceId,
    #[n(1)]
    pub(crate) nodes: u32,
    #[n(2)]
    pub(crate) page_size: u32,
    #[n(3)]
    pub(crate) block: u32,
    #[n(4)]
    pub(crate) branch: BranchHistory,
    /// Closed cleanly: everything up to `cur` is in the files.
    #[n(5)]
    pub(crate) clean: bool,
    /// Everything up to here is in the files.
    #[n(6)]
    pub(crate) ckpt: Lsn,
    /// No LSN up to here is given again.
    #[n(7)]
    pub(crate) cur: Lsn,
    /// The moment of the last transaction.
    #[n(8)]
    pub(crate) time: Timestamp,
    #[n(9)]
    pub(crate) starts: Vec<LogStart>,
    #[n(10)]
    pub(crate) table: Table,
    /// Whether a new branch numbers its packages from 1 on.
    #[n(11)]
    pub(crate) seq_anew: bool,
}

impl Control {
    /// The bytes of the file: CBOR behind a checksum.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let body = minicbor::to_vec(self).map_err(|error| {
            Error::new(ErrorKind::Internal, "control file cannot be encoded").because(error.to_string())
        })?;
        let mut bytes = crc32fast::hash(&body).to_le_bytes().to_vec();
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// Reads what [`Control::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let wrong = |what: &str| Error::damaged(CONTROL, what);
        let (crc, body) = bytes.split_first_chunk::<4>().ok_or_else(|| wrong("too short"))?;
        if bytes.len() > MAX_CONTROL {
            return Err(wrong("longer than any control file"));
        }
        if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
            return Err(wrong("checksum does not match"));
        }
        minicbor::decode(body).map_err(|error| wrong("cannot be decoded").because(error.to_string()))
    }

    /// Reads the control file below `dir`.
    pub(crate) fn load(dir: &Path) -> Result<Self> {
        Control::decode(&disk::read_all(&dir.join(CONTROL))?)
    }

    /// Replaces the control file below `dir`.
    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        disk::overwrite(&dir.join(CONTROL), &self.encode()?)
    }

    /// How the control file itself is recorded in a set, when it holds `len` bytes.
    pub(crate) fn entry(&self, len: u64) -> Result<FileEntry> {
        let path = RelPath::new(CONTROL).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        Ok(FileEntry {
            id: CONTROL_ID,
            generation: 1,
            tablespace: TablespaceId(0),
            path,
            kind: FileKind::Plain,
            page_size: self.block,
            len,
            tracking: Tracking::Always,
            mode: None,
        })
    }
}
