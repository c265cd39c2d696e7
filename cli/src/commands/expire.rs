//! `setpiece expire`: remove what a policy lets go, and what crashes left behind.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use setpiece::Result;
use setpiece::catalog::{Catalog, SetRecord};
use setpiece::model::SetId;
use setpiece::model::retention::{KeepReason, Policy};
use setpiece::retain::ExpireReport;

use crate::console::{Answer, Console};
use crate::documents::{Id, RemovedDocument, Text};
use crate::options::RepoOptions;
use crate::{rows, text};

/// Remove what is no longer wanted. Without a rule: only what crashes left behind. What either rule keeps is kept.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    repo: RepoOptions,
    /// Keep the newest N full sets of each source, and everything taken since the oldest of them.
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
    // The names of what goes have to be known before it is gone.
    let catalog = setpiece.catalog()?;
    let report = setpiece.expire(&policy, options.dry_run)?;
    let document = Document {
        dry_run: options.dry_run,
        removed: report.removed.iter().map(Into::into).collect(),
        orphans: report.orphans.iter().map(Into::into).collect(),
        kept: report.kept.iter().map(|(id, why)| KeptDocument { id: Text(*id), reason: why.to_string() }).collect(),
    };
    Answer::new(&document, in_words(&report, &catalog, options.dry_run))
}

fn in_words(report: &ExpireReport, catalog: &Catalog, dry_run: bool) -> String {
    let (verb, keep) = if dry_run { ("would remove", "would keep") } else { ("removed", "kept") };
    let mut text = String::new();
    let bytes: BTreeMap<SetId, u64> = report.removed.iter().map(|gone| (gone.set, gone.bytes)).collect();
    for row in rows::rows(report.removed.iter().filter_map(|gone| catalog.get(gone.set))) {
        let of_row = row.iter().filter_map(|record| bytes.get(&record.summary.id)).sum();
        text += &format!("{verb} {}, {}\n", called(&row), text::bytes(of_row));
    }
    for orphan in &report.orphans {
        text += &format!("{verb} what a crash left of set {}, {}\n", orphan.set, text::bytes(orphan.bytes));
    }
    for (reason, records) in by_reason(report, catalog) {
        for row in rows::rows(records) {
            text += &format!("{keep} {}: {reason}\n", called(&row));
        }
    }
    let gone = report.removed.iter().chain(&report.orphans);
    let bytes = gone.map(|gone| gone.bytes).sum();
    let kept = text::count(report.kept.len() as u64, "set");
    text + &format!("{verb} {} in all; {keep} {kept}\n", text::bytes(bytes))
}

/// A row by its name, and by how many sets it has if that is not plain.
fn called(row: &[&SetRecord]) -> String {
    let sets = if row.len() > 1 { format!(" ({} sets)", row.len()) } else { String::new() };
    rows::name(row) + &sets
}

/// The sets that stay, with equal reasons together, in the order of the first of them.
fn by_reason<'c>(report: &ExpireReport, catalog: &'c Catalog) -> Vec<(String, Vec<&'c SetRecord>)> {
    let mut groups: Vec<(String, Vec<&SetRecord>)> = Vec::new();
    for (set, why) in &report.kept {
        let Some(record) = catalog.get(*set) else { continue };
        let reason = reason(*why, catalog);
        match groups.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, records)) => records.push(record),
            None => groups.push((reason, vec![record])),
        }
    }
    groups
}

/// Why a set stays, with names where the reason has identifiers.
fn reason(why: KeepReason, catalog: &Catalog) -> String {
    let name = |set: SetId| catalog.get(set).map_or_else(|| set.to_string(), |record| record.summary.name.clone());
    match why {
        KeepReason::BaseOf(set) => format!("base of {}", name(set)),
        KeepReason::LogFor(set) => format!("log that {} needs", name(set)),
        other => other.to_string(),
    }
}
