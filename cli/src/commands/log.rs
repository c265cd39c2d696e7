//! `setpiece log`: capture redo as it is written, and bring archived redo back as files.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use setpiece::Result;
use setpiece::backup::log::StreamOptions;
use setpiece::format::Compression;

use crate::console::{Answer, Console};
use crate::options::{Moment, RepoOptions, SourceOption};
use crate::text;

mod get;

/// Work on redo.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Stream(CaptureOptions),
    Get(GetOptions),
}

/// Capture redo as it is written, until interrupted. Every transaction captured can be recovered to. A SQLite database
/// must have a write-ahead log (PRAGMA journal_mode = WAL).
#[derive(Debug, Args)]
struct CaptureOptions {
    #[command(flatten)]
    repo: RepoOptions,
    #[command(flatten)]
    source: SourceOption,
    /// Stop when nothing was written for so long.
    #[arg(long, value_name = "SECONDS")]
    stop_when_idle: Option<u64>,
    /// none, fast, or a level of zstd from 1 to 19.
    #[arg(long, default_value = "1")]
    compress: Compression,
}

/// Write archived redo into a directory, one file for each unit.
#[derive(Debug, Args)]
struct GetOptions {
    #[command(flatten)]
    repo: RepoOptions,
    /// The directory; made if it is missing. Files that are there already are never overwritten.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The source: its name or identifier as `setpiece sets` prints it, or the URL of the database [default: the only
    /// one].
    #[arg(long, value_name = "NAME|ID|URL")]
    source: Option<String>,
    /// Only redo of this branch [default: all].
    #[arg(long, value_name = "BRANCH")]
    branch: Option<u64>,
    /// Only redo behind this LSN.
    #[arg(long, value_name = "LSN")]
    from_lsn: Option<u64>,
    /// Only redo up to this LSN.
    #[arg(long, value_name = "LSN")]
    until_lsn: Option<u64>,
    /// Only redo with commits from this moment on.
    #[arg(long, value_name = "TIME")]
    from_time: Option<Moment>,
    /// Only redo with commits up to this moment.
    #[arg(long, value_name = "TIME")]
    until_time: Option<Moment>,
}

#[derive(Serialize)]
struct StreamDocument {
    units: u64,
    raw_bytes: u64,
    stored_bytes: u64,
    upto_lsn: u64,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Answer> {
    match options.verb {
        Verb::Stream(options) => stream(&options, console),
        Verb::Get(options) => get::run(&options, console),
    }
}

fn stream(options: &CaptureOptions, console: &Console) -> Result<Answer> {
    let setpiece = options.repo.open(console)?;
    let source = options.source.open()?;
    let mut wanted = StreamOptions::default();
    wanted.stop_when_idle = options.stop_when_idle.map(Duration::from_secs);
    wanted.compression = options.compress;
    let report = setpiece.log_stream(&*source, &wanted)?;
    let document = StreamDocument {
        units: report.units,
        raw_bytes: report.raw_bytes,
        stored_bytes: report.stored_bytes,
        upto_lsn: report.upto.0,
    };
    let text = format!(
        "{} of redo captured, {}, stored in {}; durable up to LSN {}\n",
        text::count(report.units, "unit"),
        text::bytes(report.raw_bytes),
        text::bytes(report.stored_bytes),
        report.upto
    );
    Answer::new(&document, text)
}
