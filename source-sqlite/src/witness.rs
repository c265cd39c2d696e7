//! Whether the database file holds the state that was captured, when a log begins anew on it.
//!
//! A log begins when all before it is in the database file, and then only SQLite has written there. Where the file was
//! overwritten in place (an older copy was put back), the log goes on as if nothing had been, and tells nothing of it.
//! Two things do: the file's mark, which may not change while a read transaction at mark 0 keeps checkpoints away, and the
//! pages that were captured last, which must be in the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use crate::dbfile::FileMark;
use crate::wal::ReadAt;

/// So many pages are remembered of one log.
const PAGES: usize = 4096;

/// What is known of the file's content.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// Checksums of the newest images of pages, counted from 1.
    pages: BTreeMap<u32, u32>,
    page_size: u32,
    /// The mark that the file keeps as long as nobody may write to it.
    rest: Option<FileMark>,
}

impl Witness {
    /// Nobody may write to the file from now on, if there is a mark.
    pub(crate) fn rest(&mut self, mark: Option<FileMark>) {
        self.rest = mark;
    }

    /// A transaction wrote these pages and left so many.
    pub(crate) fn learn(&mut self, page_size: u32, images: impl IntoIterator<Item = (u32, u32)>, database: u32) {
        self.page_size = page_size;
        for (page, sum) in images {
            if self.pages.len() < PAGES || self.pages.contains_key(&page) {
                self.pages.insert(page, sum);
            }
        }
        if database != 0 {
            drop(self.pages.split_off(&database.saturating_add(1)));
        }
    }

    /// Forgets the pages.
    pub(crate) fn forget(&mut self) {
        self.pages.clear();
    }

    /// Whether `file` holds what it should, as far as is known.
    pub(crate) fn holds(&self, file: &File) -> io::Result<bool> {
        if self.rest.is_some() && FileMark::of(file) != self.rest {
            return Ok(false);
        }
        let mut page = vec![0; self.page_size as usize];
        for (number, sum) in &self.pages {
            let have = file.fill(&mut page, u64::from(number - 1) * u64::from(self.page_size))?;
            if have < page.len() || crc32fast::hash(&page) != *sum {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn what_is_not_in_the_file_is_seen() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 512]).unwrap();
        file.write_all(&[2; 512]).unwrap();
        let image = |fill: u8| crc32fast::hash(&[fill; 512]);
        let mut witness = Witness::default();
        assert!(witness.holds(&file).unwrap(), "nothing is known");
        witness.learn(512, [(1, image(1)), (2, image(9)), (3, image(3))], 2);
        assert!(!witness.holds(&file).unwrap(), "another page 2");
        witness.learn(512, [(2, image(2))], 2);
        assert!(witness.holds(&file).unwrap());
        witness.rest(FileMark::of(&file));
        assert!(witness.holds(&file).unwrap());
        file.rewind().unwrap();
        file.write_all(&[1; 512]).unwrap();
        file.set_len(2048).unwrap();
        assert!(!witness.holds(&file).unwrap(), "somebody wrote to it");
        witness.rest(None);
        assert!(witness.holds(&file).unwrap());
        witness.learn(512, [(5, image(5))], 5);
        assert!(!witness.holds(&file).unwrap(), "a page behind the end");
    }
}
