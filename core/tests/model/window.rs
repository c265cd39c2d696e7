//! Windows and starts: what can be reached, point by point.

use proptest::prelude::*;
use setpiece_core::model::join::{Place, joins};
use setpiece_core::model::log::{LogTrack, Timing, continuous};
use setpiece_core::model::start::{Nearest, Start, StartRequest, Unreachable, Why, choose_start};
use setpiece_core::model::window::windows;
use setpiece_core::model::{
    BranchHistory, BranchId, Consistency, LogUnit, Lsn, LsnSpan, MarkedState, NodeId, RecoveryTarget, Scope, Seq,
    SetId, SetSummary, StateMark, Timestamp, UnitLinks, Until,
};

use crate::world::{NODES, SOURCE, World, id, steps};

fn usable_chain(world: &World, set: &SetSummary) -> bool {
    let mut next = Some(set.id);
    while let Some(id) = next {
        let Some(set) = world.sets.iter().find(|set| set.id == id) else { return false };
        if world.usable(id).is_err() {
            return false;
        }
        next = set.base;
    }
    true
}

fn inside(history: &BranchHistory, set: &SetSummary) -> bool {
    history.reach(set.branch.current).is_some_and(|limit| set.bak_end_lsn <= limit)
}

/// Whether it is proven that the redo of `node` at `lsn` is on record, or that there is none.
fn proven(world: &World, history: &BranchHistory, node: NodeId, lsn: Lsn) -> bool {
    let in_unit = |unit: &LogUnit| {
        unit.node == node && unit.span.contains(lsn) && history.reach(unit.branch).is_some_and(|limit| lsn <= limit)
    };
    let idle = |set: &SetSummary| {
        let silent = |end| end < lsn && lsn <= set.bak_end_lsn;
        inside(history, set) && set.nodes.iter().any(|range| range.node == node && silent(range.end_lsn))
    };
    world.units.iter().any(in_unit) || world.sets.iter().any(idle)
}

/// The last LSN of `node` that is in the set itself.
fn from(set: &SetSummary, node: NodeId) -> Lsn {
    match set.consistency {
        Consistency::WithoutLog => set.nodes.iter().find(|range| range.node == node).unwrap().begin_lsn,
        _ => set.bak_end_lsn,
    }
}

/// Whether the state at `lsn` can be reached from `set`: point by point over all LSNs and nodes.
fn reaches(world: &World, history: &BranchHistory, set: &SetSummary, lsn: Lsn) -> bool {
    let node_reaches = |node| (from(set, node).0 + 1..=lsn.0).all(|lsn| proven(world, history, node, Lsn(lsn)));
    inside(history, set) && set.bak_end_lsn <= lsn && (0..NODES).map(NodeId).all(node_reaches)
}

fn starts<'w>(world: &'w World, scope: &'w Scope) -> impl Iterator<Item = &'w SetSummary> {
    let fits = move |set: &&SetSummary| set.scope == *scope || set.scope == Scope::Database;
    world.sets.iter().filter(fits).filter(|set| set.bad_pages == 0 && usable_chain(world, set))
}

/// The set to start from by trying every one.
fn naive_start(world: &World, branch: BranchId, target: &RecoveryTarget, scope: &Scope) -> Option<SetId> {
    let history = world.history(branch);
    let fits = |set: &&SetSummary| match target.until {
        Until::Lsn(lsn) => !(target.exclusive && set.bak_end_lsn == lsn) && reaches(world, history, set, lsn),
        Until::Time(time) => {
            let late_enough = |unit: &&LogUnit| {
                let whole = history.reach(unit.branch).is_some_and(|limit| unit.span.upto <= limit);
                whole && unit.last_commit >= Some(time) && unit.span.upto > set.bak_end_lsn
            };
            let mut units = world.units.iter().filter(late_enough);
            let early = set.ended < time || (set.ended == time && !target.exclusive);
            early && units.any(|unit| reaches(world, history, set, unit.span.upto))
        }
        _ => reaches(world, history, set, set.bak_end_lsn),
    };
    starts(world, scope).filter(fits).max_by_key(|set| (set.bak_end_lsn, set.began)).map(|set| set.id)
}

fn ask<'w>(
    world: &'w World,
    target: &RecoveryTarget,
    scope: &Scope,
    set: Option<SetId>,
) -> Result<Start<'w>, Box<Unreachable>> {
    choose_start(
        &StartRequest { source: SOURCE, scope, target, set, found: None },
        &world.sets,
        &|set| world.usable(set),
        &world.units,
    )
}

/// What really happened up to the end of the start is in the set or in the units that were chosen.
fn nothing_is_missing(world: &World, branch: BranchId, start: &Start<'_>) -> bool {
    let set = world.sets.iter().find(|set| set.id == start.set).unwrap();
    let in_set = |write: &crate::world::Write| match set.consistency {
        Consistency::WithoutLog => {
            set.nodes.iter().any(|range| range.node == write.node && write.lsn <= range.begin_lsn)
        }
        _ => write.lsn <= set.bak_end_lsn,
    };
    let in_log = |write: &crate::world::Write| {
        let units = start.logs.iter().filter(|log| log.node == write.node).flat_map(|log| &log.units);
        units.into_iter().any(|unit| unit.span.contains(write.lsn))
    };
    world.writes(branch).iter().all(|write| write.lsn > start.reaches || in_set(write) || in_log(write))
}

fn known_branches(world: &World) -> Vec<BranchId> {
    let of_sets = world.sets.iter().map(|set| set.branch.current);
    let mut known: Vec<BranchId> = of_sets.chain(world.units.iter().map(|unit| unit.branch)).collect();
    known.sort_unstable();
    known.dedup();
    // A branch of which nothing but redo is on record is not known to have come from another one.
    known.retain(|branch| {
        let named = |set: &SetSummary| set.branch.reach(*branch).is_some();
        world.history(*branch).points.is_empty() || world.sets.iter().any(named)
    });
    known
}

fn target(until: Until, branch: BranchId, exclusive: bool) -> RecoveryTarget {
    RecoveryTarget { until, exclusive, branch: Some(branch) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// An LSN can be recovered to exactly when trying every set says so, from the newest such set, with all that is
    /// needed; and windows tell the same.
    #[test]
    fn every_lsn_is_reached_exactly_when_it_can_be(history in steps(80), exclusive in any::<bool>(), tablespace in any::<bool>()) {
        let world = World::run(&history);
        let scope = if tablespace { Scope::Tablespace("t".into()) } else { Scope::Database };
        let all = windows(SOURCE, &world.sets, &|set| world.usable(set), &world.units);
        for branch in known_branches(&world) {
            let of_branch: Vec<_> = all.iter().filter(|window| window.branch == branch).collect();
            prop_assert!(of_branch.windows(2).all(|pair| pair[0].to < pair[1].from));
            for lsn in (0..=world.highest() + 1).map(Lsn) {
                let target = target(Until::Lsn(lsn), branch, exclusive);
                let expected = naive_start(&world, branch, &target, &scope);
                let found = ask(&world, &target, &scope, None);
                prop_assert_eq!(found.as_ref().ok().map(|start| start.set), expected, "{} {:?} {:?}", lsn, found, world);
                if let Ok(start) = &found {
                    prop_assert_eq!(start.reaches, lsn);
                    prop_assert!(nothing_is_missing(&world, branch, start));
                    prop_assert!(start.logs.iter().flat_map(|log| &log.units).all(|unit| unit.span.after < lsn));
                }
                if !exclusive && !tablespace {
                    let in_window = of_branch.iter().any(|window| window.from <= lsn && lsn <= window.to);
                    prop_assert_eq!(in_window, expected.is_some(), "{} {:?}", lsn, of_branch);
                }
            }
        }
    }

    /// A moment is reached exactly when some unit proves that nothing before it is missing.
    #[test]
    fn every_moment_is_reached_exactly_when_it_can_be(history in steps(80), exclusive in any::<bool>()) {
        let world = World::run(&history);
        for branch in known_branches(&world) {
            for time in (990..=world.now().0 + 15).filter(|time| time % 10 == 0 || time % 10 == 3).map(Timestamp) {
                let target = target(Until::Time(time), branch, exclusive);
                let expected = naive_start(&world, branch, &target, &Scope::Database);
                let found = ask(&world, &target, &Scope::Database, None);
                prop_assert_eq!(found.as_ref().ok().map(|start| start.set), expected, "{} {:?}", time, found);
                if let Ok(start) = &found {
                    prop_assert!(nothing_is_missing(&world, branch, start));
                    let before = |write: &&crate::world::Write| write.time <= time && write.lsn > start.reaches;
                    prop_assert!(!world.writes(branch).iter().any(|write| before(&write)));
                }
            }
        }
    }

    /// As far as possible is as far as any set gets, and the end of a set needs no more than itself.
    #[test]
    fn latest_and_set_end(history in steps(80)) {
        let world = World::run(&history);
        for branch in known_branches(&world) {
            let history = world.history(branch);
            let ends = |set: &SetSummary| (0..=world.highest()).map(Lsn).filter(|lsn| reaches(&world, history, set, *lsn)).max();
            let farthest = starts(&world, &Scope::Database).filter_map(ends).max();
            let found = ask(&world, &target(Until::Latest, branch, false), &Scope::Database, None);
            prop_assert_eq!(found.as_ref().ok().map(|start| start.reaches), farthest);
            if let Ok(start) = found {
                prop_assert!(nothing_is_missing(&world, branch, &start));
            }
        }
        for set in &world.sets {
            let wanted = RecoveryTarget { until: Until::SetEnd, exclusive: false, branch: None };
            let found = ask(&world, &wanted, &set.scope, Some(set.id));
            let possible = usable_chain(&world, set) && reaches(&world, &set.branch, set, set.bak_end_lsn);
            prop_assert_eq!(found.is_ok(), possible, "{:?}", found);
            if let Ok(start) = found {
                prop_assert_eq!(start.reaches, set.bak_end_lsn);
                prop_assert_eq!(start.chain[0], set.id);
                prop_assert!(nothing_is_missing(&world, set.branch.current, &start));
                let own = set.consistency != Consistency::WithoutLog;
                prop_assert!(!own || start.logs.iter().all(|log| log.units.is_empty()));
            }
        }
    }

    /// Redo is of use exactly when, starting from some set, none of it is missing on the way; what is told to be missing
    /// is.
    #[test]
    fn redo_joins_exactly_when_a_set_can_be_brought_up_to_it(history in steps(80)) {
        let world = World::run(&history);
        for branch in known_branches(&world) {
            let history = world.history(branch);
            for node in (0..NODES).map(NodeId) {
                for upto in (0..=world.highest() + 1).map(Lsn) {
                    let complete = |set: &SetSummary| {
                        let first = from(set, node).0 + 1;
                        inside(history, set) && (first..=upto.0).all(|lsn| proven(&world, history, node, Lsn(lsn)))
                    };
                    let expected = starts(&world, &Scope::Database).any(complete);
                    let place = Place { source: SOURCE, history, node, upto };
                    let found = joins(&place, &world.sets, &|set| world.usable(set), &world.units);
                    prop_assert_eq!(found.is_ok(), expected, "{} {:?} {:?}", upto, found, world);
                    if let Err(Some(gap)) = found {
                        let lost = Lsn(gap.missing.after.0 + 1);
                        prop_assert!(!proven(&world, history, node, lost), "{:?}", gap);
                    }
                }
            }
        }
    }

    /// A track gives what picking unit by unit gives: the longest row of units without a gap, whatever is around it.
    #[test]
    fn track_is_the_longest_row(history in steps(80), doubled in any::<bool>()) {
        let world = World::run(&history);
        let mut units = world.units.clone();
        if doubled {
            units.extend(world.units.iter().rev().cloned());
        }
        for branch in world.branch_ids() {
            let history = world.history(branch);
            for node in (0..NODES).map(NodeId) {
                let track = LogTrack::new(&units, node, |branch| history.reach(branch));
                for after in (0..=world.highest()).map(Lsn) {
                    let in_unit = |lsn: Lsn| units.iter().any(|unit| {
                        unit.node == node && unit.span.contains(lsn) && history.reach(unit.branch).is_some_and(|limit| lsn <= limit)
                    });
                    let reached = (after.0 + 1..).map(Lsn).take_while(|lsn| in_unit(*lsn)).last().unwrap_or(after);
                    let stretch = track.from(after);
                    prop_assert_eq!(stretch.reached, reached);
                    for pair in stretch.units.windows(2) {
                        let cut = history.reach(pair[0].branch) < Some(pair[0].span.upto);
                        prop_assert!(cut || pair[1].follows(pair[0]).is_ok());
                    }
                    prop_assert_eq!(stretch.gap.is_some(), (after.0..=world.highest()).map(Lsn).any(|lsn| lsn > reached && in_unit(lsn)));
                }
            }
        }
    }
}

fn unit(seq: u64, after: u64, upto: u64) -> LogUnit {
    LogUnit {
        node: NodeId(0),
        branch: BranchId(1),
        seq: Seq(seq),
        span: LsnSpan { after: Lsn(after), upto: Lsn(upto) },
        first_commit: None,
        last_commit: Some(Timestamp(upto as i64 * 10)),
        len: 1,
        changes: None,
        name: None,
        links: None,
        timing: None,
        points: None,
    }
}

/// A full set that ends at LSN 10.
fn one_set() -> World {
    let mut world = World::run(&[(10, 0, 0)]);
    let set = &mut world.sets[0];
    (set.bak_end_lsn, set.ended) = (Lsn(10), Timestamp(100));
    set.nodes.truncate(1);
    (set.nodes[0].begin_lsn, set.nodes[0].end_lsn) = (Lsn(5), Lsn(10));
    world
}

#[test]
fn a_jump_in_the_numbers_is_a_gap_even_where_lsns_meet() {
    let units = [unit(1, 0, 10), unit(2, 10, 20), unit(4, 20, 30)];
    let (row, gap) = continuous(&units, NodeId(0), Lsn(5), |_| Some(Lsn(u64::MAX)));
    assert_eq!(row.len(), 2);
    let gap = gap.unwrap();
    assert_eq!((gap.last_seq, gap.next_seq), (Some(Seq(2)), Some(Seq(4))));
}

#[test]
fn refusals_name_what_is_near_and_what_is_missing() {
    let mut world = one_set();
    world.units = vec![unit(2, 10, 20), unit(4, 30, 40)];
    let lsn = |lsn| RecoveryTarget { until: Until::Lsn(Lsn(lsn)), ..RecoveryTarget::default() };
    let early = ask(&world, &lsn(9), &Scope::Database, None).unwrap_err();
    assert_eq!((early.why.clone(), early.after.unwrap().lsn), (Why::TooEarly, Lsn(10)));
    let behind = ask(&world, &lsn(35), &Scope::Database, None).unwrap_err();
    assert_eq!((behind.why.clone(), behind.before.unwrap().lsn), (Why::InGap, Lsn(20)));
    assert_eq!(
        setpiece_core::Error::from(behind).to_string(),
        "LSN 35 on branch 1 cannot be reached: log is missing before it; redo (20, 30] of node 0 on branch 1 is missing, \
         between units 2 and 4 (the nearest that can be reached is LSN 20 (1970-01-01T00:00:00.000200Z))"
    );
    world.units.pop();
    assert_eq!(ask(&world, &lsn(35), &Scope::Database, None).unwrap_err().why, Why::TooLate);
    world.sets[0].consistency = Consistency::WithoutLog;
    assert_eq!(ask(&world, &lsn(15), &Scope::Database, None).unwrap_err().why, Why::NoLog);
    world.units.push(unit(1, 0, 10));
    assert_eq!(ask(&world, &lsn(15), &Scope::Database, None).unwrap().logs[0].units.len(), 2);
    world.sets.clear();
    assert_eq!(ask(&world, &lsn(15), &Scope::Database, None).unwrap_err().why, Why::NoSet);
    assert!(matches!(ask(&world, &lsn(15), &Scope::Database, Some(id(0))).unwrap_err().why, Why::Chain(_)));
}

#[test]
fn a_named_set_must_fit_the_request() {
    let world = one_set();
    let latest = RecoveryTarget::default();
    let table = Scope::Table("t".into());
    assert!(matches!(ask(&world, &latest, &table, Some(id(0))).unwrap_err().why, Why::OtherScope(_)));
    assert!(ask(&world, &latest, &Scope::Tablespace("t".into()), Some(id(0))).is_ok());
    let elsewhere = RecoveryTarget { branch: Some(BranchId(4)), ..RecoveryTarget::default() };
    assert_eq!(ask(&world, &elsewhere, &Scope::Database, Some(id(0))).unwrap_err().why, Why::OtherBranch(BranchId(1)));
}

#[test]
fn a_table_set_is_restored_alone() {
    let mut world = one_set();
    let table = Scope::Table("t".into());
    world.sets[0].scope = table.clone();
    world.units = vec![unit(2, 10, 20)];
    let start = ask(&world, &RecoveryTarget::default(), &table, None).unwrap();
    assert_eq!((start.reaches, start.logs[0].units.len()), (Lsn(10), 0));
    assert!(ask(&world, &RecoveryTarget::default(), &Scope::Database, None).is_err());
}

#[test]
fn windows_end_where_the_slowest_node_ends() {
    let mut world = one_set();
    let mut other = world.sets[0].nodes[0];
    (other.node, other.end_lsn) = (NodeId(1), Lsn(8));
    world.sets[0].nodes.push(other);
    let of_other = |seq, after, upto| LogUnit { node: NodeId(1), ..unit(seq, after, upto) };
    world.units = vec![unit(2, 10, 20), unit(3, 20, 40), of_other(9, 8, 26), of_other(11, 35, 50)];
    let found = windows(SOURCE, &world.sets, &|set| world.usable(set), &world.units);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].from, found[0].to, found[0].to_time), (Lsn(10), Lsn(26), Some(Timestamp(260))));
    assert_eq!(found[0].gap.unwrap().missing, LsnSpan { after: Lsn(26), upto: Lsn(35) });
}

/// The last commit of a unit that the history leaves halfway through belongs to the other branch.
#[test]
fn commits_behind_the_fork_prove_nothing() {
    let mut world = one_set();
    let history = world.sets[0].branch.fork(BranchId(2), Lsn(15), None);
    world.sets.push(SetSummary { id: id(1), scope: Scope::Log, branch: history, ..world.sets[0].clone() });
    let of =
        |branch, last, unit: LogUnit| LogUnit { branch: BranchId(branch), last_commit: Some(Timestamp(last)), ..unit };
    world.units = vec![of(1, 900, unit(2, 10, 20)), of(2, 400, unit(1, 15, 18)), of(2, 950, unit(2, 18, 30))];
    let at = |branch| ask(&world, &target(Until::Time(Timestamp(500)), branch, false), &Scope::Database, None).unwrap();
    assert_eq!(at(BranchId(1)).reaches, Lsn(20));
    assert_eq!(at(BranchId(2)).reaches, Lsn(30));
}

/// A unit that goes on from a state with mark `after` and leads to states with marks equal to their LSNs.
fn linked(seq: u64, (after, upto): (u64, u64), from: &[u64]) -> LogUnit {
    let from = from.iter().copied().map(StateMark).collect();
    let states = (after + 1..=upto).map(|lsn| MarkedState { lsn: Lsn(lsn), mark: StateMark(lsn) }).collect();
    LogUnit { links: Some(UnitLinks { from, states }), ..unit(seq, after, upto) }
}

fn with_marks(marks: &[u64]) -> World {
    let mut world = one_set();
    world.sets[0].marks = Some(marks.iter().copied().map(StateMark).collect());
    world
}

/// LSNs that fit prove nothing where both sides have marks: redo of one line was laid over a set of another.
#[test]
fn redo_that_shares_no_mark_with_a_state_does_not_go_on_from_it() {
    let reached = |marks: &[u64], units: &[LogUnit]| {
        let mut world = with_marks(marks);
        world.units = units.to_vec();
        let found = windows(SOURCE, &world.sets, &|set| world.usable(set), &world.units);
        (found[0].to.0, found[0].gap.map(|gap| gap.unproven))
    };
    let row = [linked(1, (10, 20), &[10, 77]), linked(2, (20, 30), &[20])];
    assert_eq!(reached(&[10], &row), (30, None));
    assert_eq!(reached(&[77, 5], &row), (30, None), "one mark of several is enough");
    assert_eq!(reached(&[11], &row), (10, Some(true)));
    assert_eq!(reached(&[], &row), (10, Some(true)), "a state that nothing can be proven of");
    assert_eq!(reached(&[10], &[row[0].clone(), linked(2, (20, 30), &[21])]), (20, Some(true)));
    assert_eq!(reached(&[10], &[row[0].clone(), unit(2, 20, 30)]), (30, None), "without marks the numbers count");
    assert_eq!(reached(&[10], &[linked(1, (5, 20), &[5])]), (20, None), "in the middle of a unit");
    assert_eq!(reached(&[99], &[linked(1, (5, 20), &[5])]), (10, Some(true)), "another state with that number");
    assert!(row[1].follows(&row[0]).is_ok());
    let gap = linked(2, (20, 30), &[21]).follows(&row[0]).unwrap_err();
    assert_eq!(
        gap.to_string(),
        "redo of node 0 on branch 1 cannot be proven to go on from LSN 20, between units 1 and 2"
    );
}

#[test]
fn an_lsn_that_two_states_have_is_no_target_until_a_set_is_named() {
    let mut world = with_marks(&[10]);
    world.units = vec![linked(1, (10, 20), &[10])];
    let mut other = SetSummary { id: id(1), marks: Some(vec![StateMark(999)]), ..world.sets[0].clone() };
    other.bak_end_lsn = Lsn(15);
    other.nodes.iter_mut().for_each(|range| range.end_lsn = Lsn(15));
    world.sets.push(other);
    let at = |lsn| target(Until::Lsn(Lsn(lsn)), BranchId(1), false);
    assert_eq!(ask(&world, &at(15), &Scope::Database, None).unwrap_err().why, Why::Ambiguous);
    assert_eq!(ask(&world, &at(15), &Scope::Database, Some(id(0))).unwrap().set, id(0));
    assert_eq!(ask(&world, &at(15), &Scope::Database, Some(id(1))).unwrap().set, id(1));
    assert_eq!(ask(&world, &at(16), &Scope::Database, None).unwrap().set, id(0));
    world.sets[1].marks = Some(vec![StateMark(15)]);
    assert_eq!(ask(&world, &at(15), &Scope::Database, None).unwrap().set, id(1));
}

#[test]
fn moments_inside_of_late_units_are_unknown() {
    let mut world = one_set();
    let late = |unit: LogUnit| LogUnit { timing: Some(Timing::Late), ..unit };
    world.units = vec![unit(1, 10, 20), late(unit(2, 20, 30)), unit(3, 30, 40)];
    let at = |time, exclusive| {
        let target = target(Until::Time(Timestamp(time)), BranchId(1), exclusive);
        ask(&world, &target, &Scope::Database, None).map(|start| start.reaches.0).map_err(|error| error.why)
    };
    assert_eq!(at(200, false), Ok(20));
    assert_eq!((at(201, false), at(299, false)), (Err(Why::TimeUnknown), Err(Why::TimeUnknown)));
    assert_eq!((at(300, false), at(300, true), at(301, true)), (Ok(30), Err(Why::TimeUnknown), Ok(40)));
    let unknown = target(Until::Time(Timestamp(250)), BranchId(1), false);
    let error = ask(&world, &unknown, &Scope::Database, None).unwrap_err();
    let near = |nearest: Option<Nearest>| nearest.map(|near| near.lsn.0);
    assert_eq!((near(error.before), near(error.after)), (Some(20), Some(30)));
}

#[test]
fn a_name_is_looked_for_on_record() {
    use setpiece_core::model::NamedPoint;
    let set = |number: usize, lsn: u64| {
        let mut made = World::run(&[(10, 0, 0)]).sets.remove(0);
        (made.id, made.bak_end_lsn, made.consistency) = (id(number), Lsn(lsn), Consistency::NoLogNeeded);
        made.nodes.truncate(1);
        made.nodes.iter_mut().for_each(|range| (range.begin_lsn, range.end_lsn) = (Lsn(lsn), Lsn(lsn)));
        made
    };
    let unit = |seq: u64, points: Option<Vec<(&str, u64)>>| LogUnit {
        node: NodeId(0),
        branch: BranchId(1),
        seq: Seq(seq),
        span: LsnSpan { after: Lsn(seq * 10), upto: Lsn(seq * 10 + 10) },
        first_commit: None,
        last_commit: None,
        len: 1,
        changes: None,
        name: None,
        links: None,
        timing: None,
        points: points
            .map(|all| all.iter().map(|(name, lsn)| NamedPoint { name: (*name).into(), lsn: Lsn(*lsn) }).collect()),
    };
    let sets = [set(1, 5), set(2, 25), set(3, 45)];
    let units = [
        unit(0, Some(vec![])),
        unit(1, Some(vec![("a", 12), ("b", 15)])),
        unit(2, Some(vec![("b", 29)])),
        unit(3, Some(vec![("a", 33)])),
        unit(4, Some(vec![("c", 48)])),
        unit(5, Some(vec![])),
    ];
    let find = |sets: &[SetSummary], units: &[LogUnit], name: &str| {
        let target = RecoveryTarget { until: Until::Name(name.into()), exclusive: false, branch: None };
        let request = StartRequest { source: SOURCE, scope: &Scope::Database, target: &target, set: None, found: None };
        choose_start(&request, sets, &|_| Ok(()), units)
            .map(|start| (start.set, start.reaches))
            .map_err(|error| error.why)
    };
    assert_eq!(find(&sets, &units, "a"), Ok((id(2), Lsn(33))));
    assert_eq!(find(&sets, &units, "b"), Ok((id(2), Lsn(29))), "from the first set recovery would stop at 15");
    assert_eq!(find(&sets, &units, "c"), Ok((id(3), Lsn(48))));
    assert_eq!(find(&sets, &units, "d"), Err(Why::NoPoint));
    assert_eq!(find(&sets[..1], &units, "b"), Ok((id(1), Lsn(15))), "the newest that can be reached");
    assert_eq!(find(&sets[2..], &units, "b"), Err(Why::TooEarly));
    let unknown: Vec<LogUnit> = units.iter().cloned().chain([unit(6, None)]).collect();
    assert_eq!(find(&sets, &unknown, "d").map(|(set, _)| set), Ok(id(3)), "the engine may know better");
}
