//! Redo that lies in a directory, taken into the repository; what is durable there may then be deleted.
//!
//! A file is deleted only when the medium has just said that its unit is there, and when the file is still the one that
//! was read.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::archive::{Archived, archive};
use crate::catalog::named::set_of;
use crate::catalog::{Catalog, Surroundings, pieces};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::Compression;
use crate::media::layout::SetObject;
use crate::media::repository::Repository;
use crate::model::{LogGap, LogUnit, SourceId};
use crate::source::{CapturedUnit, LogShelf, OnShelf, ShelfFile};

/// A file that was changed within this time may still be being written.
const FRESH: Duration = Duration::from_secs(60);

/// What becomes of files whose redo is durable in the repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Afterwards {
    /// They stay.
    #[default]
    Keep,
    /// They are deleted.
    Delete,
    /// They are deleted when they are as old as that.
    DeleteOlder(Duration),
}

/// What was found in a directory and what was done with it.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SweepReport {
    /// Files that were stored.
    pub stored: Vec<PathBuf>,
    /// Files that were in the repository already.
    pub present: Vec<PathBuf>,
    /// Bytes on the medium.
    pub stored_bytes: u64,
    /// Files that were deleted.
    pub deleted: Vec<PathBuf>,
    /// Files that nothing was done with, and why.
    pub passed: Vec<(PathBuf, String)>,
    /// Files that were refused. The redo in them is not in the repository.
    pub refused: Vec<(PathBuf, Error)>,
    /// Redo that is missing, as far as the directory and the repository tell.
    pub gaps: Vec<LogGap>,
}

/// Stores the redo of a directory, and deletes files as `afterwards` says.
///
/// # Errors
/// Whatever the directory or the medium fails with; what was stored before stays. Files that cannot be taken are in the
/// report.
pub fn sweep(
    repository: &Repository,
    shelf: &dyn LogShelf,
    compression: Compression,
    afterwards: Afterwards,
    around: Surroundings<'_>,
) -> Result<SweepReport> {
    if shelf.is_live() && afterwards != Afterwards::Keep {
        return Err(Error::new(ErrorKind::Usage, "the server removes files of its own log directory itself")
            .remedy("name the directory that archived files were copied to, or delete nothing"));
    }
    let mut sweep = Sweep { repository, shelf, compression, afterwards, around, report: SweepReport::default() };
    let mut units = Vec::new();
    for file in shelf.files()? {
        around.cancel.check()?;
        units.extend(sweep.file(file)?);
    }
    sweep.report.gaps = gaps(repository, shelf.info().id, units, around)?;
    Ok(sweep.report)
}

struct Sweep<'a> {
    repository: &'a Repository,
    shelf: &'a dyn LogShelf,
    compression: Compression,
    afterwards: Afterwards,
    around: Surroundings<'a>,
    report: SweepReport,
}

impl Sweep<'_> {
    fn file(&mut self, file: ShelfFile) -> Result<Option<LogUnit>> {
        let path = file.path;
        if let OnShelf::Passed(why) = file.what {
            self.report.passed.push((path, why));
            return Ok(None);
        }
        let about = match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            about => about.map_err(|error| Error::io(path.display().to_string(), error))?,
        };
        let captured = match self.shelf.read(&path) {
            Ok(captured) => captured,
            Err(error) if matches!(error.kind(), ErrorKind::Source | ErrorKind::Damaged) && age(&about) < FRESH => {
                self.report.passed.push((path, format!("is taken another time if it is being written now: {error}")));
                return Ok(None);
            }
            Err(error) => {
                self.report.refused.push((path, error));
                return Ok(None);
            }
        };
        let info = self.shelf.info();
        match archive(self.repository, info, &captured, self.compression, self.around) {
            Ok(Archived::Stored(bytes)) => {
                self.report.stored.push(path.clone());
                self.report.stored_bytes += bytes;
            }
            Ok(Archived::Already) => self.report.present.push(path.clone()),
            Err(error) if error.kind() == ErrorKind::Exists => {
                self.report.refused.push((path, error));
                return Ok(None);
            }
            Err(error) => return Err(error.doing(format!("storing {}", path.display()))),
        }
        if file.what == OnShelf::Unit {
            self.afterwards(&path, &about, &captured)?;
        }
        Ok(Some(LogUnit { changes: None, ..captured.unit }))
    }

    fn afterwards(&mut self, path: &Path, about: &Metadata, captured: &CapturedUnit) -> Result<()> {
        let wanted = match self.afterwards {
            Afterwards::Keep => false,
            Afterwards::Delete => true,
            Afterwards::DeleteOlder(limit) => age(about) >= limit,
        };
        if !wanted {
            return Ok(());
        }
        let failed = |error| Error::io(path.display().to_string(), error);
        let same = |now: &Metadata| now.len() == about.len() && now.modified().ok() == about.modified().ok();
        if !fs::metadata(path).is_ok_and(|now| same(&now)) {
            self.report.passed.push((path.to_owned(), "was changed while it was stored, and stays".into()));
            return Ok(());
        }
        self.insist_on(captured).doing(|| format!("making sure that {} may be deleted", path.display()))?;
        fs::remove_file(path).map_err(failed)?;
        self.report.deleted.push(path.to_owned());
        Ok(())
    }

    /// Looks once more whether all objects of a unit's set are on the medium.
    fn insist_on(&self, captured: &CapturedUnit) -> Result<()> {
        let name = captured.unit.name.as_deref().unwrap_or_default();
        let set = set_of(self.shelf.info().id, name, &captured.bytes);
        let objects = self.repository.set_objects(set)?;
        let whole = if self.repository.vault().can_read() {
            pieces::missing(&self.repository.open_set(set)?.meta, &objects).is_empty()
        } else {
            let piece = |object: &SetObject| matches!(object, SetObject::Piece(_));
            objects.meta.is_some() && objects.objects.iter().any(|(object, info)| piece(object) && info.len > 0)
        };
        if whole {
            return Ok(());
        }
        Err(Error::damaged(format!("set {set}"), "its redo is not all on the medium any more")
            .remedy("remove the set and sweep again: the file is still there"))
    }
}

/// How long ago a file was changed; by a clock that was put back, not at all.
fn age(about: &Metadata) -> Duration {
    about.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok()).unwrap_or_default()
}

/// What is missing between the units of a directory and what is on record before and between them. Without a key only
/// the directory tells.
fn gaps(
    repository: &Repository,
    source: SourceId,
    found: Vec<LogUnit>,
    around: Surroundings<'_>,
) -> Result<Vec<LogGap>> {
    let first: BTreeSet<_> = found.iter().map(|unit| (unit.branch, unit.seq)).collect();
    let mut units: Vec<LogUnit> = found;
    if repository.vault().can_read() {
        let catalog = Catalog::load(repository, around.cache)?;
        let captured = catalog.of_source(source).filter(|record| record.captured && record.missing.is_empty());
        units.extend(captured.flat_map(|record| record.log.iter().cloned()));
    }
    units.retain(|unit| !unit.span.is_empty());
    // The longest of those that begin alike says all that the others say.
    units.sort_by_key(|unit| (unit.branch, unit.seq, std::cmp::Reverse(unit.span.upto)));
    units.dedup_by_key(|unit| (unit.branch, unit.seq));
    let pairs = units.windows(2).filter(|pair| pair[0].branch == pair[1].branch);
    let near = pairs.filter(|pair| {
        first.contains(&(pair[0].branch, pair[0].seq)) || first.contains(&(pair[1].branch, pair[1].seq))
    });
    Ok(near.filter_map(|pair| pair[1].follows(&pair[0]).err()).collect())
}
