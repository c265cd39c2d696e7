//! `setpiece media`: put a storage plugin to the test.

use std::path::Path;

use clap::{Args, Subcommand};
use serde::Serialize;
use setpiece::media::conformance::{Outcome, Report};
use setpiece::media::{Place, load, place};
use setpiece::{Error, Result};

use crate::console::{Answer, Console};
use crate::options::url;
use crate::text;

/// Work on storage plugins.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Test(TestOptions),
}

/// Run the conformance tests that every plugin has to pass. They write objects of their own and remove them.
#[derive(Debug, Args)]
struct TestOptions {
    /// A plugin library, or the URL of a medium such as disk:/empty/directory.
    #[arg(value_name = "LIB|URL")]
    plugin: String,
    /// Parameters for the plugin, in its own words.
    #[arg(value_name = "PARMS")]
    parms: Option<String>,
}

#[derive(Serialize)]
struct Document {
    plugin: String,
    passed: usize,
    failed: usize,
    not_applicable: usize,
    checks: Vec<CheckDocument>,
}

#[derive(Serialize)]
struct CheckDocument {
    name: String,
    outcome: &'static str,
    text: Option<String>,
}

pub(crate) fn run(options: &Options, _console: &Console) -> Result<Answer> {
    let Verb::Test(test) = &options.verb;
    let place = find(test)?;
    let report = place.test();
    let document = document(&report);
    let code = u8::from(document.failed > 0);
    let text = in_words(&document);
    Ok(Answer::new(&document, text)?.exit(code))
}

fn find(test: &TestOptions) -> Result<Place> {
    let parms = test.parms.clone().unwrap_or_default();
    if Path::new(&test.plugin).is_file() {
        let path = std::path::absolute(&test.plugin).map_err(|error| Error::io(test.plugin.clone(), error))?;
        return load(&path, &parms);
    }
    let mut found = place(&url(&test.plugin)?)?;
    if test.parms.is_some() {
        found.parms = parms;
    }
    Ok(found)
}

fn document(report: &Report) -> Document {
    let checks: Vec<CheckDocument> = report
        .checks
        .iter()
        .map(|check| {
            let (outcome, text) = match &check.outcome {
                Outcome::Passed => ("passed", None),
                Outcome::Failed(why) => ("failed", Some(why.clone())),
                Outcome::NotApplicable(why) => ("not applicable", Some(why.clone())),
            };
            CheckDocument { name: check.name.to_string(), outcome, text }
        })
        .collect();
    let count = |outcome: &str| checks.iter().filter(|check| check.outcome == outcome).count();
    Document {
        plugin: report.plugin.clone(),
        passed: count("passed"),
        failed: count("failed"),
        not_applicable: count("not applicable"),
        checks,
    }
}

fn in_words(document: &Document) -> String {
    let rows = document.checks.iter().map(|check| {
        let outcome = if check.outcome == "failed" { "FAILED" } else { check.outcome };
        [outcome.to_owned(), check.name.clone(), check.text.clone().unwrap_or_default()]
    });
    let mut text = format!("plugin {}\n", document.plugin);
    text += &text::table(&["OUTCOME", "CHECK", ""], rows);
    text += &format!(
        "{} passed, {} failed, {} not applicable\n",
        document.passed, document.failed, document.not_applicable
    );
    text
}
