//! Steps that keep a cluster in shape: vacuum, new order, checkpoints, and words in the log.

use super::Step;
use super::rng::Rng;
use super::world::World;

pub(super) fn vacuum(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = rng.pick(&world.here().tables)?;
    let how =
        *rng.pick(&["", "(ANALYZE) ", "(FREEZE) ", "(FREEZE, DISABLE_PAGE_SKIPPING) ", "(INDEX_CLEANUP OFF) "])?;
    Step::one("vacuum", format!("VACUUM {how}{}", table.name))
}

/// Of all tables and catalogs that the database has and that it shares.
pub(super) fn vacuum_all(_world: &mut World, rng: &mut Rng) -> Option<Step> {
    let how = *rng.pick(&["", "(FREEZE) "])?;
    Step::one("vacuum all", format!("VACUUM {how}").trim_end().to_owned())
}

/// What indexes otherwise do at the next vacuum, or by their own worker: entries that wait are put in their place, and
/// ranges are summarized, or their summary is forgotten.
pub(super) fn tidy_indexes(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = &rng.pick(&world.here().tables)?.name;
    let (method, call) = *rng.pick(&[
        ("gin", "gin_clean_pending_list(c.oid)"),
        ("brin", "brin_summarize_new_values(c.oid)"),
        ("brin", "brin_desummarize_range(c.oid, 0)"),
    ])?;
    Step::one(
        "tidy indexes",
        format!(
            "SELECT {call} FROM pg_class c JOIN pg_index x ON c.oid = x.indexrelid JOIN pg_am m ON m.oid = c.relam \
             WHERE x.indrelid = '{table}'::regclass AND m.amname = '{method}'"
        ),
    )
}

/// Written anew, into another file.
pub(super) fn vacuum_full(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |_| true)?;
    Step::one("vacuum full", format!("VACUUM FULL {}", table.name))
}

/// Catalogs whose file is not in a catalog but in a map of its own, written anew: for this database, and for all.
pub(super) fn vacuum_catalog(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let quiet = world.prepared.is_empty();
    let catalog =
        *rng.pick(&["pg_class", "pg_proc", "pg_attribute", "pg_database", "pg_shdepend"]).filter(|_| quiet)?;
    Step::one("vacuum catalog", format!("VACUUM FULL pg_catalog.{catalog}"))
}

pub(super) fn cluster(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let table = world.any_table(rng, |table| table.indexes.iter().any(|index| index.ordered))?;
    let index = table.indexes.iter().find(|index| index.ordered)?;
    Step::one("cluster", format!("CLUSTER {} USING {}", table.name, index.name))
}

pub(super) fn reindex(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let concurrently = world.prepared.is_empty() && rng.chance(30);
    let table = world.any_table(rng, |_| true)?;
    let how = if concurrently { "CONCURRENTLY " } else { "" };
    Step::one("reindex", format!("REINDEX TABLE {how}{}", table.name))
}

pub(super) fn checkpoint(_world: &mut World, _rng: &mut Rng) -> Option<Step> {
    Step::one("checkpoint", "CHECKPOINT".into())
}

pub(super) fn switch_log(_world: &mut World, _rng: &mut Rng) -> Option<Step> {
    Step::one("switch log", "SELECT pg_switch_wal()".into())
}

pub(super) fn restore_point(world: &mut World, _rng: &mut Rng) -> Option<Step> {
    let name = world.name("point_");
    Step::one("restore point", format!("SELECT pg_create_restore_point('{name}')"))
}

pub(super) fn message(world: &mut World, rng: &mut Rng) -> Option<Step> {
    let (number, words) = (world.number(), rng.between(1, 400));
    Step::one("message", format!("SELECT pg_logical_emit_message(false, 'word', repeat('{number} ', {words}))"))
}
