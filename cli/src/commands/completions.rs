//! `setpiece completions`: the completions of a shell, made from the grammar.

use clap::Args;
use clap_complete::Shell;
use serde::Serialize;
use setpiece::{Error, ErrorKind, Result};

use crate::app;
use crate::console::Answer;

/// Print the completions of a shell.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The shell.
    shell: Shell,
}

#[derive(Serialize)]
struct Document {
    shell: String,
    script: String,
}

pub(crate) fn run(options: &Options) -> Result<Answer> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut app::grammar(), "setpiece", &mut script);
    let script = String::from_utf8(script)
        .map_err(|error| Error::new(ErrorKind::Internal, "completions are not UTF-8").because(error))?;
    Answer::new(&Document { shell: options.shell.to_string(), script: script.clone() }, script)
}
