//! The shapes of `--json`. `docs/CLI.md` describes them; fields are added, never renamed or removed.
//!
//! Numbers are JSON integers, LSNs and bytes too: readers need 64 bits. Times are RFC 3339 in UTC.

use std::error::Error as _;

use serde::{Serialize, Serializer};
use setpiece::Error;
use setpiece::catalog::{Catalog, SetRecord};
use setpiece::format::{RepoDescriptor, Slot, SlotKind};
use setpiece::model::log::LogGap;
use setpiece::model::window::Window;
use setpiece::model::{BranchHistory, LogUnit, NodeRange, Scope, SetId, SetSummary, SourceId, Timestamp};
use setpiece::retain::Removed;
use setpiece::transform::Recipient;

/// A failure.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorDocument {
    /// A few words, for people.
    pub kind: &'static str,
    /// The stable number of the kind.
    pub code: u16,
    /// Everything in one line.
    pub message: String,
    pub object: Option<String>,
    pub remedy: Option<String>,
    pub retryable: bool,
    /// What caused it, from the outside in.
    pub causes: Vec<String>,
}

impl ErrorDocument {
    /// The document of an error.
    pub(crate) fn of(error: &Error) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(because) = cause {
            causes.push(because.to_string());
            cause = because.source();
        }
        ErrorDocument {
            kind: error.kind().text(),
            code: error.kind() as u16,
            message: error.to_string(),
            object: error.object().map(str::to_owned),
            remedy: error.remedy_text().map(str::to_owned),
            retryable: error.is_retryable(),
            causes,
        }
    }
}

/// Anything that has a text form, as that text.
#[derive(Clone, Debug)]
pub(crate) struct Text<T>(pub T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

pub(crate) type Id = Text<SetId>;
pub(crate) type Time = Text<Timestamp>;

/// A source.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SourceDocument {
    pub id: Text<SourceId>,
    pub name: String,
    pub engine: String,
}

/// The redo of one node that a set needs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NodeDocument {
    pub node: u32,
    pub begin_lsn: u64,
    pub begin_seq: Option<u64>,
    pub end_lsn: u64,
    pub end_seq: Option<u64>,
}

impl From<&NodeRange> for NodeDocument {
    fn from(range: &NodeRange) -> Self {
        NodeDocument {
            node: range.node.0,
            begin_lsn: range.begin_lsn.0,
            begin_seq: range.begin_seq.map(|seq| seq.0),
            end_lsn: range.end_lsn.0,
            end_seq: range.end_seq.map(|seq| seq.0),
        }
    }
}

/// Where a branch left another.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ForkDocument {
    pub branch: u64,
    pub parent: u64,
    pub fork_lsn: u64,
    pub made: Option<Time>,
}

/// The way to a branch, oldest fork first.
pub(crate) fn forks(history: &BranchHistory) -> Vec<ForkDocument> {
    let fork = |point: &setpiece::model::BranchPoint| ForkDocument {
        branch: point.branch.0,
        parent: point.parent.0,
        fork_lsn: point.fork.0,
        made: point.made.map(Text),
    };
    history.points.iter().map(fork).collect()
}

/// What lists know of a set.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SetDocument {
    pub id: Id,
    pub name: String,
    pub source: SourceDocument,
    pub scope: Text<Scope>,
    /// `full`, `differential` or `cumulative`; absent for sets of redo.
    pub level: Option<&'static str>,
    pub base: Option<Id>,
    pub consistency: &'static str,
    pub online: bool,
    pub branch: u64,
    pub history: Vec<ForkDocument>,
    pub nodes: Vec<NodeDocument>,
    pub bak_end_lsn: u64,
    pub began: Time,
    pub ended: Time,
    pub bad_pages: u64,
}

impl From<&SetSummary> for SetDocument {
    fn from(set: &SetSummary) -> Self {
        SetDocument {
            id: Text(set.id),
            name: set.name.clone(),
            source: SourceDocument { id: Text(set.source), name: set.source_name.clone(), engine: set.engine.clone() },
            scope: Text(set.scope.clone()),
            level: (set.scope != Scope::Log).then(|| set.level.as_str()),
            base: set.base.map(Text),
            consistency: set.consistency.as_str(),
            online: set.online,
            branch: set.branch.current.0,
            history: forks(&set.branch),
            nodes: set.nodes.iter().map(Into::into).collect(),
            bak_end_lsn: set.bak_end_lsn.0,
            began: Text(set.began),
            ended: Text(set.ended),
            bad_pages: set.bad_pages,
        }
    }
}

/// A set as the catalog has it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RecordDocument {
    #[serde(flatten)]
    pub set: SetDocument,
    pub raw_bytes: u64,
    pub stored_bytes: u64,
    /// `whole`, or why it cannot be used by itself or with its bases.
    pub state: String,
    pub captured: bool,
    pub missing: Vec<String>,
    pub log_units: u64,
}

impl RecordDocument {
    /// The document of a record.
    pub(crate) fn of(record: &SetRecord, catalog: &Catalog) -> Self {
        RecordDocument {
            set: (&record.summary).into(),
            raw_bytes: record.raw_bytes,
            stored_bytes: record.stored_bytes,
            state: state(record, catalog),
            captured: record.captured,
            missing: record.missing.clone(),
            log_units: record.log.len() as u64,
        }
    }
}

/// `whole`, or the first reason for which a set is not.
pub(crate) fn state(record: &SetRecord, catalog: &Catalog) -> String {
    let summary = &record.summary;
    if !record.missing.is_empty() {
        return format!("incomplete: {} missing", crate::text::count(record.missing.len() as u64, "piece"));
    }
    if summary.bad_pages > 0 {
        return crate::text::count(summary.bad_pages, "bad page");
    }
    if summary.holds_pages() && catalog.chain(summary.id).is_err() {
        return "base missing".into();
    }
    let without = summary.consistency == setpiece::model::Consistency::WithoutLog;
    if without && summary.scope != Scope::Log && !catalog.log_archived(summary) {
        return "log missing".into();
    }
    "whole".into()
}

/// Redo that is missing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GapDocument {
    pub node: u32,
    pub branch: u64,
    pub after_lsn: u64,
    pub upto_lsn: u64,
    pub last_seq: Option<u64>,
    pub next_seq: Option<u64>,
    pub unproven: bool,
}

impl From<LogGap> for GapDocument {
    fn from(gap: LogGap) -> Self {
        GapDocument {
            node: gap.node.0,
            branch: gap.branch.0,
            after_lsn: gap.missing.after.0,
            upto_lsn: gap.missing.upto.0,
            last_seq: gap.last_seq.map(|seq| seq.0),
            next_seq: gap.next_seq.map(|seq| seq.0),
            unproven: gap.unproven,
        }
    }
}

/// A stretch to every moment of which recovery is possible.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WindowDocument {
    pub branch: u64,
    pub from_lsn: u64,
    pub to_lsn: u64,
    pub from_time: Time,
    pub to_time: Option<Time>,
    pub sets: Vec<Id>,
    pub gap: Option<GapDocument>,
}

impl From<&Window> for WindowDocument {
    fn from(window: &Window) -> Self {
        WindowDocument {
            branch: window.branch.0,
            from_lsn: window.from.0,
            to_lsn: window.to.0,
            from_time: Text(window.from_time),
            to_time: window.to_time.map(Text),
            sets: window.sets.iter().copied().map(Text).collect(),
            gap: window.gap.map(Into::into),
        }
    }
}

/// A unit of redo.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct UnitDocument {
    pub node: u32,
    pub branch: u64,
    pub seq: u64,
    pub after_lsn: u64,
    pub upto_lsn: u64,
    pub first_commit: Option<Time>,
    pub last_commit: Option<Time>,
    pub bytes: u64,
    pub name: Option<String>,
}

impl From<&LogUnit> for UnitDocument {
    fn from(unit: &LogUnit) -> Self {
        UnitDocument {
            node: unit.node.0,
            branch: unit.branch.0,
            seq: unit.seq.0,
            after_lsn: unit.span.after.0,
            upto_lsn: unit.span.upto.0,
            first_commit: unit.first_commit.map(Text),
            last_commit: unit.last_commit.map(Text),
            bytes: unit.len,
            name: unit.name.clone(),
        }
    }
}

/// Something that was removed, or would be.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RemovedDocument {
    pub id: Id,
    pub name: Option<String>,
    pub bytes: u64,
}

impl From<&Removed> for RemovedDocument {
    fn from(removed: &Removed) -> Self {
        RemovedDocument { id: Text(removed.set), name: removed.name.clone(), bytes: removed.bytes }
    }
}

/// One way to open a repository.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SlotDocument {
    pub slot: u32,
    pub kind: &'static str,
    pub label: String,
    pub public_key: Option<Text<Recipient>>,
}

impl From<&Slot> for SlotDocument {
    fn from(slot: &Slot) -> Self {
        let (kind, public_key) = match &slot.kind {
            SlotKind::Passphrase { .. } => ("passphrase", None),
            SlotKind::KeyFile => ("key-file", None),
            SlotKind::Recipient { public, .. } => ("recipient", Some(Text(Recipient(*public)))),
            SlotKind::Epoch { .. } => ("epoch", None),
        };
        SlotDocument { slot: slot.id, kind, label: slot.label.clone(), public_key }
    }
}

/// A repository and who can open it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RepositoryDocument {
    pub id: Text<setpiece::model::RepoId>,
    pub url: String,
    pub encrypted: bool,
    /// Counts the keys that the repository has had; 0 when it is not encrypted.
    pub epoch: u32,
    pub slots: Vec<SlotDocument>,
}

impl RepositoryDocument {
    /// The document of a descriptor.
    pub(crate) fn of(descriptor: &RepoDescriptor, url: String) -> Self {
        let current = descriptor.current();
        RepositoryDocument {
            id: Text(descriptor.repo),
            url,
            encrypted: descriptor.is_encrypted(),
            epoch: current.map_or(0, |epoch| epoch.id),
            slots: current.map(|epoch| epoch.slots.iter().map(Into::into).collect()).unwrap_or_default(),
        }
    }

    /// For people: a line for each slot.
    pub(crate) fn text(&self) -> String {
        if !self.encrypted {
            return format!("repository {} at {}: not encrypted\n", self.id.0, self.url);
        }
        let rows = self.slots.iter().map(|slot| {
            let public = slot.public_key.as_ref().map(|key| key.0.to_string());
            [slot.slot.to_string(), slot.kind.into(), slot.label.clone(), public.unwrap_or_default()]
        });
        let table = crate::text::table(&["SLOT", "KIND", "LABEL", "PUBLIC KEY"], rows);
        format!("repository {} at {}: encrypted, key {}\n{table}", self.id.0, self.url, self.epoch)
    }
}
