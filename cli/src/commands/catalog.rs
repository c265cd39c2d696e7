//! `setpiece catalog`: throw away the copies of metadata and read all of it again from the medium.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use setpiece::catalog::cache::Cache;
use setpiece::model::Scope;
use setpiece::{Error, Result};

use crate::console::{Answer, Console};
use crate::documents::{ErrorDocument, Id, RemovedDocument, Text};
use crate::options::RepoOptions;
use crate::text;

/// Work on the catalog.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Forget all copies of metadata and read everything again from the medium.
    Rebuild(RepoOptions),
}

#[derive(Serialize)]
struct Document {
    sets: u64,
    log_sets: u64,
    incomplete: Vec<Id>,
    damaged: Vec<DamagedDocument>,
    orphans: Vec<RemovedDocument>,
    cache: Option<PathBuf>,
}

#[derive(Serialize)]
struct DamagedDocument {
    id: Id,
    error: ErrorDocument,
}

pub(crate) fn run(options: &Options, console: &Console) -> Result<Answer> {
    let Verb::Rebuild(repo) = &options.verb;
    let setpiece = repo.open(console)?;
    let cache = repo.cache.directory();
    if let Some(directory) = cache.as_ref().filter(|directory| directory.exists()) {
        let cache = Cache::open(directory, setpiece.repository().id())?;
        cache.keep_only(&|_| false).map_err(|error: Error| error.doing("forgetting copies of metadata"))?;
    }
    let catalog = setpiece.catalog()?;
    let is_log = |scope: &Scope| *scope == Scope::Log;
    let log_sets = catalog.records().filter(|record| is_log(&record.summary.scope)).count() as u64;
    let incomplete = catalog.records().filter(|record| !record.missing.is_empty());
    let document = Document {
        sets: catalog.records().count() as u64 - log_sets,
        log_sets,
        incomplete: incomplete.map(|record| Text(record.summary.id)).collect(),
        damaged: catalog
            .damaged()
            .iter()
            .map(|(id, error)| DamagedDocument { id: Text(*id), error: ErrorDocument::of(error) })
            .collect(),
        orphans: catalog
            .orphans()
            .iter()
            .map(|(id, objects)| RemovedDocument { id: Text(*id), name: None, bytes: objects.bytes() })
            .collect(),
        cache,
    };
    let text = in_words(&document);
    Answer::new(&document, text)
}

fn in_words(document: &Document) -> String {
    let mut text = format!(
        "{} and {} of redo read from the medium; {} incomplete, {} damaged, {} without metadata\n",
        text::count(document.sets, "set"),
        text::count(document.log_sets, "set"),
        document.incomplete.len(),
        document.damaged.len(),
        document.orphans.len()
    );
    for damaged in &document.damaged {
        text += &format!("damaged: set {}: {}\n", damaged.id.0, damaged.error.message);
    }
    if let Some(cache) = &document.cache {
        text += &format!("copies are in {}\n", cache.display());
    }
    text
}
