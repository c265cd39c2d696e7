//! Numbers for what has only names: the source and its files.

use setpiece_core::model::{FileId, SourceId, Uuid};
use setpiece_core::transform::page_hash;

/// The source of a cluster: the same for a cluster, its standbys and everything restored from its backups.
pub(crate) fn source_id(system_identifier: u64) -> SourceId {
    let mut text = b"postgresql cluster ".to_vec();
    text.extend_from_slice(&system_identifier.to_le_bytes());
    SourceId(Uuid(page_hash(&text)))
}

/// The number of a file, from its path below the data directory (that of a tablespace's file leads through `pg_tblspc`).
/// A path is never used for another relation while a backup that knows it could be a base: numbers of relations are
/// given anew only after four thousand million others.
pub(crate) fn file_id(path: &str) -> FileId {
    let hash = page_hash(path.as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&hash[..8]);
    FileId(u64::from_le_bytes(number))
}
