//! The content of a frame: data in front, the table that explains it behind, the table's length last.
//!
//! The table comes last so that the writer appends it to a buffer of pages, and the reader cuts it off, without moving
//! the pages.

use minicbor::{Decode, Encode};

use super::cbor;
use super::limits::MAX_RAW;
use super::wire;
use crate::error::{Error, ErrorKind, Result};

/// Appends `table` and its length to the data in `raw`.
///
/// # Errors
/// [`ErrorKind::Internal`] when the content becomes too large for a frame; `raw` is then as it was.
pub fn append<T: Encode<()>>(raw: &mut Vec<u8>, table: &T) -> Result<()> {
    let encoded = cbor::to_vec(table)?;
    let total = raw.len() + encoded.len() + 4;
    if total > MAX_RAW {
        return Err(Error::new(ErrorKind::Internal, format!("a frame of {total} bytes is larger than {MAX_RAW}")));
    }
    raw.extend_from_slice(&encoded);
    raw.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
    Ok(())
}

/// Splits `raw` into the length of the data and the table behind it.
///
/// # Errors
/// [`ErrorKind::Damaged`] when there is no such table.
pub fn split<'b, T: Decode<'b, ()>>(raw: &'b [u8], what: &str) -> Result<(usize, T)> {
    let short = || Error::new(ErrorKind::Damaged, format!("{what} does not fit into its frame"));
    let body = raw.len().checked_sub(4).ok_or_else(short)?;
    let data = body.checked_sub(wire::u32_at(raw, body) as usize).ok_or_else(short)?;
    Ok((data, cbor::from_slice(&raw[data..body], what)?))
}
