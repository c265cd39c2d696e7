//! `setpiece demo`: a real database, backed up while it is written to, damaged, and brought back to a noted moment.

use std::path::PathBuf;

use clap::Args;
use setpiece::Result;

use crate::console::{Answer, Console};
use crate::demo::{self, writer};

/// Watch a database being backed up while it is written to, damaged, and recovered to a moment that is checked.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Work in this directory, which must not exist yet or be empty, and keep it [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the temporary directory.
    #[arg(long)]
    keep: bool,
}

/// The writing process of the demo.
#[derive(Debug, Args)]
pub(crate) struct WriterOptions {
    /// The database to write to.
    #[arg(long, value_name = "FILE")]
    database: PathBuf,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Answer> {
    demo::run(options.dir, options.keep, console)
}

pub(crate) fn write(options: &WriterOptions, console: &Console) -> Result<Answer> {
    let written = writer::run(&options.database, &console.cancel)?;
    Answer::new(&written, format!("{} transactions\n", written.transactions))
}
