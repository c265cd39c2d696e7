//! `setpiece log`: capture redo as it is written, and bring archived redo back as files.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use setpiece::backup::log;
use setpiece::format::Compression;
use setpiece::source::CaptureOptions;
use setpiece::{Error, ErrorKind, Result};

use crate::console::{Answer, Console};
use crate::options::{Moment, RepoOptions, SourceOption};
use crate::text;

mod ahead;
mod backup;
mod get;
mod push;

/// Work on redo.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Stream(StreamOptions),
    Push(push::Options),
    Backup(backup::Options),
    Get(GetOptions),
}

/// Capture redo as it is written, until interrupted. Every transaction captured can be recovered to. A SQLite database
/// must have a write-ahead log (PRAGMA journal_mode = WAL); the log of a PostgreSQL server comes over a replication
/// connection, and the server keeps it in a slot until it is stored.
#[derive(Debug, Args)]
struct StreamOptions {
    #[command(flatten)]
    repo: RepoOptions,
    #[command(flatten)]
    source: SourceOption,
    /// Stop when nothing was written for so long.
    #[arg(long, value_name = "SECONDS")]
    stop_when_idle: Option<u64>,
    /// Servers: the replication slot, made if it is missing [default: setpiece].
    #[arg(long, value_name = "NAME")]
    slot: Option<String>,
    /// Servers: how long redo may wait for its segment to be whole before what there is of it is stored; 0 stores whole
    /// segments only [default: 5].
    #[arg(long, value_name = "SECONDS")]
    max_delay: Option<u64>,
    /// none, fast, or a level of zstd from 1 to 19.
    #[arg(long, default_value = "1")]
    compress: Compression,
}

/// Write archived redo into files: one unit by its name, as a restore command asks for it, or a range into a directory.
#[derive(Debug, Args)]
struct GetOptions {
    #[command(flatten)]
    repo: RepoOptions,
    /// The unit's name, such as %f in PostgreSQL's restore_command.
    #[arg(value_name = "NAME", requires = "dest", conflicts_with = "to")]
    name: Option<String>,
    /// The file to write, such as %p in PostgreSQL's restore_command.
    #[arg(value_name = "DEST")]
    dest: Option<PathBuf>,
    /// Where the database is that asks.
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_dir: PathBuf,
    /// With NAME: fetch so many segments that follow ahead, in the background.
    #[arg(long, value_name = "N", requires_all = ["name", "spool"], value_parser = clap::value_parser!(u8).range(1..=64))]
    prefetch: Option<u8>,
    #[command(flatten)]
    spool: ahead::SpoolOptions,
    /// The directory; made if it is missing. Files that are there already are never overwritten.
    #[arg(long, value_name = "DIR", required_unless_present = "name")]
    to: Option<PathBuf>,
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
        Verb::Push(options) => push::run(&options, console),
        Verb::Backup(options) => backup::run(&options, console),
        Verb::Get(options) => match (&options.name, &options.dest, &options.to) {
            (Some(name), Some(dest), _) => push::fetch(
                &push::Wanted {
                    repo: &options.repo,
                    data_dir: &options.data_dir,
                    name,
                    dest,
                    prefetch: options.prefetch,
                    spool: &options.spool,
                },
                console,
            ),
            (_, _, Some(to)) => get::run(&options, to, console),
            _ => Err(Error::new(ErrorKind::Usage, "say what is wanted").remedy("give NAME and DEST, or --to DIR")),
        },
    }
}

impl StreamOptions {
    /// What was said about the log of a server, if anything.
    fn capture(&self) -> Option<CaptureOptions> {
        if self.slot.is_none() && self.max_delay.is_none() {
            return None;
        }
        let mut how = CaptureOptions::default();
        how.slot = self.slot.clone().unwrap_or(how.slot);
        if let Some(seconds) = self.max_delay {
            how.max_delay = (seconds > 0).then(|| Duration::from_secs(seconds));
        }
        Some(how)
    }
}

fn stream(options: &StreamOptions, console: &Console) -> Result<Answer> {
    let setpiece = options.repo.open(console)?;
    let source = match options.capture() {
        Some(how) => options.source.open_capturing(how)?,
        None => options.source.open()?,
    };
    let mut wanted = log::StreamOptions::default();
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
