//! `setpiece init`: make a repository, and choose for ever how it is keyed.

use clap::Args;
use serde::Serialize;
use setpiece::{Result, Setpiece};

use crate::console::{Answer, Console};
use crate::documents::RepositoryDocument;
use crate::keys::InitKeys;
use crate::options::url;

/// Make a repository.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where, such as disk:/var/backup. The directory is made if it is missing.
    #[arg(long, value_name = "URL", env = "SETPIECE_REPO", hide_env_values = true)]
    repo: String,
    #[command(flatten)]
    keys: InitKeys,
}

#[derive(Serialize)]
struct Document {
    repository: RepositoryDocument,
}

pub(crate) fn run(options: &Options, console: &Console) -> Result<Answer> {
    let place = url(&options.repo)?;
    let made = match options.keys.slots(console)? {
        Some(slots) => Setpiece::init(&place, &slots)?,
        None => Setpiece::init_plain(&place)?,
    };
    let repository = RepositoryDocument::of(made.repository().descriptor(), made.repository().medium().label());
    let advice = if repository.encrypted {
        "Keep the keys in a place that outlives this machine: without one of them the sets cannot be read.\n"
    } else {
        "Whoever can read the medium can read the sets.\n"
    };
    let text = format!("{}{advice}", repository.text());
    Answer::new(&Document { repository }, text)
}
