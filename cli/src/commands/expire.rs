//! `setpiece expire`: remove what a policy lets go, and what crashes left behind.

use clap::Args;
use serde::Serialize;
use setpiece::Result;
use setpiece::model::retention::Policy;

use crate::console::{Answer, Console};
use crate::documents::{Id, RemovedDocument, Text};
use crate::options::RepoOptions;
use crate::text;

/// Remove what is no longer wanted. Without a rule: only what crashes left behind.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    repo: RepoOptions,
    /// Keep the newest N full sets of each source, and everything taken since.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_full: Option<u32>,
    /// Keep what is needed to recover to any moment of the last N days.
    #[arg(long, value_name = "N")]
    keep_days: Option<u32>,
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Document {
    dry_run: bool,
    removed: Vec<RemovedDocument>,
    orphans: Vec<RemovedDocument>,
    kept: Vec<KeptDocument>,
}

#[derive(Serialize)]
struct KeptDocument {
    id: Id,
    reason: String,
}

pub(crate) fn run(options: &Options, console: &Console) -> Result<Answer> {
    let setpiece = options.repo.open(console)?;
    let policy = Policy { keep_full: options.keep_full, keep_days: options.keep_days };
    let report = setpiece.expire(&policy, options.dry_run)?;
    let document = Document {
        dry_run: options.dry_run,
        removed: report.removed.iter().map(Into::into).collect(),
        orphans: report.orphans.iter().map(Into::into).collect(),
        kept: report.kept.iter().map(|(id, why)| KeptDocument { id: Text(*id), reason: why.to_string() }).collect(),
    };
    let text = in_words(&document);
    Answer::new(&document, text)
}

fn in_words(document: &Document) -> String {
    let verb = if document.dry_run { "would remove" } else { "removed" };
    let mut text = String::new();
    for gone in &document.removed {
        let name = gone.name.clone().unwrap_or_else(|| gone.id.0.to_string());
        text += &format!("{verb} {name}, {}\n", text::bytes(gone.bytes));
    }
    for orphan in &document.orphans {
        text += &format!("{verb} what a crash left of set {}, {}\n", orphan.id.0, text::bytes(orphan.bytes));
    }
    let gone = document.removed.iter().chain(&document.orphans);
    let bytes = gone.map(|gone| gone.bytes).sum();
    let kept = text::count(document.kept.len() as u64, "set");
    text + &format!("{verb} {} in all, {kept} kept\n", text::bytes(bytes))
}
