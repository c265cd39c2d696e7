//! The shape of the house: which package may use which, and in which direction core's files may import.
//!
//! The rules are those of `docs/ARCHITECTURE.md`. The checkers are tried on made-up houses with a fault in them, so that
//! a silent pass means something.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod files;
mod imports;
mod packages;
mod tokens;

use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn packages_use_only_what_they_may() {
    none(&packages::check(&packages::metadata(root())));
}

#[test]
fn core_imports_go_one_way() {
    let sources = files::below(&root().join("core/src"));
    assert!(sources.len() > 20, "core/src was not found");
    none(&imports::check(&sources));
}

#[test]
fn every_file_says_its_job_first() {
    none(&files::without_a_job(root()));
}
