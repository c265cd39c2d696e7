//! The table of a pages frame: which pages of which file are in it.

use minicbor::{Decode, Encode};

use super::cbor;
use super::limits::{MAX_PAGE_DATA, MAX_PAGE_SIZE, MAX_RUNS, MIN_PAGE_SIZE, SECTION};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{FileId, PageRun};

/// What is known of the pages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum RunKind {
    /// Their bytes are in the frame.
    #[n(0)]
    Data,
    /// All bytes are zero; not stored.
    #[n(1)]
    Zero,
    /// Not in use by the engine; not stored, restored as zeros.
    #[n(2)]
    Free,
}

/// A run of pages and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct StoredRun {
    /// The pages.
    #[n(0)]
    pub run: PageRun,
    /// What is known of them.
    #[n(1)]
    pub kind: RunKind,
}

/// The pages in a frame. The bytes of the `Data` runs follow each other in the frame in the order of the runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct PagesTable {
    /// The file.
    #[n(0)]
    pub file: FileId,
    /// Its generation.
    #[n(1)]
    pub generation: u64,
    /// Bytes in a page. The last page of a file may be shorter.
    #[n(2)]
    pub page_size: u32,
    /// Ascending, not overlapping, within one section of the file.
    #[n(3)]
    #[cbor(decode_with = "cbor::list::<MAX_RUNS, _, _>")]
    pub runs: Vec<StoredRun>,
}

impl PagesTable {
    /// How many pages have their bytes in the frame.
    #[must_use]
    pub fn data_pages(&self) -> u64 {
        self.runs.iter().filter(|stored| stored.kind == RunKind::Data).map(|stored| stored.run.count).sum()
    }

    /// The section of the file that the pages are in.
    #[must_use]
    pub fn section(&self) -> u64 {
        self.runs.first().map_or(0, |stored| section_of(stored.run.first.0, self.page_size))
    }

    /// Checks the table against the bytes of page data that go with it. Used by writer and reader alike.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] that says what is wrong.
    pub fn validate(&self, data_len: usize) -> Result<()> {
        self.fault(data_len as u64).map_or(Ok(()), |fault| {
            Err(Error::new(ErrorKind::Damaged, format!("the table of pages of file {} is wrong: {fault}", self.file)))
        })
    }

    /// Checks the runs alone, where no data is at hand.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] that says what is wrong.
    pub fn validate_runs(&self) -> Result<()> {
        let data = self.data_pages_checked().and_then(|pages| pages.checked_mul(u64::from(self.page_size)));
        let len = data.and_then(|len| usize::try_from(len).ok()).unwrap_or(usize::MAX);
        self.validate(len)
    }

    fn data_pages_checked(&self) -> Option<u64> {
        let data = self.runs.iter().filter(|stored| stored.kind == RunKind::Data);
        data.map(|stored| stored.run.count).try_fold(0u64, u64::checked_add)
    }

    fn fault(&self, data_len: u64) -> Option<&'static str> {
        let page = u64::from(self.page_size);
        if !(MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&self.page_size) {
            return Some("page size out of range");
        }
        let (Some(first), Some(last)) = (self.runs.first(), self.runs.last()) else {
            return Some("no pages");
        };
        if self.runs.len() > MAX_RUNS {
            return Some("too many runs");
        }
        let in_range = |run: &PageRun| {
            let end = run.first.0.checked_add(run.count);
            run.count > 0 && end.and_then(|end| end.checked_mul(page)).is_some()
        };
        if !self.runs.iter().all(|stored| in_range(&stored.run)) {
            return Some("run out of range");
        }
        if self.runs.windows(2).any(|pair| pair[0].run.end() > pair[1].run.first.0) {
            return Some("runs not ascending");
        }
        if section_of(first.run.first.0, self.page_size) != section_of(last.run.end() - 1, self.page_size) {
            return Some("pages of two sections");
        }
        let Some(full) = self.data_pages_checked().and_then(|pages| pages.checked_mul(page)) else {
            return Some("too much data");
        };
        let may_be_short = last.kind == RunKind::Data;
        let fits = data_len == full || (may_be_short && data_len < full && data_len > full - page);
        (!fits || full > MAX_PAGE_DATA as u64).then_some("amount of data does not fit the runs")
    }
}

/// The section that a page begins in.
#[must_use]
pub fn section_of(page: u64, page_size: u32) -> u64 {
    page.saturating_mul(u64::from(page_size)) / SECTION
}
