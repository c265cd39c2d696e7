//! Retention: which sets a repository may let go of.
//!
//! Pure: what the time is and which sets are whole is told by the caller. A rule says which sets are *wanted*; their
//! bases and the log they need to go forward are kept with them, and everything else may go.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use super::branch::BranchHistory;
use super::chain::{ById, Usable, nearness};
use super::id::{SetId, SourceId};
use super::lineage::{self, Branches};
use super::lsn::{Lsn, LsnSpan};
use super::set::{Consistency, Level, NodeRange, Scope, SetSummary};
use super::time::Timestamp;

const MICROS_A_DAY: i64 = 86_400_000_000;

/// What to keep. What either rule keeps is kept; without any rule everything is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many full sets of each source and scope, with everything taken since and on top of them. None of
    /// them means one.
    pub keep_full: Option<u32>,
    /// What is needed to recover to any moment of so many days back.
    pub keep_days: Option<u32>,
}

/// Why a set is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepReason {
    /// There is no rule.
    NoRule,
    /// It is the newest full set that can be restored.
    NewestFull,
    /// It is one of the newest full sets, was taken since, or stands on one.
    CountedFull,
    /// It is young enough.
    Young,
    /// Recovery to the oldest moment that must be reachable starts from it.
    WindowStart,
    /// A set that is kept stands on it.
    BaseOf(SetId),
    /// A set that is kept needs its redo.
    LogFor(SetId),
    /// Log that is as new as the newest set of its source: a running backup may need it.
    NewLog,
    /// Log of a source of which no other set is kept.
    OnlyLog,
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepReason::NoRule => f.write_str("no rule lets it go"),
            KeepReason::NewestFull => f.write_str("the newest full set"),
            KeepReason::CountedFull => f.write_str("among the newest full sets and what was taken since"),
            KeepReason::Young => f.write_str("young enough"),
            KeepReason::WindowStart => f.write_str("the oldest moments to be reached start from it"),
            KeepReason::BaseOf(set) => write!(f, "base of {set}"),
            KeepReason::LogFor(set) => write!(f, "log that {set} needs"),
            KeepReason::NewLog => f.write_str("log as new as the newest set"),
            KeepReason::OnlyLog => f.write_str("log of a source of which no other set is kept"),
        }
    }
}

/// What may go and what stays. Every set is in one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpirePlan {
    /// The sets to remove, in this order: none before those that stand on it, log last. Stopping anywhere leaves every
    /// other set as restorable as it was.
    pub remove: Vec<SetId>,
    /// The sets to keep and why, oldest first.
    pub keep: Vec<(SetId, KeepReason)>,
}

/// Applies `policy` to the sets of a repository, of any number of sources.
///
/// Of each source and scope the newest full set that can be restored is never removed, nor a base of a set that is kept,
/// nor log (sets of scope log) by which a kept set can be brought forward. A set counts as restorable when its chain is
/// whole by `usable`, has no damaged pages, and its redo is in it or archived by `log_archived`.
#[must_use]
pub fn expire_plan(
    sets: &[SetSummary],
    policy: &Policy,
    usable: &Usable<'_>,
    log_archived: &dyn Fn(&SetSummary) -> bool,
    now: Timestamp,
) -> ExpirePlan {
    let index = ById::new(sets);
    let restorable = |set: &SetSummary| {
        let whole = index.whole_chain(set.id, usable);
        whole.is_ok_and(|chain| chain.iter().all(|set| set.bad_pages == 0))
            && (set.consistency != Consistency::WithoutLog || log_archived(set))
    };
    let mut keeping = Keeping { sets, index: &index, reasons: BTreeMap::new() };
    for group in groups(sets) {
        keeping.apply(policy, &group, &restorable, now);
    }
    let wanted: Vec<SetId> = keeping.reasons.keys().copied().collect();
    keeping.add_bases(&wanted);
    keeping.add_log(&wanted);
    keeping.plan()
}

/// The sets that hold something else than log, by source and scope.
fn groups(sets: &[SetSummary]) -> Vec<Vec<&SetSummary>> {
    let mut groups: BTreeMap<(SourceId, String), Vec<&SetSummary>> = BTreeMap::new();
    for set in sets.iter().filter(|set| set.scope != Scope::Log) {
        groups.entry((set.source, set.scope.to_string())).or_default().push(set);
    }
    groups.into_values().collect()
}

struct Keeping<'s> {
    sets: &'s [SetSummary],
    index: &'s ById<'s>,
    /// The first reason found for a set stays.
    reasons: BTreeMap<SetId, KeepReason>,
}

impl<'s> Keeping<'s> {
    fn keep(&mut self, set: SetId, reason: KeepReason) {
        self.reasons.entry(set).or_insert(reason);
    }

    /// Marks the sets of one source and scope that the policy wants.
    fn apply(
        &mut self,
        policy: &Policy,
        group: &[&SetSummary],
        restorable: &dyn Fn(&SetSummary) -> bool,
        now: Timestamp,
    ) {
        let mut fulls: Vec<&SetSummary> = group.iter().copied().filter(|set| set.level == Level::Full).collect();
        fulls.retain(|set| restorable(set));
        let newest = self.newest_history(group);
        let orders = [Some(Order::Time), newest.map(Order::State)].into_iter().flatten();
        let orders: Vec<_> = orders.map(|order| (order.newest_first(&fulls), order)).collect();
        for newest in orders.iter().filter_map(|(fulls, _)| fulls.first()) {
            self.keep(newest.id, KeepReason::NewestFull);
        }
        if policy.keep_full.is_none() && policy.keep_days.is_none() {
            group.iter().for_each(|set| self.keep(set.id, KeepReason::NoRule));
        }
        if let Some(count) = policy.keep_full {
            orders.iter().for_each(|(fulls, order)| self.keep_fulls(count, group, fulls, order));
        }
        if let Some(days) = policy.keep_days {
            let horizon = Timestamp(now.0.saturating_sub(i64::from(days).saturating_mul(MICROS_A_DAY)));
            self.keep_since(horizon, group, restorable);
        }
    }

    /// The history of the branch that the group's source was worked on last.
    fn newest_history(&self, group: &[&SetSummary]) -> Option<BranchHistory> {
        let source = group.first()?.source;
        let of_source: Vec<&SetSummary> = self.sets.iter().filter(|set| set.source == source).collect();
        let branches = Branches::gather(of_source.iter().map(|set| &set.branch));
        lineage::newest_branch(&of_source, &[], &branches).map(|branch| branches.history(branch))
    }

    /// Keeps the first `count` of `fulls`, what stands on them, and what was taken since the last of those.
    fn keep_fulls(&mut self, count: u32, group: &[&SetSummary], fulls: &[&SetSummary], order: &Order) {
        let counted = &fulls[..fulls.len().min(count.max(1) as usize)];
        let oldest = counted.last().filter(|_| fulls.len() > counted.len());
        let roots: HashSet<SetId> = counted.iter().map(|set| set.id).collect();
        for set in group {
            let stands_on_one = || self.below(set).last().is_some_and(|root| roots.contains(&root.id));
            if oldest.is_none_or(|oldest| order.is_since(set, oldest)) || stands_on_one() {
                self.keep(set.id, KeepReason::CountedFull);
            }
        }
    }

    /// Keeps what ended since `horizon`, and for each branch that was worked on since then the set from which recovery
    /// to the horizon starts.
    fn keep_since(&mut self, horizon: Timestamp, group: &[&SetSummary], restorable: &dyn Fn(&SetSummary) -> bool) {
        let young: HashSet<SetId> =
            group.iter().filter(|set| youngest_below(set, group) >= horizon).map(|set| set.id).collect();
        for set in group.iter().filter(|set| young.contains(&set.id)) {
            self.keep(set.id, KeepReason::Young);
        }
        let Some(source) = group.first().map(|set| set.source) else { return };
        let of_source: Vec<&SetSummary> = self.sets.iter().filter(|set| set.source == source).collect();
        let branches = Branches::gather(of_source.iter().map(|set| &set.branch));
        let active = of_source.iter().filter(|set| set.ended >= horizon).map(|set| set.branch.current);
        let newest = lineage::newest_branch(&of_source, &[], &branches);
        let is_before = |set: &&SetSummary| set.ended <= horizon && !young.contains(&set.id);
        let mut before: Vec<&SetSummary> = group.iter().copied().filter(is_before).collect();
        before.sort_by_key(|set| Reverse(nearness(set)));
        for branch in active.chain(newest).collect::<BTreeSet<_>>() {
            let history = branches.history(branch);
            let inside = |set: &SetSummary| lineage::contains(&history, set.branch.current, set.bak_end_lsn);
            if let Some(start) = before.iter().find(|set| inside(set) && restorable(set)) {
                self.keep(start.id, KeepReason::WindowStart);
            }
        }
    }

    /// The bases of a set as far as they are there, nearest first.
    fn below(&self, set: &SetSummary) -> Vec<&'s SetSummary> {
        let mut seen = HashSet::from([set.id]);
        let mut found: Vec<&SetSummary> = Vec::new();
        let mut next = set.base;
        while let Some(base) = next.filter(|base| seen.insert(*base)).and_then(|base| self.index.get(base).ok()) {
            found.push(base);
            next = base.base;
        }
        found
    }

    fn add_bases(&mut self, wanted: &[SetId]) {
        for &id in wanted {
            let bases = self.index.get(id).map(|set| self.below(set)).unwrap_or_default();
            bases.iter().for_each(|base| self.keep(base.id, KeepReason::BaseOf(id)));
        }
    }

    fn add_log(&mut self, wanted: &[SetId]) {
        let holding: Vec<&SetSummary> = self.sets.iter().filter(|set| set.holds_pages()).collect();
        for log in self.sets.iter().filter(|set| set.scope == Scope::Log) {
            let data = || holding.iter().copied().filter(|set| set.source == log.source);
            let kept = || data().filter(|set| self.reasons.contains_key(&set.id));
            let goes_forward = |set: &&SetSummary| wanted.binary_search(&set.id).is_ok() && is_behind(log, set);
            let reason = if let Some(set) = kept().find(|set| goes_forward(set) || makes_up_for(log, set)) {
                Some(KeepReason::LogFor(set.id))
            } else if kept().next().is_none() {
                Some(KeepReason::OnlyLog)
            } else if data().all(|set| log.ended >= set.began) {
                Some(KeepReason::NewLog)
            } else {
                None
            };
            if let Some(reason) = reason {
                self.keep(log.id, reason);
            }
        }
    }

    fn plan(self) -> ExpirePlan {
        let mut oldest_first: Vec<&SetSummary> = self.sets.iter().collect();
        oldest_first.sort_by_key(|set| (set.began, set.id));
        let mut gone: Vec<&SetSummary> = oldest_first.clone();
        gone.retain(|set| !self.reasons.contains_key(&set.id));
        gone.sort_by_key(|set| (set.scope == Scope::Log, Reverse(self.below(set).len())));
        let reason = |set: &&SetSummary| self.reasons.get(&set.id).map(|reason| (set.id, *reason));
        ExpirePlan {
            remove: gone.iter().map(|set| set.id).collect(),
            keep: oldest_first.iter().filter_map(reason).collect(),
        }
    }
}

/// What makes one set newer than another. Clocks may have been wrong, and LSNs order only states of one history; what is
/// among the newest by either counts as such.
enum Order {
    /// By the clock.
    Time,
    /// By their states, of those that lie in a history.
    State(BranchHistory),
}

impl Order {
    fn newest_first<'s>(&self, fulls: &[&'s SetSummary]) -> Vec<&'s SetSummary> {
        let mut ordered = fulls.to_vec();
        match self {
            Order::Time => ordered.sort_by_key(|set| Reverse((set.ended, set.id))),
            Order::State(history) => {
                ordered.retain(|set| lineage::contains(history, set.branch.current, set.bak_end_lsn));
                ordered.sort_by_key(|set| Reverse(nearness(set)));
            }
        }
        ordered
    }

    /// Whether `set` was taken when `oldest` was, or later.
    fn is_since(&self, set: &SetSummary, oldest: &SetSummary) -> bool {
        match self {
            Order::Time => set.began >= oldest.began,
            Order::State(history) => {
                lineage::contains(history, set.branch.current, set.bak_end_lsn) && set.bak_end_lsn >= oldest.bak_end_lsn
            }
        }
    }
}

/// When a set was taken at the earliest, whatever the clock said then: no state is older than those before it.
fn youngest_below(set: &SetSummary, group: &[&SetSummary]) -> Timestamp {
    let before = |other: &&&SetSummary| {
        other.bak_end_lsn <= set.bak_end_lsn && lineage::contains(&set.branch, other.branch.current, other.bak_end_lsn)
    };
    group.iter().filter(before).map(|other| other.ended).fold(set.ended, Timestamp::max)
}

/// Whether `log` has redo behind the end of `set`: on its branch or one that came from it, or between the end of a set
/// that nothing was written to since the fork and that fork.
fn is_behind(log: &SetSummary, set: &SetSummary) -> bool {
    let end = set.bak_end_lsn;
    let later = lineage::contains(&log.branch, set.branch.current, end);
    let before_fork = set.branch.reach(log.branch.current).filter(|limit| *limit > end);
    let limit = if later { Some(Lsn(u64::MAX)) } else { before_fork };
    limit.is_some_and(|limit| log.nodes.iter().any(|range| range.end_lsn > end && range.begin_lsn < limit))
}

/// Whether `log` has redo that `set` needs and left out.
fn makes_up_for(log: &SetSummary, set: &SetSummary) -> bool {
    let Some(limit) = set.branch.reach(log.branch.current) else { return false };
    let left_out = |range: &NodeRange| LsnSpan { after: range.begin_lsn, upto: range.end_lsn.min(limit) };
    let overlaps = |need: &NodeRange| {
        let of_node = |have: &&NodeRange| have.node == need.node;
        log.nodes.iter().filter(of_node).any(|have| have.span().intersect(left_out(need)).is_some())
    };
    set.consistency == Consistency::WithoutLog && set.nodes.iter().any(overlaps)
}
