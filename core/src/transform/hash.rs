//! The hash that tells whether a page is the same as before.

use crate::format::limits::PAGE_HASH;

/// The first bytes of the BLAKE3 hash of a page's bytes.
#[must_use]
pub fn page_hash(bytes: &[u8]) -> [u8; PAGE_HASH] {
    let mut short = [0; PAGE_HASH];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..PAGE_HASH]);
    short
}
