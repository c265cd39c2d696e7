//! The header of a frame.

use super::limits::{MAX_RAW, MAX_STORED};
use super::wire::{crc, put, put_crc, u16_at, u32_at};
use super::words::{Codec, FrameKind};
use crate::error::{Error, ErrorKind, Result};

/// Bytes in the header of a frame.
pub const HEADER_LEN: usize = 32;
/// How much of the header is authenticated with a sealed payload.
pub const BOUND_LEN: usize = 24;
/// Bytes of the tag behind a sealed payload.
pub const TAG_LEN: usize = 16;
/// The bytes a frame begins with.
pub const MAGIC: [u8; 4] = *b"SPFR";

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame holds.
    pub kind: FrameKind,
    /// How its content is compressed.
    pub codec: Codec,
    /// Its number, from 0, over all kinds.
    pub number: u32,
    /// Bytes of payload behind the header, the tag included.
    pub stored_len: u32,
    /// Bytes of content.
    pub raw_len: u32,
    /// CRC-32 of the payload as stored.
    pub payload_crc: u32,
}

impl FrameHeader {
    /// The bytes of the header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, 4, &[self.kind as u8, self.codec as u8]);
        put(&mut bytes, 8, &self.number.to_le_bytes());
        put(&mut bytes, 12, &self.stored_len.to_le_bytes());
        put(&mut bytes, 16, &self.raw_len.to_le_bytes());
        put(&mut bytes, 24, &self.payload_crc.to_le_bytes());
        put_crc(&mut bytes);
        bytes
    }

    /// Reads a header and checks that its lengths are possible.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`]; [`ErrorKind::Unsupported`] for an unknown kind, codec or flag.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let wrong = |what: &str| Error::new(ErrorKind::Damaged, what.to_owned());
        if bytes.len() < HEADER_LEN {
            return Err(wrong("the frame ends inside its header"));
        }
        let bytes = &bytes[..HEADER_LEN];
        if bytes[..4] != MAGIC {
            return Err(wrong("there is no frame here: it begins with other bytes"));
        }
        if crc(&bytes[..28]) != u32_at(bytes, 28) {
            return Err(wrong("the checksum of the frame's header does not match"));
        }
        let header = FrameHeader {
            kind: FrameKind::from_byte(bytes[4])?,
            codec: Codec::from_byte(bytes[5])?,
            number: u32_at(bytes, 8),
            stored_len: u32_at(bytes, 12),
            raw_len: u32_at(bytes, 16),
            payload_crc: u32_at(bytes, 24),
        };
        let flags = u16_at(bytes, 6);
        if flags != 0 || u32_at(bytes, 20) != 0 {
            return Err(Error::new(ErrorKind::Unsupported, format!("the frame has unknown flags {flags:#x}")));
        }
        if header.stored_len as usize > MAX_STORED || header.raw_len as usize > MAX_RAW {
            let text = format!("the frame claims {} bytes stored, {} raw", header.stored_len, header.raw_len);
            return Err(wrong(&text));
        }
        Ok(header)
    }

    /// Bytes of the frame, header and payload.
    #[must_use]
    pub fn total_len(&self) -> usize {
        HEADER_LEN + self.stored_len as usize
    }
}
