//! The file `<database>-setpiece` beside a recovered database: which source it was, and which branch it is now.
//!
//! Recovery writes it, and nothing else does; a backup leaves nothing behind. Without it a database is a source of its
//! own on its first branch. If it is lost, a recovered database looks like a new source, and its next backup is full.

use std::fs::File;
use std::io::{ErrorKind as IoKind, Read, Write};
use std::path::Path;

use minicbor::{Decode, Encode};
use setpiece_core::model::{BranchHistory, Lsn, SourceId};
use setpiece_core::{Error, ErrorKind, Result};

use crate::site::beside;

const MAGIC: &[u8] = b"setpiece sqlite 1\n";
const MAX: u64 = 1 << 20;

/// What is in the file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Sidecar {
    /// The source that the database was restored from.
    #[n(0)]
    pub(crate) source: SourceId,
    /// The branch the database is on.
    #[n(1)]
    pub(crate) branch: BranchHistory,
    /// The largest LSN on record when it was recovered; LSNs on the new branch are larger.
    #[n(2)]
    pub(crate) highest: Lsn,
}

impl Sidecar {
    /// Reads the file that belongs to `database`; `None` when there is none.
    ///
    /// # Errors
    /// When there is one that cannot be read. It is not passed over: backups would go to the wrong branch.
    pub(crate) fn read(database: &Path) -> Result<Option<Self>> {
        let path = beside(database, "-setpiece");
        let name = || path.display().to_string();
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(MAX + 1).read_to_end(&mut bytes).map_err(|error| Error::io(name(), error))?,
            Err(error) if error.kind() == IoKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(name(), error)),
        };
        let damaged = || {
            Error::damaged(name(), "not what a recovery writes").remedy(
                "recover again, and move both files; without this one the database counts as the one that was at this \
                     path before, on its old branch, as if nothing had been recovered",
            )
        };
        if bytes.len() as u64 > MAX {
            return Err(damaged());
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
        let (body, crc) = rest.split_last_chunk::<4>().ok_or_else(damaged)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(damaged());
        }
        minicbor::decode(body).map(Some).map_err(|error| damaged().because(error))
    }

    /// Writes the file that belongs to `database` and makes it durable.
    pub(crate) fn write(&self, database: &Path) -> Result<()> {
        let path = beside(database, "-setpiece");
        let body = minicbor::to_vec(self)
            .map_err(|error| Error::new(ErrorKind::Internal, "cannot encode the branch").because(error))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.map_err(|error| Error::io(path.display().to_string(), error))
    }
}
