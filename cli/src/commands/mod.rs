//! The verbs: one file each, with its options and what it answers.

mod backup;
mod catalog;
mod check;
mod completions;
mod copy;
mod demo;
mod expire;
mod init;
mod key;
mod log;
mod man;
mod media;
mod remove;
mod restore;
mod sets;
mod show;

use clap::Subcommand;
use setpiece::Result;

use crate::console::{Answer, Console};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Init(init::Options),
    Backup(backup::Options),
    Sets(sets::Options),
    Show(show::Options),
    Check(check::Options),
    Restore(Box<restore::Options>),
    Log(log::Options),
    Remove(remove::Options),
    Expire(expire::Options),
    Copy(copy::Options),
    Catalog(catalog::Options),
    Key(key::Options),
    Media(media::Options),
    Demo(demo::Options),
    Completions(completions::Options),
    Man(man::Options),
    #[command(hide = true)]
    DemoWriter(demo::WriterOptions),
}

impl Verb {
    /// Does it.
    pub(crate) fn run(self, console: &Console) -> Result<Answer> {
        match self {
            Verb::Init(options) => init::run(&options, console),
            Verb::Backup(options) => backup::run(options, console),
            Verb::Sets(options) => sets::run(&options, console),
            Verb::Show(options) => show::run(&options, console),
            Verb::Check(options) => check::run(&options, console),
            Verb::Restore(options) => restore::run(*options, console),
            Verb::Log(options) => log::run(options, console),
            Verb::Remove(options) => remove::run(&options, console),
            Verb::Expire(options) => expire::run(&options, console),
            Verb::Copy(options) => copy::run(&options, console),
            Verb::Catalog(options) => catalog::run(&options, console),
            Verb::Key(options) => key::run(options, console),
            Verb::Media(options) => media::run(&options, console),
            Verb::Demo(options) => demo::run(options, console),
            Verb::Completions(options) => completions::run(&options),
            Verb::Man(options) => man::run(&options),
            Verb::DemoWriter(options) => demo::write(&options, console),
        }
    }
}
