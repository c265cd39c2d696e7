//! Warns when redo that is captured cannot be used with any set on record, as early as that can be known.

use std::collections::BTreeMap;

use crate::catalog::{Catalog, Surroundings};
use crate::error::Result;
use crate::events::Event;
use crate::media::repository::Repository;
use crate::model::join::{Place, joins};
use crate::model::{BranchHistory, LogGap, LogUnit, Lsn, LsnSpan, NodeId, SetId, SourceId};
use crate::source::{CaptureBegin, CapturedUnit};

/// What is known of the redo of each node while it is captured.
pub(super) struct Continuity<'a> {
    repository: &'a Repository,
    source: SourceId,
    around: Surroundings<'a>,
    nodes: BTreeMap<NodeId, Last>,
    lost: Option<String>,
}

/// What the next unit of a node has to go on from.
enum Last {
    /// Where the capture begins; whether that is of use has been judged.
    Begin(Lsn),
    Unit(LogUnit),
}

impl Last {
    /// Whether `unit` goes on from here; otherwise what is missing.
    fn leads_to(&self, unit: &LogUnit) -> Result<(), LogGap> {
        match self {
            Last::Begin(after) if unit.span.after <= *after => Ok(()),
            Last::Begin(after) => Err(LogGap {
                node: unit.node,
                branch: unit.branch,
                last_seq: None,
                next_seq: Some(unit.seq),
                missing: LsnSpan { after: *after, upto: unit.span.after },
                unproven: false,
            }),
            Last::Unit(previous) if unit.supersedes(previous) => Ok(()),
            Last::Unit(previous) => unit.follows(previous),
        }
    }
}

impl<'a> Continuity<'a> {
    pub(super) fn new(repository: &'a Repository, source: SourceId, around: Surroundings<'a>) -> Self {
        Continuity { repository, source, around, nodes: BTreeMap::new(), lost: None }
    }

    /// Judges where the capture begins.
    pub(super) fn begin(&mut self, catalog: &Catalog, begin: CaptureBegin) {
        self.lost = begin.lost;
        for node in &begin.nodes {
            self.nodes.insert(node.node, Last::Begin(node.lsn));
            self.judge(catalog, &begin.branch, (node.node, node.lsn), None);
        }
        self.lost = None;
    }

    /// Judges the next unit where it does not simply go on from what was captured before it.
    pub(super) fn goes_on(&mut self, captured: &CapturedUnit) -> Result<()> {
        let unit = &captured.unit;
        let last = self.nodes.insert(unit.node, Last::Unit(unit.clone()));
        let gap = match last.map(|last| last.leads_to(unit)) {
            Some(Ok(())) => return Ok(()),
            Some(Err(gap)) => Some(gap),
            None => None,
        };
        if self.repository.vault().can_read() {
            // Backups may have been taken since the capture began.
            let catalog = Catalog::load(self.repository, self.around.cache)?;
            self.judge(&catalog, &captured.branch, (unit.node, unit.span.upto), Some(unit));
        } else if gap.is_some() {
            self.warn(gap);
        }
        Ok(())
    }

    /// Warns when no set on record can be brought to `at`, by the redo on record and `unit`.
    fn judge(&self, catalog: &Catalog, history: &BranchHistory, at: (NodeId, Lsn), unit: Option<&LogUnit>) {
        if !self.repository.vault().can_read() {
            return;
        }
        let on_record = catalog.of_source(self.source).flat_map(|record| &record.log);
        let units: Vec<LogUnit> = on_record.chain(unit).cloned().collect();
        let usable = |set: SetId| catalog.whole(set).map_err(|error| error.to_string());
        let place = Place { source: self.source, history, node: at.0, upto: at.1 };
        if let Err(gap) = joins(&place, &catalog.summaries(), &usable, &units) {
            self.warn(gap);
        }
    }

    fn warn(&self, gap: Option<LogGap>) {
        let missing = match (gap, &self.lost) {
            (Some(gap), Some(why)) => format!("{gap}, because {why}: recovery across it"),
            (Some(gap), None) => format!("{gap}: recovery across it"),
            (None, _) => "there is no backup yet that this redo could be applied to: recovery".to_owned(),
        };
        let text = format!("{missing} is possible only from a later backup; take one now");
        self.around.observer.event(&Event::Warning { text });
    }
}
