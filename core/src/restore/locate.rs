//! Where in the redo on record a target lies that only the engine can find: the end of a transaction, or a point with a name
//! where it is not recorded which names the redo has.
//!
//! Redo is read from its end backwards, one stretch between two sets at a time, and a unit at a time: a set from which
//! recovery meets the target first is one behind which nothing else of that name lies. So what is read is what lies behind
//! the set that is chosen, and all of it only when the target is nowhere.

use std::collections::{BTreeMap, BTreeSet};

use super::feed::Feed;
use crate::catalog::{Catalog, Surroundings};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::media::repository::Repository;
use crate::model::log::LogTrack;
use crate::model::start::{Start, StartRequest, Unreachable, Why, choose_start, history_wanted, names_told};
use crate::model::{
    BranchHistory, BranchId, LogUnit, Lsn, NodeId, Scope, Seq, SetId, SourceId, StateMark, Until, lineage,
};
use crate::source::{LogFeed, Recovery};

/// Chooses where a recovery starts, as [`choose_start`] does, and looks through the redo where that is needed to know.
pub(super) fn start<'u>(
    repository: &Repository,
    catalog: &Catalog,
    recoveries: &[&dyn Recovery],
    asked: &StartRequest<'_>,
    units: &'u [LogUnit],
    around: Surroundings<'_>,
) -> Result<Start<'u>> {
    let usable = |set: SetId| catalog.whole(set).map_err(|error| error.to_string());
    let sets = catalog.summaries();
    let choose = |asked: &StartRequest<'_>| choose_start(asked, &sets, &usable, units);
    let engine = engine_of(catalog, recoveries, asked).zip(history_wanted(asked, &sets, &usable, units));
    let Some((engine, history)) = engine.filter(|(_, history)| is_hidden(asked, history, units)) else {
        return Ok(choose(asked)?);
    };
    let mut search = Search::new(repository, catalog, engine, asked, &history, units, around);
    let target = target_text(&asked.target.until);
    around.decision(&format!("{target} is looked for in the redo on record, the newest first"));
    let (mut found, mut upto) = (Vec::new(), Lsn(u64::MAX));
    for from in ends(catalog, asked, &history).into_iter().rev() {
        found.extend(search.between(from, upto)?);
        upto = from;
        let chosen = if found.is_empty() { None } else { choose(&StartRequest { found: Some(&found), ..*asked }).ok() };
        let met = |start: &Start<'_>| catalog.get(start.set).is_some_and(|set| set.summary.bak_end_lsn >= from);
        if let Some(start) = chosen.filter(met) {
            around.decision(&format!("{target} was found at LSN {}", start_stops_at(&found, &start)));
            return Ok(start);
        }
    }
    choose(&StartRequest { found: Some(&found), ..*asked }).map_err(|error| search.refused(&error))
}

/// The engine of the source, if it takes the target.
fn engine_of<'r>(
    catalog: &Catalog,
    recoveries: &[&'r dyn Recovery],
    asked: &StartRequest<'_>,
) -> Option<&'r dyn Recovery> {
    let engine = &catalog.of_source(asked.source).find(|record| record.summary.holds_pages())?.summary.engine;
    let found = recoveries.iter().find(|recovery| recovery.engine() == engine).copied();
    found.filter(|recovery| recovery.stops_at(&asked.target.until) && *asked.scope == Scope::Database)
}

/// Whether the record does not say where the target lies.
fn is_hidden(asked: &StartRequest<'_>, history: &BranchHistory, units: &[LogUnit]) -> bool {
    match asked.target.until {
        Until::Transaction(_) => true,
        Until::Name(_) => !names_told(history, units),
        _ => false,
    }
}

/// Where the sets end that recovery may start from.
fn ends(catalog: &Catalog, asked: &StartRequest<'_>, history: &BranchHistory) -> BTreeSet<Lsn> {
    let sets = catalog.of_source(asked.source).map(|record| &record.summary).filter(|set| set.holds_pages());
    let named = sets.filter(|set| asked.set.is_none_or(|named| named == set.id));
    let inside = named.filter(|set| lineage::contains(history, set.branch.current, set.bak_end_lsn));
    inside.map(|set| set.bak_end_lsn).collect()
}

fn start_stops_at(found: &[(BranchId, Lsn)], start: &Start<'_>) -> Lsn {
    found.iter().map(|(_, lsn)| *lsn).filter(|lsn| *lsn <= start.reaches).max().unwrap_or(start.reaches)
}

fn target_text(until: &Until) -> String {
    match until {
        Until::Transaction(number) => format!("transaction {number}"),
        Until::Name(name) => format!("point {name}"),
        _ => "the target".into(),
    }
}

/// A search through the redo along one history.
struct Search<'a> {
    repository: &'a Repository,
    engine: &'a dyn Recovery,
    until: &'a Until,
    source: SourceId,
    around: Surroundings<'a>,
    tracks: Vec<LogTrack<'a>>,
    holders: BTreeMap<UnitKey, SetId>,
    searched: Searched,
}

/// What was looked at.
#[derive(Default)]
struct Searched {
    units: u64,
    /// The first LSN and the last.
    span: Option<(Lsn, Lsn)>,
}

impl<'a> Search<'a> {
    fn new(
        repository: &'a Repository,
        catalog: &'a Catalog,
        engine: &'a dyn Recovery,
        asked: &'a StartRequest<'_>,
        history: &BranchHistory,
        units: &'a [LogUnit],
        around: Surroundings<'a>,
    ) -> Self {
        let nodes: BTreeSet<NodeId> = units.iter().map(|unit| unit.node).collect();
        let track = |node| LogTrack::new(units, node, |branch| history.reach(branch));
        Search {
            repository,
            engine,
            until: &asked.target.until,
            source: asked.source,
            around,
            tracks: nodes.into_iter().map(track).collect(),
            holders: catalog.units().map(|(set, unit)| (unit_key(unit), set)).collect(),
            searched: Searched::default(),
        }
    }

    /// The places behind `from` up to `upto`. What is between two gaps is a piece of redo by itself.
    fn between(&mut self, from: Lsn, upto: Lsn) -> Result<Vec<(BranchId, Lsn)>> {
        let mut found = Vec::new();
        for track in 0..self.tracks.len() {
            let mut after = from;
            loop {
                let stretch = self.tracks[track].from(after);
                let units: Vec<&LogUnit> =
                    stretch.units.iter().copied().filter(|unit| unit.span.after < upto).collect();
                found.extend(self.stretch(&units)?);
                let next = stretch.gap.map_or(stretch.reached, |gap| gap.missing.upto).max(stretch.reached);
                let more = stretch.gap.is_some() && (next > after || !units.is_empty()) && next < upto;
                if !more {
                    break;
                }
                after = next;
            }
        }
        found.retain(|(_, lsn)| from < *lsn && *lsn <= upto);
        Ok(found)
    }

    fn stretch(&mut self, units: &[&LogUnit]) -> Result<Vec<(BranchId, Lsn)>> {
        let held = |unit: &&LogUnit| self.holders.get(&unit_key(unit)).map(|set| (*set, (*unit).clone()));
        let held: Vec<(SetId, LogUnit)> = units.iter().filter_map(held).collect();
        for (_, unit) in &held {
            self.searched.add(unit);
        }
        let feed = Feed::new(self.repository, self.source, &held, self.around.cancel);
        self.engine.locate(self.until, &mut Readable { feed, around: self.around })
    }

    /// The refusal, which says what was looked at.
    fn refused(&self, error: &Unreachable) -> Error {
        let Some((after, upto)) = self.searched.span.filter(|_| matches!(error.why, Why::NoPoint | Why::NoTransaction))
        else {
            return Box::new(error.clone()).into();
        };
        let units = self.searched.units;
        Error::new(ErrorKind::Unreachable, error.to_string()).remedy(format!(
            "looked through {units} units of redo behind the sets, LSN {after} to {upto}; recover to an LSN or a moment, or \
             name the branch that it is on"
        ))
    }
}

impl Searched {
    fn add(&mut self, unit: &LogUnit) {
        self.units += 1;
        let (after, upto) = self.span.unwrap_or((unit.span.after, unit.span.upto));
        self.span = Some((after.min(unit.span.after), upto.max(unit.span.upto)));
    }
}

/// A feed that ends where a unit cannot be read: no recovery gets behind it.
struct Readable<'a> {
    feed: Feed<'a>,
    around: Surroundings<'a>,
}

impl LogFeed for Readable<'_> {
    fn next(&mut self) -> Result<Option<(LogUnit, Vec<u8>)>> {
        match self.feed.next() {
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => {
                let text = format!("a unit of redo cannot be searched: {error}");
                self.around.observer.event(&Event::Warning { text });
                Ok(None)
            }
            next => next,
        }
    }
}

/// What tells units of redo on record from each other.
pub(super) type UnitKey = (NodeId, BranchId, Seq, Lsn, Lsn, Option<StateMark>);

pub(super) fn unit_key(unit: &LogUnit) -> UnitKey {
    let last = unit.links.as_ref().and_then(|links| links.states.last().map(|state| state.mark));
    (unit.node, unit.branch, unit.seq, unit.span.after, unit.span.upto, last)
}
