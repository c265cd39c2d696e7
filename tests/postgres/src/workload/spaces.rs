//! Steps that make, move and drop tablespaces and databases, and go from one to another.

use std::path::Path;

use super::Step;
use super::rng::Rng;
use super::world::{Database, PG_DEFAULT, World};

const MAX_SPACES: usize = 3;
const MAX_DATABASES: usize = 4;

/// A tablespace in a directory that is given, or in the data directory.
pub(super) fn create_space(world: &mut World, name: String, place: Option<&Path>) -> Step {
    let place = place.map(|path| path.display().to_string()).unwrap_or_default();
    let sql = format!("CREATE TABLESPACE {name} LOCATION '{place}'");
    world.spaces.push(name);
    Step { name: "create tablespace", statements: vec![sql] }
}

/// The name of a tablespace that is wanted.
pub(super) fn new_space(world: &mut World) -> Option<String> {
    (world.spaces.len() < MAX_SPACES).then(|| world.name("space"))
}

pub(super) fn drop_space(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let unused: Vec<usize> = (0..world.spaces.len()).filter(|at| world.is_unused(&world.spaces[*at])).collect();
    let name = world.spaces.remove(*rng.pick(&unused)?);
    Step::one("drop tablespace", format!("DROP TABLESPACE {name}"))
}

/// Moves all relations of this database out of a tablespace.
pub(super) fn empty_space(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let space = rng.pick(&world.spaces)?.clone();
    let here = world.here();
    if here.space == space || here.tables.iter().any(|table| table.locked) {
        return None;
    }
    let to = here.other_than_own(PG_DEFAULT);
    here.spaces_mut().filter(|named| named.as_ref() == Some(&space)).for_each(|named| named.clone_from(&to));
    let all = |kind: &str| format!("ALTER {kind} ALL IN TABLESPACE {space} SET TABLESPACE {PG_DEFAULT}");
    Some(Step { name: "empty tablespace", statements: ["TABLE", "INDEX", "MATERIALIZED VIEW"].map(all).into() })
}

/// An empty database, logged page by page or copied file by file.
pub(super) fn create_database(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let (space, name) = (world.any_space(rng), world.name("db"));
    let strategy = *rng.pick(&["wal_log", "file_copy"]).filter(|_| world.databases.len() < MAX_DATABASES)?;
    let sql = format!("CREATE DATABASE {name} TEMPLATE template0 STRATEGY {strategy} TABLESPACE {space}");
    world.databases.push(Database::new(&name, &space));
    Step::one("create database", sql)
}

/// A database that begins as another one is.
pub(super) fn copy_database(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let name = world.name("db");
    // Nobody else may be connected to the original, as those who back it up are to the first one.
    let of = any_other_database(world, rng)?;
    let strategy = *rng.pick(&["wal_log", "file_copy"]).filter(|_| world.databases.len() < MAX_DATABASES)?;
    let original = &world.databases[of];
    let sql = format!("CREATE DATABASE {name} TEMPLATE {} STRATEGY {strategy}", original.name);
    let copy = Database { name, ..original.clone() };
    world.databases.push(copy);
    Step::one("copy database", sql)
}

pub(super) fn move_database(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let space = world.any_space(rng);
    let at = any_other_database(world, rng)?;
    let database = &mut world.databases[at];
    if database.named_spaces().any(|name| *name == space) {
        return None;
    }
    database.space = space;
    Step::one("move database", format!("ALTER DATABASE {} SET TABLESPACE {}", database.name, database.space))
}

pub(super) fn drop_database(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let at = any_other_database(world, rng)?;
    let database = world.databases.remove(at);
    if at < world.at {
        world.at -= 1;
    }
    Step::one("drop database", format!("DROP DATABASE {}", database.name))
}

/// Not the first one, and not the one that is connected to.
fn any_other_database(world: &World, rng: &mut Rng) -> Option<usize> {
    let others: Vec<usize> = (1..world.databases.len()).filter(|at| world.is_idle(*at)).collect();
    rng.pick(&others).copied()
}

pub(super) fn connect(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let at = rng.index(world.databases.len()).filter(|at| *at != world.at)?;
    world.at = at;
    Step::one("connect", format!("\\connect {}", world.here().name))
}
