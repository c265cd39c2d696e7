//! What a check is asked for and what its channels share.

use std::sync::atomic::AtomicU64;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{PieceInfo, SetMeta};
use crate::transform::DataKey;

/// How much is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Nothing is missing.
    Meta,
    /// Every stored byte is what was written.
    Frames,
    /// Every page is what was read from the source.
    Pages,
}

impl std::str::FromStr for Depth {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "meta" => Ok(Depth::Meta),
            "frames" => Ok(Depth::Frames),
            "pages" => Ok(Depth::Pages),
            _ => Err(Error::new(ErrorKind::Usage, "no depth").on(text).remedy("use meta, frames or pages")),
        }
    }
}

/// One piece to read.
pub(super) struct Todo<'a> {
    pub meta: &'a SetMeta,
    pub key: Option<&'a DataKey>,
    pub piece: &'a PieceInfo,
}

#[derive(Default)]
pub(super) struct Counters {
    pub frames: AtomicU64,
    pub pages: AtomicU64,
    pub stored: AtomicU64,
    pub raw: AtomicU64,
}
