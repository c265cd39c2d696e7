//! Wrapping one 32-byte key: under another key, or to an X25519 public key.
//!
//! Every wrap has a key of its own (a fresh salt, or a fresh X25519 pair), so the nonce is always zero. What the wrap
//! belongs to goes into the associated data: a wrap that was moved opens nothing.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::aead::{NONCE_LEN, TAG_LEN, new_aead};
use super::derive::{EPOCH_IDENTITY, X25519_WRAP, derive};
use super::secret::{Identity, KEY_LEN, RepoKey};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Argon2Cost;
use crate::format::keys::WRAPPED_LEN;

const NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// A key, unwrapped.
pub type Opened = Zeroizing<[u8; KEY_LEN]>;

/// Wraps `key` under `by`, which wraps nothing else.
///
/// # Errors
/// [`ErrorKind::Internal`] when the cipher refuses.
pub fn wrap(by: &[u8; KEY_LEN], key: &[u8; KEY_LEN], bound: &[u8]) -> Result<[u8; WRAPPED_LEN]> {
    let mut wrapped = [0; WRAPPED_LEN];
    wrapped[..KEY_LEN].copy_from_slice(key);
    let tag = new_aead(by)?.seal(&NONCE, bound, &mut wrapped[..KEY_LEN])?;
    wrapped[KEY_LEN..].copy_from_slice(&tag);
    Ok(wrapped)
}

/// The key in a wrap; `None` when `by` is not what it was wrapped with.
///
/// # Errors
/// [`ErrorKind::Internal`] when the cipher refuses the key.
pub fn unwrap(by: &[u8; KEY_LEN], wrapped: &[u8; WRAPPED_LEN], bound: &[u8]) -> Result<Option<Opened>> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    let Some((sealed, tag)) = wrapped.split_last_chunk::<TAG_LEN>() else { return Ok(None) };
    let opened = new_aead(by)?.open(&NONCE, bound, sealed, tag, key.as_mut_slice());
    Ok(opened.ok().map(|()| key))
}

/// Wraps `key` to a public key; gives the public half of the pair made for it.
///
/// # Errors
/// [`ErrorKind::Key`] when the public key is none; when the system gives no random bytes.
pub fn wrap_to(public: &[u8; KEY_LEN], key: &[u8; KEY_LEN], bound: &[u8]) -> Result<([u8; 32], [u8; WRAPPED_LEN])> {
    let pair = Identity::generate()?;
    let ephemeral = pair.recipient().0;
    let by = agreed(&pair, public, &ephemeral, public)?;
    Ok((ephemeral, wrap(&by, key, bound)?))
}

/// The key wrapped to a public key; `None` when `identity` is not its private half.
///
/// # Errors
/// [`ErrorKind::Key`] when the ephemeral key is none.
pub fn unwrap_with(
    identity: &Identity,
    ephemeral: &[u8; 32],
    wrapped: &[u8; WRAPPED_LEN],
    bound: &[u8],
) -> Result<Option<Opened>> {
    let by = agreed(identity, ephemeral, ephemeral, &identity.recipient().0)?;
    unwrap(&by, wrapped, bound)
}

/// The key that both halves agree on, bound to both public keys.
fn agreed(own: &Identity, other: &[u8; 32], ephemeral: &[u8; 32], public: &[u8; 32]) -> Result<Opened> {
    let shared = own
        .agree(other)
        .ok_or_else(|| Error::new(ErrorKind::Key, "a public key is not one that can be agreed on a secret with"))?;
    derive(&shared, ephemeral, X25519_WRAP, public)
}

/// The pair to whose public half hosts without secrets write.
///
/// # Errors
/// As [`derive()`].
pub fn epoch_identity(key: &RepoKey) -> Result<Identity> {
    derive(key.as_bytes(), &[], EPOCH_IDENTITY, &[]).map(|bytes| Identity::from_bytes(*bytes))
}

/// The key made of a passphrase. Takes as long and as much memory as `cost` says.
///
/// # Errors
/// [`ErrorKind::Unsupported`] when the cost is out of range.
pub fn stretch(passphrase: &str, salt: &[u8; 32], cost: &Argon2Cost) -> Result<Opened> {
    cost.validate()?;
    let refused = |error| Error::new(ErrorKind::Unsupported, format!("the passphrase cannot be used: {error}"));
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(KEY_LEN)).map_err(refused)?;
    let mut key = Zeroizing::new([0; KEY_LEN]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice())
        .map_err(refused)?;
    Ok(key)
}
