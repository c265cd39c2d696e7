//! `setpiece copy`: bring sets to another repository, byte for byte.

use clap::Args;
use serde::Serialize;
use setpiece::{Result, Setpiece};

use crate::console::{Answer, Console};
use crate::documents::{Id, Text};
use crate::keys::OpenKeys;
use crate::options::{RepoOptions, url};
use crate::text;

/// Copy sets to another repository, with the bases they need.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    repo: RepoOptions,
    /// The repository to copy to.
    #[arg(long, value_name = "URL")]
    to_repo: String,
    /// What opens the repository to copy to, where that is another key: a key file.
    #[arg(long, value_name = "FILE", help_heading = "Keys")]
    to_key_file: Option<std::path::PathBuf>,
    /// The same: a file with a passphrase.
    #[arg(long, value_name = "FILE", help_heading = "Keys")]
    to_passphrase_file: Option<std::path::PathBuf>,
    /// The same: a file with a private key.
    #[arg(long, value_name = "FILE", help_heading = "Keys")]
    to_identity_file: Option<std::path::PathBuf>,
    /// The sets: names, identifiers or `latest` [default: all].
    #[arg(value_name = "SET")]
    sets: Vec<String>,
}

#[derive(Serialize)]
struct Document {
    copied: Vec<Id>,
    present: Vec<Id>,
    bytes: u64,
}

pub(crate) fn run(options: &Options, console: &Console) -> Result<Answer> {
    let from = options.repo.open(console)?;
    let keys = OpenKeys {
        key_file: options.to_key_file.clone(),
        passphrase_file: options.to_passphrase_file.clone(),
        identity_file: options.to_identity_file.clone(),
        recipient: Vec::new(),
        no_encryption: false,
    };
    let own = keys.key_file.is_some() || keys.passphrase_file.is_some() || keys.identity_file.is_some();
    let secrets = if own { keys.secrets(console)? } else { options.repo.keys.secrets(console)? };
    let to = Setpiece::open(&url(&options.to_repo)?, &secrets)?;
    let report = from.copy_to(&to, &options.sets)?;
    let text = format!(
        "{} copied, {}; {} were there already\n",
        text::count(report.copied.len() as u64, "set"),
        text::bytes(report.bytes),
        report.present.len()
    );
    let ids = |sets: Vec<setpiece::model::SetId>| sets.into_iter().map(Text).collect();
    Answer::new(&Document { copied: ids(report.copied), present: ids(report.present), bytes: report.bytes }, text)
}
