//! Where recovery is possible, in words; and how that changes when sets go.

use std::collections::BTreeSet;

use serde::Serialize;
use setpiece::catalog::Catalog;
use setpiece::model::lsn::LsnSpan;
use setpiece::model::window::Window;
use setpiece::model::{LogUnit, SetId, SourceId};

use crate::documents::{Text, WindowDocument};
use crate::text;

/// One window: a line, and another for the gap behind it.
pub(crate) fn window(window: &Window) -> String {
    let time = match window.to_time {
        Some(to) => format!("from {} to {}", window.from_time, to),
        None => format!("at {}", window.from_time),
    };
    let lsn = if window.from == window.to {
        format!("LSN {}", window.from)
    } else {
        format!("LSN {} to {}", window.from, window.to)
    };
    let gap = window.gap.map(|gap| format!("    then {gap}\n")).unwrap_or_default();
    format!(
        "  on branch {} {time}, {lsn}, beginning with {}\n{gap}",
        window.branch,
        text::count(window.sets.len() as u64, "set")
    )
}

/// What the loss of sets does to the windows of a source.
pub(crate) struct Change {
    source: SourceId,
    name: String,
    before: Vec<Window>,
    after: Vec<Window>,
    /// Units of redo that stay, and that led somewhere only before.
    stranded: u64,
}

/// The same as a document.
#[derive(Serialize)]
pub(crate) struct ChangeDocument {
    id: Text<SourceId>,
    name: String,
    before: Vec<WindowDocument>,
    after: Vec<WindowDocument>,
    stranded_units: u64,
}

impl From<&Change> for ChangeDocument {
    fn from(change: &Change) -> Self {
        ChangeDocument {
            id: Text(change.source),
            name: change.name.clone(),
            before: change.before.iter().map(Into::into).collect(),
            after: change.after.iter().map(Into::into).collect(),
            stranded_units: change.stranded,
        }
    }
}

/// How the windows change when `gone` goes, for each source that has a set among them.
pub(crate) fn changes(catalog: &Catalog, gone: &BTreeSet<SetId>) -> Vec<Change> {
    let of = |set: &SetId| catalog.get(*set).map(|record| record.summary.source);
    let concerned: BTreeSet<SourceId> = gone.iter().filter_map(of).collect();
    let named = catalog.sources().into_iter().filter(|(source, _)| concerned.contains(source));
    named.map(|(source, name)| change(catalog, gone, source, name)).collect()
}

fn change(catalog: &Catalog, gone: &BTreeSet<SetId>, source: SourceId, name: String) -> Change {
    let (before, after) = (catalog.windows(source), catalog.windows_without(source, gone));
    let left = catalog.of_source(source).filter(|record| !gone.contains(&record.summary.id));
    let units = left.flat_map(|record| &record.log);
    let stranded = units.filter(|unit| leads(unit, &before) && !leads(unit, &after)).count() as u64;
    Change { source, name, before, after, stranded }
}

/// Whether a unit of redo is a part of a window.
fn leads(unit: &LogUnit, windows: &[Window]) -> bool {
    let own = windows.iter().filter(|window| window.branch == unit.branch);
    own.map(|window| LsnSpan { after: window.from, upto: window.to }).any(|span| span.intersect(unit.span).is_some())
}

/// For people: what can no longer be reached, by what could be before.
pub(crate) fn in_words(changes: &[Change], dry_run: bool) -> String {
    let (was, is) = if dry_run { ("is", "would be") } else { ("was", "is now") };
    let list = |windows: &[Window]| match windows {
        [] => "  nowhere: no set can be restored\n".to_owned(),
        some => some.iter().map(window).collect(),
    };
    let mut text = String::new();
    for change in changes {
        if reaches(&change.before) == reaches(&change.after) {
            text += &format!("recovery of {} reaches all that it reached before\n", change.name);
            continue;
        }
        text += &format!("\nrecovery of {} {was} possible\n{}", change.name, list(&change.before));
        text += &format!("and {is}\n{}", list(&change.after));
        if change.stranded > 0 {
            text += &format!("{} of redo left over, to which no set leads\n", text::count(change.stranded, "unit"));
        }
    }
    text
}

/// What of windows matters to somebody who wants to come back to a moment.
fn reaches(windows: &[Window]) -> Vec<impl PartialEq + use<>> {
    let part = |window: &Window| (window.branch, window.from, window.to, window.from_time, window.to_time);
    windows.iter().map(part).collect()
}
