//! AES-256-GCM by two backends that write the same bytes: AWS-LC where it is built in, pure Rust always.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};

use crate::error::{Error, ErrorKind, Result};

/// Bytes in a key.
pub const KEY_LEN: usize = 32;
/// Bytes in a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes in a tag.
pub const TAG_LEN: usize = 16;

/// The tag does not fit: the bytes, the associated data or the key are not those that were sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

/// A cipher with its key. Never seal twice with the same nonce.
pub trait Aead: Send + Sync {
    /// Encrypts `data` in place and returns the tag.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the backend refuses.
    fn seal(&self, nonce: &[u8; NONCE_LEN], bound: &[u8], data: &mut [u8]) -> Result<[u8; TAG_LEN]>;

    /// Decrypts `sealed` into `out`, which has the same length. `out` is of no use after a failure.
    ///
    /// # Errors
    /// [`Forged`].
    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        bound: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> std::result::Result<(), Forged>;
}

/// The fastest backend that is built in.
///
/// # Errors
/// [`ErrorKind::Internal`] when the backend refuses the key.
pub fn new_aead(key: &[u8; KEY_LEN]) -> Result<Box<dyn Aead>> {
    #[cfg(feature = "aws-lc")]
    return Ok(Box::new(AwsLc::new(key)?));
    #[cfg(not(feature = "aws-lc"))]
    return Ok(Box::new(Portable::new(key)));
}

fn refused() -> Error {
    Error::new(ErrorKind::Internal, "the cipher refused to seal")
}

/// AES-256-GCM in pure Rust.
pub struct Portable(Aes256Gcm);

impl Portable {
    /// The cipher with this key.
    #[must_use]
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        Portable(Aes256Gcm::new(&(*key).into()))
    }
}

impl Aead for Portable {
    fn seal(&self, nonce: &[u8; NONCE_LEN], bound: &[u8], data: &mut [u8]) -> Result<[u8; TAG_LEN]> {
        let tag = self.0.encrypt_inout_detached(&(*nonce).into(), bound, data.into()).map_err(|_| refused())?;
        Ok(tag.into())
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        bound: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> std::result::Result<(), Forged> {
        let buffer = InOutBuf::new(sealed, out).map_err(|_| Forged)?;
        self.0.decrypt_inout_detached(&(*nonce).into(), bound, buffer, &(*tag).into()).map_err(|_| Forged)
    }
}

/// AES-256-GCM by AWS-LC.
#[cfg(feature = "aws-lc")]
pub struct AwsLc(aws_lc_rs::aead::LessSafeKey);

#[cfg(feature = "aws-lc")]
impl AwsLc {
    /// The cipher with this key.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the library refuses the key.
    pub fn new(key: &[u8; KEY_LEN]) -> Result<Self> {
        let key = aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::AES_256_GCM, key).map_err(|_| refused())?;
        Ok(AwsLc(aws_lc_rs::aead::LessSafeKey::new(key)))
    }
}

#[cfg(feature = "aws-lc")]
impl Aead for AwsLc {
    fn seal(&self, nonce: &[u8; NONCE_LEN], bound: &[u8], data: &mut [u8]) -> Result<[u8; TAG_LEN]> {
        use aws_lc_rs::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(bound), data).map_err(|_| refused())?;
        tag.as_ref().try_into().map_err(|_| refused())
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        bound: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        out: &mut [u8],
    ) -> std::result::Result<(), Forged> {
        use aws_lc_rs::aead::{Aad, Nonce};
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0.open_separate_gather(nonce, Aad::from(bound), sealed, tag, out).map_err(|_| Forged)
    }
}

#[cfg(all(test, feature = "aws-lc"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What one backend seals the other opens, and both write the same bytes.
        #[test]
        fn backends_agree(
            key: [u8; 32],
            nonce: [u8; 12],
            bound in proptest::collection::vec(any::<u8>(), 0..80),
            plain in proptest::collection::vec(any::<u8>(), 0..5000),
            flip in any::<proptest::sample::Index>(),
        ) {
            let backends: [Box<dyn Aead>; 2] = [Box::new(Portable::new(&key)), Box::new(AwsLc::new(&key).unwrap())];
            let mut sealed = Vec::new();
            for backend in &backends {
                let mut data = plain.clone();
                let tag = backend.seal(&nonce, &bound, &mut data).unwrap();
                sealed.push((data, tag));
            }
            prop_assert_eq!(&sealed[0], &sealed[1]);
            let (mut data, tag) = sealed.remove(0);
            let mut out = vec![0; data.len()];
            for backend in &backends {
                prop_assert_eq!(backend.open(&nonce, &bound, &data, &tag, &mut out), Ok(()));
                prop_assert_eq!(&out, &plain);
            }
            if !data.is_empty() {
                let at = flip.index(data.len());
                data[at] ^= 1;
                for backend in &backends {
                    prop_assert_eq!(backend.open(&nonce, &bound, &data, &tag, &mut out), Err(Forged));
                }
            }
        }
    }
}
