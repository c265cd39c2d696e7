//! Secrets, and their text forms. All are wiped when dropped, and none shows itself in `Debug`.

use std::fmt;
use std::str::FromStr;

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::{Error, ErrorKind, Result};

/// Bytes in every key.
pub const KEY_LEN: usize = 32;

const KEY_FILE_WORD: &str = "setpiece-key-1";
const RECIPIENT_WORD: &str = "spk1";
const IDENTITY_WORD: &str = "sps1";

/// Fills a key-sized array with random bytes of the operating system.
///
/// # Errors
/// [`ErrorKind::Io`] when it has none.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(ErrorKind::Io, "the operating system gave no random bytes").because(error))?;
    Ok(bytes)
}

macro_rules! hidden {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(hidden)"))
            }
        }
    )*};
}
hidden!(Passphrase, KeyFile, Identity, DataKey, RepoKey);

/// The random key of one set.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DataKey([u8; KEY_LEN]);

/// The random key of one epoch of a repository.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RepoKey([u8; KEY_LEN]);

macro_rules! key {
    ($($name:ident),*) => {$(
        impl $name {
            /// A key of these bytes.
            #[must_use]
            pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
                $name(bytes)
            }

            /// The bytes of the key.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
                &self.0
            }

            /// A new random one.
            ///
            /// # Errors
            /// When the operating system has no random bytes.
            pub fn generate() -> Result<Self> {
                random().map($name)
            }
        }
    )*};
}
key!(DataKey, RepoKey, KeyFile);

/// A passphrase.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Passphrase(String);

impl Passphrase {
    /// A passphrase; line ends at its end do not count.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when nothing is left.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            return Err(Error::new(ErrorKind::Key, "the passphrase is empty"));
        }
        Ok(Passphrase(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The random key of a key file. Its text form is one line: `setpiece-key-1 <64 hex digits> <checksum>`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeyFile([u8; KEY_LEN]);

impl KeyFile {
    /// The line that goes into the file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{KEY_FILE_WORD} {} {:08x}\n", *hex(&self.0), checksum(KEY_FILE_WORD, &self.0)))
    }

    /// Reads the content of a key file.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when it is none.
    pub fn from_text(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let (word, key, sum, rest) = (words.next(), words.next(), words.next(), words.next());
        if word != Some(KEY_FILE_WORD) || rest.is_some() {
            return Err(not_a_key("a key file"));
        }
        let joined = Zeroizing::new(format!("{}{}", key.unwrap_or_default(), sum.unwrap_or_default()));
        unhex(KEY_FILE_WORD, &joined, "a key file").map(|bytes| KeyFile(*bytes))
    }
}

/// A public key to which a set can be written by a host that cannot read it. Its text form is `spk1...`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient(pub [u8; KEY_LEN]);

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{RECIPIENT_WORD}{}{:08x}", *hex(&self.0), checksum(RECIPIENT_WORD, &self.0))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.trim().strip_prefix(RECIPIENT_WORD).ok_or_else(|| not_a_key("a public key"))?;
        unhex(RECIPIENT_WORD, digits, "a public key").map(|bytes| Recipient(*bytes))
    }
}

/// The private half of a [`Recipient`]. Its text form is `sps1...`.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Identity(StaticSecret);

impl Identity {
    /// A new random one.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn generate() -> Result<Self> {
        random().map(Identity::from_bytes)
    }

    /// The identity of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Identity(StaticSecret::from(bytes))
    }

    /// The public half.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(PublicKey::from(&self.0).to_bytes())
    }

    /// The text to be kept secret.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.0.to_bytes());
        Zeroizing::new(format!(
            "{IDENTITY_WORD}{}{:08x}",
            *hex(bytes.as_slice()),
            checksum(IDENTITY_WORD, bytes.as_slice())
        ))
    }

    /// The secret shared with `public`; `None` when that is no honest key.
    pub(crate) fn agree(&self, public: &[u8; KEY_LEN]) -> Option<Zeroizing<[u8; KEY_LEN]>> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*public));
        shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.trim().strip_prefix(IDENTITY_WORD).ok_or_else(|| not_a_key("a private key"))?;
        unhex(IDENTITY_WORD, digits, "a private key").map(|bytes| Identity::from_bytes(*bytes))
    }
}

/// Something that may open a repository.
#[derive(Clone, Debug)]
pub enum Secret {
    /// A passphrase.
    Passphrase(Passphrase),
    /// A key file.
    KeyFile(KeyFile),
    /// The private half of a recipient.
    Identity(Identity),
}

impl Secret {
    /// What a file named by `--key-file` holds: a key file or an identity.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when it is neither.
    pub fn from_key_text(text: &str) -> Result<Self> {
        if text.trim_start().starts_with(IDENTITY_WORD) {
            return text.parse().map(Secret::Identity);
        }
        KeyFile::from_text(text).map(Secret::KeyFile)
    }
}

fn not_a_key(what: &str) -> Error {
    Error::new(ErrorKind::Key, format!("this is not {what} of Setpiece, or it was mistyped"))
}

/// The word goes into the checksum, so that one kind of key cannot be taken for another by changing its word.
fn checksum(word: &str, bytes: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(word.as_bytes());
    sum.update(bytes);
    sum.finalize()
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    Zeroizing::new(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
}

/// Reads 64 digits of key and 8 of checksum.
fn unhex(word: &str, digits: &str, what: &str) -> Result<Zeroizing<[u8; KEY_LEN]>> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    if !digits.is_ascii() || digits.len() != 2 * KEY_LEN + 8 {
        return Err(not_a_key(what));
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| not_a_key(what))?;
    }
    let sum = u32::from_str_radix(&digits[2 * KEY_LEN..], 16).map_err(|_| not_a_key(what))?;
    if sum == checksum(word, bytes.as_slice()) { Ok(bytes) } else { Err(not_a_key(what)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_go_both_ways_and_find_typing_errors() {
        let identity = Identity::from_bytes([7; 32]);
        let (public, private) = (identity.recipient().to_string(), identity.to_text());
        assert_eq!(public.parse::<Recipient>().unwrap(), identity.recipient());
        assert_eq!(private.parse::<Identity>().unwrap().recipient(), identity.recipient());
        let file = KeyFile::from_bytes([9; 32]);
        assert_eq!(KeyFile::from_text(&file.to_text()).unwrap().as_bytes(), file.as_bytes());
        for at in 4..public.len() {
            let mut wrong = public.clone().into_bytes();
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(wrong.parse::<Recipient>().unwrap_err().kind(), ErrorKind::Key, "{wrong}");
        }
        assert!(private.replace("sps1", "spk1").parse::<Recipient>().is_err());
        assert!("spk1ü".parse::<Recipient>().is_err());
    }

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::Passphrase(Passphrase::new("open sesame\n").unwrap());
        assert_eq!(format!("{secret:?}"), "Passphrase(Passphrase(hidden))");
        assert_eq!(format!("{:?}", DataKey::from_bytes([1; 32])), "DataKey(hidden)");
        assert_eq!(format!("{:?}", Secret::KeyFile(KeyFile::from_bytes([1; 32]))), "KeyFile(KeyFile(hidden))");
    }
}
