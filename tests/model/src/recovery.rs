//! The recovery of a model engine: redo from core, merged over the nodes, until the target; then a new branch.

use std::collections::{BTreeMap, BTreeSet};

use setpiece_core::model::{FileEntry, FileKind, LogUnit, Lsn, NodeId, NodeRange, TablespaceId, Timestamp, Until};
use setpiece_core::source::{LogFeed, PageState, RecoverRequest, Recovered, Recovery};
use setpiece_core::{Error, ErrorKind, Result};

use crate::control::{CONTROL_ID, Control, LogStart, Table};
use crate::page;
use crate::redo::{Package, Ptx};
use crate::replay::Replayer;

/// The name of the engine.
pub const ENGINE: &str = "model";

/// Recovers directories of model engines. Has no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelRecovery;

/// All redo of a recovery, put together.
struct Redo {
    transactions: Vec<Ptx>,
    /// For each node up to where its redo is there without a gap, and its last package number.
    reached: BTreeMap<NodeId, (Lsn, u64)>,
}

impl Recovery for ModelRecovery {
    fn engine(&self) -> &str {
        ENGINE
    }

    fn recover(&self, request: &RecoverRequest<'_>, log: &mut dyn LogFeed) -> Result<Recovered> {
        let control = load_control(request)?;
        let redo = gather(request, log)?;
        let closed_at = control.as_ref().filter(|control| control.clean).map(|control| control.time);
        let stop = stop_at(request, &redo, closed_at)?;
        let (table, only) = match &control {
            Some(control) => (control.table.clone(), None),
            None => (table_of(request.files), Some(request.files.iter().map(|entry| entry.tablespace).collect())),
        };
        let (table, time) = replay(request, table, only, &redo, stop)?;
        if let Some(control) = control {
            go_on_as_branch(request, control, table, &redo, stop, time)?;
        }
        Ok(Recovered { lsn: stop, time: time.or(closed_at), branch: Some(request.new_branch) })
    }

    fn inspect(&self, file: &FileEntry, page: u64, bytes: &[u8]) -> PageState {
        match file.kind {
            FileKind::Paged => page::inspect(file, page, bytes),
            FileKind::Plain => PageState::Unversioned,
        }
    }
}

/// The control file, when the whole database was restored; it must name the files that were.
fn load_control(request: &RecoverRequest<'_>) -> Result<Option<Control>> {
    if !request.files.iter().any(|entry| entry.id == CONTROL_ID) {
        return Ok(None);
    }
    let control = Control::load(request.directory)?;
    if control.source != request.source {
        return Err(Error::new(ErrorKind::Target, "the restored files belong to another database")
            .on(request.directory.display().to_string()));
    }
    let restored = request.files.iter().filter(|entry| entry.id != CONTROL_ID);
    if !restored.eq(control.table.files.values()) {
        return Err(Error::damaged("control file", "names other files than the set"));
    }
    Ok(Some(control))
}

fn table_of(files: &[FileEntry]) -> Table {
    let mut table = Table::default();
    files.iter().for_each(|entry| table.add(entry.clone()));
    table
}

/// Reads all redo and checks that each node's has no gap.
fn gather(request: &RecoverRequest<'_>, log: &mut dyn LogFeed) -> Result<Redo> {
    let begin = |range: &NodeRange| (range.node, (range.begin_lsn, range.begin_seq.map_or(0, |s| s.0)));
    let mut redo = Redo { transactions: Vec::new(), reached: request.from.iter().map(begin).collect() };
    while let Some((unit, bytes)) = log.next()? {
        redo.take(request, &unit, &bytes)?;
    }
    for range in request.from {
        let reached = redo.reached.get(&range.node).map_or(Lsn(0), |reached| reached.0);
        if reached < range.end_lsn {
            return Err(Error::new(ErrorKind::Unreachable, "redo that the set needs is missing")
                .on(format!("node {}, redo ({reached}, {}]", range.node, range.end_lsn))
                .remedy("restore with the archived log of that time"));
        }
    }
    redo.transactions.sort_by_key(|ptx| ptx.lsn);
    Ok(redo)
}

impl Redo {
    fn take(&mut self, request: &RecoverRequest<'_>, unit: &LogUnit, bytes: &[u8]) -> Result<()> {
        let (package, len) = Package::decode(bytes)?;
        let same = (package.node, package.branch, package.seq, package.span);
        if len != bytes.len() || same != (unit.node, unit.branch, unit.seq, unit.span) {
            return Err(Error::damaged(name(unit), "the redo is not what the unit says"));
        }
        let limit = request.branch.reach(unit.branch).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "redo of a branch that does not lead to the target").on(name(unit))
        })?;
        let (reached, seq) = self.reached.get_mut(&unit.node).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "redo of a node that the set does not know").on(name(unit))
        })?;
        // A node that has all the redo that the set needs of it wrote nothing more up to the end of the backup.
        let own_end =
            request.from.iter().find(|range| range.node == unit.node).map_or(Lsn(u64::MAX), |range| range.end_lsn);
        let complete = if *reached >= own_end { request.consistent_from.max(*reached) } else { *reached };
        if unit.span.after > complete {
            return Err(Error::new(
                ErrorKind::Unreachable,
                format!("redo ({reached}, {}] is missing", unit.span.after),
            )
            .on(name(unit)));
        }
        let from = *reached;
        *reached = unit.span.upto.min(limit).max(*reached);
        *seq = unit.seq.0;
        self.transactions.extend(package.transactions.into_iter().filter(|ptx| ptx.lsn > from && ptx.lsn <= limit));
        Ok(())
    }

    /// Up to where the redo of all nodes is there. What was restored is complete up to `consistent` by itself.
    fn complete(&self, consistent: Lsn) -> Lsn {
        self.reached.values().map(|reached| reached.0.max(consistent)).min().unwrap_or(consistent)
    }

    /// Just before the first transaction for which `after` holds; `None` when there is none.
    fn before(&self, after: impl Fn(&Ptx) -> bool) -> Option<Lsn> {
        self.transactions.iter().find(|ptx| after(ptx)).map(|ptx| Lsn(ptx.lsn.0 - 1))
    }
}

fn name(unit: &LogUnit) -> String {
    format!("package {} of node {} on branch {}", unit.seq, unit.node, unit.branch)
}

/// The LSN of the state wanted.
fn stop_at(request: &RecoverRequest<'_>, redo: &Redo, closed_at: Option<Timestamp>) -> Result<Lsn> {
    let complete = redo.complete(request.consistent_from.max(request.complete_upto));
    let last_time = redo.transactions.iter().map(|ptx| ptx.time).max().max(closed_at);
    let exclusive = request.target.exclusive;
    let beyond = |what: String| {
        Err(Error::new(
            ErrorKind::Unreachable,
            format!("{what} lies behind the end of the log, which is LSN {complete}"),
        ))
    };
    let stop = match request.target.until {
        Until::SetEnd => request.consistent_from,
        Until::Latest => complete,
        Until::Lsn(lsn) if exclusive => Lsn(lsn.0.saturating_sub(1)),
        Until::Lsn(lsn) => lsn,
        Until::Time(time) => match redo.before(|ptx| if exclusive { ptx.time >= time } else { ptx.time > time }) {
            Some(lsn) => lsn.min(complete),
            None if last_time.is_some_and(|last| time <= last) => complete,
            None => return beyond(format!("the moment {}", time.0)),
        },
        _ => return Err(Error::new(ErrorKind::Usage, "the model engine knows LSNs and moments only")),
    };
    if stop < request.consistent_from {
        return Err(Error::new(ErrorKind::Unreachable, format!("LSN {stop} lies before the set is consistent"))
            .on(format!("LSN {}", request.consistent_from))
            .remedy("restore an older set"));
    }
    if stop > complete { beyond(format!("LSN {stop}")) } else { Ok(stop) }
}

/// Applies the redo up to `stop`; returns the table of files there and the moment of the last transaction.
fn replay(
    request: &RecoverRequest<'_>,
    table: Table,
    only: Option<BTreeSet<TablespaceId>>,
    redo: &Redo,
    stop: Lsn,
) -> Result<(Table, Option<Timestamp>)> {
    let mut replayer = Replayer::new(request.directory, table, only);
    let mut time = None;
    for ptx in redo.transactions.iter().take_while(|ptx| ptx.lsn <= stop) {
        replayer.apply(ptx)?;
        time = Some(ptx.time);
    }
    Ok((replayer.finish()?, time))
}

/// Writes the control file of the new branch.
fn go_on_as_branch(
    request: &RecoverRequest<'_>,
    mut control: Control,
    table: Table,
    redo: &Redo,
    stop: Lsn,
    time: Option<Timestamp>,
) -> Result<()> {
    let seq_anew = control.seq_anew;
    let start = |(_, (_, seq)): (&NodeId, &(Lsn, u64))| LogStart { upto: stop, seq: if seq_anew { 0 } else { *seq } };
    control.branch = request.branch.fork(request.new_branch, stop, time);
    control.starts = redo.reached.iter().map(start).collect();
    control.table = table;
    control.clean = true;
    control.ckpt = stop;
    control.cur = request.highest.max(stop);
    control.time = time.unwrap_or(control.time);
    control.save(request.directory)
}
