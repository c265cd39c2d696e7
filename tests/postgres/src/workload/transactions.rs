//! Steps made of others: transactions that commit, that are rolled back, in part or as a whole, and those that are
//! prepared now and ended later.

use super::Step;
use super::rng::Rng;
use super::rows::{COLUMNS, rows, take_keys};
use super::steps::{Make, within_transaction};
use super::world::{Prepared, Table, World};

const MAX_PREPARED: usize = 3;

pub(super) fn committed(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let statements = inside(world, rng);
    Some(Step { name: "transaction", statements: around("BEGIN", statements, "COMMIT") })
}

pub(super) fn rolled_back(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let before = world.clone();
    let statements = inside(world, rng);
    world.go_back_to(before);
    Some(Step { name: "rollback", statements: around("BEGIN", statements, "ROLLBACK") })
}

/// Something is kept, something below it is undone, and something is done after that.
pub(super) fn partly_rolled_back(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let mut statements = inside(world, rng);
    let before = world.clone();
    statements.extend(around("SAVEPOINT here", inside(world, rng), "ROLLBACK TO here"));
    world.go_back_to(before);
    statements.extend(inside(world, rng));
    Some(Step { name: "partial rollback", statements: around("BEGIN", statements, "COMMIT") })
}

/// A few steps that can be part of a transaction.
fn inside(world: &mut World, rng: &mut Rng) -> Vec<String> {
    let mut statements = Vec::new();
    for _ in 0..rng.between(1, 4) {
        let make: Make = within_transaction(rng);
        statements.extend(make(world, rng).map(|step| step.statements).unwrap_or_default());
    }
    statements
}

fn around(before: &str, statements: Vec<String>, after: &str) -> Vec<String> {
    let mut all = vec![before.to_owned()];
    all.extend(statements);
    all.push(after.to_owned());
    all
}

/// Changes a table, makes another one, and leaves both to a later decision.
pub(super) fn prepare(world: &mut World, rng: &mut Rng) -> Option<Step> {
    if world.prepared.len() >= MAX_PREPARED {
        return None;
    }
    let (name, created) = (world.name("x"), world.name_in_schema(rng, "t"));
    let own_space = world.here().space.clone();
    let created = Table::new(created, world.here(), &own_space, false);
    let table = world.any_table(rng, |table| table.parent.is_none())?;
    table.locked = true;
    let (changed, count) = (table.name.clone(), rng.between(1, 100));
    let query = rows(rng, take_keys(table, count), count);
    let statements = vec![
        "BEGIN".into(),
        format!("INSERT INTO {changed} (id, a, s, p, r, w) {query}"),
        format!("DELETE FROM {changed} WHERE id % 11 = 3"),
        format!("CREATE TABLE {} ({COLUMNS})", created.name),
        format!("PREPARE TRANSACTION '{name}'"),
    ];
    let database = world.here().name.clone();
    world.prepared.push(Prepared { name, database, table: changed, created });
    Some(Step { name: "prepare", statements })
}

/// Ends a prepared transaction of the database that is connected to.
pub(super) fn finish(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let here = world.here().name.clone();
    let at = rng.index(world.prepared.len()).filter(|at| world.prepared[*at].database == here)?;
    let prepared = world.prepared.remove(at);
    let database = world.here();
    for table in database.tables.iter_mut().filter(|table| table.name == prepared.table) {
        table.locked = false;
    }
    let verb = if rng.chance(60) {
        database.tables.push(prepared.created);
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    Step::one("finish prepared", format!("{verb} PREPARED '{}'", prepared.name))
}
