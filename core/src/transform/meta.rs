//! The metadata object of a set: encoded, compressed and sealed, and back.

use super::aead::{NONCE_LEN, TAG_LEN, new_aead};
use super::codec::Unpacker;
use super::derive::{self, object_key};
use super::secret::{DataKey, random};
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::limits::MAX_META_RAW;
use crate::format::meta::{BOUND_LEN, HEADER_LEN};
use crate::format::wire::{crc, u32_at};
use crate::format::{CipherId, Codec, MetaHeader, SetKeys, SetMeta, cbor};

/// A body is the only thing sealed with its key.
const NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];
/// How well bodies are compressed. Lists of files are long and much alike.
const LEVEL: i32 = 3;

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
    meta.validate()?;
    let raw = cbor::to_vec(meta)?;
    if raw.len() > MAX_META_RAW {
        return Err(Error::new(ErrorKind::Unsupported, format!("metadata of {} bytes is too large", raw.len()))
            .on(format!("set {}", meta.summary.id)));
    }
    // The codec is not recorded: a body is always one zstd frame.
    let mut body = zstd_frame(&raw)?;
    let wraps = keys.map(|(keys, _)| cbor::to_vec(keys)).transpose()?.unwrap_or_default();
    let tag_len = if keys.is_some() { TAG_LEN } else { 0 };
    let mut header = MetaHeader {
        version: (0, 0),
        set: meta.summary.id,
        cipher: if keys.is_some() { CipherId::Aes256Gcm } else { CipherId::None },
        keys_len: u32::try_from(wraps.len()).unwrap_or(u32::MAX),
        body_len: (body.len() + tag_len) as u64,
        raw_len: raw.len() as u64,
        salt: [0; 32],
        commitment: [0; 32],
    };
    if let Some((_, key)) = keys {
        header.salt = random()?;
        let (body_key, commitment) = object_key(key, &header.salt, derive::META, &header.encode()[..BOUND_LEN])?;
        header.commitment = commitment;
        let tag = new_aead(&body_key)?.seal(&NONCE, &header.encode(), &mut body)?;
        body.extend_from_slice(&tag);
    }
    let mut out = header.encode().to_vec();
    for part in [&wraps, &body] {
        out.extend_from_slice(part);
        out.extend_from_slice(&crc(part).to_le_bytes());
    }
    Ok(out)
}

fn zstd_frame(raw: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(raw, LEVEL)
        .map_err(|error| Error::new(ErrorKind::Internal, "metadata could not be compressed").because(error))
}

/// Opens the object `set.meta`. `newer` is the newest object `keys.<generation>` beside it, where there is one.
///
/// # Errors
/// [`ErrorKind::Damaged`], [`ErrorKind::Key`], or [`ErrorKind::Unsupported`] for a newer format. A set that is not
/// encrypted in a repository that is encrypted counts as damaged.
pub fn decode_meta(bytes: &[u8], vault: &Vault, newer: Option<&SetKeys>) -> Result<OpenedMeta> {
    let (header, wraps, stored) = parts(bytes)?;
    if header.is_sealed() != vault.is_encrypted() {
        let (what, remedy) = if header.is_sealed() {
            ("is encrypted in a repository that is not", "bring back the repository's own descriptor")
        } else {
            ("is not encrypted in a repository that is: someone put it there", "remove it")
        };
        return Err(Error::damaged(format!("set {}", header.set), what).remedy(remedy));
    }
    let (key, opened);
    let body = if header.is_sealed() {
        let own;
        let keys = match newer {
            Some(keys) => keys,
            None => {
                own = decode_keys(wraps)?;
                &own
            }
        };
        let data_key = vault.open_set(header.set, keys)?;
        opened = open_body(&header, &bytes[..HEADER_LEN], stored, &data_key)?;
        key = Some(data_key);
        opened.as_slice()
    } else {
        key = None;
        stored
    };
    let raw_len = usize::try_from(header.raw_len).unwrap_or(usize::MAX);
    let mut raw = Vec::new();
    Unpacker::default().unpack(Codec::Zstd, body, raw_len, &mut raw)?;
    let meta: SetMeta = cbor::from_slice(&raw, "the metadata of a set")?;
    meta.validate()?;
    if meta.summary.id != header.set {
        return Err(Error::damaged(format!("set {}", header.set), "its metadata contradicts its own header"));
    }
    Ok(OpenedMeta { meta, key })
}

fn open_body(header: &MetaHeader, bytes: &[u8], stored: &[u8], key: &DataKey) -> Result<Vec<u8>> {
    let (body_key, commitment) = object_key(key, &header.salt, derive::META, &bytes[..BOUND_LEN])?;
    if commitment != header.commitment {
        return Err(Error::new(ErrorKind::Key, "the key is not the one that the metadata was sealed with")
            .on(format!("set {}", header.set)));
    }
    let forged = || {
        Error::damaged(format!("set {}", header.set), "the seal is broken: this is not the metadata that was written")
    };
    let (sealed, tag) = stored.split_last_chunk::<TAG_LEN>().ok_or_else(forged)?;
    let mut body = vec![0; sealed.len()];
    new_aead(&body_key)?.open(&NONCE, bytes, sealed, tag, &mut body).map_err(|_| forged())?;
    Ok(body)
}

/// Header, wrapped keys and body, with their checksums compared.
fn parts(bytes: &[u8]) -> Result<(MetaHeader, &[u8], &[u8])> {
    let header = MetaHeader::decode(bytes)?;
    if header.object_len() != bytes.len() as u64 {
        let text = format!("says that it has {} bytes; there are {}", header.object_len(), bytes.len());
        return Err(Error::damaged(format!("the metadata of set {}", header.set), text));
    }
    let keys_end = HEADER_LEN + header.keys_len as usize;
    let (wraps, body) = (&bytes[HEADER_LEN..keys_end], &bytes[keys_end + 4..bytes.len() - 4]);
    if crc(wraps) != u32_at(bytes, keys_end) || crc(body) != u32_at(bytes, bytes.len() - 4) {
        return Err(Error::damaged(format!("the metadata of set {}", header.set), "a checksum does not match")
            .remedy("use another copy of the set"));
    }
    Ok((header, wraps, body))
}

fn decode_keys(wraps: &[u8]) -> Result<SetKeys> {
    cbor::from_slice(wraps, "the keys of a set")
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
    let (header, wraps, _) = parts(bytes)?;
    if header.is_sealed() { decode_keys(wraps).map(Some) } else { Ok(None) }
}
