//! Retention: what goes never hurts what stays.

use std::collections::BTreeSet;

use proptest::prelude::*;
use setpiece_core::model::chain::chain_of;
use setpiece_core::model::log::LogTrack;
use setpiece_core::model::retention::{ExpirePlan, KeepReason, Policy, expire_plan};
use setpiece_core::model::start::{StartRequest, choose_start};
use setpiece_core::model::{
    BranchId, Consistency, Level, LogUnit, Lsn, NodeRange, RecoveryTarget, Scope, SetId, SetSummary, Timestamp, Until,
};

use crate::world::{SOURCE, World, id, steps};

const DAY: i64 = 86_400_000_000;

/// The world with each unit in a set of scope log, beside the data sets.
fn with_log_sets(world: &World) -> Vec<SetSummary> {
    let log_set = |(number, unit): (usize, &LogUnit)| {
        let history = world.history(unit.branch).clone();
        let (begin_lsn, end_lsn) = (unit.span.after, unit.span.upto);
        SetSummary {
            id: id(1000 + number),
            name: format!("log{number}"),
            source: SOURCE,
            source_name: "world".into(),
            engine: "none".into(),
            level: Level::Full,
            scope: Scope::Log,
            base: None,
            consistency: Consistency::NoLogNeeded,
            online: true,
            branch: history,
            nodes: vec![NodeRange { node: unit.node, begin_lsn, begin_seq: None, end_lsn, end_seq: None }],
            bak_end_lsn: end_lsn,
            began: unit.first_commit.unwrap(),
            ended: unit.last_commit.unwrap(),
            bad_pages: 0,
            marks: None,
        }
    };
    world.sets.iter().cloned().chain(world.units.iter().enumerate().map(log_set)).collect()
}

fn archived(set: &SetSummary, units: &[LogUnit]) -> bool {
    set.nodes.iter().all(|range| {
        let track = LogTrack::new(units, range.node, |branch| set.branch.reach(branch));
        track.from(range.begin_lsn).reached >= range.end_lsn
    })
}

fn restorable(world: &World, sets: &[SetSummary], set: &SetSummary) -> bool {
    let whole = |id: SetId| {
        let member = sets.iter().find(|set| set.id == id).unwrap();
        world.usable(id).is_ok() && member.bad_pages == 0
    };
    let log = set.consistency != Consistency::WithoutLog || archived(set, &world.units);
    log && chain_of(set.id, sets).is_ok_and(|chain| chain.iter().all(|id| whole(*id)))
}

fn reachable(world: &World, sets: &[SetSummary], branch: BranchId, until: Until) -> Option<SetId> {
    let on_record = |(number, _): &(usize, &LogUnit)| sets.iter().any(|set| set.id == id(1000 + number));
    let units: Vec<LogUnit> = world.units.iter().enumerate().filter(on_record).map(|(_, unit)| unit.clone()).collect();
    let target = RecoveryTarget { until, exclusive: false, branch: Some(branch) };
    let request = StartRequest { source: SOURCE, scope: &Scope::Database, target: &target, set: None, found: None };
    choose_start(&request, sets, &|set| world.usable(set), &units).ok().map(|start| start.set)
}

fn remaining(sets: &[SetSummary], plan: &ExpirePlan) -> Vec<SetSummary> {
    sets.iter().filter(|set| !plan.remove.contains(&set.id)).cloned().collect()
}

fn policies() -> impl Strategy<Value = Policy> {
    (proptest::option::of(0u32..4), proptest::option::of(0u32..4))
        .prop_map(|(keep_full, keep_days)| Policy { keep_full, keep_days })
}

/// The same steps with ten steps to the day, so that rules by days have something to do.
fn in_days(mut world: World) -> World {
    let scale = |time: Timestamp| Timestamp(time.0 * (DAY / 100));
    for set in &mut world.sets {
        (set.began, set.ended) = (scale(set.began), scale(set.ended));
    }
    for unit in &mut world.units {
        (unit.first_commit, unit.last_commit) = (unit.first_commit.map(scale), unit.last_commit.map(scale));
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// Every set is kept or removed; a base is never removed under a set that stays, not even halfway through.
    #[test]
    fn no_chain_is_broken(history in steps(80), policy in policies()) {
        let world = in_days(World::run(&history));
        let sets = with_log_sets(&world);
        let now = Timestamp(world.now().0 * (DAY / 100));
        let plan = expire_plan(&sets, &policy, &|set| world.usable(set), &|set| archived(set, &world.units), now);
        let kept: BTreeSet<SetId> = plan.keep.iter().map(|(set, _)| *set).collect();
        let removed: BTreeSet<SetId> = plan.remove.iter().copied().collect();
        prop_assert_eq!(kept.union(&removed).count(), sets.len());
        prop_assert!(kept.is_disjoint(&removed) && removed.len() == plan.remove.len());
        if policy == Policy::default() {
            prop_assert!(sets.iter().all(|set| set.scope == Scope::Log || kept.contains(&set.id)));
        }
        let mut left = sets.clone();
        for set in &plan.remove {
            left.retain(|other| other.id != *set);
            prop_assert!(left.iter().all(|other| other.base != Some(*set)), "{} goes too early", set);
        }
        for scope in [Scope::Database, Scope::Tablespace("t".into())] {
            let is_full = |set: &&SetSummary| set.level == Level::Full && set.scope == scope;
            let mut fulls: Vec<&SetSummary> = sets.iter().filter(is_full).filter(|set| restorable(&world, &sets, set)).collect();
            fulls.sort_by_key(|set| std::cmp::Reverse(set.ended));
            let count = policy.keep_full.unwrap_or(1).max(1) as usize;
            prop_assert!(fulls.iter().take(count).all(|set| kept.contains(&set.id)));
        }
    }

    /// Whatever a wanted set could be brought to before can be reached afterwards: log goes only where it is of no use
    /// to any set that stays. (Sets that go also take along what they knew of idle nodes; that is left out here.)
    #[test]
    fn log_stays_with_what_needs_it(history in steps(80), policy in policies()) {
        let world = in_days(World::run(&history));
        let sets = with_log_sets(&world);
        let now = Timestamp(world.now().0 * (DAY / 100));
        let plan = expire_plan(&sets, &policy, &|set| world.usable(set), &|set| archived(set, &world.units), now);
        let left = remaining(&sets, &plan);
        let with_all_log: Vec<SetSummary> =
            sets.iter().filter(|set| set.scope == Scope::Log || left.contains(set)).cloned().collect();
        let wanted = |set: SetId| plan.keep.iter().any(|(kept, reason)| {
            *kept == set && !matches!(reason, KeepReason::BaseOf(_))
        });
        for branch in world.branch_ids() {
            for lsn in (0..=world.highest()).map(Lsn) {
                let before = reachable(&world, &with_all_log, branch, Until::Lsn(lsn));
                if before.is_some_and(wanted) {
                    prop_assert_eq!(reachable(&world, &left, branch, Until::Lsn(lsn)), before, "{} {:?}", lsn, plan);
                }
            }
        }
    }

    /// Every moment within the days asked for that could be reached can still be reached.
    #[test]
    fn the_window_asked_for_stays(history in steps(80), days in 0u32..8) {
        let world = in_days(World::run(&history));
        let sets = with_log_sets(&world);
        let now = Timestamp(world.now().0 * (DAY / 100));
        let policy = Policy { keep_full: None, keep_days: Some(days) };
        let plan = expire_plan(&sets, &policy, &|set| world.usable(set), &|set| archived(set, &world.units), now);
        let left = remaining(&sets, &plan);
        let horizon = now.0 - i64::from(days) * DAY;
        for branch in world.branch_ids() {
            for time in (0..40).map(|step| Timestamp(horizon + (now.0 - horizon) * step / 40)) {
                let before = reachable(&world, &sets, branch, Until::Time(time));
                if before.is_some() {
                    let after = reachable(&world, &left, branch, Until::Time(time));
                    prop_assert!(after.is_some(), "{} {} {:?} {:?}", branch, time, before, plan);
                }
            }
        }
    }
}

/// A database set: number, level, base, day.
fn set(number: usize, level: Level, base: Option<usize>, day: i64) -> SetSummary {
    let mut set = World::run(&[(10, 0, 0)]).sets.remove(0);
    set.id = id(number);
    (set.level, set.base, set.bak_end_lsn) = (level, base.map(id), Lsn(day as u64 * 10));
    (set.began, set.ended) = (Timestamp(day * DAY), Timestamp(day * DAY + 1));
    set
}

fn plan(sets: &[SetSummary], keep_full: Option<u32>, keep_days: Option<u32>, today: i64) -> ExpirePlan {
    let policy = Policy { keep_full, keep_days };
    expire_plan(sets, &policy, &|_| Ok(()), &|_| false, Timestamp(today * DAY))
}

#[test]
fn old_sets_go_and_reasons_are_given() {
    use Level::{Cumulative, Differential, Full};
    let sets = [
        set(1, Full, None, 1),
        set(2, Differential, Some(1), 2),
        set(3, Full, None, 8),
        set(4, Cumulative, Some(3), 9),
        set(5, Differential, Some(4), 10),
        set(6, Cumulative, Some(3), 11),
    ];
    assert_eq!(plan(&sets, Some(1), None, 12).remove, vec![id(2), id(1)]);
    assert_eq!(plan(&sets, Some(2), None, 12).remove, vec![]);
    assert_eq!(plan(&sets, None, None, 400).remove, vec![]);
    // Two days back from day 12: the differential of day 10 is young enough, and what was before is no one's base.
    let days = plan(&sets[..], None, Some(2), 12);
    assert_eq!(days.remove, vec![id(2), id(1)]);
    assert_eq!(
        days.keep,
        vec![
            (id(3), KeepReason::NewestFull),
            (id(4), KeepReason::WindowStart),
            (id(5), KeepReason::Young),
            (id(6), KeepReason::Young)
        ]
    );
    // One day back from day 12 starts from the set of day 10 still, since the next one ended a moment too late.
    assert_eq!(plan(&sets, None, Some(1), 12).keep[2], (id(5), KeepReason::WindowStart));
    // Long after the last backup the newest state is still kept.
    let late = plan(&sets, None, Some(1), 400);
    assert_eq!(late.keep, vec![(id(3), KeepReason::NewestFull), (id(6), KeepReason::WindowStart)]);
    assert_eq!(late.remove, vec![id(5), id(2), id(4), id(1)].into_iter().collect::<Vec<_>>());
}

#[test]
fn log_goes_with_the_last_set_that_needs_it() {
    let mut log = set(9, Level::Full, None, 3);
    log.scope = Scope::Log;
    log.nodes.truncate(1);
    (log.nodes[0].begin_lsn, log.nodes[0].end_lsn) = (Lsn(10), Lsn(30));
    let (old, new) = (set(1, Level::Full, None, 1), set(2, Level::Full, None, 5));
    let both = plan(&[old.clone(), new.clone(), log.clone()], Some(2), None, 9);
    assert_eq!(both.keep[1], (id(9), KeepReason::LogFor(id(1))));
    assert_eq!(plan(&[old.clone(), new, log.clone()], Some(1), None, 9).remove, vec![id(1), id(9)]);
    assert_eq!(plan(&[log.clone()], Some(1), None, 9).keep, vec![(id(9), KeepReason::OnlyLog)]);
    log.nodes[0].end_lsn = Lsn(10);
    assert_eq!(plan(&[old, log], Some(1), None, 9).keep[1], (id(9), KeepReason::NewLog));
}

#[test]
fn log_of_the_parent_up_to_the_fork_stays() {
    let mut log = set(9, Level::Full, None, 1);
    log.scope = Scope::Log;
    log.nodes.truncate(1);
    (log.nodes[0].begin_lsn, log.nodes[0].end_lsn) = (Lsn(20), Lsn(40));
    let (mut taken, newer) = (set(2, Level::Full, None, 2), set(3, Level::Full, None, 5));
    taken.branch = taken.branch.fork(BranchId(2), Lsn(30), None);
    assert_eq!(
        plan(&[taken.clone(), newer.clone(), log.clone()], Some(2), None, 9).keep[0].1,
        KeepReason::LogFor(id(2))
    );
    taken.branch = log.branch.fork(BranchId(2), Lsn(20), None);
    assert_eq!(plan(&[taken, newer, log], Some(2), None, 9).remove, vec![id(9)]);
}

#[test]
fn a_clock_that_was_wrong_lets_nothing_newer_go() {
    let at = |number, day, lsn| {
        let mut made = set(number, Level::Full, None, day);
        made.bak_end_lsn = Lsn(lsn);
        made.nodes.iter_mut().for_each(|range| (range.begin_lsn, range.end_lsn) = (Lsn(lsn), Lsn(lsn)));
        made
    };
    // Taken with the clock far ahead: the newest by time, the oldest by what it holds.
    let ahead = [at(1, 300, 10), at(2, 1, 20), at(3, 2, 30), at(4, 3, 40)];
    let kept = plan(&ahead, Some(1), None, 4);
    assert_eq!(kept.remove, vec![id(2), id(3)]);
    // Taken with the clock far behind: what has just been taken is not the oldest.
    let behind = [at(1, 400, 10), at(2, 401, 20), at(3, 402, 30), at(4, 3, 40), at(5, 4, 50)];
    let newest = |plan: ExpirePlan| {
        plan.keep.iter().any(|(set, _)| *set == id(4)) && plan.keep.iter().any(|(set, _)| *set == id(5))
    };
    assert!(newest(plan(&behind, Some(2), None, 4)));
    assert!(newest(plan(&behind, None, Some(1), 402)));
}
