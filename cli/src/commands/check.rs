//! `setpiece check`: prove that sets are what was written.

use std::time::Instant;

use clap::Args;
use serde::Serialize;
use setpiece::Result;
use setpiece::verify::{CheckReport, Depth, Finding};

use crate::console::{Answer, Console};
use crate::documents::{ErrorDocument, Id, Text};
use crate::options::RepoOptions;
use crate::text;

/// The exit code when damage was found.
const DAMAGE: u8 = 3;

/// Prove that sets are what was written.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    repo: RepoOptions,
    /// The sets: names, identifiers or `latest` [default: all].
    #[arg(value_name = "SET")]
    sets: Vec<String>,
    /// meta: nothing is missing; frames: every byte is what was written; pages: every page is what was read.
    #[arg(long, default_value = "frames")]
    depth: Depth,
    /// Streams in parallel.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=255))]
    channels: u16,
}

#[derive(Serialize)]
struct Document {
    depth: &'static str,
    sets: u64,
    pieces: u64,
    frames: u64,
    pages: u64,
    stored_bytes: u64,
    raw_bytes: u64,
    seconds: f64,
    findings: Vec<FindingDocument>,
}

#[derive(Serialize)]
struct FindingDocument {
    id: Id,
    name: Option<String>,
    error: ErrorDocument,
}

pub(crate) fn run(options: &Options, console: &Console) -> Result<Answer> {
    let setpiece = options.repo.open(console)?;
    let began = Instant::now();
    let report = setpiece.check(&options.sets, options.depth, options.channels)?;
    let finding = |finding: &Finding| FindingDocument {
        id: Text(finding.set),
        name: finding.name.clone(),
        error: ErrorDocument::of(&finding.error),
    };
    let document = Document {
        depth: word(options.depth),
        sets: report.sets,
        pieces: report.pieces,
        frames: report.frames,
        pages: report.pages,
        stored_bytes: report.stored_bytes,
        raw_bytes: report.raw_bytes,
        seconds: began.elapsed().as_secs_f64(),
        findings: report.findings.iter().map(finding).collect(),
    };
    let text = in_words(&report, options.depth, &text::seconds(began.elapsed()));
    let code = if report.findings.is_empty() { 0 } else { DAMAGE };
    Ok(Answer::new(&document, text)?.exit(code))
}

fn word(depth: Depth) -> &'static str {
    match depth {
        Depth::Meta => "meta",
        Depth::Frames => "frames",
        Depth::Pages => "pages",
    }
}

fn in_words(report: &CheckReport, depth: Depth, took: &str) -> String {
    let mut text = format!("{} checked to depth {}", text::count(report.sets, "set"), word(depth));
    if depth > Depth::Meta {
        let pages =
            if depth > Depth::Frames { format!("{}, ", text::count(report.pages, "page")) } else { String::new() };
        text += &format!(
            ": {}, {}, {pages}{} read that hold {}",
            text::count(report.pieces, "piece"),
            text::count(report.frames, "frame"),
            text::bytes(report.stored_bytes),
            text::bytes(report.raw_bytes)
        );
    }
    text += &format!("; {took}\n");
    for finding in &report.findings {
        let name = finding.name.clone().unwrap_or_else(|| finding.set.to_string());
        text += &format!("DAMAGED {name}: {}\n", finding.error);
    }
    if report.findings.is_empty() {
        text += "all is well\n";
    } else {
        text += &format!("{}\n", text::count(report.findings.len() as u64, "finding"));
    }
    text
}
