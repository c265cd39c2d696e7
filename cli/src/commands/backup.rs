//! `setpiece backup`: take a backup of a running database.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;
use setpiece::Result;
use setpiece::backup::{BackupOptions, BackupReport, OnBadPage};
use setpiece::format::Compression;
use setpiece::model::{Level, Scope};

use crate::console::{Answer, Console};
use crate::documents::SetDocument;
use crate::options::{RepoOptions, Size, SourceOption};
use crate::text;

/// Take a backup of a database.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    repo: RepoOptions,
    #[command(flatten)]
    source: SourceOption,
    /// full; differential: what changed since the nearest set of any level; or cumulative: since the nearest full set
    /// (what others call differential).
    #[arg(long, default_value = "full")]
    level: Level,
    /// database or tablespace:NAME; table:NAME is not for any engine yet. Redo is backed up by `setpiece log`.
    #[arg(long, default_value = "database")]
    scope: Scope,
    /// What to call the set [default: made of source, level and time].
    #[arg(long)]
    name: Option<String>,
    /// Build on this set instead of the nearest that fits.
    #[arg(long, value_name = "SET")]
    base: Option<String>,
    /// Leave the redo out: the set then needs archived log to be of use.
    #[arg(long)]
    without_log: bool,
    /// Streams in parallel.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=255))]
    channels: u16,
    /// none, fast, or a level of zstd from 1 to 19.
    #[arg(long, default_value = "1")]
    compress: Compression,
    /// The largest piece, at least 16MiB.
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    max_piece_size: Size,
    /// What to do about a damaged page of the database.
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    on_bad_page: BadPages,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BadPages {
    /// Give up.
    Fail,
    /// Store it as it is, and mark the set.
    Warn,
}

#[derive(Serialize)]
struct Document {
    set: SetDocument,
    decisions: Vec<String>,
    pieces: u32,
    pages: u64,
    read_bytes: u64,
    raw_bytes: u64,
    stored_bytes: u64,
    bad_pages: Vec<BadPageDocument>,
    seconds: f64,
}

#[derive(Serialize)]
struct BadPageDocument {
    file: u64,
    path: String,
    page: u64,
    fault: String,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Answer> {
    let setpiece = options.repo.open(console)?;
    let source = options.source.open()?;
    let mut wanted = BackupOptions::default();
    if let Some(base) = &options.base {
        wanted.base = Some(setpiece.catalog()?.find_of(source.info()?.id, base)?.summary.id);
    }
    wanted.level = options.level;
    wanted.scope = options.scope;
    wanted.name = options.name;
    wanted.without_log = options.without_log;
    wanted.channels = options.channels;
    wanted.compression = options.compress;
    wanted.max_piece_size = options.max_piece_size.0;
    wanted.on_bad_page = match options.on_bad_page {
        BadPages::Fail => OnBadPage::Fail,
        BadPages::Warn => OnBadPage::Warn,
    };
    let began = Instant::now();
    let report = setpiece.backup(&*source, &wanted)?;
    answer(&report, began.elapsed())
}

fn answer(report: &BackupReport, took: Duration) -> Result<Answer> {
    let bad = report.bad_pages.iter();
    let document = Document {
        set: (&report.summary).into(),
        decisions: report.decisions.clone(),
        pieces: report.pieces,
        pages: report.pages,
        read_bytes: report.read_bytes,
        raw_bytes: report.raw_bytes,
        stored_bytes: report.stored_bytes,
        bad_pages: bad
            .map(|bad| BadPageDocument {
                file: bad.file.0,
                path: bad.path.to_string(),
                page: bad.page,
                fault: bad.fault.clone(),
            })
            .collect(),
        seconds: took.as_secs_f64(),
    };
    Answer::new(&document, in_words(report, took))
}

fn in_words(report: &BackupReport, took: Duration) -> String {
    let set = &report.summary;
    let mut text = format!("set {} ({})\n", set.name, text::short(set.id));
    for decision in &report.decisions {
        text += &format!("  {decision}\n");
    }
    text += &format!(
        "  {} read; {} taken, {} with redo; {} stored in {}\n",
        text::bytes(report.read_bytes),
        text::count(report.pages, "page"),
        text::bytes(report.raw_bytes),
        text::bytes(report.stored_bytes),
        text::count(report.pieces.into(), "piece"),
    );
    text += &format!(
        "  consistent from LSN {} on, branch {}; {}\n",
        set.bak_end_lsn,
        set.branch.current,
        text::seconds(took)
    );
    for bad in &report.bad_pages {
        text += &format!("  bad page {} of {}: {}\n", bad.page, bad.path, bad.fault);
    }
    text
}
