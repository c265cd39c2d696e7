//! How a backup is to be taken, and what comes of it.

use super::channel::{BadPage, OnBadPage};
use super::packer::MIN_PIECE_SIZE;
use crate::catalog::{Catalog, LATEST, check_channels};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Compression;
use crate::model::{CarriedFile, Level, Scope, SetId, SetSummary};

/// How a backup is to be taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackupOptions {
    /// How much.
    pub level: Level,
    /// Of what.
    pub scope: Scope,
    /// What the set is called; made of source, level and time when not given.
    pub name: Option<String>,
    /// The base to build on; the nearest that fits when not given.
    pub base: Option<SetId>,
    /// Leave the redo out: the set is then of use only together with archived log.
    pub without_log: bool,
    /// Streams in parallel, 1 to 255.
    pub channels: u16,
    /// How frames are compressed.
    pub compression: Compression,
    /// The most bytes in a piece, at least [`MIN_PIECE_SIZE`].
    pub max_piece_size: u64,
    /// What to do about damaged pages.
    pub on_bad_page: OnBadPage,
    /// Files to carry in the metadata, such as the engine's own key files.
    pub key_files: Vec<CarriedFile>,
}

impl Default for BackupOptions {
    fn default() -> Self {
        BackupOptions {
            level: Level::Full,
            scope: Scope::Database,
            name: None,
            base: None,
            without_log: false,
            channels: 2,
            compression: Compression::Zstd(1),
            max_piece_size: 4 << 30,
            on_bad_page: OnBadPage::Fail,
            key_files: Vec::new(),
        }
    }
}

/// What was taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackupReport {
    /// The set.
    pub summary: SetSummary,
    /// Why this level and base, and how changed pages were found.
    pub decisions: Vec<String>,
    /// Pieces.
    pub pieces: u32,
    /// Pages stored.
    pub pages: u64,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// Bytes stored before compression.
    pub raw_bytes: u64,
    /// Bytes on the medium, metadata and all.
    pub stored_bytes: u64,
    /// Damaged pages of the source, stored as they are.
    pub bad_pages: Vec<BadPage>,
}

pub(super) fn check(options: &BackupOptions) -> Result<()> {
    let usage = |what: &str, remedy: &str| Err(Error::new(ErrorKind::Usage, what).remedy(remedy));
    check_channels(options.channels)?;
    if options.max_piece_size < MIN_PIECE_SIZE {
        return usage("pieces would be too small", "use a piece size of at least 16 MiB");
    }
    match options.scope {
        Scope::Log => usage("redo is not backed up like this", "use `setpiece log`"),
        Scope::Table(_) => usage("no source can back up a single table yet", "back up its database"),
        _ => Ok(()),
    }
}

pub(super) fn check_name(catalog: &Catalog, options: &BackupOptions) -> Result<()> {
    let Some(name) = &options.name else { return Ok(()) };
    let plain = |c: char| c.is_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 128 || !name.chars().all(plain) || name == LATEST {
        return Err(Error::new(ErrorKind::Usage, "not a name for a set")
            .on(name.clone())
            .remedy("use letters, digits, dots, dashes and underscores, 128 at most, and not `latest`"));
    }
    if catalog.records().any(|record| record.summary.name == *name) {
        return Err(Error::new(ErrorKind::Exists, "there is a set of that name")
            .on(name.clone())
            .remedy("use another"));
    }
    Ok(())
}
