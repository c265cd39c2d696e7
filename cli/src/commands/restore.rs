//! `setpiece restore`: bring a database back, to the end of the redo or to any moment before.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use setpiece::Result;
use setpiece::model::{BranchId, RecoveryTarget, Until};
use setpiece::restore::plan::Share;
use setpiece::restore::{RestorePlan, RestoreReport, RestoreRequest, Totals};
use setpiece::source::OpenRequest;

use crate::console::{Answer, Console};
use crate::documents::{Id, SetDocument, Text, Time};
use crate::options::{LsnText, Moment, RepoOptions, SourceWord};
use crate::text;

mod page;

/// Restore a database into a new directory, and recover it to the end of its redo or to a moment before.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    repo: RepoOptions,
    /// Where to: a directory that does not exist yet or is empty; with --delta also one that holds the database.
    #[arg(long, value_name = "DIR", required_unless_present = "dry_run")]
    to: Option<PathBuf>,
    /// The source: its name or identifier as `setpiece sets` prints it, or the URL of the database [default: the only
    /// one].
    #[arg(long, value_name = "NAME|ID|URL")]
    source: Option<String>,
    /// Start from this set; without a target the restore ends at the end of the set.
    #[arg(long, value_name = "SET")]
    set: Option<String>,
    /// Recover up to this LSN: a number, or two hexadecimal ones as in 0/3000028.
    #[arg(long, value_name = "LSN", group = "until")]
    until_lsn: Option<LsnText>,
    /// Recover up to this moment: RFC 3339; without an offset the time zone of this machine counts.
    #[arg(long, value_name = "TIME", group = "until")]
    until_time: Option<Moment>,
    /// Recover up to a named point.
    #[arg(long, value_name = "NAME", group = "until")]
    until_name: Option<String>,
    /// Recover up to a transaction by its number.
    #[arg(long, value_name = "XID", group = "until")]
    until_xid: Option<u64>,
    /// Stop just before the target instead of just behind it.
    #[arg(long, requires = "until")]
    exclusive: bool,
    /// The branch to recover along [default: the newest].
    #[arg(long, value_name = "BRANCH")]
    branch: Option<u64>,
    /// Restore only this tablespace, without recovering it.
    #[arg(long, value_name = "NAME")]
    tablespace: Option<String>,
    /// Another place for a tablespace that lay outside of the database's directory.
    #[arg(long, value_name = "OLD=NEW", value_parser = mapping)]
    map: Vec<(String, PathBuf)>,
    /// Rewrite what differs in a directory that holds the same database already, and remove what does not belong there.
    /// Not for SQLite.
    #[arg(long, conflicts_with = "tablespace")]
    delta: bool,
    /// Only one page, as the newest set or that of --set has it, without redo: FILE below the database's directory, and the
    /// page's number in it. --to is a file that does not exist yet.
    #[arg(long, value_name = "FILE:PAGE", value_parser = page::place, requires = "to",
        conflicts_with_all = ["until", "branch", "tablespace", "map", "delta", "open", "dry_run"])]
    page: Option<page::Place>,
    /// Start the database afterwards and wait until it is open.
    #[arg(long, conflicts_with = "dry_run")]
    open: bool,
    /// How long --open waits.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, requires = "open")]
    open_wait: u64,
    /// Where the database's own programs are, if not in their usual place.
    #[arg(long, value_name = "DIR", requires = "open")]
    programs: Vec<PathBuf>,
    /// Streams in parallel.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=255))]
    channels: u16,
    /// Only say what would be read and written, and refuse what the restore would refuse.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Document {
    dry_run: bool,
    to: Option<PathBuf>,
    start: SetDocument,
    chain: Vec<ShareDocument>,
    log: Option<LogDocument>,
    totals: TotalsDocument,
    recovered: Option<RecoveredDocument>,
    last_unit_in_part: bool,
    seconds: f64,
}

#[derive(Serialize)]
struct ShareDocument {
    id: Id,
    name: String,
    frames: u64,
    read_bytes: u64,
    pages: u64,
}

#[derive(Serialize)]
struct LogDocument {
    units: u64,
    bytes: u64,
    after_lsn: u64,
    upto_lsn: u64,
}

#[derive(Serialize)]
struct TotalsDocument {
    frames: u64,
    dead_frames: u64,
    read_bytes: u64,
    pages: u64,
    write_bytes: u64,
    log_units: u64,
    log_bytes: u64,
}

#[derive(Serialize)]
struct RecoveredDocument {
    lsn: u64,
    time: Option<Time>,
    /// `null` when the engine chooses it when it is opened.
    branch: Option<u64>,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Answer> {
    let setpiece = options.repo.open(console)?;
    let source = SourceWord::of(options.source.as_deref())?;
    if let (Some(place), Some(to)) = (&options.page, &options.to) {
        let request = page::request(place, source.map(|source| source.word), options.set.clone());
        return page::run(&setpiece, &request, to);
    }
    let mut request = request(&options, console);
    request.source = source.as_ref().map(|source| source.word.clone());
    let told = |error| SourceWord::told(source.as_ref(), error);
    let began = Instant::now();
    match options.to {
        Some(to) if !options.dry_run => {
            let report = setpiece.restore(&request, &to).map_err(told)?;
            if options.open {
                let how = OpenRequest { programs: &options.programs, wait: Duration::from_secs(options.open_wait) };
                setpiece.open_restored(&report.start.engine, &to, &how)?;
            }
            restored(report, to, began.elapsed())
        }
        to => {
            // What the restore itself would refuse, in the order in which it looks at it.
            let places = to.iter().chain(request.map.iter().map(|(_, place)| place));
            places.map(PathBuf::as_path).try_for_each(|place| setpiece.refuse_inside(place))?;
            let plan = setpiece.plan(&request).map_err(told)?;
            to.as_deref().map_or(Ok(()), |to| setpiece.check_target(&plan, &request, to))?;
            planned(&plan, to, began.elapsed())
        }
    }
}

fn request(options: &Options, console: &Console) -> RestoreRequest {
    let until = match (&options.until_lsn, &options.until_time, &options.until_name, options.until_xid) {
        (Some(lsn), ..) => Until::Lsn(lsn.0),
        (_, Some(moment), ..) => Until::Time(moment.said(console)),
        (_, _, Some(name), _) => Until::Name(name.clone()),
        (.., Some(number)) => Until::Transaction(number),
        // Who names a set means that set.
        _ if options.set.is_some() => Until::SetEnd,
        _ => Until::Latest,
    };
    let branch = options.branch.map(BranchId);
    let mut request = RestoreRequest::default();
    request.set = options.set.clone();
    request.target = RecoveryTarget { until, exclusive: options.exclusive, branch };
    request.tablespace = options.tablespace.clone();
    request.channels = options.channels;
    request.delta = options.delta;
    request.map = options.map.clone();
    request
}

fn mapping(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && new.starts_with('/') => Ok((old.into(), new.into())),
        _ => Err("expected OLD=NEW, and NEW to be an absolute path".into()),
    }
}

fn restored(report: RestoreReport, to: PathBuf, took: Duration) -> Result<Answer> {
    let recovered = report.recovered.map(|done| RecoveredDocument {
        lsn: done.lsn.0,
        time: done.time.map(Text),
        branch: done.branch.map(|branch| branch.0),
    });
    let mut text = format!("restored {} into {}\n", report.start.source_name, to.display());
    text += &format!("  beginning with set {}\n", report.start.name);
    text += &totals_in_words(&report.totals, true);
    if report.last_unit_in_part {
        text += "  of the last unit only the begin, up to the target\n";
    }
    if let Some(done) = &recovered {
        let time = done.time.as_ref().map_or_else(String::new, |time| format!(" ({})", time.0));
        let branch = done.branch.map_or_else(
            || "goes on as a new branch when it is opened".to_owned(),
            |branch| format!("goes on as branch {branch}"),
        );
        text += &format!("  recovered to LSN {}{time}; {branch}\n", done.lsn);
    }
    text += &format!("  {}\n", text::seconds(took));
    let document = Document {
        dry_run: false,
        to: Some(to),
        start: (&report.start).into(),
        chain: Vec::new(),
        log: None,
        totals: totals(&report.totals),
        recovered,
        last_unit_in_part: report.last_unit_in_part,
        seconds: took.as_secs_f64(),
    };
    Answer::new(&document, text)
}

fn planned(plan: &RestorePlan, to: Option<PathBuf>, took: Duration) -> Result<Answer> {
    let log = plan.log.first().zip(plan.log.last()).map(|((_, first), (_, last))| LogDocument {
        units: plan.totals.log_units,
        bytes: plan.totals.log_bytes,
        after_lsn: first.span.after.0,
        upto_lsn: last.span.upto.0,
    });
    let share = |share: &Share| ShareDocument {
        id: Text(share.set),
        name: share.name.clone(),
        frames: share.frames,
        read_bytes: share.read_bytes,
        pages: share.pages,
    };
    let document = Document {
        dry_run: true,
        to,
        start: (&plan.start).into(),
        chain: plan.shares.iter().map(share).collect(),
        log,
        totals: totals(&plan.totals),
        recovered: None,
        last_unit_in_part: false,
        seconds: took.as_secs_f64(),
    };
    let text = plan_in_words(plan, &document);
    Answer::new(&document, text)
}

fn totals(totals: &Totals) -> TotalsDocument {
    TotalsDocument {
        frames: totals.frames,
        dead_frames: totals.dead_frames,
        read_bytes: totals.read_bytes,
        pages: totals.pages,
        write_bytes: totals.write_bytes,
        log_units: totals.log_units,
        log_bytes: totals.log_bytes,
    }
}

fn plan_in_words(plan: &RestorePlan, document: &Document) -> String {
    let start = &plan.start;
    let mut text = format!("plan for {}, branch {}\n", start.source_name, plan.history.current);
    text += &format!("  begins with set {}, consistent at LSN {} ({})\n", start.name, start.bak_end_lsn, start.ended);
    let rows = document.chain.iter().map(|share| {
        [share.name.clone(), share.frames.to_string(), text::bytes(share.read_bytes), share.pages.to_string()]
    });
    let table = text::table(&["SET", "FRAMES", "BYTES", "PAGES"], rows);
    table.lines().for_each(|line| text += &format!("  {line}\n"));
    if let Some(log) = &document.log {
        text += &format!(
            "  then {} of redo, LSN {} to {}, {}\n",
            text::count(log.units, "unit"),
            log.after_lsn,
            log.upto_lsn,
            text::bytes(log.bytes)
        );
    }
    text + &totals_in_words(&plan.totals, false) + "nothing was written\n"
}

/// What is done, or what has been done.
fn totals_in_words(totals: &Totals, done: bool) -> String {
    let [read, skipped, written, applied] =
        if done { ["read", "skipped", "wrote", "applied"] } else { ["reads", "skips", "writes", "applies"] };
    format!(
        "  {read} {} in {}, each once; {skipped} {} without a live page\n  {written} {} in {}, each once\n  {applied} {} of redo, {}\n",
        text::bytes(totals.read_bytes),
        text::count(totals.frames, "frame"),
        totals.dead_frames,
        text::bytes(totals.write_bytes),
        text::count(totals.pages, "stored page"),
        text::count(totals.log_units, "unit"),
        text::bytes(totals.log_bytes)
    )
}
