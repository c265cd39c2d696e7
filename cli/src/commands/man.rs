//! `setpiece man`: manual pages, made from the grammar.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use setpiece::{Error, Result};

use crate::app;
use crate::console::Answer;

/// Write the manual pages into a directory.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The directory; made if it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Document {
    files: Vec<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<Answer> {
    let failed = |error| Error::io(options.out.display().to_string(), error);
    fs::create_dir_all(&options.out).map_err(failed)?;
    clap_mangen::generate_to(app::grammar().disable_help_subcommand(true), &options.out).map_err(failed)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(&options.out).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("setpiece") && name.ends_with(".1") {
            files.push(path);
        }
    }
    files.sort();
    let text = files.iter().map(|file| format!("{}\n", file.display())).collect::<String>();
    Answer::new(&Document { files }, text)
}
