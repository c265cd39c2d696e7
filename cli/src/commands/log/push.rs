//! `setpiece log push` and `setpiece log get NAME DEST`: what a server calls to archive its log, and to get it back.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use setpiece::backup::archive::Archived;
use setpiece::format::Compression;
use setpiece::source::{Direction, LogFile, LogHome, Spool};
use setpiece::{Error, Result};

use super::ahead::{self, SpoolOptions};
use crate::console::{Answer, Console};
use crate::options::RepoOptions;
use crate::text;

/// Store one file of a server's log: PostgreSQL's archive_command is `setpiece log push --repo URL %p`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    repo: RepoOptions,
    /// The file: a segment of the log, or the history of a timeline.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The database's directory; archive commands are run in it.
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_dir: PathBuf,
    /// none, fast, or a level of zstd from 1 to 19.
    #[arg(long, default_value = "1")]
    compress: Compression,
    /// Leave the work to a process in the background, which stores what the server has ready ahead of it, and say done
    /// when it has.
    #[arg(long = "async", requires = "spool")]
    ahead: bool,
    #[command(flatten)]
    spool: SpoolOptions,
    /// With --async: files that are stored at a time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// With --async: how long to wait for a file to be stored.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

#[derive(Serialize)]
struct AheadDocument {
    files: usize,
}

#[derive(Serialize)]
struct PushDocument {
    file: PathBuf,
    outcome: &'static str,
    stored_bytes: u64,
}

#[derive(Serialize)]
struct FetchDocument {
    name: String,
    to: PathBuf,
    bytes: u64,
}

pub(super) fn run(options: &Options, console: &Console) -> Result<Answer> {
    let home = LogHome::open(&options.data_dir)?;
    // Without the server's mark the process in the background would not find the file.
    if options.ahead && (options.spool.background || Spool::is_ready(&home, &options.file)) {
        let spool = options.spool.open(&home, &options.repo)?;
        if options.spool.background {
            return background(options, &home, &spool, console);
        }
        ahead::wait_for(&spool, &options.file, Duration::from_secs(options.timeout), console)?;
        return answer(options, "stored", 0);
    }
    let (outcome, stored_bytes) = match home.file(&options.file)? {
        LogFile::Needless => ("needless", 0),
        LogFile::Keep(info, unit) => {
            let setpiece = options.repo.open(console)?;
            match setpiece.log_push(&info, &unit, options.compress)? {
                Archived::Stored(bytes) => ("stored", bytes),
                Archived::Already => ("already there", 0),
            }
        }
    };
    answer(options, outcome, stored_bytes)
}

fn answer(options: &Options, outcome: &'static str, stored_bytes: u64) -> Result<Answer> {
    let size = if stored_bytes > 0 { format!(", {}", text::bytes(stored_bytes)) } else { String::new() };
    let text = format!("{}: {outcome}{size}\n", options.file.display());
    Answer::new(&PushDocument { file: options.file.clone(), outcome, stored_bytes }, text)
}

/// Nobody sees what this process says, so what keeps it from its work is left as a note.
fn background(options: &Options, home: &LogHome, spool: &Spool, console: &Console) -> Result<Answer> {
    let opened = options.repo.open(console);
    let how = (usize::from(options.jobs), options.compress);
    let pushed = opened.and_then(|setpiece| ahead::push(spool, home, &setpiece, how, console));
    let files = pushed.inspect_err(|error| spool.give_up(error))?;
    Answer::new(&AheadDocument { files }, String::new())
}

/// What a restore command asks for.
pub(super) struct Wanted<'a> {
    pub repo: &'a RepoOptions,
    pub data_dir: &'a Path,
    pub name: &'a str,
    pub dest: &'a Path,
    pub prefetch: Option<u8>,
    pub spool: &'a SpoolOptions,
}

pub(super) fn fetch(wanted: &Wanted<'_>, console: &Console) -> Result<Answer> {
    let (name, dest) = (wanted.name, wanted.dest);
    let home = LogHome::open(wanted.data_dir)?;
    let Some(count) = wanted.prefetch else {
        let bytes = wanted.repo.open(console)?.log_fetch(home.source(), name)?;
        write(dest, &bytes)?;
        return fetched(name, dest, bytes.len() as u64);
    };
    let spool = wanted.spool.open(&home, wanted.repo)?;
    if wanted.spool.background {
        let setpiece = wanted.repo.open(console)?;
        let one = |name: &str| {
            console.cancel.check()?;
            setpiece.log_fetch(home.source(), name)
        };
        let files = spool.get_ahead(&home, name, usize::from(count), &one)?;
        return Answer::new(&AheadDocument { files }, String::new());
    }
    if !spool.take(&home, name, dest)? {
        let bytes = wanted.repo.open(console)?.log_fetch(home.source(), name)?;
        write(dest, &bytes)?;
    }
    if !spool.is_busy(Direction::Get) {
        ahead::begin()?;
    }
    let bytes = fs::metadata(dest).map_err(|error| Error::io(dest.display().to_string(), error))?.len();
    fetched(name, dest, bytes)
}

fn fetched(name: &str, dest: &Path, bytes: u64) -> Result<Answer> {
    let text = format!("{name} written to {}\n", dest.display());
    Answer::new(&FetchDocument { name: name.to_owned(), to: dest.to_owned(), bytes }, text)
}

/// The server uses the file as soon as this command ends well, so it must be whole. What was there is of no use to it.
fn write(dest: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |error| Error::io(dest.display().to_string(), error);
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(dest);
    let written = file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| {
        // Half a file must not be taken for a whole one.
        drop(fs::remove_file(dest));
        failed(error)
    })
}
