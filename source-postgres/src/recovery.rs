//! Getting a restored directory ready: the server itself applies the redo when it is started.
//!
//! The redo that the plan chose is laid into the log directory, the recovery settings say where to stop, and the histories
//! of timelines tell the server which way to go and which numbers are taken.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::time::SystemTime;

use setpiece_core::model::{BranchHistory, BranchId, FileEntry, LogUnit, Lsn, SourceId, Until};
use setpiece_core::source::{LogFeed, OpenRequest, PageState, RecoverRequest, Recovered, Recovery, Reuse};
use setpiece_core::{Error, ErrorKind, Result};

use crate::control::Control;
use crate::dialect::Dialect;
use crate::history::{history_name, history_text};
use crate::manifest::{self, WalRange};
use crate::page;
use crate::segments::written;
use crate::settings;
use crate::wal;

/// Directories that every cluster has and whose content is not backed up.
const EMPTIED: [&str; 16] = [
    "wal",
    "wal/archive_status",
    "wal/summaries",
    "replslot",
    "dynshmem",
    "notify",
    "serial",
    "snapshots",
    "stat_tmp",
    "subtrans",
    "tblspc",
    "twophase",
    "commit_ts",
    "stat",
    "logical/snapshots",
    "logical/mappings",
];

/// Makes restored clusters of one dialect ready.
pub struct PostgresRecovery(pub Dialect);

impl Recovery for PostgresRecovery {
    fn engine(&self) -> &str {
        self.0.engine()
    }

    fn recover(&self, request: &RecoverRequest<'_>, log: &mut dyn LogFeed) -> Result<Recovered> {
        let directory = request.directory;
        self.make_directories(directory, request.files)?;
        self.link_tablespaces(request)?;
        let wal = directory.join(self.0.name("wal"));
        let (mut redo_ends, mut laid) = (Lsn(0), BTreeMap::<String, Lsn>::new());
        let mut range = wal_range(request);
        while let Some((unit, bytes)) = log.next()? {
            let name = unit.whole().or(unit.name.as_deref()).filter(|name| settings::is_plain_name(name));
            let name = name.ok_or_else(|| {
                Error::damaged(format!("redo unit {} of branch {}", unit.seq, unit.branch), "it has no segment's name")
            })?;
            let bytes = if unit.whole().is_some() { filled_up(bytes)? } else { bytes };
            if let Some(range) = range.as_mut().filter(|range| is_record(range) && unit.span.after <= range.start) {
                range.end = manifest::record_end(&bytes, range.start).unwrap_or(range.end);
            }
            redo_ends = redo_ends.max(ends_at(&unit, &bytes)?);
            // A segment that was still growing when it was stored comes before the whole one of the same name.
            let upto = laid.entry(name.to_owned()).or_default();
            if unit.span.upto > *upto {
                *upto = unit.span.upto;
                write(&wal.join(name), &bytes)?;
            }
        }
        // The server takes the first number behind its own timeline's of which it finds no history.
        let mut known: BTreeMap<BranchId, BranchHistory> =
            request.histories.iter().map(|history| (history.current, history.clone())).collect();
        known.extend(histories(request.branch).into_iter().map(|history| (history.current, history)));
        for history in known.into_values() {
            if let Some(text) = history_text(&history) {
                let timeline = u32::try_from(history.current.0)
                    .map_err(|_| Error::damaged(format!("branch {}", history.current), "is no timeline"))?;
                write(&wal.join(history_name(timeline)), text.as_bytes())?;
            }
        }
        settings::write(self.0, directory, request, redo_ends)?;
        manifest::write(self.0, request, range, SystemTime::now())?;
        Ok(Recovered { lsn: stops_at(request), time: None, branch: None })
    }

    fn tablespace_alone(&self) -> Result<()> {
        let text = "a tablespace or a database alone is no use: the server recovers a cluster as a whole";
        Err(Error::new(ErrorKind::Unsupported, text)
            .remedy("restore the cluster into a new directory, start it, and take out with pg_dump what is needed"))
    }

    fn wants_checksums(&self) -> bool {
        self.0 == Dialect::Postgresql
    }

    fn reuse(&self, directory: &Path, source: SourceId, unfinished: bool) -> Result<Reuse> {
        crate::reuse::reuse(directory, self.0, source, unfinished)
    }

    fn stops_at(&self, _until: &Until) -> bool {
        true
    }

    fn locate(&self, until: &Until, log: &mut dyn LogFeed) -> Result<Vec<(BranchId, Lsn)>> {
        crate::locate::locate(until, log)
    }

    fn open(&self, directory: &Path, how: &OpenRequest<'_>) -> Result<()> {
        crate::open::open(directory, self.0, how)
    }

    fn inspect(&self, file: &FileEntry, page: u64, bytes: &[u8]) -> PageState {
        page::judge_stored(file, page, bytes)
    }
}

impl PostgresRecovery {
    fn make_directories(&self, directory: &Path, files: &[FileEntry]) -> Result<()> {
        for name in EMPTIED {
            make_directory(&directory.join(self.0.name(name)))?;
        }
        if !files.iter().any(|file| file.path.as_str() == self.0.version_file()) {
            return Err(Error::damaged(directory.display().to_string(), "the set holds no data directory"));
        }
        Ok(())
    }

    /// Makes the links to tablespaces, and rewrites the map from which the server would make them itself.
    fn link_tablespaces(&self, request: &RecoverRequest<'_>) -> Result<()> {
        let mut map = String::new();
        for (tablespace, place) in request.tablespaces {
            let link = request.directory.join(self.0.name("tblspc")).join(tablespace.id.0.to_string());
            symlink(place, &link).map_err(|error| Error::io(link.display().to_string(), error))?;
            self.make_tablespace(request, place)?;
            let place = place.to_string_lossy().replace('\\', "\\\\").replace('\n', "\\\n");
            map += &format!("{} {place}\n", tablespace.id.0);
        }
        let path = request.directory.join("tablespace_map");
        if path.exists() {
            fs::write(&path, map).map_err(|error| Error::io(path.display().to_string(), error))?;
        }
        Ok(())
    }

    /// The directory of a tablespace and in it that of the server's version, which may hold no file yet.
    fn make_tablespace(&self, request: &RecoverRequest<'_>, place: &Path) -> Result<()> {
        let now = place
            .strip_prefix(request.published)
            .map_or_else(|_| place.to_owned(), |rest| request.directory.join(rest));
        let control = request.carried.iter().find(|file| file.path.as_str() == self.0.control_file());
        let version = fs::read_to_string(request.directory.join(self.0.version_file())).unwrap_or_default();
        let Some(control) = control else { return make_directory(&now) };
        let catalog = Control::decode(&control.bytes)?.catalog_version;
        make_directory(&now.join(self.0.tablespace_directory(&version, catalog)))
    }
}

/// The redo that the set needs.
fn wal_range(request: &RecoverRequest<'_>) -> Option<WalRange> {
    let node = request.from.first()?;
    let forked = request.branch.points.iter().find(|point| node.end_lsn <= point.fork);
    let timeline = forked.map_or(request.branch.current, |point| point.parent).0;
    Some(WalRange { timeline, start: node.begin_lsn, end: node.end_lsn })
}

/// Whether a range stands for the record at its begin, as that of a server that was shut down does for its checkpoint.
fn is_record(range: &WalRange) -> bool {
    range.end.0 == range.start.0.saturating_add(1)
}

/// A history and those of the timelines it came from.
fn histories(of: &BranchHistory) -> Vec<BranchHistory> {
    let before = (0..of.points.len()).map(|points| {
        let kept = of.points[..points].to_vec();
        BranchHistory { current: of.points[points].parent, points: kept }
    });
    before.chain([of.clone()]).collect()
}

/// As far as the redo goes that the server is given, or the LSN that was asked for.
fn stops_at(request: &RecoverRequest<'_>) -> Lsn {
    match request.target.until {
        Until::SetEnd => request.consistent_from,
        Until::Lsn(lsn) => lsn.min(request.complete_upto),
        _ => request.complete_upto,
    }
}

/// Where the last record of a unit ends that the server can read. A segment that was stored while it was being written may
/// end within a record.
fn ends_at(unit: &LogUnit, bytes: &[u8]) -> Result<Lsn> {
    match unit.whole() {
        None => Ok(unit.span.upto),
        Some(_) => Ok(Lsn(unit.span.after.0.saturating_add(written(bytes)? as u64))),
    }
}

/// The beginning of a segment as the server reads it: with zeros up to its end, where the log is over for it.
fn filled_up(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let size = wal::describe(&bytes)?.size.bytes();
    if bytes.len() as u64 > size {
        return Err(Error::damaged("the beginning of a segment", format!("has more than {size} bytes")));
    }
    bytes.resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
    Ok(bytes)
}

fn make_directory(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(|error| Error::io(path.display().to_string(), error))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| {
        Error::new(ErrorKind::Io, "could not be written").on(path.display().to_string()).because(error)
    })
}
