//! A transaction that is spread over several units, on its way through a recovery: its pages wait in a file without a
//! name, in memory that does not grow with it, until the commit comes.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use setpiece_core::{Error, Result};

use crate::unit::Transaction;

/// The parts so far.
#[derive(Debug)]
pub(crate) struct Pending {
    path: PathBuf,
    page_size: u32,
    /// The images, one after the other.
    images: Option<File>,
    /// How many images there are.
    count: u64,
    /// The newest image of each page.
    places: BTreeMap<u32, u64>,
}

impl Pending {
    /// Nothing yet; `directory` has room for what may come.
    pub(crate) fn new(directory: &Path, page_size: u32) -> Self {
        let path = directory.join(".setpiece-pending");
        Pending { path, page_size, images: None, count: 0, places: BTreeMap::new() }
    }

    /// Whether no transaction is waiting for its commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.images.is_none()
    }

    /// Takes a part.
    pub(crate) fn add(&mut self, part: &Transaction<'_>) -> Result<()> {
        self.store(part).map_err(|error| Error::io(self.path.display().to_string(), error))
    }

    fn store(&mut self, part: &Transaction<'_>) -> io::Result<()> {
        let images = match self.images.take() {
            Some(images) => images,
            None => nameless(&self.path)?,
        };
        for (page, image) in part.pages() {
            images.write_all_at(image, self.count * u64::from(self.page_size))?;
            self.places.insert(page, self.count);
            self.count += 1;
        }
        self.images = Some(images);
        Ok(())
    }

    /// The commit has come with the last part: writes the pages of the parts before to `database`.
    pub(crate) fn commit(&mut self, last: &Transaction<'_>, database: &File) -> io::Result<()> {
        let (Some(images), places) = (self.images.take(), std::mem::take(&mut self.places)) else { return Ok(()) };
        let size = u64::from(self.page_size);
        let mut image = vec![0; self.page_size as usize];
        for (page, place) in places.range(..=last.database) {
            images.read_exact_at(&mut image, place * size)?;
            database.write_all_at(&image, u64::from(page - 1) * size)?;
        }
        self.count = 0;
        Ok(())
    }
}

/// A file that is gone when it is closed.
fn nameless(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}
