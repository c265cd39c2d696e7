//! Small random worlds: a source with several nodes and branches, its backups and its log, and what really happened.

use std::collections::BTreeMap;

use proptest::prelude::*;
use setpiece_core::model::{
    BranchHistory, BranchId, Consistency, Level, LogUnit, Lsn, LsnSpan, NodeId, NodeRange, Scope, Seq, SetId,
    SetSummary, SourceId, Timestamp, Uuid,
};

pub const SOURCE: SourceId = SourceId(Uuid([7; 16]));
pub const NODES: u32 = 2;

/// Something that happens; the numbers choose among what is possible at the time.
pub type Step = (u8, u8, u8);

pub fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..most)
}

/// A change: the node that wrote it and when.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub lsn: Lsn,
    pub node: NodeId,
    pub time: Timestamp,
}

#[derive(Clone, Debug)]
struct Branch {
    history: BranchHistory,
    writes: Vec<Write>,
    /// For each node the last LSN that is in a unit, and the number of that unit.
    packed: BTreeMap<NodeId, (Lsn, Seq)>,
}

#[derive(Clone, Debug, Default)]
pub struct World {
    branches: BTreeMap<BranchId, Branch>,
    pub sets: Vec<SetSummary>,
    /// The units that are on record; some never got there.
    pub units: Vec<LogUnit>,
    pub broken: Vec<SetId>,
    highest: u64,
    made: usize,
    now: i64,
}

pub fn id(number: usize) -> SetId {
    SetId(Uuid::from_time(number as u64 + 1, [0; 10]))
}

impl World {
    pub fn run(steps: &[Step]) -> World {
        let mut world = World { now: 1000, ..World::default() };
        let first = BranchId(1);
        let start = Branch { history: BranchHistory::first(first), writes: Vec::new(), packed: BTreeMap::new() };
        world.branches.insert(first, start);
        for &(kind, a, b) in steps {
            world.now += 10;
            let branch = world.pick_branch(a);
            match kind % 16 {
                0..=5 => world.write(branch, NodeId(u32::from(b) % NODES)),
                6..=9 => world.pack(branch, NodeId(u32::from(b) % NODES), kind < 245),
                10..=13 => world.backup(branch, kind, b),
                14 => world.fork(branch, b),
                _ => world.spoil(b),
            }
        }
        world
    }

    /// Mostly the branch that was made last.
    fn pick_branch(&self, choice: u8) -> BranchId {
        let last = self.branches.len() as u64;
        if choice < 200 { BranchId(last) } else { BranchId(u64::from(choice) % last + 1) }
    }

    pub fn history(&self, branch: BranchId) -> &BranchHistory {
        &self.branches[&branch].history
    }

    pub fn branch_ids(&self) -> Vec<BranchId> {
        self.branches.keys().copied().collect()
    }

    pub fn highest(&self) -> u64 {
        self.highest
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }

    pub fn usable(&self, set: SetId) -> Result<(), String> {
        if self.broken.contains(&set) { Err("a piece is gone".into()) } else { Ok(()) }
    }

    /// Everything that was ever written on the way to the end of `branch`.
    pub fn writes(&self, branch: BranchId) -> Vec<Write> {
        let history = self.history(branch);
        let part = |(id, branch): (&BranchId, &Branch)| {
            let reach = history.reach(*id);
            let writes = branch.writes.iter().copied();
            writes.filter(|write| reach.is_some_and(|limit| write.lsn <= limit)).collect::<Vec<_>>()
        };
        self.branches.iter().flat_map(part).collect()
    }

    fn last_write(&self, branch: BranchId, node: Option<NodeId>, upto: Lsn) -> Lsn {
        let of_node = |write: &Write| node.is_none_or(|node| write.node == node) && write.lsn <= upto;
        self.writes(branch).into_iter().filter(of_node).map(|write| write.lsn).max().unwrap_or_default()
    }

    /// Branches with even numbers go on counting where they left their parent, as PostgreSQL's timelines do, so that
    /// an LSN may be on several; the others go on behind everything that was ever written.
    fn write(&mut self, branch: BranchId, node: NodeId) {
        let fork = self.history(branch).points.last().map_or(0, |point| point.fork.0);
        let last = self.last_write(branch, None, Lsn(u64::MAX)).0.max(fork);
        let lsn = if branch.0.is_multiple_of(2) { last + 1 } else { self.highest + 1 };
        self.highest = self.highest.max(lsn);
        let write = Write { lsn: Lsn(lsn), node, time: Timestamp(self.now) };
        self.branches.get_mut(&branch).unwrap().writes.push(write);
    }

    /// Puts what a node wrote since its last unit into a unit, which may get lost on its way to the record.
    fn pack(&mut self, branch: BranchId, node: NodeId, arrives: bool) {
        let upto = self.last_write(branch, Some(node), Lsn(u64::MAX));
        let state = self.branches.get_mut(&branch).unwrap();
        let fork = state.history.points.last().map_or(Lsn(0), |point| point.fork);
        let own: Vec<Write> = state.writes.iter().copied().filter(|write| write.node == node).collect();
        let first = self.last_write(branch, Some(node), fork);
        let state = self.branches.get_mut(&branch).unwrap();
        let (after, seq) = state.packed.get(&node).copied().unwrap_or((first, Seq(0)));
        let inside = |write: &&Write| after < write.lsn;
        let Some(begin) = own.iter().find(inside) else { return };
        state.packed.insert(node, (upto, Seq(seq.0 + 1)));
        let unit = LogUnit {
            node,
            branch,
            seq: Seq(seq.0 + 1),
            span: LsnSpan { after, upto },
            first_commit: Some(begin.time),
            last_commit: own.last().map(|write| write.time),
            len: 100,
            changes: None,
            name: None,
            links: None,
            timing: None,
            points: None,
        };
        if arrives {
            self.units.push(unit);
        }
    }

    fn backup(&mut self, branch: BranchId, kind: u8, choice: u8) {
        let number = self.made;
        self.made += 1;
        let history = self.history(branch).clone();
        let end = self.last_write(branch, None, Lsn(u64::MAX));
        let checkpoint = Lsn(end.0.saturating_sub(u64::from(choice) % 4));
        let range = |node| NodeRange {
            node: NodeId(node),
            begin_lsn: self.last_write(branch, Some(NodeId(node)), checkpoint),
            begin_seq: None,
            end_lsn: self.last_write(branch, Some(NodeId(node)), end),
            end_seq: None,
        };
        let scope = if choice % 7 == 6 { Scope::Tablespace("t".into()) } else { Scope::Database };
        let level =
            [Level::Full, Level::Differential, Level::Differential, Level::Cumulative][usize::from(choice) / 64];
        let base = self.some_base(level, &scope, &history, usize::from(kind));
        let set = SetSummary {
            id: id(number),
            name: format!("s{number}"),
            source: SOURCE,
            source_name: "world".into(),
            engine: "none".into(),
            level: if base.is_some() { level } else { Level::Full },
            scope,
            base,
            consistency: if choice % 4 == 3 { Consistency::WithoutLog } else { Consistency::WithLog },
            online: true,
            branch: history,
            nodes: (0..NODES).map(range).collect(),
            bak_end_lsn: end,
            began: Timestamp(self.now - 3),
            ended: Timestamp(self.now + 3),
            bad_pages: u64::from(choice == 77),
            marks: None,
        };
        self.sets.push(set);
    }

    fn some_base(&self, level: Level, scope: &Scope, history: &BranchHistory, choice: usize) -> Option<SetId> {
        let fits = |set: &&SetSummary| {
            let scope_fits = set.scope == *scope || set.scope == Scope::Database;
            let inside = history.reach(set.branch.current).is_some_and(|limit| set.bak_end_lsn <= limit);
            scope_fits && inside && (level == Level::Differential || set.level == Level::Full)
        };
        let bases: Vec<SetId> = self.sets.iter().filter(fits).map(|set| set.id).collect();
        (level != Level::Full && !bases.is_empty()).then(|| bases[choice % bases.len()])
    }

    fn fork(&mut self, parent: BranchId, choice: u8) {
        let branch = BranchId(self.branches.len() as u64 + 1);
        let end = self.last_write(parent, None, Lsn(u64::MAX));
        let fork = Lsn(end.0.saturating_sub(u64::from(choice) % 6));
        let history = self.history(parent).fork(branch, fork, Some(Timestamp(self.now)));
        self.branches.insert(branch, Branch { history, writes: Vec::new(), packed: BTreeMap::new() });
    }

    fn spoil(&mut self, choice: u8) {
        let choice = usize::from(choice);
        if choice < 128 && !self.units.is_empty() {
            self.units.remove(choice % self.units.len());
        } else if choice < 192 && !self.sets.is_empty() {
            self.broken.push(self.sets[choice % self.sets.len()].id);
        } else if !self.sets.is_empty() {
            self.sets.remove(choice % self.sets.len());
        }
    }
}
