//! Comparing a directory with what the oracle says it must hold.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use setpiece_core::Result;
use setpiece_core::model::{FileKind, TablespaceId};

use crate::control::{CONTROL, Control};
use crate::disk;
use crate::engine::TEMP_FILE;
use crate::oracle::{Content, FileContent};
use crate::page;

/// The first thing that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The file.
    pub path: String,
    /// The page, if it is about one.
    pub page: Option<u64>,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(page) = self.page {
            write!(f, ", page {page}")?;
        }
        write!(f, ": {}", self.why)
    }
}

fn differs(path: &str, why: impl Into<String>) -> Option<Difference> {
    Some(Difference { path: path.into(), page: None, why: why.into() })
}

impl Content {
    /// The first difference between `dir`, a whole database that was restored and recovered, and this content. A
    /// temporary file counts as one: it must not have been stored.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn difference(&self, dir: &Path) -> Result<Option<Difference>> {
        self.compare(dir, None, false)
    }

    /// As [`Content::difference`], for a directory that an engine has opened: its temporary file is ignored.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn difference_in_use(&self, dir: &Path) -> Result<Option<Difference>> {
        self.compare(dir, None, true)
    }

    /// As [`Content::difference`], for a directory with the files of one tablespace and nothing else.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn difference_of_tablespace(&self, dir: &Path, name: &str) -> Result<Option<Difference>> {
        match self.spaces.values().find(|space| space.name == name) {
            Some(space) => self.compare(dir, Some(space.id), false),
            None => Ok(differs(name, "there is no such tablespace at this LSN")),
        }
    }

    fn compare(&self, dir: &Path, only: Option<TablespaceId>, in_use: bool) -> Result<Option<Difference>> {
        let wanted: Vec<&FileContent> =
            self.files.values().filter(|file| only.is_none_or(|id| file.entry.tablespace == id)).collect();
        let mut expected: BTreeSet<&str> = wanted.iter().map(|file| file.entry.path.as_str()).collect();
        if only.is_none() {
            expected.insert(CONTROL);
        }
        let mut found = disk::walk(dir)?;
        found.retain(|path| !(in_use && path == TEMP_FILE));
        let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
        if let Some(extra) = found.difference(&expected).next() {
            return Ok(differs(extra, "must not be there"));
        }
        if let Some(missing) = expected.difference(&found).next() {
            return Ok(differs(missing, "is missing"));
        }
        if only.is_none()
            && let Some(difference) = self.compare_control(dir)?
        {
            return Ok(Some(difference));
        }
        for file in wanted {
            if let Some(difference) = compare_file(dir, file)? {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }

    fn compare_control(&self, dir: &Path) -> Result<Option<Difference>> {
        let control = Control::load(dir)?;
        if control.table.spaces != self.spaces {
            return Ok(differs(CONTROL, "names other tablespaces"));
        }
        let mut named: Vec<_> = control.table.files.values().collect();
        named.sort_by(|a, b| a.path.cmp(&b.path));
        let equal = named.into_iter().eq(self.files.values().map(|file| &file.entry));
        Ok(if equal { None } else { differs(CONTROL, "names other files") })
    }
}

fn compare_file(dir: &Path, file: &FileContent) -> Result<Option<Difference>> {
    let path = file.entry.path.as_str();
    let bytes = disk::read_all(&file.entry.path.below(dir))?;
    if bytes.len() as u64 != file.entry.len {
        return Ok(differs(path, format!("has {} bytes instead of {}", bytes.len(), file.entry.len)));
    }
    for (number, have) in bytes.chunks(file.entry.page_size as usize).enumerate() {
        let number = number as u64;
        let want = file.page(number);
        if file.in_use(number) && have != want {
            let why = describe(file.entry.kind, have, &want);
            return Ok(Some(Difference { path: path.into(), page: Some(number), why }));
        }
    }
    Ok(None)
}

fn describe(kind: FileKind, have: &[u8], want: &[u8]) -> String {
    let at = have.iter().zip(want).take_while(|(a, b)| a == b).count();
    match kind {
        FileKind::Paged => {
            format!("LSN {} instead of {}, first other byte {at}", page::lsn(have), page::lsn(want))
        }
        FileKind::Plain => format!("first other byte {at}"),
    }
}
