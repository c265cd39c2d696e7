//! Steps that make, change and drop tables, partitions and indexes.

use super::Step;
use super::rng::Rng;
use super::rows::{COLUMNS, rows, take_keys};
use super::world::{Database, Index, Parent, Table, World};

/// Kinds of indexes on the columns that every table has, and whether a table can be put into their order.
const INDEXES: [(&str, bool); 13] = [
    ("btree (id)", true),
    ("btree (a, id)", true),
    ("btree (left(s, 20))", false),
    ("hash (s)", false),
    ("gin (w)", false),
    ("gin (w) WITH (fastupdate = off)", false),
    ("gist (p)", false),
    ("gist (p) WITH (buffering = on)", false),
    ("gist (r)", false),
    ("spgist (p)", false),
    ("spgist (left(s, 30))", false),
    ("brin (id) WITH (pages_per_range = 4)", false),
    (BLOOM, false),
];
/// That of an extension, whose log is records of no meaning but "these bytes of this page". An unlogged table must have
/// none: the server does not log the empty original of the index, and after a crash it has none (seen in 15.18 and 17.11).
const BLOOM: &str = "bloom (s, left(s, 3)) WITH (length = 80)";

/// Keys in the range of a partition.
const PARTITION: u64 = 1_000_000;
const MAX_TABLES: usize = 12;
const MAX_INDEXES: usize = 5;
const MAX_EXTRA: usize = 4;

impl Table {
    pub(super) fn new(name: String, database: &Database, space: &str, unlogged: bool) -> Self {
        Table {
            name,
            unlogged,
            space: database.other_than_own(space),
            indexes: Vec::new(),
            extra: Vec::new(),
            wide: false,
            next: 1,
            locked: false,
            parent: None,
        }
    }

    /// Whether it may be changed in its form.
    fn is_own(&self) -> bool {
        self.parent.is_none()
    }

    fn has_bloom(&self) -> bool {
        self.indexes.iter().any(|index| index.kind == BLOOM)
    }
}

fn word(unlogged: bool) -> &'static str {
    if unlogged { "UNLOGGED " } else { "" }
}

pub(super) fn create(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let (space, name) = (world.any_space(rng), world.name_in_schema(rng, "t"));
    let unlogged = rng.chance(20);
    let here = world.here();
    if here.tables.len() >= MAX_TABLES {
        return None;
    }
    let key = if rng.chance(50) { ", PRIMARY KEY (id)" } else { "" };
    let room = if rng.chance(30) { " WITH (fillfactor = 70)" } else { "" };
    let sql = format!("CREATE {}TABLE {name} ({COLUMNS}{key}){room} TABLESPACE {space}", word(unlogged));
    let table = Table::new(name, here, &space, unlogged);
    here.tables.push(table);
    Step::one("create table", sql)
}

/// A table made with its rows, which need not be in the log when it is new.
pub(super) fn create_as(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let (space, name) = (world.any_space(rng), world.name_in_schema(rng, "t"));
    let here = world.here();
    if here.tables.len() >= MAX_TABLES {
        return None;
    }
    let mut table = Table::new(name, here, &space, rng.chance(20));
    let count = rng.between(1, 500);
    let query = rows(rng, take_keys(&mut table, count), count);
    let sql = format!(
        "CREATE {}TABLE {} TABLESPACE {space} AS SELECT i AS id, a, s, p, r, w FROM ({query}) x",
        word(table.unlogged),
        table.name
    );
    here.tables.push(table);
    Step::one("create table as", sql)
}

pub(super) fn drop_table(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let name = world.any_table(rng, |_| true)?.name.clone();
    world.here().forget_table(&name);
    Step::one("drop table", format!("DROP TABLE {name} CASCADE"))
}

/// A column whose value must be asked for, row by row: the table is written anew.
pub(super) fn add_column(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let column = world.name("c");
    let table = world.any_table(rng, |table| table.is_own() && table.extra.len() < MAX_EXTRA)?;
    table.extra.push(column.clone());
    let default = *rng.pick(&["(random() * 0)::int", "7"])?;
    Step::one("add column", format!("ALTER TABLE {} ADD COLUMN {column} int DEFAULT {default}", table.name))
}

pub(super) fn drop_column(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |table| table.is_own() && !table.extra.is_empty())?;
    let column = table.extra.pop()?;
    Step::one("drop column", format!("ALTER TABLE {} DROP COLUMN {column}", table.name))
}

/// Another type: the table and its indexes are written anew.
pub(super) fn alter_type(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let seen: Vec<String> = world.here().views.iter().map(|view| view.table.clone()).collect();
    let table = world.any_table(rng, |table| table.is_own() && !seen.contains(&table.name))?;
    table.wide = !table.wide;
    let to = if table.wide { "bigint" } else { "int" };
    Step::one("alter type", format!("ALTER TABLE {} ALTER COLUMN a TYPE {to}", table.name))
}

pub(super) fn set_logged(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let can = |table: &Table| table.is_own() && (table.unlogged || !table.has_bloom());
    let table = world.any_table(rng, can)?;
    table.unlogged = !table.unlogged;
    let to = if table.unlogged { "UNLOGGED" } else { "LOGGED" };
    Step::one("set logged", format!("ALTER TABLE {} SET {to}", table.name))
}

pub(super) fn move_table(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let space = world.any_space(rng);
    let known = world.here().other_than_own(&space);
    let table = world.any_table(rng, |_| true)?;
    table.space = known;
    Step::one("move table", format!("ALTER TABLE {} SET TABLESPACE {space}", table.name))
}

pub(super) fn rename(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let to = world.name("t");
    let here = world.here();
    let fitting = here.tables_that(|table| !table.locked && !here.has_view_of(&table.name));
    let table = &mut here.tables[*rng.pick(&fitting)?];
    let old = table.name.clone();
    table.name = format!("{}.{to}", old.split_once('.')?.0);
    Step::one("rename table", format!("ALTER TABLE {old} RENAME TO {to}"))
}

pub(super) fn create_index(world: &mut World, rng: &mut Rng) -> Option<Step> {
    index("create index", "", world, rng)
}

/// In several transactions, beside those who write.
pub(super) fn create_index_concurrently(world: &mut World, rng: &mut Rng) -> Option<Step> {
    if !world.prepared.is_empty() {
        return None;
    }
    index("create index concurrently", "CONCURRENTLY ", world, rng)
}

fn index(step: &'static str, how: &str, world: &mut World, rng: &mut Rng) -> Option<Step> {
    let (space, name) = (world.any_space(rng), world.name("i"));
    let known = world.here().other_than_own(&space);
    let (kind, ordered) = *rng.pick(&INDEXES)?;
    let can = |table: &Table| table.indexes.len() < MAX_INDEXES && !(table.unlogged && kind == BLOOM);
    let table = world.any_table(rng, can)?;
    table.indexes.push(Index { name: name.clone(), space: known, kind, ordered });
    let create = format!("CREATE INDEX {how}{name} ON {} USING {kind} TABLESPACE {space}", table.name);
    let extension = (kind == BLOOM).then(|| "CREATE EXTENSION IF NOT EXISTS bloom".to_owned());
    Some(Step { name: step, statements: extension.into_iter().chain([create]).collect() })
}

pub(super) fn drop_index(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let (table, at) = any_index(world, rng)?;
    let index = table.indexes.remove(at);
    Step::one("drop index", format!("DROP INDEX {}", index.full_name(&table.name)))
}

pub(super) fn move_index(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let space = world.any_space(rng);
    let known = world.here().other_than_own(&space);
    let (table, at) = any_index(world, rng)?;
    table.indexes[at].space = known;
    let name = table.indexes[at].full_name(&table.name);
    Step::one("move index", format!("ALTER INDEX {name} SET TABLESPACE {space}"))
}

fn any_index<'w>(world: &'w mut World, rng: &mut Rng) -> Option<(&'w mut Table, usize)> {
    let table = world.any_table(rng, |table| !table.indexes.is_empty())?;
    let at = rng.index(table.indexes.len())?;
    Some((table, at))
}

impl Index {
    /// With the schema, which is that of its table.
    pub(super) fn full_name(&self, table: &str) -> String {
        let schema = table.split_once('.').map_or("public", |(schema, _)| schema);
        format!("{schema}.{}", self.name)
    }
}

/// A partitioned table with an index and a first partition.
pub(super) fn create_parent(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let name = world.name_in_schema(rng, "p");
    let here = world.here();
    if here.parents.len() >= 2 {
        return None;
    }
    here.parents.push(Parent { name: name.clone(), next: 0 });
    let table = format!("CREATE TABLE {name} ({COLUMNS}) PARTITION BY RANGE (id)");
    let index = format!("CREATE INDEX ON {name} (id)");
    Some(Step { name: "create partitioned table", statements: vec![table, index] })
}

pub(super) fn create_partition(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let (name, parent, table) = new_partition(world, rng)?;
    let (low, high) = (table.next, table.next + PARTITION);
    world.here().tables.push(table);
    let sql = format!("CREATE TABLE {name} PARTITION OF {parent} FOR VALUES FROM ({low}) TO ({high})");
    Step::one("create partition", sql)
}

/// A table with rows that becomes a partition.
pub(super) fn attach_partition(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let (name, parent, mut table) = new_partition(world, rng)?;
    let (low, high) = (table.next, table.next + PARTITION);
    let count = rng.between(1, 200);
    let query = rows(rng, take_keys(&mut table, count), count);
    world.here().tables.push(table);
    let statements = vec![
        format!("CREATE TABLE {name} ({COLUMNS})"),
        format!("INSERT INTO {name} (id, a, s, p, r, w) {query}"),
        format!("ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ({low}) TO ({high})"),
    ];
    Some(Step { name: "attach partition", statements })
}

fn new_partition(world: &mut World, rng: &mut Rng) -> Option<(String, String, Table)> {
    let name = world.name_in_schema(rng, "t");
    let here = world.here();
    let at = rng.index(here.parents.len()).filter(|_| here.tables.len() < MAX_TABLES)?;
    let own_space = here.space.clone();
    let mut table = Table::new(name.clone(), here, &own_space, false);
    let parent = &mut here.parents[at];
    table.next = parent.next * PARTITION;
    table.parent = Some(parent.name.clone());
    parent.next += 1;
    Some((name, parent.name.clone(), table))
}

pub(super) fn detach_partition(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |table| table.parent.is_some())?;
    let parent = table.parent.take()?;
    Step::one("detach partition", format!("ALTER TABLE {parent} DETACH PARTITION {}", table.name))
}

pub(super) fn drop_parent(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let here = world.here();
    let at = rng.index(here.parents.len())?;
    let name = here.parents[at].name.clone();
    let of_it = |table: &&Table| table.parent.as_ref() == Some(&name);
    let partitions: Vec<String> = here.tables.iter().filter(of_it).map(|table| table.name.clone()).collect();
    partitions.iter().for_each(|partition| here.forget_table(partition));
    here.parents.remove(at);
    Step::one("drop partitioned table", format!("DROP TABLE {name} CASCADE"))
}
