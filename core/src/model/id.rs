//! Names and numbers that must not be mixed up: each is a type of its own.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// One log stream of a source. A source that is not clustered has node 0 only.
    NodeId(u32)
}
number! {
    /// What follows a point-in-time recovery: PostgreSQL's timeline, RMAN's incarnation, DM's `DB_MAGIC`.
    BranchId(u64)
}
number! {
    /// A file of a source, as the source numbers it. Stable over the life of a chain: a file that is dropped and made
    /// again gets another number or another generation.
    FileId(u64)
}
number! {
    /// A tablespace of a source, as the source numbers it.
    TablespaceId(u32)
}
number! {
    /// The place of a page in its file, counted from 0 in units of the file's page size.
    PageNo(u64)
}
number! {
    /// The number of a piece in its set, counted from 1 over all channels.
    PieceNo(u32)
}

/// A 128-bit identifier with the usual text form.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Uuid(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 16],
);

impl Uuid {
    /// An identifier that sorts by time: 48 bits of milliseconds since 1970, then random bits (RFC 9562, version 7).
    #[must_use]
    pub fn from_time(unix_millis: u64, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        for (at, byte) in bytes[..6].iter_mut().enumerate() {
            *byte = (unix_millis >> (40 - 8 * at)) as u8;
        }
        bytes[6..].copy_from_slice(&random);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        Uuid(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 32 hexadecimal digits with dashes after the 8th, 12th, 16th and 20th.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier: expected 8-4-4-4-12 hexadecimal digits")]
pub struct NotAnId;

impl FromStr for Uuid {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let text = text.as_bytes();
        if text.len() != 36 || [8, 13, 18, 23].iter().any(|&at| text[at] != b'-') {
            return Err(NotAnId);
        }
        let mut digits = text.iter().filter(|&&c| c != b'-').map(|&c| (c as char).to_digit(16));
        let mut bytes = [0; 16];
        for byte in &mut bytes {
            let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else {
                return Err(NotAnId);
            };
            *byte = (high * 16 + low) as u8;
        }
        if digits.next().is_some() { Err(NotAnId) } else { Ok(Uuid(bytes)) }
    }
}

macro_rules! uuid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                text.parse().map($name)
            }
        }
    };
}

uuid! {
    /// A backup set. Sorts by the time at which the set was begun.
    SetId
}
uuid! {
    /// A repository.
    RepoId
}
uuid! {
    /// A source: the same database over its whole life, on all its branches.
    SourceId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_goes_both_ways() {
        let id = Uuid::from_time(1_700_000_000_123, [0xff; 10]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 36);
        for wrong in ["", "0", "g1234567-1234-1234-1234-123456789012", "12345678-1234-1234-1234-12345678901-"] {
            assert_eq!(wrong.parse::<Uuid>(), Err(NotAnId), "{wrong}");
        }
    }

    #[test]
    fn later_ids_sort_later() {
        assert!(Uuid::from_time(1, [0xff; 10]) < Uuid::from_time(2, [0; 10]));
    }
}
