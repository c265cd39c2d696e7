//! Steps of what else a database has: schemas, sequences, materialized views, large objects.

use super::Step;
use super::rng::Rng;
use super::world::{View, World};

const MAX_EACH: usize = 4;

pub(super) fn create_schema(world: &mut World, _rng: &mut Rng) -> Option<Step> {
    let name = world.name("s");
    let here = world.here();
    if here.schemas.len() >= MAX_EACH {
        return None;
    }
    here.schemas.push(name.clone());
    Step::one("create schema", format!("CREATE SCHEMA {name}"))
}

pub(super) fn drop_schema(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let is_waited_for = world.prepared.iter().any(|prepared| prepared.database == world.databases[world.at].name);
    let here = world.here();
    let at = rng.index(here.schemas.len()).filter(|at| *at > 0 && !is_waited_for)?;
    let begin = format!("{}.", here.schemas[at]);
    let inside = |name: &String| name.starts_with(&begin);
    let parents: Vec<String> = here.parents.iter().map(|parent| parent.name.clone()).filter(inside).collect();
    let goes =
        |name: &String, parent: Option<&String>| inside(name) || parent.is_some_and(|name| parents.contains(name));
    let gone: Vec<String> =
        here.tables.iter().filter(|t| goes(&t.name, t.parent.as_ref())).map(|t| t.name.clone()).collect();
    gone.iter().for_each(|table| here.forget_table(table));
    here.parents.retain(|parent| !parents.contains(&parent.name));
    here.views.retain(|view| !inside(&view.name));
    here.sequences.retain(|sequence| !inside(sequence));
    let name = here.schemas.remove(at);
    Step::one("drop schema", format!("DROP SCHEMA {name} CASCADE"))
}

pub(super) fn create_sequence(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let name = world.name_in_schema(rng, "q");
    let here = world.here();
    if here.sequences.len() >= MAX_EACH {
        return None;
    }
    here.sequences.push(name.clone());
    let word = if rng.chance(30) { "UNLOGGED " } else { "" };
    Step::one("create sequence", format!("CREATE {word}SEQUENCE {name}"))
}

pub(super) fn use_sequence(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let name = rng.pick(&world.here().sequences)?.clone();
    let number = rng.between(1, 100);
    Step::one(
        "use sequence",
        match rng.between(0, 4) {
            0 => format!("SELECT setval('{name}', {number})"),
            1 => format!("ALTER SEQUENCE {name} RESTART WITH {number}"),
            _ => format!("SELECT max(nextval('{name}')) FROM generate_series(1, {number})"),
        },
    )
}

pub(super) fn drop_sequence(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let here = world.here();
    let at = rng.index(here.sequences.len())?;
    let name = here.sequences.remove(at);
    Step::one("drop sequence", format!("DROP SEQUENCE {name}"))
}

pub(super) fn create_view(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let (space, name) = (world.any_space(rng), world.name_in_schema(rng, "v"));
    let here = world.here();
    let table = rng.pick(&here.tables).filter(|table| !table.unlogged && here.views.len() < MAX_EACH)?.name.clone();
    let mut statements = vec![format!(
        "CREATE MATERIALIZED VIEW {name} TABLESPACE {space} AS SELECT id, s FROM {table} WHERE id % 3 = 0"
    )];
    let unique = rng.chance(50);
    if unique {
        statements.push(format!("CREATE UNIQUE INDEX ON {name} (id)"));
    }
    let space = here.other_than_own(&space);
    here.views.push(View { name, table, space, unique });
    Some(Step { name: "create materialized view", statements })
}

pub(super) fn refresh_view(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let view = rng.pick(&world.here().views)?.clone();
    let how = if view.unique && rng.chance(50) { "CONCURRENTLY " } else { "" };
    Step::one("refresh materialized view", format!("REFRESH MATERIALIZED VIEW {how}{}", view.name))
}

pub(super) fn drop_view(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let here = world.here();
    let at = rng.index(here.views.len())?;
    let view = here.views.remove(at);
    Step::one("drop materialized view", format!("DROP MATERIALIZED VIEW {}", view.name))
}

pub(super) fn create_object(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let id = 1_000_000 + world.number();
    world.here().objects.push(id);
    Step::one("create large object", format!("SELECT lo_from_bytea({id}, {})", bytes(rng)))
}

pub(super) fn write_object(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let id = *rng.pick(&world.here().objects)?;
    let at = rng.between(0, 9000);
    Step::one("write large object", format!("SELECT lo_put({id}, {at}, {})", bytes(rng)))
}

pub(super) fn unlink_object(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let here = world.here();
    let at = rng.index(here.objects.len())?;
    let id = here.objects.remove(at);
    Step::one("unlink large object", format!("SELECT lo_unlink({id})"))
}

fn bytes(rng: &mut Rng) -> String {
    format!("decode(repeat(md5('{}'), {}), 'hex')", rng.between(0, 999_999), rng.between(1, 300))
}
