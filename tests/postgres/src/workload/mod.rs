//! A random but repeatable life of a cluster: everything that a backup must cope with, one step at a time.
//!
//! A model of what exists keeps every step valid, so that a step that fails is a fault. The same seed makes the same
//! steps on every version; what a server adds by itself (positions in the log, numbers of files) is its own.
//!
//! | file | job |
//! |---|---|
//! | `world`, `rng` | what exists; which way it goes |
//! | `steps` | which steps there are, and how often each is taken |
//! | `rows`, `tables`, `others`, `upkeep`, `spaces`, `transactions` | the steps |

mod others;
mod rng;
mod rows;
mod spaces;
mod steps;
mod tables;
mod transactions;
mod upkeep;
mod world;

use std::path::PathBuf;

use crate::cluster::Cluster;
use crate::lsn::Lsn;
use crate::session::Session;

use rng::Rng;
use world::World;

/// What is run on connecting: to wait for ever is a fault too.
const ON_CONNECT: &str = "SET lock_timeout = '60s'";

/// Where the workload makes tablespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tablespaces {
    /// It makes none.
    None,
    /// In directories of their own, that of [`Cluster::server_dir`].
    Elsewhere,
    /// In the data directory, so that a standby on the same machine can follow.
    InPlace,
}

/// What a step is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    name: &'static str,
    statements: Vec<String>,
}

impl Step {
    /// A step of one statement, which there always is something to do for.
    #[allow(clippy::unnecessary_wraps, reason = "what makes a step gives back an option")]
    fn one(name: &'static str, statement: String) -> Option<Self> {
        Some(Step { name, statements: vec![statement] })
    }
}

/// A step that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Counted from 1.
    pub number: u64,
    /// Its kind.
    pub name: &'static str,
    /// What was run.
    pub statements: Vec<String>,
    /// Where the log ended after it; all that it committed is before.
    pub lsn: Lsn,
}

impl Done {
    /// The name of the restore point that this step made.
    #[must_use]
    pub fn restore_point(&self) -> Option<&str> {
        let (_, rest) = self.statements.first()?.split_once("pg_create_restore_point('")?;
        rest.strip_suffix("')")
    }
}

/// The connection, and the start of the server that it belongs to.
#[derive(Debug)]
struct Connection {
    session: Session,
    server: (PathBuf, u64),
}

/// A life that goes on.
#[derive(Debug)]
pub struct Workload {
    seed: u64,
    taken: u64,
    rng: Rng,
    world: World,
    tablespaces: Tablespaces,
    connection: Option<Connection>,
}

/// Takes `steps` steps of the life `seed`, with tablespaces in directories of their own.
///
/// # Panics
/// When a step fails.
pub fn run(cluster: &Cluster, seed: u64, steps: u64) -> Vec<Done> {
    Workload::new(seed).run(cluster, steps)
}

impl Workload {
    /// The life `seed`, which begins with a cluster in which nothing was made yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (rng, world) = (Rng::new(seed), World::new());
        Workload { seed, taken: 0, rng, world, tablespaces: Tablespaces::Elsewhere, connection: None }
    }

    /// Where it makes tablespaces; elsewhere unless this is called.
    #[must_use]
    pub fn tablespaces(mut self, tablespaces: Tablespaces) -> Self {
        self.tablespaces = tablespaces;
        self
    }

    /// This life from here on, for a cluster that was brought back to this moment.
    #[must_use]
    pub fn from_here(&self) -> Self {
        let (rng, world) = (self.rng.clone(), self.world.clone());
        Workload { rng, world, connection: None, ..*self }
    }

    /// Takes some steps.
    ///
    /// # Panics
    /// When one fails.
    pub fn run(&mut self, cluster: &Cluster, steps: u64) -> Vec<Done> {
        (0..steps).map(|_| self.step(cluster)).collect()
    }

    /// Takes a step. The cluster may have crashed and recovered since the last one, or be another one that is where the
    /// first one was.
    ///
    /// # Panics
    /// When it fails.
    pub fn step(&mut self, cluster: &Cluster) -> Done {
        self.connect(cluster);
        self.taken += 1;
        let step = self.next(|name| cluster.server_dir(name));
        for statement in &step.statements {
            self.execute(step.name, statement);
            if statement.starts_with("\\connect") {
                self.execute(step.name, ON_CONNECT);
            }
        }
        let lsn = self.execute(step.name, "SELECT pg_current_wal_lsn()");
        let lsn = lsn.parse().expect("a server writes LSNs");
        Done { number: self.taken, name: step.name, statements: step.statements, lsn }
    }

    /// Ends what waits and closes the connection: nothing stands in the way of a slow shutdown.
    ///
    /// # Panics
    /// When a prepared transaction cannot be ended.
    pub fn settle(&mut self, cluster: &Cluster) {
        for prepared in std::mem::take(&mut self.world.prepared) {
            let ended = cluster.try_psql_in(&prepared.database, &format!("ROLLBACK PREPARED '{}'", prepared.name));
            ended.unwrap_or_else(|said| panic!("{}: {said}", self.place("settle")));
            let database = self.world.databases.iter_mut().filter(|database| database.name == prepared.database);
            let tables = database.flat_map(|database| &mut database.tables);
            tables.filter(|table| table.name == prepared.table).for_each(|table| table.locked = false);
        }
        self.connection = None;
    }

    /// The next step; `directory` makes one for a tablespace.
    fn next(&mut self, directory: impl FnOnce(&str) -> PathBuf) -> Step {
        let wanted = self.tablespaces != Tablespaces::None && self.rng.chance(1);
        if let Some(name) = wanted.then(|| spaces::new_space(&mut self.world)).flatten() {
            let place = (self.tablespaces == Tablespaces::Elsewhere).then(|| directory(&name));
            return spaces::create_space(&mut self.world, name, place.as_deref());
        }
        loop {
            let make = steps::any(&mut self.rng);
            if let Some(step) = make(&mut self.world, &mut self.rng) {
                return step;
            }
        }
    }

    /// Connects, unless the connection is to this start of this server.
    fn connect(&mut self, cluster: &Cluster) {
        let server = (cluster.data_dir().to_owned(), cluster.starts());
        if self.connection.as_ref().is_some_and(|connection| connection.server == server) {
            return;
        }
        let session = Session::open(cluster, &self.world.here().name);
        self.connection = Some(Connection { session, server });
        self.execute("connect", ON_CONNECT);
    }

    fn execute(&mut self, name: &str, statement: &str) -> String {
        let place = self.place(name);
        let connection = self.connection.as_mut().expect("connected before");
        connection.session.run(statement).unwrap_or_else(|said| panic!("{place}: {said}\n{statement}"))
    }

    /// What is needed to come here again.
    fn place(&self, name: &str) -> String {
        format!("workload with seed {}, step {} ({name})", self.seed, self.taken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Step, Tablespaces, Workload};

    fn plan(seed: u64, steps: usize) -> Vec<Step> {
        let mut life = Workload::new(seed).tablespaces(Tablespaces::InPlace);
        (0..steps).map(|_| life.next(|_| unreachable!("the tablespaces are in place"))).collect()
    }

    #[test]
    fn a_seed_says_it_all() {
        assert_eq!(plan(5, 300), plan(5, 300));
        assert_ne!(plan(5, 300), plan(6, 300));
    }

    /// No kind of step starves, whatever the others leave to do.
    #[test]
    fn every_kind_of_step_is_taken() {
        let mut seen = BTreeMap::<&str, usize>::new();
        for step in (0..4).flat_map(|seed| plan(seed, 2000)) {
            *seen.entry(step.name).or_default() += 1;
        }
        let rare: Vec<_> = seen.iter().filter(|(_, count)| **count < 4).collect();
        assert!(rare.is_empty(), "{rare:?}");
        assert_eq!(seen.len(), 63, "{:?}", seen.keys());
    }
}
