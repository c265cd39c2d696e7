//! `setpiece remove`: remove a set that nothing else needs.

use clap::Args;
use serde::Serialize;
use setpiece::Result;

use crate::console::{Answer, Console};
use crate::documents::RemovedDocument;
use crate::options::RepoOptions;
use crate::text;

/// Remove a set.
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
}

#[derive(Serialize)]
struct Document {
    removed: Vec<RemovedDocument>,
}

pub(crate) fn run(options: &Options, console: &Console) -> Result<Answer> {
    let setpiece = options.repo.open(console)?;
    let removed = setpiece.remove(&options.set, options.cascade)?;
    let removed: Vec<RemovedDocument> = removed.iter().map(Into::into).collect();
    let line = |gone: &RemovedDocument| {
        let name = gone.name.clone().unwrap_or_else(|| gone.id.0.to_string());
        format!("removed {name}, {}\n", text::bytes(gone.bytes))
    };
    let text: String = removed.iter().map(line).collect();
    Answer::new(&Document { removed }, text)
}
