//! `setpiece media`: put a storage plugin to the test.

use std::path::Path;

use clap::{Args, Subcommand};
use serde::Serialize;
use setpiece::media::conformance::{Outcome, Report};
use setpiece::media::layout::REPO_PREFIX;
use setpiece::media::{Medium, Place, PluginMedium, PluginParams, load, place};
use setpiece::{Error, ErrorKind, Result};

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

/// Run the conformance tests that every plugin has to pass. They write objects of their own and remove them. The place
/// must be there and should be empty; one that holds a repository is refused.
#[derive(Debug, Args)]
struct TestOptions {
    /// The file of a plugin library, or the URL of a medium such as disk:/empty/directory.
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
    refuse_unfit(test, &place)?;
    let report = place.test();
    let document = document(&report);
    let code = u8::from(document.failed > 0);
    let text = in_words(&document);
    Ok(Answer::new(&document, text)?.exit(code))
}

fn find(test: &TestOptions) -> Result<Place> {
    let parms = test.parms.clone().unwrap_or_default();
    if !is_url(&test.plugin) {
        return load(&library(&test.plugin)?, &parms);
    }
    let mut found = place(&url(&test.plugin)?)?;
    if test.parms.is_some() && !found.parms.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "the parameters are given twice")
            .on(test.plugin.clone())
            .remedy("give them in the URL or behind it"));
    }
    if test.parms.is_some() {
        found.parms = parms;
    }
    Ok(found)
}

/// A file that is there is meant as such, whatever its name; otherwise a colon before any slash makes a URL.
fn is_url(word: &str) -> bool {
    let scheme = word.split_once(':').map_or("", |(scheme, _)| scheme);
    !Path::new(word).exists() && !scheme.is_empty() && !scheme.contains(['/', '.'])
}

fn library(word: &str) -> Result<std::path::PathBuf> {
    if !Path::new(word).exists() {
        return Err(Error::new(ErrorKind::NotFound, "no such file")
            .on(word)
            .remedy("name the file of a plugin library, or a medium by its URL, such as disk:/empty/directory"));
    }
    std::path::absolute(word).map_err(|error| Error::io(word, error))
}

/// A place that cannot be opened fails once and not in every check, and nobody's backups are played with.
fn refuse_unfit(test: &TestOptions, place: &Place) -> Result<()> {
    let label = test.plugin.split_once('?').map_or(test.plugin.as_str(), |(shown, _)| shown);
    let mut params = PluginParams::default();
    (params.label, params.location, params.parms) = (label.into(), place.location.clone(), place.parms.clone());
    let medium = PluginMedium::open(place.plugin.clone(), params)
        .map_err(|error| error.remedy("the place must be there; name an empty one"))?;
    let mut used = false;
    // Whether it lists, and lists well, is for the tests to find out.
    drop(medium.list(REPO_PREFIX, &mut |_| {
        used = true;
        Ok(())
    }));
    if used {
        return Err(Error::new(ErrorKind::Target, "is a repository").on(label).remedy("name an empty place"));
    }
    Ok(())
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
