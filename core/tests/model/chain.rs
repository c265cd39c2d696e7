//! Chains and the choice of a base.

use proptest::prelude::*;
use setpiece_core::ErrorKind;
use setpiece_core::model::chain::{
    BaseReason, BaseRequest, ChainError, Misfit, chain_of, checkpoint_needed, choose_base, dependents,
};
use setpiece_core::model::{
    BranchHistory, BranchId, Consistency, Level, Lsn, NodeId, NodeRange, Scope, SetId, SetSummary, SourceId, Uuid,
};

use crate::world::{SOURCE, World, id, steps};

/// The chain by following one base after the other, in as few words as possible.
fn naive_chain(set: SetId, sets: &[SetSummary]) -> Option<Vec<&SetSummary>> {
    let mut chain = vec![sets.iter().find(|other| other.id == set)?];
    while let Some(base) = chain.last()?.base {
        chain.push(sets.iter().find(|other| other.id == base)?);
    }
    Some(chain)
}

/// The rules for a base, one by one.
fn may_be_base(world: &World, set: &SetSummary, request: &BaseRequest<'_>) -> bool {
    let scope = set.scope == *request.scope || set.scope == Scope::Database;
    let level = request.level == Level::Differential || set.level == Level::Full;
    let branch = request.branch.reach(set.branch.current).is_some_and(|limit| set.bak_end_lsn <= limit);
    let log = set.consistency != Consistency::WithoutLog || (request.log_archived)(set);
    let chain = naive_chain(set.id, &world.sets)
        .is_some_and(|chain| chain.iter().all(|set| set.bad_pages == 0 && world.usable(set.id).is_ok()));
    set.source == request.source && scope && level && branch && log && chain
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// The base keeps every rule, and no set that keeps them is nearer; a full is taken only when there is none.
    #[test]
    fn nearest_set_that_keeps_the_rules(
        history in steps(60), cumulative in any::<bool>(), tablespace in any::<bool>(), archived in any::<bool>(),
    ) {
        let world = World::run(&history);
        for branch in world.branch_ids() {
            let scope = if tablespace { Scope::Tablespace("t".into()) } else { Scope::Database };
            let level = if cumulative { Level::Cumulative } else { Level::Differential };
            let log_archived = |_: &SetSummary| archived;
            let request = BaseRequest {
                source: SOURCE, scope: &scope, level, branch: world.history(branch), forced: None, log_archived: &log_archived,
            };
            let choice = choose_base(&request, &world.sets, &|set| world.usable(set)).unwrap();
            let fitting = world.sets.iter().filter(|set| may_be_base(&world, set, &request));
            let nearest = fitting.max_by_key(|set| (set.bak_end_lsn, set.began)).map(|set| set.id);
            prop_assert_eq!(choice.base, nearest, "{}", choice.reason);
            prop_assert_eq!(choice.level == Level::Full, nearest.is_none());
            for set in &world.sets {
                let forced = BaseRequest { forced: Some(set.id), ..request };
                let taken = choose_base(&forced, &world.sets, &|set| world.usable(set));
                prop_assert_eq!(taken.is_ok(), may_be_base(&world, set, &forced), "{:?} {:?}", taken, set);
            }
        }
    }

    /// A chain is the bases one after the other, and the dependents of a set are the sets that have it in their chain.
    #[test]
    fn chains_and_dependents_agree(history in steps(60)) {
        let world = World::run(&history);
        for set in &world.sets {
            let expected = naive_chain(set.id, &world.sets).map(|chain| chain.iter().map(|set| set.id).collect::<Vec<_>>());
            prop_assert_eq!(chain_of(set.id, &world.sets).ok(), expected);
            let needing = dependents(set.id, &world.sets);
            for other in &world.sets {
                let above = chain_of(other.id, &world.sets).is_ok_and(|chain| chain[1..].contains(&set.id));
                prop_assert!(!above || needing.contains(&other.id));
            }
            for (at, needs) in needing.iter().enumerate() {
                let base = world.sets.iter().find(|other| other.id == *needs).unwrap().base.unwrap();
                prop_assert!(base == set.id || needing[..at].contains(&base));
            }
        }
    }
}

fn set(number: usize, level: Level, base: Option<usize>, end: u64) -> SetSummary {
    let mut set = World::run(&[(10, 0, 0)]).sets.remove(0);
    set.id = id(number);
    set.name = format!("s{number}");
    (set.level, set.base, set.bak_end_lsn) = (level, base.map(id), Lsn(end));
    set
}

#[test]
fn broken_chains_are_named() {
    let missing = [set(1, Level::Full, None, 1), set(3, Level::Differential, Some(2), 3)];
    assert_eq!(chain_of(id(3), &missing), Err(ChainError::Missing { base: id(2), name: "s3".into() }));
    assert_eq!(chain_of(id(9), &missing), Err(ChainError::Unknown(id(9))));
    let circle = [set(1, Level::Differential, Some(2), 1), set(2, Level::Differential, Some(1), 2)];
    assert_eq!(chain_of(id(1), &circle), Err(ChainError::Cycle(id(1))));
    assert_eq!(dependents(id(1), &circle), vec![id(2)]);
    let mut other = [set(1, Level::Full, None, 1), set(2, Level::Differential, Some(1), 2)];
    other[0].source = SourceId(Uuid([9; 16]));
    assert!(matches!(chain_of(id(2), &other), Err(ChainError::Impossible { .. })));
    let cumulative =
        [set(1, Level::Full, None, 1), set(2, Level::Differential, Some(1), 2), set(3, Level::Cumulative, Some(2), 3)];
    assert!(matches!(chain_of(id(3), &cumulative), Err(ChainError::Impossible { .. })));
    assert!(matches!(chain_of(id(2), &[set(2, Level::Differential, None, 2)]), Err(ChainError::NoBase { .. })));
    let long: Vec<SetSummary> = (0..=10_000)
        .map(|at| set(at, if at == 0 { Level::Full } else { Level::Differential }, at.checked_sub(1), at as u64))
        .collect();
    assert_eq!(chain_of(id(9_999), &long).map(|chain| chain.len()), Ok(10_000));
    assert_eq!(chain_of(id(10_000), &long), Err(ChainError::TooLong));
}

fn request<'a>(level: Level, scope: &'a Scope, branch: &'a BranchHistory) -> BaseRequest<'a> {
    BaseRequest { source: SOURCE, scope, level, branch, forced: None, log_archived: &|_| false }
}

#[test]
fn scopes_without_increments_are_refused() {
    let branch = BranchHistory::first(BranchId(1));
    for scope in [Scope::Table("t".into()), Scope::Log] {
        let error = choose_base(&request(Level::Differential, &scope, &branch), &[], &|_| Ok(())).unwrap_err();
        assert!(matches!(error, ChainError::NeverIncremental { .. }));
        assert_eq!(setpiece_core::Error::from(error).kind(), ErrorKind::Usage);
        assert!(choose_base(&request(Level::Full, &scope, &branch), &[], &|_| Ok(())).is_ok());
    }
    let named = BaseRequest { forced: Some(id(1)), ..request(Level::Full, &Scope::Database, &branch) };
    assert_eq!(choose_base(&named, &[], &|_| Ok(())), Err(ChainError::FullHasNoBase(id(1))));
}

#[test]
fn reasons_say_what_was_passed_over() {
    let branch = BranchHistory::first(BranchId(1));
    let wanted = request(Level::Differential, &Scope::Database, &branch);
    let none = choose_base(&wanted, &[], &|_| Ok(())).unwrap();
    assert_eq!(none.reason.to_string(), "full instead of differential: there is no set of this source and scope yet");
    let mut sets = [set(1, Level::Full, None, 10), set(2, Level::Differential, Some(1), 20)];
    let near = choose_base(&wanted, &sets, &|_| Ok(())).unwrap();
    assert_eq!(near.reason.to_string(), "differential on differential set s2, the nearest that can be its base");
    let gone = |set| if set == id(2) { Err("piece 3 is missing".to_owned()) } else { Ok(()) };
    let older = choose_base(&wanted, &sets, &gone).unwrap();
    assert_eq!(
        older.reason.to_string(),
        "differential on full set s1, the nearest that can be its base; set s2 is newer but cannot be restored: set s2 is \
         not whole: piece 3 is missing"
    );
    sets[1].branch = BranchHistory::first(BranchId(5));
    sets[0].consistency = Consistency::WithoutLog;
    let full = choose_base(&wanted, &sets, &|_| Ok(())).unwrap();
    assert_eq!((full.level, full.base), (Level::Full, None));
    let BaseReason::NoBase { nearest: Some(passed), .. } = full.reason else { panic!("{}", full.reason) };
    assert_eq!(passed.why, Misfit::OtherBranch(BranchId(5)));
}

#[test]
fn checkpoints_are_needed_until_every_node_is_past_the_base() {
    let base = |node, end| NodeRange { node: NodeId(node), end_lsn: Lsn(end), ..NodeRange::default() };
    let at = |node, lsn| (NodeId(node), Lsn(lsn));
    assert_eq!(checkpoint_needed(&[at(0, 10)], &[base(0, 10)]), None);
    assert_eq!(checkpoint_needed(&[at(0, 9)], &[base(0, 10)]), Some(NodeId(0)));
    assert_eq!(checkpoint_needed(&[at(0, 30), at(1, 10)], &[base(0, 10), base(1, 20)]), Some(NodeId(1)));
    assert_eq!(checkpoint_needed(&[at(0, 30), at(1, 20), at(2, 0)], &[base(0, 10), base(1, 20)]), None);
    // A node that has left: what it wrote is on disk when all that remain are past it.
    assert_eq!(checkpoint_needed(&[at(0, 30), at(2, 20)], &[base(1, 20)]), None);
    assert_eq!(checkpoint_needed(&[at(0, 30), at(2, 19)], &[base(1, 20)]), Some(NodeId(1)));
    assert_eq!(checkpoint_needed(&[], &[base(1, 20)]), Some(NodeId(1)));
}
