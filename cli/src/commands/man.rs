//! `setpiece man`: manual pages, made from the grammar.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;
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
    let mut files = Vec::new();
    let mut grammar = app::grammar().disable_help_subcommand(true);
    grammar.build();
    pages(&grammar, "setpiece", &options.out, &mut files)?;
    let text = files.iter().map(|file| format!("{}\n", file.display())).collect::<String>();
    Answer::new(&Document { files }, text)
}

/// A page for the command and one for each of its verbs.
fn pages(command: &Command, name: &str, out: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let path = out.join(format!("{name}.1"));
    let mut page = Vec::new();
    let failed = |error| Error::io(path.display().to_string(), error);
    let named = command.clone().name(name.to_owned()).display_name(name.to_owned());
    Man::new(named).title(name.to_uppercase()).render(&mut page).map_err(failed)?;
    fs::write(&path, page).map_err(failed)?;
    files.push(path);
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        pages(verb, &format!("{name}-{}", verb.get_name()), out, files)?;
    }
    Ok(())
}
