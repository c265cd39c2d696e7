//! Getting a restored directory ready: the server itself applies the redo when it is started.
//!
//! The redo that the plan chose is laid into the log directory, the recovery settings say where to stop, and the histories
//! of timelines tell the server which way to go and which numbers are taken.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

use setpiece_core::model::{BranchHistory, FileEntry, LogUnit, Lsn, Until};
use setpiece_core::source::{LogFeed, OpenRequest, PageState, RecoverRequest, Recovered, Recovery};
use setpiece_core::{Error, ErrorKind, Result};

use crate::dialect::Dialect;
use crate::page;
use crate::segments::{history_name, history_text, written};
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
        let log_directory = directory.join(self.0.name("wal"));
        let mut redo_ends = Lsn(0);
        while let Some((unit, bytes)) = log.next()? {
            let name = unit.whole().or(unit.name.as_deref()).filter(|name| settings::is_plain_name(name));
            let name = name.ok_or_else(|| {
                Error::damaged(format!("redo unit {} of branch {}", unit.seq, unit.branch), "it has no segment's name")
            })?;
            let bytes = if unit.whole().is_some() { filled_up(bytes)? } else { bytes };
            redo_ends = redo_ends.max(ends_at(&unit, &bytes)?);
            write_new(&log_directory.join(name), &bytes)?;
        }
        for history in histories(request.branch) {
            if let Some(text) = history_text(&history) {
                let timeline = u32::try_from(history.current.0)
                    .map_err(|_| Error::damaged(format!("branch {}", history.current), "is no timeline"))?;
                write_new(&log_directory.join(history_name(timeline)), text.as_bytes())?;
            }
        }
        settings::write(directory, request, redo_ends)?;
        Ok(Recovered { lsn: stops_at(request), time: None, branch: None })
    }

    fn stops_at(&self, _until: &Until) -> bool {
        true
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
            let place = place.to_string_lossy().replace('\\', "\\\\").replace('\n', "\\\n");
            map += &format!("{} {place}\n", tablespace.id.0);
        }
        let path = request.directory.join("tablespace_map");
        if path.exists() {
            fs::write(&path, map).map_err(|error| Error::io(path.display().to_string(), error))?;
        }
        Ok(())
    }
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

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| {
        Error::new(ErrorKind::Io, "could not be written").on(path.display().to_string()).because(error)
    })
}
