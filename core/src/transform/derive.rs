//! Keys made of keys: HKDF-SHA256, with a label for each use.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::secret::{DataKey, KEY_LEN};
use crate::error::{Error, ErrorKind, Result};

/// The label of a piece's key.
pub const PIECE_KEY: &[u8] = b"setpiece piece key v1";
/// The label of a piece's commitment, followed by the header's first 48 bytes.
pub const PIECE_COMMITMENT: &[u8] = b"setpiece piece commitment v1";
/// The label of the key of a metadata body.
pub const META_KEY: &[u8] = b"setpiece meta key v1";
/// The label of the commitment of a metadata body, followed by the header's first 64 bytes.
pub const META_COMMITMENT: &[u8] = b"setpiece meta commitment v1";
/// The label of the key that wraps to an X25519 public key.
pub const X25519_WRAP: &[u8] = b"setpiece x25519 wrap v1";
/// The label of the key that a key file wraps with.
pub const KEY_FILE_SLOT: &[u8] = b"setpiece key file slot v1";
/// The label of the key that an epoch wraps the one before it with.
pub const EPOCH_SLOT: &[u8] = b"setpiece epoch slot v1";
/// The label of the key that an epoch wraps the keys of sets with.
pub const EPOCH_WRAP: &[u8] = b"setpiece set key wrap v1";
/// The label of the X25519 private key of an epoch.
pub const EPOCH_IDENTITY: &[u8] = b"setpiece epoch identity v1";
/// The label of the key that proves a repository descriptor.
pub const DESCRIPTOR_MAC: &[u8] = b"setpiece descriptor mac v1";

/// 32 bytes of HKDF-SHA256 over `input`, with `label` and `context` as info.
///
/// # Errors
/// [`ErrorKind::Internal`]; the length asked for is one that HKDF always gives.
pub fn derive(input: &[u8; KEY_LEN], salt: &[u8], label: &[u8], context: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>> {
    let mut out = Zeroizing::new([0; KEY_LEN]);
    Hkdf::<Sha256>::new(Some(salt), input)
        .expand_multi_info(&[label, context], out.as_mut_slice())
        .map_err(|_| Error::new(ErrorKind::Internal, "a key could not be derived"))?;
    Ok(out)
}

/// The labels under which an object's key and its commitment are derived.
#[derive(Clone, Copy, Debug)]
pub struct Labels {
    /// Of the key.
    pub key: &'static [u8],
    /// Of the commitment.
    pub commitment: &'static [u8],
}

/// The labels for pieces.
pub const PIECE: Labels = Labels { key: PIECE_KEY, commitment: PIECE_COMMITMENT };
/// The labels for metadata.
pub const META: Labels = Labels { key: META_KEY, commitment: META_COMMITMENT };

/// The key of one object, and the value that commits to it and to the `bound` part of the object's header.
///
/// # Errors
/// As [`derive()`].
pub fn object_key(
    data_key: &DataKey,
    salt: &[u8; 32],
    labels: Labels,
    bound: &[u8],
) -> Result<(Zeroizing<[u8; KEY_LEN]>, [u8; 32])> {
    let key = derive(data_key.as_bytes(), salt, labels.key, &[])?;
    let commitment = derive(data_key.as_bytes(), salt, labels.commitment, bound)?;
    Ok((key, *commitment))
}
