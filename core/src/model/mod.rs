//! What the things are: numbers, ranges, branches, files, sets, chains and windows.
//!
//! Pure: nothing here does I/O or reads a clock, time is passed in. Everything a set's metadata records is defined
//! here or built of what is defined here. The CBOR numbers on the types are part of the on-disk format.

pub mod branch;
pub mod chain;
pub mod file;
pub mod id;
pub mod join;
pub mod lineage;
pub mod log;
pub mod lsn;
pub mod mark;
pub mod page;
mod reach;
pub mod retention;
pub mod set;
pub mod start;
pub mod target;
pub mod time;
pub mod window;

pub use branch::{BranchHistory, BranchPoint};
pub use file::{CarriedFile, FileEntry, FileKind, RelPath, Tablespace, TablespaceKind, Tracking};
pub use id::{BranchId, FileId, NodeId, PageNo, PieceNo, RepoId, SetId, SourceId, TablespaceId, Uuid};
pub use log::{LogGap, LogUnit, NamedPoint};
pub use lsn::{Lsn, LsnSpan, Seq};
pub use mark::{MarkedState, StateMark, UnitLinks};
pub use page::{PageRun, PageSet};
pub use set::{Consistency, Level, NodeRange, Scope, SetSummary};
pub use target::{RecoveryTarget, Until};
pub use time::Timestamp;
