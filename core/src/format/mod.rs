//! How a set looks on a medium: layouts of pieces, frames, indexes, metadata and key records.
//!
//! Pure encoders and decoders: no I/O, no threads, no cipher. An encoder refuses what its decoder would refuse. Every
//! length and count is bounded by a constant of [`limits`] and by the bytes at hand before anything is allocated.
//! `docs/FORMAT.md` is the specification and changes together with this folder.

pub mod cbor;
pub mod envelope;
pub mod frame;
pub mod index;
pub mod keys;
pub mod limits;
pub mod log;
pub mod meta;
pub mod pages;
pub mod piece;
pub mod scan;
pub mod table;
pub mod wire;
pub mod words;

pub use frame::FrameHeader;
pub use index::{EntryContent, IndexEntry, PieceRoot, SectionKey, SegmentRef};
pub use keys::{Argon2Cost, Epoch, KeyWrap, RepoDescriptor, SetKeys, Slot, SlotKind, WrapKind};
pub use limits::SECTION;
pub use log::{LogPart, LogTable, bounded_unit};
pub use meta::{BadPage, MetaHeader, Parameter, SetMeta};
pub use pages::{PagesTable, RunKind, StoredRun};
pub use piece::{PieceHeader, PieceInfo, Trailer};
pub use scan::{PieceScanner, Scanned};
pub use words::{CipherId, Codec, Compression, FrameKind, PieceKind};
