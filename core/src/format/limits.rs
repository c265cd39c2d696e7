//! The bounds of everything that is read from a medium. Each limit has one value, and it is here.

/// Bytes of raw file that a frame may cover at most; no frame has pages of two sections. Restore plans section by
/// section, so this bounds the memory of a plan.
pub const SECTION: u64 = 1 << 30;

/// Raw bytes in a frame: content and table.
pub const MAX_RAW: usize = 16 << 20;
/// Stored bytes of a frame's payload, tag included.
pub const MAX_STORED: usize = 17 << 20;
/// Bytes of page data in one frame; the rest of [`MAX_RAW`] is room for the table.
pub const MAX_PAGE_DATA: usize = 8 << 20;
/// Bytes of redo in one frame. A larger unit is split.
pub const MAX_LOG_DATA: usize = 4 << 20;
/// Redo gathered from small units before it becomes a frame.
pub const LOG_FRAME: usize = 1 << 20;
/// Bytes of redo in each part of a unit that is longer than one frame may be; the last part has what is left.
pub const LOG_PART: usize = 2 << 20;
/// Bytes in a log unit. A PostgreSQL segment has at most 1 GiB.
pub const MAX_UNIT: u64 = 1 << 30;
/// Bytes in the record of a log unit, its change map included.
pub const MAX_UNIT_RECORD: usize = 2 << 20;
/// Log units in one frame.
pub const MAX_PARTS: usize = 1 << 16;
/// Runs in the table of one frame.
pub const MAX_RUNS: usize = 1 << 17;
/// Bytes in a page.
pub const MIN_PAGE_SIZE: u32 = 512;
/// Bytes in a page.
pub const MAX_PAGE_SIZE: u32 = 1 << 20;
/// Bytes in the hash of a page.
pub const PAGE_HASH: usize = 16;
/// Raw bytes gathered before an index segment is written.
pub const SEGMENT_TARGET: usize = 1 << 20;
/// Index segments in a piece.
pub const MAX_SEGMENTS: usize = 1 << 16;
/// Raw bytes in the body of a set's metadata.
pub const MAX_META_RAW: usize = 256 << 20;
/// Stored bytes in the body of a set's metadata.
pub const MAX_META_STORED: usize = MAX_META_RAW + (1 << 20);
/// Bytes in a record of wrapped keys or a repository descriptor.
pub const MAX_KEYS: usize = 1 << 20;
/// Files in a set.
pub const MAX_FILES: usize = 4 << 20;
/// Pieces in a set.
pub const MAX_PIECES: usize = 1 << 20;
/// Log units in a set.
pub const MAX_UNITS: usize = 1 << 20;
/// Entries in every other list of the metadata.
pub const MAX_LIST: usize = 1 << 16;
/// Epochs of a repository's key.
pub const MAX_EPOCHS: usize = 1024;
/// Slots that open the current epoch.
pub const MAX_SLOTS: usize = 32;
/// Bytes in the label of a slot.
pub const MAX_LABEL: usize = 256;
/// Memory that a passphrase slot may ask for, in KiB.
pub const MAX_ARGON2_KIB: u32 = 1 << 20;
/// Passes that a passphrase slot may ask for.
pub const MAX_ARGON2_PASSES: u32 = 64;
/// Lanes that a passphrase slot may ask for.
pub const MAX_ARGON2_LANES: u32 = 16;
