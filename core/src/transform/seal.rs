//! The seal of a frame: key, nonce and associated data as the format lays them down.

use super::aead::{Aead, TAG_LEN, new_aead};
use super::derive::{self, object_key};
use super::secret::DataKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::BOUND_LEN;
use crate::format::piece::BOUND_LEN as PIECE_BOUND;
use crate::format::{CipherId, FrameHeader, PieceHeader};

/// Set and piece, then the part of the frame's header that is known before it is sealed.
const AAD_LEN: usize = 20 + BOUND_LEN;

/// Seals and opens the frames of one piece; built once per piece. Does nothing for a piece that is not encrypted.
pub struct FrameSeal {
    aead: Option<Box<dyn Aead>>,
    piece: [u8; 20],
}

impl FrameSeal {
    /// The seal for a new piece; puts the commitment into its header.
    ///
    /// # Errors
    /// When the cipher refuses the key.
    pub fn create(header: &mut PieceHeader, key: Option<&DataKey>) -> Result<Self> {
        let Some(key) = key else {
            return Ok(FrameSeal { aead: None, piece: identity(header) });
        };
        let (piece_key, commitment) = object_key(key, &header.salt, derive::PIECE, &header.encode()[..PIECE_BOUND])?;
        header.commitment = commitment;
        Ok(FrameSeal { aead: Some(new_aead(&piece_key)?), piece: identity(header) })
    }

    /// The seal of a piece that exists. `bound` is what the commitment binds of its header, as it was written: a newer
    /// minor version may have put something there that this one would not write.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when the key is missing or wrong; [`ErrorKind::Damaged`] when a key is given for a piece that
    /// is not encrypted.
    pub fn open(header: &PieceHeader, bound: &[u8], key: Option<&DataKey>) -> Result<Self> {
        match (header.cipher, key) {
            (CipherId::None, None) => Ok(FrameSeal { aead: None, piece: identity(header) }),
            (CipherId::None, Some(_)) => {
                Err(Error::new(ErrorKind::Damaged, "the piece is not encrypted though its set is: it was replaced"))
            }
            (CipherId::Aes256Gcm, None) => {
                Err(Error::new(ErrorKind::Key, "the piece is encrypted and no key is given")
                    .remedy("give the repository's passphrase, key file or private key"))
            }
            (CipherId::Aes256Gcm, Some(key)) => {
                let (piece_key, commitment) = object_key(key, &header.salt, derive::PIECE, bound)?;
                if commitment != header.commitment {
                    return Err(Error::new(ErrorKind::Key, "the key is not the one that the piece was sealed with"));
                }
                Ok(FrameSeal { aead: Some(new_aead(&piece_key)?), piece: identity(header) })
            }
        }
    }

    /// Bytes that sealing adds to a payload.
    #[must_use]
    pub fn overhead(&self) -> usize {
        if self.aead.is_some() { TAG_LEN } else { 0 }
    }

    /// Seals the payload, which is everything in `out` from `start` on, and appends the tag. `header` has its final
    /// lengths.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the cipher refuses.
    pub fn seal(&self, header: &FrameHeader, out: &mut Vec<u8>, start: usize) -> Result<()> {
        if let Some(aead) = &self.aead {
            let tag = aead.seal(&nonce(header), &self.bound(header), out.get_mut(start..).unwrap_or_default())?;
            out.extend_from_slice(&tag);
        }
        Ok(())
    }

    /// The payload without its seal. A sealed one is opened into `scratch`.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when the tag does not fit.
    pub fn unseal<'a>(&self, header: &FrameHeader, payload: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let Some(aead) = &self.aead else {
            return Ok(payload);
        };
        let forged = || Error::new(ErrorKind::Damaged, "the seal is broken: these are not the bytes that were written");
        let (sealed, tag) = payload.split_last_chunk::<TAG_LEN>().ok_or_else(forged)?;
        scratch.resize(sealed.len(), 0);
        aead.open(&nonce(header), &self.bound(header), sealed, tag, scratch).map_err(|_| forged())?;
        Ok(scratch)
    }

    fn bound(&self, header: &FrameHeader) -> [u8; AAD_LEN] {
        let mut bound = [0; AAD_LEN];
        bound[..20].copy_from_slice(&self.piece);
        bound[20..].copy_from_slice(&header.encode()[..BOUND_LEN]);
        bound
    }
}

fn identity(header: &PieceHeader) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&header.set.0.0);
    bytes[16..].copy_from_slice(&header.piece.0.to_le_bytes());
    bytes
}

/// Four zero bytes and the frame's number: unique, since each attempt to write a piece has a key of its own.
fn nonce(header: &FrameHeader) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&u64::from(header.number).to_le_bytes());
    nonce
}
