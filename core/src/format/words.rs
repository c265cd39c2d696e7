//! The small words of the format: kinds, codecs, ciphers, and how strongly to compress.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::error::{Error, ErrorKind, Result};

macro_rules! byte {
    ($(#[$doc:meta])* $name:ident: $what:literal { $($(#[$vdoc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl $name {
            /// The value for a byte of the format.
            ///
            /// # Errors
            /// [`ErrorKind::Unsupported`] for a value that is not known.
            pub fn from_byte(byte: u8) -> Result<Self> {
                match byte {
                    $($number => Ok($name::$variant),)*
                    other => Err(Error::new(ErrorKind::Unsupported, format!(concat!("unknown ", $what, " {}"), other))),
                }
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut Encoder<W>,
                _ctx: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.u8(*self as u8)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
                $name::from_byte(d.u8()?).map_err(|error| minicbor::decode::Error::message(error.to_string()))
            }
        }
    };
}

byte! {
    /// What a piece holds.
    PieceKind: "kind of piece" {
        /// Pages.
        Data = 1,
        /// Redo.
        Log = 2,
    }
}
byte! {
    /// What a frame holds.
    FrameKind: "kind of frame" {
        /// Pages of one file.
        Pages = 1,
        /// Redo.
        Log = 2,
        /// A part of the piece's index.
        Index = 3,
        /// Where the parts of the index are.
        Root = 4,
    }
}
byte! {
    /// How a frame's payload is compressed.
    Codec: "codec" {
        /// Not at all.
        None = 0,
        /// One LZ4 block without a size in front.
        Lz4 = 1,
        /// One Zstandard frame.
        Zstd = 2,
    }
}
byte! {
    /// How payloads are sealed. 2 is kept for SM4-GCM.
    CipherId: "cipher" {
        /// Not at all.
        None = 0,
        /// AES-256-GCM.
        Aes256Gcm = 1,
    }
}

impl fmt::Display for CipherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CipherId::None => "none",
            CipherId::Aes256Gcm => "aes-256-gcm",
        })
    }
}

/// How strongly to compress. `Zstd` takes levels 1 to 19; writers refuse others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4.
    Fast,
    /// Zstandard at this level.
    Zstd(u8),
}

/// The number that stands for LZ4 in the metadata; Zstandard's levels stand for themselves, 0 for none.
const FAST: u8 = 100;
/// The highest level of Zstandard that is offered.
const MAX_LEVEL: u8 = 19;

impl Compression {
    /// The codec that frames will mostly have.
    #[must_use]
    pub fn codec(self) -> Codec {
        match self {
            Compression::None => Codec::None,
            Compression::Fast => Codec::Lz4,
            Compression::Zstd(_) => Codec::Zstd,
        }
    }

    /// Checks the level.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it is not 1 to 19.
    pub fn validate(self) -> Result<()> {
        match self {
            Compression::Zstd(level) if !(1..=MAX_LEVEL).contains(&level) => {
                Err(unknown_compression(&level.to_string()))
            }
            _ => Ok(()),
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Fast => FAST,
            Compression::Zstd(level) => level,
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Compression::Zstd(1)
    }
}

fn unknown_compression(text: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("{text:?} is no way to compress")).remedy("use none, fast, or a level 1 to 19")
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::None => f.pad("none"),
            Compression::Fast => f.pad("fast"),
            Compression::Zstd(level) => fmt::Display::fmt(level, f),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Compression::None),
            "fast" => Ok(Compression::Fast),
            _ => {
                let level = text.parse().map_err(|_| unknown_compression(text))?;
                Compression::Zstd(level).validate().map(|()| Compression::Zstd(level))
            }
        }
    }
}

impl<C> Encode<C> for Compression {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u8(self.to_byte())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Compression {
    fn decode(d: &mut Decoder<'b>, _ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        match d.u8()? {
            0 => Ok(Compression::None),
            FAST => Ok(Compression::Fast),
            level @ 1..=MAX_LEVEL => Ok(Compression::Zstd(level)),
            other => Err(minicbor::decode::Error::message(format!("unknown compression {other}"))),
        }
    }
}
