//! The envelope of small objects that hold one CBOR record: a fixed header, the record, its CRC.

use super::limits::MAX_KEYS;
use super::wire::{array, check_header, check_zero, crc, put, put_crc, put_prefix, u32_at};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Uuid;

/// Bytes in the header of an envelope.
pub const HEADER_LEN: usize = 64;
/// The bytes that a repository descriptor begins with.
pub const REPO_MAGIC: [u8; 8] = *b"SPREPO\n\0";
/// The bytes that the keys of a set begin with.
pub const KEYS_MAGIC: [u8; 8] = *b"SPKEYS\n\0";

/// What an envelope says of its record, and the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'b> {
    /// The repository or the set.
    pub id: Uuid,
    /// The generation that the object's name has too.
    pub generation: u32,
    /// The record.
    pub body: &'b [u8],
}

impl<'b> Envelope<'b> {
    /// The bytes of the object.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the record is too large.
    pub fn encode(&self, magic: &[u8; 8]) -> Result<Vec<u8>> {
        if self.body.len() > MAX_KEYS {
            return Err(Error::new(ErrorKind::Internal, format!("a record of {} bytes is too large", self.body.len())));
        }
        let mut bytes = vec![0; HEADER_LEN];
        put_prefix(&mut bytes, magic, HEADER_LEN);
        put(&mut bytes, 24, &self.id.0);
        put(&mut bytes, 40, &self.generation.to_le_bytes());
        put(&mut bytes, 44, &(self.body.len() as u32).to_le_bytes());
        put_crc(&mut bytes);
        bytes.extend_from_slice(self.body);
        bytes.extend_from_slice(&crc(self.body).to_le_bytes());
        Ok(bytes)
    }

    /// Reads an object; `what` names its kind in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`]; [`ErrorKind::Unsupported`] with the version or feature named.
    pub fn decode(bytes: &'b [u8], magic: &[u8; 8], what: &str) -> Result<Self> {
        check_header(bytes, magic, what, HEADER_LEN)?;
        check_zero(&bytes[48..60], what)?;
        let len = u32_at(bytes, 44) as usize;
        if len > MAX_KEYS || bytes.len() != HEADER_LEN + len + 4 {
            let text = format!("{what} says that its record has {len} bytes; the object has {}", bytes.len());
            return Err(Error::new(ErrorKind::Damaged, text));
        }
        let body = &bytes[HEADER_LEN..HEADER_LEN + len];
        if crc(body) != u32_at(bytes, HEADER_LEN + len) {
            return Err(Error::new(ErrorKind::Damaged, format!("the checksum of the record of {what} does not match")));
        }
        Ok(Envelope { id: Uuid(array(bytes, 24)), generation: u32_at(bytes, 40), body })
    }
}
