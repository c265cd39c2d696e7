//! What a restore is told before it begins: that something on record, which it does not use, may be what is wanted.

use super::request::RestoreRequest;
use crate::catalog::fresh::now;
use crate::catalog::{Catalog, SetRecord, Surroundings};
use crate::events::Event;
use crate::model::start::Start;
use crate::model::{LogUnit, SetSummary, SourceId, Timestamp, Until, lineage};

/// So far apart may clocks be, in microseconds.
const APART: i64 = 60_000_000;

/// What is to be said of a set that says it was taken in the future: a clock was wrong, or is.
#[must_use]
pub fn taken_ahead(set: &SetSummary, now: Timestamp) -> Option<String> {
    (set.ended.0 > now.0.saturating_add(APART)).then(|| {
        format!(
            "set {} says that it was taken at {}, which is yet to come: the clock was wrong then or is wrong now; what is \
             later may be taken for older, so name the set when restoring, and remove this one when others have replaced it",
            set.name, set.ended
        )
    })
}

/// Warns of what was left out, and of what makes the choice doubtful.
pub(super) fn tell(
    catalog: &Catalog,
    request: &RestoreRequest,
    source: SourceId,
    start: &Start<'_>,
    around: Surroundings<'_>,
) {
    let warn = |text: String| around.observer.event(&Event::Warning { text });
    for (set, error) in catalog.damaged() {
        warn(format!("set {set} cannot be read, so whatever it holds is left out: {error}"));
    }
    let chosen = catalog.get(start.set);
    chosen.and_then(|record| taken_ahead(&record.summary, now())).into_iter().for_each(warn);
    if request.set.is_none() {
        catalog.of_source(source).filter_map(|record| unused(catalog, start, record)).for_each(warn);
    }
    match request.target.until {
        Until::Latest => {
            let later = catalog.of_source(source).filter(|_| request.set.is_none());
            let reached = reached_at(catalog, start);
            later.filter_map(|record| taken_later(start, record, reached)).last().into_iter().for_each(warn);
        }
        Until::Time(_) => backwards(start).into_iter().for_each(warn),
        _ => {}
    }
}

/// A set that reaches farther and cannot be used.
fn unused(catalog: &Catalog, start: &Start<'_>, record: &SetRecord) -> Option<String> {
    let set = &record.summary;
    let inside = lineage::contains(&start.history, set.branch.current, set.bak_end_lsn);
    if !set.holds_pages() || !inside || set.bak_end_lsn <= start.reaches {
        return None;
    }
    let why = catalog.chain(set.id).err()?;
    Some(format!("set {} holds a later state, LSN {}, and cannot be used: {why}", set.name, set.bak_end_lsn))
}

/// The moment of the last state that is reached, as far as known.
fn reached_at(catalog: &Catalog, start: &Start<'_>) -> Timestamp {
    let units = start.logs.iter().flat_map(|log| &log.units).filter_map(|unit| unit.last_commit);
    let first = catalog.get(start.set).map(|record| record.summary.ended);
    units.chain(first).max().unwrap_or(Timestamp(i64::MIN))
}

/// A set that was taken when all that is restored was there already, and that is not on the way to it.
fn taken_later(start: &Start<'_>, record: &SetRecord, reached: Timestamp) -> Option<String> {
    let set = &record.summary;
    if !set.holds_pages() || set.began <= reached || set.bak_end_lsn >= start.reaches {
        return None;
    }
    Some(format!(
        "set {} was taken later, at {}, and holds an earlier state, LSN {}: was the database put back to it, or a clock wrong? \
         `--set {}` restores that one",
        set.name, set.ended, set.bak_end_lsn, set.id
    ))
}

/// Commits on record whose moments run backwards.
fn backwards(start: &Start<'_>) -> Option<String> {
    let runs_back = |pair: &[&LogUnit]| pair[1].last_commit.zip(pair[0].last_commit).filter(|(later, one)| later < one);
    let mut rows = start.logs.iter().flat_map(|log| log.units.windows(2));
    let (pair, (later, one)) = rows.find_map(|pair| Some((pair, runs_back(pair)?)))?;
    Some(format!(
        "a clock ran backwards: behind LSN {} transactions say that they were committed at {later}, and those before \
         it at {one}; what was there at a moment around these is not certain, an LSN is",
        pair[1].span.after
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Uuid;
    use crate::model::{BranchHistory, BranchId, Consistency, Level, Lsn, Scope, SetId, SourceId};

    fn set() -> SetSummary {
        SetSummary {
            id: SetId(Uuid::from_time(7, [0; 10])),
            name: "one".into(),
            source: SourceId::default(),
            source_name: "database".into(),
            engine: "engine".into(),
            level: Level::Full,
            scope: Scope::Database,
            base: None,
            consistency: Consistency::NoLogNeeded,
            online: true,
            branch: BranchHistory::first(BranchId(1)),
            nodes: Vec::new(),
            bak_end_lsn: Lsn(1),
            began: Timestamp(0),
            ended: Timestamp(0),
            bad_pages: 0,
            marks: None,
        }
    }

    #[test]
    fn clocks_may_be_a_little_apart() {
        let now = Timestamp(1_800_000_000_000_000);
        for (ahead, warned) in [(-1, false), (0, false), (APART, false), (APART + 1, true), (3_600_000_000, true)] {
            let set = SetSummary { ended: Timestamp(now.0 + ahead), ..set() };
            let said = taken_ahead(&set, now);
            assert_eq!(
                said.is_some_and(|said| said.contains("yet to come") && said.contains("set one")),
                warned,
                "{ahead}"
            );
        }
    }
}
