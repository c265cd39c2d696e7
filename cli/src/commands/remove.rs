//! `setpiece remove`: remove a set that nothing else needs.

use clap::Args;
use serde::Serialize;
use setpiece::Result;

use crate::console::{Answer, Console};
use crate::documents::RemovedDocument;
use crate::options::RepoOptions;
use crate::reach::{self, ChangeDocument};
use crate::text;

/// Remove a set, and say what can no longer be reached without it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    repo: RepoOptions,
    /// The set: a name, an identifier or `latest`. A damaged one by its whole identifier.
    #[arg(value_name = "SET")]
    set: String,
    /// Remove the sets that are built on it too.
    #[arg(long)]
    cascade: bool,
    /// Only say what would be removed, and what could no longer be reached.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Document {
    dry_run: bool,
    removed: Vec<RemovedDocument>,
    windows: Vec<ChangeDocument>,
}

pub(crate) fn run(options: &Options, console: &Console) -> Result<Answer> {
    let setpiece = options.repo.open(console)?;
    let catalog = setpiece.catalog()?;
    let (set, cascade, dry_run) = (&options.set, options.cascade, options.dry_run);
    let removed = if dry_run { setpiece.plan_removal(set, cascade)? } else { setpiece.remove(set, cascade)? };
    let changes = reach::changes(&catalog, &removed.iter().map(|gone| gone.set).collect());
    let removed: Vec<RemovedDocument> = removed.iter().map(Into::into).collect();
    let verb = if dry_run { "would remove" } else { "removed" };
    let line = |gone: &RemovedDocument| {
        let name = gone.name.clone().unwrap_or_else(|| gone.id.0.to_string());
        format!("{verb} {name}, {}\n", text::bytes(gone.bytes))
    };
    let text = removed.iter().map(line).collect::<String>() + &reach::in_words(&changes, dry_run);
    let windows = changes.iter().map(Into::into).collect();
    Answer::new(&Document { dry_run, removed, windows }, text)
}
