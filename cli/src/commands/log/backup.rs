//! `setpiece log backup`: takes the redo of a directory into the repository, and deletes there what is durable.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use setpiece::backup::sweep::{Afterwards, SweepReport};
use setpiece::format::Compression;
use setpiece::{ErrorKind, Result};

use crate::console::{Answer, Console};
use crate::documents::GapDocument;
use crate::options::{self, RepoOptions, SourceOption};
use crate::text;

const SECONDS_A_DAY: u64 = 86_400;

/// Store the redo that a server, or a command of its, has put into a directory. Without --delete nothing is deleted.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    repo: RepoOptions,
    #[command(flatten)]
    source: SourceOption,
    /// The directory that archived files were copied to [default: the server's own log directory].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Delete files once their redo is durable in the repository.
    #[arg(long, requires = "dir")]
    delete: bool,
    /// With --delete: only files that are older than so many days.
    #[arg(long, value_name = "DAYS", requires = "delete")]
    keep_days: Option<u32>,
    /// none, fast, or a level of zstd from 1 to 19.
    #[arg(long, default_value = "1")]
    compress: Compression,
}

#[derive(Serialize)]
struct Document {
    stored: Vec<PathBuf>,
    present: Vec<PathBuf>,
    stored_bytes: u64,
    deleted: Vec<PathBuf>,
    passed: Vec<NoteDocument>,
    refused: Vec<NoteDocument>,
    gaps: Vec<GapDocument>,
}

#[derive(Serialize)]
struct NoteDocument {
    file: PathBuf,
    why: String,
}

pub(super) fn run(options: &Options, console: &Console) -> Result<Answer> {
    let setpiece = options.repo.open(console)?;
    let dir = options.dir.as_ref().map(std::path::absolute).transpose();
    let dir = dir.map_err(|error| setpiece::Error::io("the directory", error))?;
    if let Some(dir) = &dir {
        setpiece.refuse_inside(dir)?;
    }
    let shelf = setpiece::source::log_home(&options::url(&options.source.source)?, dir.as_deref())?;
    let afterwards = match (options.delete, options.keep_days) {
        (false, _) => Afterwards::Keep,
        (true, None) => Afterwards::Delete,
        (true, Some(days)) => Afterwards::DeleteOlder(Duration::from_secs(u64::from(days) * SECONDS_A_DAY)),
    };
    let report = setpiece.log_backup(&shelf, options.compress, afterwards)?;
    answer(report, console)
}

fn answer(report: SweepReport, console: &Console) -> Result<Answer> {
    let files = |count: usize| text::count(count as u64, "file");
    let mut told = format!(
        "{} stored, {}; {} there already; {} deleted\n",
        files(report.stored.len()),
        text::bytes(report.stored_bytes),
        files(report.present.len()),
        files(report.deleted.len())
    );
    for (file, why) in &report.passed {
        told += &format!("not taken: {} {why}\n", file.display());
    }
    for (file, error) in &report.refused {
        told += &format!("refused: {}: {error}\n", file.display());
    }
    for gap in &report.gaps {
        console.warn(&format!("{gap}: neither the directory nor the repository has it"));
    }
    // Redo that is not in the repository though it was there: the caller must not take that for done.
    let worst = report.refused.iter().map(|(_, error)| error.kind()).max_by_key(|kind| kind.exit_code());
    let code = worst.map_or(0, ErrorKind::exit_code);
    let note = |(file, why): (PathBuf, String)| NoteDocument { file, why };
    let document = Document {
        stored: report.stored,
        present: report.present,
        stored_bytes: report.stored_bytes,
        deleted: report.deleted,
        passed: report.passed.into_iter().map(note).collect(),
        refused: report.refused.into_iter().map(|(file, error)| note((file, error.to_string()))).collect(),
        gaps: report.gaps.into_iter().map(Into::into).collect(),
    };
    Ok(Answer::new(&document, told)?.exit(code))
}
