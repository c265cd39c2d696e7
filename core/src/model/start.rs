//! Where a recovery starts: the set, its chain and the redo that bring a source to a target.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;

use super::branch::BranchHistory;
use super::chain::{ById, ChainError, Usable, nearness};
use super::id::{BranchId, SetId, SourceId};
use super::lineage::{self, Branches};
use super::log::{LogGap, LogUnit};
use super::lsn::Lsn;
use super::mark::{StateMark, meet};
pub use super::reach::NodeLog;
use super::reach::{Evidence, Reach};
use super::set::{Scope, SetSummary};
use super::target::{RecoveryTarget, Until};
use super::time::Timestamp;
use super::window::{self, Window};
use crate::error::{Error, ErrorKind};

/// What is to be recovered.
#[derive(Clone, Copy, Debug)]
pub struct StartRequest<'a> {
    /// The source that was backed up.
    pub source: SourceId,
    /// What part of it. A tablespace is restored from a set of it or of the database, a table from a set of it.
    pub scope: &'a Scope,
    /// Where to stop.
    pub target: &'a RecoveryTarget,
    /// The set that the user insists on.
    pub set: Option<SetId>,
    /// Where a target lies that only the engine can find: the branches and LSNs at which the engine, looking through redo,
    /// found that it would stop. `None` when nobody looked.
    pub found: Option<&'a [(BranchId, Lsn)]>,
}

/// How the target is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start<'u> {
    /// The set.
    pub set: SetId,
    /// The sets to restore: `set` first, the full set last.
    pub chain: Vec<SetId>,
    /// The history of the branch that is recovered along.
    pub history: BranchHistory,
    /// The redo that is needed besides what `set` holds itself, node by node: behind its `bak_end_lsn`, or from its
    /// begin when it left out its redo. A unit may reach beyond `reaches`, or beyond the fork at which `history` left
    /// the unit's branch; what lies there must not be applied.
    pub logs: Vec<NodeLog<'u>>,
    /// The redo is complete for all nodes up to here, and nothing with a larger LSN may be applied.
    pub reaches: Lsn,
    /// What is missing behind `reaches`, when more redo follows and the target would have taken it.
    pub gap: Option<LogGap>,
}

/// A state that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// Its LSN.
    pub lsn: Lsn,
    /// Its moment, as far as known.
    pub time: Option<Timestamp>,
}

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LSN {}", self.lsn)?;
        self.time.map_or(Ok(()), |time| write!(f, " ({time})"))
    }
}

/// Why a target cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// No set to start from lies on the branch.
    NoSet,
    /// The set that was named cannot be restored.
    Chain(ChainError),
    /// The set that was named does not hold what is to be recovered.
    OtherScope(Scope),
    /// The set that was named is of another source.
    OtherSource,
    /// The set that was named does not lie in the history of the branch wanted.
    OtherBranch(BranchId),
    /// The target lies before every state that can be reached.
    TooEarly,
    /// The target lies behind the end of the log.
    TooLate,
    /// The target lies where log is missing.
    InGap,
    /// The set left out its redo, which is not archived.
    NoLog,
    /// Transactions were committed around the target while nobody captured redo: it is not known which of them before.
    TimeUnknown,
    /// Two states have that LSN, numbered by observers that did not know of each other.
    Ambiguous,
    /// No point of that name is on record.
    NoPoint,
    /// No redo on record holds the end of that transaction.
    NoTransaction,
    /// No set lies between that point and another one of the same name before it, at which the engine would stop.
    EarlierPoint,
}

/// A target that cannot be reached, and what can be reached instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// The target.
    pub target: RecoveryTarget,
    /// The branch on which it was looked for; `None` when nothing is known of the source.
    pub branch: Option<BranchId>,
    /// Why.
    pub why: Why,
    /// The last state before it that can be reached.
    pub before: Option<Nearest>,
    /// The first state behind it that can be reached.
    pub after: Option<Nearest>,
    /// The redo that is missing.
    pub gap: Option<LogGap>,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_target(&self.target, f)?;
        if let Some(branch) = self.branch {
            write!(f, " on branch {branch}")?;
        }
        f.write_str(" cannot be reached: ")?;
        match &self.why {
            Why::NoSet => f.write_str("there is no set to start from"),
            Why::Chain(error) => error.fmt(f),
            Why::OtherScope(scope) => write!(f, "the set is about {scope}"),
            Why::OtherSource => f.write_str("the set is of another source"),
            Why::OtherBranch(branch) => write!(f, "the set is on branch {branch}, outside of its history"),
            Why::TooEarly => f.write_str("it lies before the first set that can be used"),
            Why::TooLate => f.write_str("the log ends before it"),
            Why::InGap => f.write_str("log is missing before it"),
            Why::NoLog => f.write_str("the set was taken without its log, which is not archived"),
            Why::TimeUnknown => f.write_str(
                "transactions were committed around it while no redo was captured, and it is not known which of them \
                 before it",
            ),
            Why::NoPoint => f.write_str("no point of that name is on record"),
            Why::NoTransaction => f.write_str(
                "no redo on record holds its end (the number of a subtransaction is none that recovery could stop at)",
            ),
            Why::EarlierPoint => f.write_str(
                "no set lies between it and the point of the same name before it, where recovery would stop",
            ),
            Why::Ambiguous => f.write_str("two different states have that LSN; name the set to start from"),
        }?;
        self.gap.map_or(Ok(()), |gap| write!(f, "; {gap}"))
    }
}

fn write_target(target: &RecoveryTarget, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let before = if target.exclusive { "the state before " } else { "" };
    match &target.until {
        Until::SetEnd => f.write_str("the end of the set"),
        Until::Latest => f.write_str("the latest state"),
        Until::Lsn(lsn) => write!(f, "{before}LSN {lsn}"),
        Until::Time(time) => write!(f, "{before}{time}"),
        Until::Name(name) => write!(f, "{before}point {name}"),
        Until::Transaction(number) => write!(f, "{before}transaction {number}"),
    }
}

impl std::error::Error for Unreachable {}

impl From<Box<Unreachable>> for Error {
    fn from(error: Box<Unreachable>) -> Self {
        let kind = match &error.why {
            Why::Chain(ChainError::Unknown(_)) => ErrorKind::NotFound,
            Why::Chain(_) => ErrorKind::ChainBroken,
            Why::OtherScope(_) | Why::OtherSource | Why::OtherBranch(_) => ErrorKind::Usage,
            _ => ErrorKind::Unreachable,
        };
        let made = Error::new(kind, error.to_string());
        match (error.before, error.after) {
            (Some(before), Some(after)) => made.remedy(format!("nearest before it is {before}, behind it {after}")),
            (Some(before), None) => {
                made.remedy(format!("the nearest that can be reached is {before}{}", instead(&error)))
            }
            (None, Some(after)) => made.remedy(format!("the nearest that can be reached is {after}")),
            (None, None) => made.remedy("`setpiece sets` shows what can be reached"),
        }
    }
}

/// What to do about a target behind the end of the log.
fn instead(error: &Unreachable) -> &'static str {
    match (&error.why, &error.target.until) {
        (Why::TooLate, Until::Time(_)) => {
            "; leave out --until-time to recover to the end of the log, or wait until a commit behind that moment is on \
             record"
        }
        (Why::TooLate, Until::Lsn(_)) => "; leave out --until-lsn to recover to the end of the log",
        _ => "",
    }
}

/// Chooses where a recovery starts: the newest set from which the target can be reached without a gap, on the branch
/// wanted or its ancestors before the fork. Without a branch wanted, the newest branch counts, or the branch of the set
/// that the user insists on when that one does not lie in the newest's history.
///
/// Of several points with the name wanted the newest counts that can be reached. For transactions, whose LSN only the
/// engine knows, and for names in redo of which it is not recorded what points it has, [`StartRequest::found`] counts; where
/// nobody looked, the newest set is taken, and whoever wants to start earlier names a set.
/// `sets` and `units` are as for [`window::windows`].
///
/// # Errors
/// When the target cannot be reached: why, and the nearest states that can.
pub fn choose_start<'u>(
    request: &StartRequest<'_>,
    sets: &[SetSummary],
    usable: &Usable<'_>,
    units: &'u [LogUnit],
) -> Result<Start<'u>, Box<Unreachable>> {
    let index = ById::new(sets);
    let fail = |branch, why| Box::new(failure(request.target, branch, why));
    let named = match request.set {
        Some(id) => Some(named_set(request, id, &index, usable).map_err(|why| fail(None, why))?),
        None => None,
    };
    let (sets, units) = concerned(request, sets, units);
    let Some(history) = wanted_history(request.target, named, &sets, units) else {
        return Err(fail(None, Why::NoSet));
    };
    let outside = |set: &&SetSummary| !lineage::contains(&history, set.branch.current, set.bak_end_lsn);
    if let Some(set) = named.filter(outside) {
        return Err(fail(Some(history.current), Why::OtherBranch(set.branch.current)));
    }
    let evidence = Evidence::new(&history, sets, units);
    let may_start = |set: &SetSummary| match named {
        Some(named) => named.id == set.id,
        None => window::can_start(set, request.scope) && index.whole_chain(set.id, usable).is_ok(),
    };
    let found = match points_known(request, &history, units) {
        Some(points) if points.is_empty() => return Err(fail(Some(history.current), nowhere(request.target))),
        Some(points) => {
            let points: Vec<RecoveryTarget> = points.into_iter().map(|point| at(point, request.target)).collect();
            let reached = best_for_points(&evidence, &points, &may_start);
            if reached.is_none() && best(&evidence, &points[0], &may_start).is_some() {
                return Err(fail(Some(history.current), Why::EarlierPoint));
            }
            reached.ok_or(points[0].clone())
        }
        None => best(&evidence, request.target, &may_start).ok_or(request.target.clone()),
    };
    let (set, reach) = found.map_err(|target| {
        let why = explain(&evidence, &target, &may_start);
        Box::new(Unreachable { target: request.target.clone(), ..why })
    })?;
    if named.is_none() && is_ambiguous(&evidence, request.target, set, &reach, units) {
        return Err(fail(Some(history.current), Why::Ambiguous));
    }
    let chain = index.chain(set).map_err(|error| fail(Some(history.current), Why::Chain(error)))?;
    let chain = chain.iter().map(|set| set.id).collect();
    Ok(Start { set, chain, reaches: reach.upto, gap: reach.gap, logs: reach.logs, history })
}

/// The history that a recovery would go along; `None` when there is none, for reasons that [`choose_start`] gives.
#[must_use]
pub fn history_wanted(
    request: &StartRequest<'_>,
    sets: &[SetSummary],
    usable: &Usable<'_>,
    units: &[LogUnit],
) -> Option<BranchHistory> {
    let index = ById::new(sets);
    let named = request.set.map(|id| named_set(request, id, &index, usable)).transpose().ok()?;
    let (sets, units) = concerned(request, sets, units);
    wanted_history(request.target, named, &sets, units)
}

/// The sets and units that matter to the request. A table set is whole by itself, and the log of the database does not
/// apply to it.
fn concerned<'s, 'u>(
    request: &StartRequest<'_>,
    sets: &'s [SetSummary],
    units: &'u [LogUnit],
) -> (Vec<&'s SetSummary>, &'u [LogUnit]) {
    let table = matches!(request.scope, Scope::Table(_));
    let matters = |set: &&SetSummary| set.source == request.source && (!table || set.scope == *request.scope);
    (sets.iter().filter(matters).collect(), if table { &[] } else { units })
}

/// The set that the user insists on, if it can be restored and holds what is wanted.
fn named_set<'s>(
    request: &StartRequest<'_>,
    id: SetId,
    index: &ById<'s>,
    usable: &Usable<'_>,
) -> Result<&'s SetSummary, Why> {
    let set = index.get(id).map_err(Why::Chain)?;
    if set.source != request.source {
        return Err(Why::OtherSource);
    }
    if !window::holds(set, request.scope) {
        return Err(Why::OtherScope(set.scope.clone()));
    }
    index.whole_chain(id, usable).map(|_| set).map_err(Why::Chain)
}

/// The history to recover along; `None` when nothing is known of the source.
fn wanted_history(
    target: &RecoveryTarget,
    named: Option<&SetSummary>,
    sets: &[&SetSummary],
    units: &[LogUnit],
) -> Option<BranchHistory> {
    let branches = Branches::gather(sets.iter().map(|set| &set.branch));
    if let Some(branch) = target.branch {
        return Some(branches.history(branch));
    }
    let newest = lineage::newest_branch(sets, units, &branches).map(|branch| branches.history(branch));
    let Some(set) = named else { return newest };
    let inside = |history: &BranchHistory| lineage::contains(history, set.branch.current, set.bak_end_lsn);
    match newest.filter(inside) {
        Some(newest) if target.until != Until::SetEnd => Some(newest),
        _ => Some(set.branch.clone()),
    }
}

/// Where the engine would stop, newest first: as it was found in the redo, or as it is recorded of a name. `None` when the
/// target is no such point, or when nobody looked and no name is found on record that does not tell all names.
fn points_known(request: &StartRequest<'_>, history: &BranchHistory, units: &[LogUnit]) -> Option<Vec<Lsn>> {
    let (mut points, all) = match (request.found, &request.target.until) {
        (Some(found), _) => (found.to_vec(), true),
        (None, Until::Name(name)) => (points_named(name, units), names_told(history, units)),
        (None, _) => return None,
    };
    points.retain(|(branch, lsn)| lineage::contains(history, *branch, *lsn));
    let mut points: Vec<Lsn> = points.into_iter().map(|(_, lsn)| lsn).collect();
    points.sort_unstable_by_key(|lsn| Reverse(*lsn));
    points.dedup();
    (all || !points.is_empty()).then_some(points)
}

fn points_named(name: &str, units: &[LogUnit]) -> Vec<(BranchId, Lsn)> {
    let named = |unit: &'_ LogUnit| {
        let points = unit.points.iter().flatten().filter(|point| point.name == name);
        points.map(|point| (unit.branch, point.lsn)).collect::<Vec<_>>()
    };
    units.iter().flat_map(named).collect()
}

/// Whether it is recorded of all redo along a history what points with names it has.
#[must_use]
pub fn names_told(history: &BranchHistory, units: &[LogUnit]) -> bool {
    let inside = || units.iter().filter(|unit| history.reach(unit.branch) > Some(unit.span.after));
    // The same redo may be on record several times.
    let key = |unit: &LogUnit| (unit.node, unit.branch, unit.seq);
    let known: BTreeSet<_> = inside().filter(|unit| unit.points.is_some()).map(key).collect();
    inside().all(|unit| known.contains(&key(unit)))
}

/// The target that a point is; before or behind it counts for a transaction only.
fn at(point: Lsn, target: &RecoveryTarget) -> RecoveryTarget {
    let exclusive = target.exclusive && matches!(target.until, Until::Transaction(_));
    RecoveryTarget { until: Until::Lsn(point), exclusive, branch: None }
}

fn nowhere(target: &RecoveryTarget) -> Why {
    if matches!(target.until, Until::Transaction(_)) { Why::NoTransaction } else { Why::NoPoint }
}

/// The start for the newest of `points` that recovery from some set meets first.
fn best_for_points<'u>(
    evidence: &Evidence<'_, 'u>,
    points: &[RecoveryTarget],
    may_start: &dyn Fn(&SetSummary) -> bool,
) -> Option<(SetId, Reach<'u>)> {
    points.iter().enumerate().find_map(|(number, point)| {
        let before = points.get(number + 1);
        let behind = |set: &SetSummary| before.is_none_or(|before| !precedes(set, before));
        best(evidence, point, &|set| behind(set) && may_start(set))
    })
}

/// The newest set that reaches the target; where the target is as far as possible, the one that gets farthest.
fn best<'u>(
    evidence: &Evidence<'_, 'u>,
    target: &RecoveryTarget,
    may_start: &dyn Fn(&SetSummary) -> bool,
) -> Option<(SetId, Reach<'u>)> {
    let mut candidates: Vec<&SetSummary> = evidence.sets.iter().copied().filter(|set| precedes(set, target)).collect();
    candidates.sort_by_key(|set| Reverse(nearness(set)));
    let mut reaching = candidates
        .into_iter()
        .filter_map(|set| Some((set, attempt(evidence.reach(set).ok()?, target, set)?)))
        .filter(|(set, _)| may_start(set))
        .map(|(set, reach)| (set.id, reach));
    match target.until {
        Until::SetEnd | Until::Lsn(_) | Until::Time(_) => reaching.next(),
        _ => reaching.reduce(|best, next| if next.1.upto > best.1.upto { next } else { best }),
    }
}

/// Whether the state at the end of the set is not behind the target already.
fn precedes(set: &SetSummary, target: &RecoveryTarget) -> bool {
    match target.until {
        Until::Lsn(lsn) => set.bak_end_lsn < lsn || (set.bak_end_lsn == lsn && !target.exclusive),
        Until::Time(time) => set.ended < time || (set.ended == time && !target.exclusive),
        _ => true,
    }
}

/// The redo that is needed of what `set` can reach; `None` when it does not reach the target.
fn attempt<'u>(reach: Reach<'u>, target: &RecoveryTarget, set: &SetSummary) -> Option<Reach<'u>> {
    let stop = match target.until {
        Until::SetEnd => set.bak_end_lsn,
        Until::Lsn(lsn) => lsn,
        Until::Time(time) => reach.done_by(time, target.exclusive)?,
        _ => {
            let farthest = reach.upto;
            return Some(reach.cut(farthest));
        }
    };
    if stop > reach.upto {
        return None;
    }
    let mut reach = reach.cut(stop);
    reach.gap = None;
    Some(reach)
}

/// Whether the target is an LSN that was given to another state as well as to the one that would be recovered.
fn is_ambiguous(
    evidence: &Evidence<'_, '_>,
    target: &RecoveryTarget,
    start: SetId,
    reach: &Reach<'_>,
    units: &[LogUnit],
) -> bool {
    let Until::Lsn(lsn) = target.until else { return false };
    let sets = evidence.sets.iter().filter(|set| set.bak_end_lsn == lsn);
    let of_sets: Vec<_> = sets.filter_map(|set| Some((set.id, set.marks.clone()?))).collect();
    let in_history = |unit: &&LogUnit| lineage::contains(evidence.history, unit.branch, lsn);
    let of_units = units.iter().filter(in_history).map(|unit| unit.marks_around(lsn));
    let mut ours: Vec<StateMark> =
        of_sets.iter().filter(|(id, _)| *id == start).flat_map(|(_, marks)| marks.clone()).collect();
    ours.extend(reach.logs.iter().flat_map(|log| &log.units).flat_map(|unit| unit.marks_around(lsn)));
    let mut others: Vec<Vec<StateMark>> = of_sets.iter().map(|(_, marks)| marks.clone()).chain(of_units).collect();
    others.retain(|marks| !marks.is_empty());
    // What shares a mark with the state, or with something that does, is the state.
    while !ours.is_empty()
        && let Some(at) = others.iter().position(|marks| meet(marks, &ours))
    {
        ours.extend(others.swap_remove(at));
    }
    !ours.is_empty() && !others.is_empty()
}

/// What is around a moment at which the state is not known.
fn unknown_time(
    evidence: &Evidence<'_, '_>,
    target: &RecoveryTarget,
    may_start: &dyn Fn(&SetSummary) -> bool,
) -> Option<Unreachable> {
    let Until::Time(time) = target.until else { return None };
    let starts = evidence.sets.iter().filter(|set| precedes(set, target) && may_start(set));
    let reaches = starts.filter_map(|set| evidence.reach(set).ok());
    let (before, hiding) = reaches.filter_map(|reach| reach.unknown_at(time, target.exclusive)).next_back()?;
    let state = |unit: super::reach::Commits| Nearest { lsn: unit.end, time: Some(unit.by) };
    let made = failure(target, Some(evidence.history.current), Why::TimeUnknown);
    Some(Unreachable { before: before.map(state), after: Some(state(hiding)), ..made })
}

fn failure(target: &RecoveryTarget, branch: Option<BranchId>, why: Why) -> Unreachable {
    Unreachable { target: target.clone(), branch, why, before: None, after: None, gap: None }
}

/// Says why no set reaches the target, and what can be reached around it.
fn explain(
    evidence: &Evidence<'_, '_>,
    target: &RecoveryTarget,
    may_start: &dyn Fn(&SetSummary) -> bool,
) -> Unreachable {
    if let Some(unknown) = unknown_time(evidence, target, may_start) {
        return unknown;
    }
    let made = |why| failure(target, Some(evidence.history.current), why);
    let windows = window::along(evidence, may_start);
    if windows.is_empty() {
        let start = evidence.sets.iter().filter(|set| may_start(set)).max_by_key(|set| nearness(set));
        return match start.map(|set| evidence.reach(set)) {
            Some(Err(gap)) => Unreachable { gap, ..made(Why::NoLog) },
            _ => made(Why::NoSet),
        };
    }
    let begins_before = |window: &Window| match target.until {
        Until::Lsn(lsn) => window.from < lsn || (window.from == lsn && !target.exclusive),
        Until::Time(time) => window.from_time < time || (window.from_time == time && !target.exclusive),
        _ => true,
    };
    let before = windows.iter().rfind(|window| begins_before(window));
    let after = windows.iter().find(|window| !begins_before(window));
    let gap = before.and_then(|window| window.gap);
    let why = match (before, after) {
        (None, _) => Why::TooEarly,
        (Some(_), None) if gap.is_none() => Why::TooLate,
        _ => Why::InGap,
    };
    Unreachable {
        before: before.map(|window| Nearest { lsn: window.to, time: end_time(window) }),
        after: after.map(|window| Nearest { lsn: window.from, time: Some(window.from_time) }),
        gap,
        ..made(why)
    }
}

/// The moment at which a window ends, as far as known.
fn end_time(window: &Window) -> Option<Timestamp> {
    window.to_time.or_else(|| (window.to == window.from).then_some(window.from_time))
}
