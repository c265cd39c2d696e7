//! The metadata object of a set: encoded, compressed and sealed, and back.

use super::secret::DataKey;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{MetaHeader, SetKeys, SetMeta};

/// Metadata that was opened, and the key of the set's pieces.
#[derive(Clone, Debug)]
pub struct OpenedMeta {
    /// The metadata.
    pub meta: SetMeta,
    /// The key of its pieces; `None` when they are not encrypted.
    pub key: Option<DataKey>,
}

/// The bytes of the object `set.meta`. `keys` as [`Vault::new_set`] gave them; `None` when nothing is encrypted.
///
/// # Errors
/// When the metadata would be refused by [`decode_meta`], or is too large.
pub fn encode_meta(meta: &SetMeta, keys: Option<(&SetKeys, &DataKey)>) -> Result<Vec<u8>> {
    let _ = (meta, keys);
    Err(soon())
}

/// Opens the object `set.meta`. `newer` is the newest object `keys.<generation>` beside it, where there is one.
///
/// # Errors
/// [`ErrorKind::Damaged`], [`ErrorKind::Key`], or [`ErrorKind::Unsupported`] for a newer format. A set that is not
/// encrypted in a repository that is encrypted counts as damaged.
pub fn decode_meta(bytes: &[u8], vault: &Vault, newer: Option<&SetKeys>) -> Result<OpenedMeta> {
    let _ = (bytes, vault, newer);
    Err(soon())
}

/// The header of the object `set.meta`, without a key: set, format, whether it is sealed, and the lengths. Needs the
/// first 160 bytes.
///
/// # Errors
/// [`ErrorKind::Damaged`], or [`ErrorKind::Unsupported`] for a newer format.
pub fn peek_meta(bytes: &[u8]) -> Result<MetaHeader> {
    MetaHeader::decode(bytes)
}

/// The wrapped keys in the open part of the object `set.meta`; `None` when it is not sealed.
///
/// # Errors
/// [`ErrorKind::Damaged`], or [`ErrorKind::Unsupported`] for a newer format.
pub fn peek_keys(bytes: &[u8]) -> Result<Option<SetKeys>> {
    let _ = bytes;
    Err(soon())
}

fn soon() -> Error {
    Error::new(ErrorKind::Internal, "not there yet")
}
