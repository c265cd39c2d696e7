//! Which pages changed: from redo to the numbers under which changes are recorded, and from there to pages of files.
//!
//! | file | job |
//! |---|---|
//! | `number` | the numbers of forks, directories and tablespaces |
//! | `translate` | what a stretch of redo changes, in these numbers |
//! | `resolve` | the pages of a file that joined changes name |
//! | `files` | segments in the server's log directory, by name and along timelines |
//! | `pass` | one reading of a segment, and the rest of its last record |
//! | `unit` | what a segment of the log directory changes and commits, with a look at its neighbours |
//! | `follow` | the same of segments that are received one after the other |
//! | `live` | what the server's own log changes from one LSN to another |
//! | `summaries` | the same from the summaries that servers from 17 on keep of their log |
//!
//! A record counts with the segment in which it begins. So redo that is read from the begin of a segment on goes on from
//! the segments that are on record, without a look at what lies before.

mod files;
mod follow;
mod live;
#[cfg(test)]
mod log_tests;
mod number;
mod pass;
mod resolve;
mod summaries;
#[cfg(test)]
mod tests;
mod translate;
mod unit;

pub(crate) use files::SegmentFiles;
pub(crate) use follow::{Follower, Told};
pub(crate) use live::changes as live_changes;
pub(crate) use pass::{UnitFacts, points};
pub(crate) use resolve::{Place, pages_of};
pub(crate) use summaries::changes as summarized_changes;
pub(crate) use translate::file_changes;
pub(crate) use unit::facts as unit_facts;
