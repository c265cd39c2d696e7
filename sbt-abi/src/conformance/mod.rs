//! The suite that every plugin has to pass, ours and a vendor's: it does what hosts do, and what they should not.
//!
//! All objects of a run have names that begin with a word of its own, so that a run does no harm on a medium that is in
//! use, and they are removed at the end. Checks that need what the medium does not have say so instead of passing.

mod bench;
mod errors;
mod listing;
mod locks;
mod names;
mod objects;
mod publish;
mod sessions;

use std::fmt;

use crate::host::{Error, OpenParams, Plugin, Refused};
use bench::Bench;

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The plugin does what the contract asks for.
    Passed,
    /// It does not; the text says what was seen and what had to be.
    Failed(String),
    /// The medium does not have what the check is about; the text says what.
    NotApplicable(String),
}

/// One check of the suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is proven when it passes.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The plugin's name and version.
    pub plugin: String,
    /// Every check, in the order of the suite.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether no check failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| matches!(check.outcome, Outcome::Failed(_)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plugin {}", self.plugin)?;
        for check in &self.checks {
            match &check.outcome {
                Outcome::Passed => writeln!(f, "  passed   {}", check.name)?,
                Outcome::Failed(text) => writeln!(f, "  FAILED   {}: {text}", check.name)?,
                Outcome::NotApplicable(text) => writeln!(f, "  not here {}: {text}", check.name)?,
            }
        }
        Ok(())
    }
}

/// Why a check does not pass.
enum Stop {
    Failed(String),
    NotHere(String),
}

type Verdict<T = ()> = Result<T, Stop>;
type CheckFn = fn(&Bench<'_>) -> Verdict;

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error.to_string())
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        refused.error.into()
    }
}

fn failed<T>(text: impl Into<String>) -> Verdict<T> {
    Err(Stop::Failed(text.into()))
}

fn not_here<T>(text: impl Into<String>) -> Verdict<T> {
    Err(Stop::NotHere(text.into()))
}

/// Fails with the text unless it holds.
fn ensure(holds: bool, text: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { failed(text()) }
}

/// The suite, in the order in which it runs. A check's name says what is proven when it passes.
const SUITE: &[&[(&str, CheckFn)]] = &[
    sessions::CHECKS,
    objects::CHECKS,
    publish::CHECKS,
    names::CHECKS,
    listing::CHECKS,
    errors::CHECKS,
    locks::CHECKS,
];

/// Runs the suite against a plugin. Takes seconds on a local medium; writes some 30 MiB.
#[must_use]
pub fn run(plugin: &Plugin, params: &OpenParams<'_>) -> Report {
    run_with(plugin, params, &mut |_| {})
}

/// As [`run`], and tells of each check as soon as it has ended.
#[must_use]
pub fn run_with(plugin: &Plugin, params: &OpenParams<'_>, each: &mut dyn FnMut(&Check)) -> Report {
    let bench = Bench::new(plugin, params);
    let mut checks: Vec<Check> = Vec::new();
    let mut note = |name, verdict| {
        let outcome = match verdict {
            Ok(()) => Outcome::Passed,
            Err(Stop::Failed(text)) => Outcome::Failed(text),
            Err(Stop::NotHere(text)) => Outcome::NotApplicable(text),
        };
        let check = Check { name, outcome };
        each(&check);
        checks.push(check);
    };
    for (name, check) in SUITE.iter().copied().flatten() {
        note(name, check(&bench));
    }
    note("what the suite made can be removed, and the process is as before", bench.end());
    Report { plugin: format!("{} {}", plugin.name(), plugin.version()), checks }
}
