//! PostgreSQL's write-ahead log: bytes in, facts out. No I/O, no server.
//!
//! From the ground up: `name` has the names of segments and the arithmetic of LSNs, `page` and `segment` what pages say
//! about themselves, `reader` cuts a stream of pages into records, `record` takes one apart, `facts` says what it changes,
//! `gather` puts the facts of a stretch together to [`Changes`], which `stored` makes bytes of. `paths` says in which
//! file a relation lies.
//!
//! ```
//! use setpiece_source_postgres::wal::{Changes, Gatherer, Reader};
//! # fn main() -> setpiece_core::Result<()> {
//! # let segments: Vec<(setpiece_core::model::Lsn, Vec<u8>)> = Vec::new();
//! let mut reader = Reader::new();
//! let mut total: Option<Changes> = None;
//! for (start, segment) in segments {
//!     let mut gatherer = Gatherer::new(start, 8192);
//!     let mut records = reader.push(&segment)?;
//!     while let Some(record) = records.next_record()? {
//!         gatherer.add(&record)?;
//!     }
//!     let changes = gatherer.finish(reader.position());
//!     match &mut total {
//!         Some(total) => total.merge(&changes)?,
//!         None => total = Some(changes),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A record counts where it ends. One that begins in a segment and ends in the next is told with the next, and only to a
//! reader that has seen both: to go on behind a segment that was read earlier, read that one once more and let the
//! gatherer, which knows where its stretch begins, pass over its records.

mod blocks;
mod bytes;
mod changes;
#[cfg(test)]
mod changes_tests;
mod facts;
mod fork;
mod fork_cbor;
mod gather;
mod lsn;
mod name;
mod page;
mod paths;
mod reader;
#[cfg(test)]
mod reader_tests;
mod record;
mod rel;
mod rmgr;
#[cfg(test)]
pub(crate) mod sample;
mod segment;
mod stored;
mod version;

pub use changes::{Changes, Commits, DirectoryChanges, Event, Happening, TablespaceChanges};
pub use facts::{Fact, WalLevel, facts};
pub use fork::ForkChanges;
pub use gather::Gatherer;
pub use lsn::{lsn_text, parse_lsn};
pub use name::{SegmentName, SegmentSize, WalFile};
pub use page::last_begun;
pub use paths::{FileLayout, RelFile};
pub use reader::{Reader, Records, WalEnd};
pub use record::{BlockRef, Record};
pub use rel::{DEFAULT_TABLESPACE, DatabaseDir, Fork, GLOBAL_TABLESPACE, RelFork, map_block};
pub use rmgr::name as rmgr_name;
pub use segment::{DESCRIBED, SegmentInfo, describe};
pub use version::Version;
