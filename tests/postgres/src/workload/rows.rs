//! Steps that change or read rows.

use super::Step;
use super::rng::Rng;
use super::world::{Table, World};

/// Columns that every table has, with something for every kind of index.
pub(super) const COLUMNS: &str = "id bigint, a int, s text, p point, r int4range, w int[]";

/// Rows as a query of their keys: short and long texts, few and many different values.
pub(super) fn rows(rng: &mut Rng, first: u64, count: u64) -> String {
    let salt = rng.between(1, 1_000_000);
    let text = match rng.between(0, 5) {
        // Does not compress, so that it leaves the row.
        0 => {
            let words = rng.between(30, 140);
            format!("(SELECT string_agg(md5((i * j + {salt})::text), '') FROM generate_series(1, {words}) j)")
        }
        1 => format!("repeat(md5((i + {salt})::text), {})", rng.between(1, 60)),
        _ => format!("md5((i + {salt})::text)"),
    };
    format!(
        "SELECT i, (i % 97)::int AS a, {text} AS s, point(i % 100, i % 89) AS p, int4range((i % 50)::int, (i % 50 + 9)::int) AS r, \
         ARRAY[(i % 10)::int, (i % 7)::int] AS w FROM generate_series({first}::bigint, {}) i",
        first + count - 1
    )
}

/// The keys of new rows.
pub(super) fn take_keys(table: &mut Table, count: u64) -> u64 {
    let first = table.next;
    table.next += count;
    first
}

/// Some of the rows, by their key.
fn some(rng: &mut Rng) -> String {
    let of = rng.between(2, 40);
    format!("id % {of} = {}", rng.between(0, of - 1))
}

pub(super) fn insert(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |_| true)?;
    let count = rng.between(1, 300);
    let first = take_keys(table, count);
    // By way of the partitioned table, when there is one.
    let target = table.parent.as_ref().unwrap_or(&table.name);
    Step::one("insert", format!("INSERT INTO {target} (id, a, s, p, r, w) {}", rows(rng, first, count)))
}

/// So many rows that their indexes get pages of every kind.
pub(super) fn insert_many(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |_| true)?;
    let (count, values) = (rng.between(1500, 4000), rng.between(2, 60));
    let first = take_keys(table, count);
    let rows = format!(
        "SELECT i, (i % {values})::int, left(md5(i::text), 12), point(i % 71, i), int4range((i % 50)::int, NULL), \
         ARRAY[(i % {values})::int] FROM generate_series({first}::bigint, {}) i",
        first + count - 1
    );
    Step::one("insert many", format!("INSERT INTO {} (id, a, s, p, r, w) {rows}", table.name))
}

pub(super) fn copy(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |_| true)?;
    Step::one("copy", copy_into(table, rng, ""))
}

fn copy_into(table: &mut Table, rng: &mut Rng, options: &str) -> String {
    let count = rng.between(1, 200);
    let first = take_keys(table, count);
    let line = |key: u64| format!("{key}\t{}\tcopied {key} {}\n", key % 53, "x".repeat((key % 70) as usize));
    let lines: String = (first..first + count).map(line).collect();
    format!("COPY {} (id, a, s) FROM STDIN {options};\n{lines}\\.", table.name)
}

/// Rows that are frozen when they are written, which needs an empty table.
pub(super) fn copy_frozen(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |_| true)?;
    let copy = copy_into(table, rng, "(FREEZE)");
    let truncate = format!("TRUNCATE {}", table.name);
    Some(Step { name: "copy frozen", statements: vec!["BEGIN".into(), truncate, copy, "COMMIT".into()] })
}

pub(super) fn update(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |_| true)?;
    let change = *rng.pick(&["s = md5(s)", "a = a + 1", "w = w || 3", "p = point(1, 2), a = 5", "s = s || 'more'"])?;
    Step::one("update", format!("UPDATE {} SET {change} WHERE {}", table.name, some(rng)))
}

pub(super) fn delete(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |_| true)?;
    // Those at the end too, whose pages a vacuum gives back.
    let condition = if rng.chance(30) { format!("id > {}", table.next.saturating_sub(150)) } else { some(rng) };
    Step::one("delete", format!("DELETE FROM {} WHERE {condition}", table.name))
}

pub(super) fn truncate(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |_| true)?;
    Step::one("truncate", format!("TRUNCATE {}", table.name))
}

/// Reads all rows, which leaves a mark in those whose transaction has ended.
pub(super) fn read(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = rng.pick(&world.here().tables)?;
    Step::one("read", format!("SELECT count(*), sum(length(s)) FROM {}", table.name))
}

/// Rows locked by several transactions at once, one of them below the other.
pub(super) fn lock(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |_| true)?;
    let (name, rows) = (&table.name, some(rng));
    let share = format!("SELECT count(*) FROM (SELECT 1 FROM {name} WHERE {rows} FOR KEY SHARE) x");
    let change = format!("UPDATE {name} SET a = a - 1 WHERE {rows}");
    let statements = ["BEGIN", &share, "SAVEPOINT below", &change, "RELEASE below", "COMMIT"];
    Some(Step { name: "lock", statements: statements.map(str::to_owned).into() })
}

/// A failure that is caught: what was done below it is undone.
pub(super) fn caught(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |_| true)?;
    let (name, kept, undone) = (&table.name, some(rng), some(rng));
    Step::one(
        "caught failure",
        format!(
            "DO $$ BEGIN UPDATE {name} SET a = 1 WHERE {kept}; BEGIN DELETE FROM {name} WHERE {undone}; \
             PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END; END $$"
        ),
    )
}
