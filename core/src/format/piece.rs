//! The fixed parts of a piece: header and trailer; and what the metadata says of a piece.

use minicbor::{Decode, Encode};

use super::wire::{array, check_header, check_zero, put, put_crc, put_prefix, u16_at, u32_at, u64_at};
use super::words::{CipherId, PieceKind};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{PieceNo, SetId, Uuid};

/// Bytes in the header of a piece.
pub const HEADER_LEN: usize = 128;
/// Bytes in the trailer of a piece.
pub const TRAILER_LEN: usize = 64;
/// The bytes a piece begins with.
pub const MAGIC: [u8; 8] = *b"SPPIECE\n";
/// The bytes a trailer begins with.
pub const TRAILER_MAGIC: [u8; 8] = *b"SPTRAIL\n";
/// How much of the header is bound to the key by the commitment: everything that identifies the piece.
pub const BOUND_LEN: usize = 48;

/// The header of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceHeader {
    /// The set.
    pub set: SetId,
    /// The piece.
    pub piece: PieceNo,
    /// The channel it was written by.
    pub channel: u16,
    /// What it holds.
    pub kind: PieceKind,
    /// How payloads are sealed.
    pub cipher: CipherId,
    /// Random for each attempt to write a piece; the piece's key is derived with it.
    pub salt: [u8; 32],
    /// Proves that a key is the right one; zeros when nothing is sealed.
    pub commitment: [u8; 32],
}

impl PieceHeader {
    /// The bytes of the header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        put_prefix(&mut bytes, &MAGIC, HEADER_LEN);
        put(&mut bytes, 24, &self.set.0.0);
        put(&mut bytes, 40, &self.piece.0.to_le_bytes());
        put(&mut bytes, 44, &self.channel.to_le_bytes());
        put(&mut bytes, 46, &[self.kind as u8, self.cipher as u8]);
        put(&mut bytes, 48, &self.salt);
        put(&mut bytes, 80, &self.commitment);
        put_crc(&mut bytes);
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`]; [`ErrorKind::Unsupported`] with the version or feature named.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        check_header(bytes, &MAGIC, "a piece", HEADER_LEN)?;
        check_zero(&bytes[112..124], "the header of a piece")?;
        let header = PieceHeader {
            set: SetId(Uuid(array(bytes, 24))),
            piece: PieceNo(u32_at(bytes, 40)),
            channel: u16_at(bytes, 44),
            kind: PieceKind::from_byte(bytes[46])?,
            cipher: CipherId::from_byte(bytes[47])?,
            salt: array(bytes, 48),
            commitment: array(bytes, 80),
        };
        if header.cipher == CipherId::None {
            check_zero(&header.commitment, "the header of a piece that is not encrypted")?;
        }
        Ok(header)
    }
}

/// The end of a piece: where its root frame is, and how much there is of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Where the root frame begins.
    pub root_offset: u64,
    /// Bytes in the root frame, header and payload.
    pub root_len: u32,
    /// Frames in the piece, of all kinds.
    pub frames: u32,
    /// Bytes in the piece, header and trailer included.
    pub piece_len: u64,
    /// The set.
    pub set: SetId,
    /// The piece.
    pub piece: PieceNo,
}

impl Trailer {
    /// The bytes of the trailer.
    #[must_use]
    pub fn encode(&self) -> [u8; TRAILER_LEN] {
        let mut bytes = [0; TRAILER_LEN];
        put(&mut bytes, 0, &TRAILER_MAGIC);
        put(&mut bytes, 8, &self.root_offset.to_le_bytes());
        put(&mut bytes, 16, &self.root_len.to_le_bytes());
        put(&mut bytes, 20, &self.frames.to_le_bytes());
        put(&mut bytes, 24, &self.piece_len.to_le_bytes());
        put(&mut bytes, 32, &self.set.0.0);
        put(&mut bytes, 48, &self.piece.0.to_le_bytes());
        put_crc(&mut bytes);
        bytes
    }

    /// Reads a trailer and checks that its numbers fit each other and `piece_len`, the bytes that are there.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn decode(bytes: &[u8], piece_len: u64) -> Result<Self> {
        let wrong = |what: &str| Error::new(ErrorKind::Damaged, what.to_owned());
        if bytes.len() != TRAILER_LEN || bytes[..8] != TRAILER_MAGIC {
            return Err(wrong("the piece does not end with a trailer: it is truncated or was never finished"));
        }
        if super::wire::crc(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(wrong("the checksum of the trailer does not match"));
        }
        check_zero(&bytes[52..60], "the trailer")?;
        let trailer = Trailer {
            root_offset: u64_at(bytes, 8),
            root_len: u32_at(bytes, 16),
            frames: u32_at(bytes, 20),
            piece_len: u64_at(bytes, 24),
            set: SetId(Uuid(array(bytes, 32))),
            piece: PieceNo(u32_at(bytes, 48)),
        };
        if trailer.piece_len != piece_len {
            let text = format!("the piece has {piece_len} bytes, but its trailer says {}", trailer.piece_len);
            return Err(wrong(&text));
        }
        let root_end = trailer.root_offset.checked_add(u64::from(trailer.root_len));
        let ends_at_trailer = root_end.and_then(|end| end.checked_add(TRAILER_LEN as u64)) == Some(piece_len);
        let root_fits = trailer.root_len as usize > super::frame::HEADER_LEN
            && trailer.root_len as usize <= super::frame::HEADER_LEN + super::limits::MAX_STORED;
        if !ends_at_trailer || !root_fits || trailer.root_offset < HEADER_LEN as u64 || trailer.frames == 0 {
            return Err(wrong("the trailer gives an impossible place for the root of the index"));
        }
        Ok(trailer)
    }
}

/// What the metadata of a set says of one of its pieces.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PieceInfo {
    /// The piece.
    #[n(0)]
    pub piece: PieceNo,
    /// The channel it was written by.
    #[n(1)]
    pub channel: u16,
    /// What it holds.
    #[n(2)]
    pub kind: PieceKind,
    /// Bytes in it.
    #[n(3)]
    pub len: u64,
    /// Frames in it, of all kinds.
    #[n(4)]
    pub frames: u32,
    /// Raw bytes of page data or redo in it.
    #[n(5)]
    pub raw_bytes: u64,
    /// The salt of its header, which tells this piece from an earlier attempt to write it.
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub salt: [u8; 32],
}
