//! `setpiece log push` and `setpiece log get NAME DEST`: what a server calls to archive its log, and to get it back.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use setpiece::backup::archive::Archived;
use setpiece::format::Compression;
use setpiece::source::{LogFile, LogHome};
use setpiece::{Error, Result};

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
    let text = format!("{}: {outcome}, {}\n", options.file.display(), text::bytes(stored_bytes));
    Answer::new(&PushDocument { file: options.file.clone(), outcome, stored_bytes }, text)
}

pub(super) fn fetch(repo: &RepoOptions, data_dir: &Path, name: &str, dest: &Path, console: &Console) -> Result<Answer> {
    let home = LogHome::open(data_dir)?;
    let bytes = repo.open(console)?.log_fetch(home.source(), name)?;
    write(dest, &bytes)?;
    let text = format!("{name} written to {}\n", dest.display());
    Answer::new(&FetchDocument { name: name.to_owned(), to: dest.to_owned(), bytes: bytes.len() as u64 }, text)
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
