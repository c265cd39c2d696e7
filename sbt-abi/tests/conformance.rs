//! The suite passes what is right, fails what is wrong at the check that is about it, and works on a plugin in C.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Fault, Memory, Sound};
use setpiece_sbt_abi::Table;
use setpiece_sbt_abi::conformance::{Outcome, Report, run};
use setpiece_sbt_abi::host::{Library, OpenParams, Plugin};
use setpiece_sbt_abi::plugin::table_with_locks;

fn run_on<F: Fault>(location: &str) -> Report {
    let table: &'static Table = Box::leak(Box::new(table_with_locks::<Memory<F>>()));
    let plugin = Plugin::from_static(table).unwrap();
    run(&plugin, &OpenParams { location, ..OpenParams::default() })
}

macro_rules! fault {
    ($name:ident { $($what:ident = $value:literal),* }) => {
        struct $name;
        impl Fault for $name { $(const $what: bool = $value;)* }
    };
}

#[track_caller]
fn must_fail<F: Fault>(location: &str, checks: &[&str]) {
    let report = run_on::<F>(location);
    let failed: Vec<&str> = report.failures().map(|check| check.name).collect();
    for check in checks {
        assert!(failed.iter().any(|name| name.contains(check)), "{check:?} does not fail:\n{report}");
    }
}

#[test]
fn a_sound_plugin_passes_every_check() {
    let report = run_on::<Sound>("sound");
    assert!(report.checks.iter().all(|check| check.outcome == Outcome::Passed), "{report}");
    assert!(report.checks.len() >= 35, "only {} checks", report.checks.len());
}

fault!(Overwrites { OVERWRITES = true });
fault!(Early { VISIBLE_EARLY = true });
fault!(Keeps { KEEPS_ABORTED = true });
fault!(Short { SHORT_LIST = true });
fault!(Sloppy { SLOPPY_PREFIX = true });
fault!(AnyParms { TAKES_ANY_PARMS = true });
fault!(WeakLocks { DENIES_LOCKS = false });
fault!(Silent { SILENT = true });
fault!(NoOffset { OFFSET_IGNORED = true });
fault!(Strict { REMOVE_STRICT = true });
fault!(Panics { WRITE_PANICS = true });

#[test]
fn a_plugin_that_overwrites_fails() {
    must_fail::<Overwrites>("overwrites", &["stays as it is", "first to finish wins", "exactly one wins"]);
}

#[test]
fn a_plugin_that_shows_unfinished_or_aborted_objects_fails() {
    must_fail::<Early>("early", &["before finish"]);
    must_fail::<Keeps>("keeps", &["after abort", "are dropped"]);
}

#[test]
fn a_plugin_that_lists_too_little_or_too_much_fails() {
    must_fail::<Short>("short", &["many objects"]);
    must_fail::<Sloppy>("sloppy", &["exactly the names"]);
}

#[test]
fn a_plugin_with_bad_manners_fails() {
    must_fail::<AnyParms>("any", &["unknown key in PARMS", "unknown key among the pairs"]);
    must_fail::<WeakLocks>("weak", &["shared locks share"]);
    must_fail::<Silent>("silent", &["errors have words"]);
    must_fail::<NoOffset>("offset", &["offset asked for"]);
    must_fail::<Strict>("strict", &["removing what is not there"]);
    must_fail::<Panics>("panics", &["1 byte comes back"]);
}

#[test]
fn a_plugin_in_c_is_loaded_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("libmemory.so");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-shared", "-fPIC", "-fvisibility=hidden"])
        .args(["-pthread", "-I"])
        .arg(root.join("include"))
        .arg(root.join("tests/c/memory.c"))
        .arg("-o")
        .arg(&library)
        .output()
        .expect("cc is needed for this test");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    forbid_writing(&library);

    let loaded = Library::load(&library).unwrap();
    assert_eq!((loaded.plugin().name(), loaded.plugin().has_locks()), ("c-memory", false));
    let report = run(loaded.plugin(), &OpenParams::default());
    assert!(report.passed(), "{report}");
    let absent = report.checks.iter().filter(|check| matches!(check.outcome, Outcome::NotApplicable(_))).count();
    assert_eq!(absent, 4, "only the four checks of locks are not applicable:\n{report}");
}

fn forbid_writing(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
