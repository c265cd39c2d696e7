//! `setpiece sets`: what the repository holds, how sets hang together, and to which moments recovery is possible.

use std::time::SystemTime;

use clap::Args;
use serde::Serialize;
use setpiece::catalog::{Catalog, SetRecord};
use setpiece::model::{RepoId, Scope, SetSummary, SourceId, Timestamp};
use setpiece::restore::taken_ahead;
use setpiece::{ErrorKind, Result};

use crate::console::{Answer, Console};
use crate::documents::{ErrorDocument, Id, RecordDocument, RemovedDocument, Text, WindowDocument, state};
use crate::options::RepoOptions;
use crate::{reach, rows, text, timeline, tree};

/// List sets, chains and recoverable windows.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    repo: RepoOptions,
    /// List every set of captured redo instead of one line for each unbroken row.
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Document {
    repository: Text<RepoId>,
    sets: Vec<RecordDocument>,
    sources: Vec<SourceWindows>,
    damaged: Vec<DamagedDocument>,
    orphans: Vec<RemovedDocument>,
}

#[derive(Serialize)]
struct SourceWindows {
    id: Text<SourceId>,
    name: String,
    /// The newest set of every chain and the sets below it, down to the full one.
    chains: Vec<Vec<Id>>,
    windows: Vec<WindowDocument>,
}

#[derive(Serialize)]
struct DamagedDocument {
    id: Id,
    error: ErrorDocument,
}

pub(crate) fn run(options: &Options, console: &Console) -> Result<Answer> {
    let setpiece = options.repo.open(console)?;
    let catalog = setpiece.catalog()?;
    let pages = catalog.records().map(|record| &record.summary).filter(|set| set.holds_pages());
    let now = Timestamp::from(SystemTime::now());
    pages.filter_map(|set| taken_ahead(set, now)).for_each(|text| console.warn(&text));
    let document = Document {
        repository: Text(setpiece.repository().id()),
        sets: catalog.records().map(|record| RecordDocument::of(record, &catalog)).collect(),
        sources: catalog.sources().into_iter().map(|(id, name)| of_source(&catalog, id, name)).collect(),
        damaged: damaged(&catalog),
        orphans: orphans(&catalog),
    };
    Answer::new(&document, in_words(&catalog, options.all))
}

fn of_source(catalog: &Catalog, id: SourceId, name: String) -> SourceWindows {
    let summaries: Vec<&SetSummary> = catalog.of_source(id).map(|record| &record.summary).collect();
    let is_base = |set: &SetSummary| summaries.iter().any(|other| other.base == Some(set.id));
    let tips = summaries.iter().filter(|set| set.holds_pages() && !is_base(set));
    let chains = tips.filter_map(|set| catalog.chain(set.id).ok());
    SourceWindows {
        id: Text(id),
        name,
        chains: chains.map(|chain| chain.into_iter().map(Text).collect()).collect(),
        windows: catalog.windows(id).iter().map(Into::into).collect(),
    }
}

fn damaged(catalog: &Catalog) -> Vec<DamagedDocument> {
    let sets = catalog.damaged().iter();
    sets.map(|(id, error)| DamagedDocument { id: Text(*id), error: ErrorDocument::of(error) }).collect()
}

fn orphans(catalog: &Catalog) -> Vec<RemovedDocument> {
    let sets = catalog.orphans().iter();
    sets.map(|(id, objects)| RemovedDocument { id: Text(*id), name: None, bytes: objects.bytes() }).collect()
}

fn in_words(catalog: &Catalog, all: bool) -> String {
    let records: Vec<&SetRecord> = catalog.records().collect();
    if records.is_empty() && catalog.damaged().is_empty() && catalog.orphans().is_empty() {
        return "no sets yet\n".into();
    }
    let sources = catalog.sources();
    let mut text = table(catalog, &records, all, sources.len() > 1);
    for (source, name) in &sources {
        let known_as = if sources.len() > 1 { format!("{name} ({})", text::short(source)) } else { name.clone() };
        text += &source_in_words(catalog, *source, &known_as);
    }
    for (set, error) in catalog.damaged() {
        let state = if error.kind() == ErrorKind::Key { "sealed" } else { "damaged" };
        text += &format!("\n{state}: set {set}: {error}\n");
    }
    if !catalog.orphans().is_empty() {
        let bytes = catalog.orphans().iter().map(|(_, objects)| objects.bytes()).sum();
        text += &format!(
            "\n{} without metadata, {}: being written now, or left by a crash, and then `setpiece expire` removes it\n",
            text::count(catalog.orphans().len() as u64, "set"),
            text::bytes(bytes)
        );
    }
    text
}

/// The table of sets. An unbroken row of captured redo has one line; sets of several sources say of which they are.
fn table(catalog: &Catalog, records: &[&SetRecord], all: bool, several: bool) -> String {
    let rows = if all { records.iter().map(|one| vec![*one]).collect() } else { rows::rows(records.iter().copied()) };
    let mut header = vec!["NAME", "ID", "LEVEL", "SCOPE", "BASE", "TIME", "LSN", "RAW", "STORED", "STATE"];
    let cells = |of: &Vec<&SetRecord>| match of.as_slice() {
        [only] => row(catalog, only),
        many => captured_row(many),
    };
    let mut lines: Vec<Vec<String>> = rows.iter().map(cells).collect();
    if several {
        header.insert(2, "SOURCE");
        let sources = rows.iter().filter_map(|row| row.first()).map(|first| text::short(first.summary.source));
        lines.iter_mut().zip(sources).for_each(|(line, source)| line.insert(2, source));
    }
    text::table(&header, lines)
}

fn row(catalog: &Catalog, record: &SetRecord) -> Vec<String> {
    let set = &record.summary;
    let log = set.scope == Scope::Log;
    vec![
        set.name.clone(),
        text::short(set.id),
        if log { "-".into() } else { set.level.to_string() },
        set.scope.to_string(),
        set.base.map_or_else(|| "-".into(), text::short),
        text::moment(set.ended),
        set.bak_end_lsn.to_string(),
        text::bytes(record.raw_bytes),
        text::bytes(record.stored_bytes),
        state(record, catalog),
    ]
}

fn captured_row(records: &[&SetRecord]) -> Vec<String> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Vec::new() };
    let state = if first.missing.is_empty() { "whole" } else { "incomplete" };
    vec![
        rows::name(records),
        text::short(last.summary.id),
        "-".into(),
        "log".into(),
        "-".into(),
        text::moment(last.summary.ended),
        last.summary.bak_end_lsn.to_string(),
        text::bytes(records.iter().map(|record| record.raw_bytes).sum()),
        text::bytes(records.iter().map(|record| record.stored_bytes).sum()),
        format!("{state}, {}", text::count(records.len() as u64, "set")),
    ]
}

fn source_in_words(catalog: &Catalog, source: SourceId, name: &str) -> String {
    let summaries: Vec<&SetSummary> = catalog.of_source(source).map(|record| &record.summary).collect();
    let windows = catalog.windows(source);
    let mut text = String::new();
    let chains = tree::draw(summaries.iter().copied());
    if !chains.is_empty() {
        text += &format!("\nchains of {name}\n");
        chains.iter().for_each(|line| text += &format!("  {line}\n"));
    }
    text += &format!("\nrecovery of {name} is possible\n");
    if windows.is_empty() {
        text += "  nowhere: no set can be restored\n";
    }
    windows.iter().for_each(|window| text += &reach::window(window));
    let picture = timeline::draw(&summaries, &windows, timeline::WIDTH);
    if !picture.is_empty() {
        text += "\n";
        picture.iter().for_each(|line| text += &format!("  {line}\n"));
    }
    text
}
