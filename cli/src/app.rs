//! From arguments to an exit code: parse, run one verb, print what it answers or why it failed.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind as ParseError;
use clap::{CommandFactory, Parser};
use setpiece::{Error, ErrorKind, Result};

use crate::commands::Verb;
use crate::console::Console;
use crate::documents::ErrorDocument;
use crate::output;

/// Backup and recovery of databases: sets, redo, chains, any storage that has a plugin.
#[derive(Debug, Parser)]
#[command(name = "setpiece", version, max_term_width = 110, propagate_version = false)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong use, 3 damage was found.\n\
    A database and a repository are named by URL: sqlite:/path/app.db, disk:/path, sbt:/path/library.so?PARMS.\n\
    `setpiece demo` shows everything at work in a few seconds.")]
pub(crate) struct Cli {
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Stop at a step of an operation and wait to be killed: for tests of what a crash leaves.
    #[arg(long, global = true, hide = true, value_name = "STEP")]
    pause_at: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

/// The grammar, for completions and manual pages.
pub(crate) fn grammar() -> clap::Command {
    Cli::command()
}

/// Runs the command.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &args),
    };
    let console = Console::new(cli.json, cli.pause_at);
    match run(cli.verb, &console) {
        Ok(code) => code,
        Err(error) => fail(&console, &error),
    }
}

fn run(verb: Verb, console: &Console) -> Result<ExitCode> {
    console.obey_signals()?;
    let answer = verb.run(console)?;
    console.finish_progress();
    let code = ExitCode::from(answer.code);
    let printed = if console.json {
        output::document(&answer.document_with(&console.warnings())?)
    } else {
        output::text(&answer.text)
    };
    if let Err(error) = printed {
        output::error(&error);
        // Damage that was found is the greater news.
        return Ok(if code == ExitCode::SUCCESS { ExitCode::FAILURE } else { code });
    }
    Ok(code)
}

fn fail(console: &Console, error: &Error) -> ExitCode {
    console.finish_progress();
    if console.json {
        output::error_document(&ErrorDocument::of(error));
    } else {
        output::error(error);
    }
    ExitCode::from(error.kind().exit_code())
}

/// Help is an answer; anything else that the parser has to say is wrong use.
fn refuse(error: &clap::Error, args: &[OsString]) -> ExitCode {
    let answer = matches!(error.kind(), ParseError::DisplayHelp | ParseError::DisplayVersion);
    if !answer && args.iter().any(|arg| arg == "--json") {
        let text = error.to_string();
        let said = text.trim_start_matches("error: ").lines().take_while(|line| !line.starts_with("Usage:"));
        let what = said.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        let remedy = "`setpiece help` shows how to call it";
        output::error_document(&ErrorDocument::of(&Error::new(ErrorKind::Usage, what).remedy(remedy)));
        return ExitCode::from(ErrorKind::Usage.exit_code());
    }
    if let Err(error) = output::written(error.print()) {
        output::error(&error);
        return ExitCode::from(if answer { 1 } else { ErrorKind::Usage.exit_code() });
    }
    ExitCode::from(if answer { 0 } else { ErrorKind::Usage.exit_code() })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_grammar_is_sound() {
        super::grammar().debug_assert();
    }
}
