//! Which steps there are, and how often each is taken.

use super::rng::Rng;
use super::world::World;
use super::{Step, others, rows, spaces, tables, transactions, upkeep};

/// Makes a step and notes what it changes; nothing when there is nothing to do it to.
pub(super) type Make = fn(&mut World, &mut Rng) -> Option<Step>;

/// What can be part of a transaction, with weights.
const WITHIN: [(u64, Make); 30] = [
    (160, rows::insert),
    (20, rows::insert_many),
    (90, rows::update),
    (50, rows::delete),
    (40, rows::copy),
    (10, rows::truncate),
    (30, rows::read),
    (15, rows::caught),
    (30, tables::create),
    (10, tables::create_as),
    (12, tables::drop_table),
    (12, tables::add_column),
    (5, tables::drop_column),
    (8, tables::alter_type),
    (12, tables::set_logged),
    (10, tables::move_table),
    (4, tables::rename),
    (35, tables::create_index),
    (10, tables::drop_index),
    (5, tables::move_index),
    (8, tables::create_parent),
    (10, tables::create_partition),
    (6, tables::attach_partition),
    (5, tables::detach_partition),
    (2, tables::drop_parent),
    (8, others::create_sequence),
    (20, others::use_sequence),
    (8, others::create_view),
    (8, others::create_object),
    (8, others::write_object),
];

/// What stands alone.
const ALONE: [(u64, Make); 33] = [
    (6, others::create_schema),
    (8, others::drop_schema),
    (3, others::drop_sequence),
    (10, others::refresh_view),
    (3, others::drop_view),
    (5, others::unlink_object),
    (10, rows::copy_frozen),
    (12, rows::lock),
    (10, tables::create_index_concurrently),
    (20, upkeep::vacuum),
    (2, upkeep::vacuum_all),
    (12, upkeep::tidy_indexes),
    (8, upkeep::vacuum_full),
    (8, upkeep::vacuum_catalog),
    (8, upkeep::cluster),
    (10, upkeep::reindex),
    (15, upkeep::checkpoint),
    (8, upkeep::switch_log),
    (8, upkeep::restore_point),
    (4, upkeep::message),
    (12, spaces::empty_space),
    (20, spaces::drop_space),
    (6, spaces::create_database),
    (6, spaces::copy_database),
    (5, spaces::move_database),
    (5, spaces::drop_database),
    (15, spaces::connect),
    (30, transactions::committed),
    (30, transactions::rolled_back),
    (20, transactions::partly_rolled_back),
    (15, transactions::prepare),
    (40, transactions::finish),
    (10, rows::read),
];

/// Any step.
pub(super) fn any(rng: &mut Rng) -> Make {
    let all: Vec<(u64, Make)> = WITHIN.into_iter().chain(ALONE).collect();
    choose(&all, rng)
}

/// A step that can be part of a transaction.
pub(super) fn within_transaction(rng: &mut Rng) -> Make {
    choose(&WITHIN, rng)
}

fn choose(steps: &[(u64, Make)], rng: &mut Rng) -> Make {
    let total: u64 = steps.iter().map(|(weight, _)| weight).sum();
    let mut left = rng.between(0, total - 1);
    for (weight, make) in steps {
        if left < *weight {
            return *make;
        }
        left -= weight;
    }
    unreachable!("the number is below the sum of all weights")
}
