//! The disk medium passes the suite: linked in, under hidden names, and as the library that hosts load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use setpiece_media_disk::PLUGIN;
use setpiece_sbt_abi::conformance::{Outcome, run};
use setpiece_sbt_abi::host::{Library, OpenParams, Plugin};

#[track_caller]
fn must_pass(plugin: &Plugin, location: &Path, parms: &str) {
    let report = run(plugin, &OpenParams { location: location.to_str().unwrap(), parms, pairs: &[] });
    assert!(report.checks.iter().all(|check| check.outcome == Outcome::Passed), "{report}");
    let rest: Vec<_> = std::fs::read_dir(location).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(rest.is_empty(), "something is left in the directory: {rest:?}");
}

#[test]
fn linked_in() {
    let dir = tempfile::tempdir().unwrap();
    must_pass(&Plugin::from_static(&PLUGIN).unwrap(), dir.path(), "");
}

#[test]
fn without_nameless_files() {
    let dir = tempfile::tempdir().unwrap();
    must_pass(&Plugin::from_static(&PLUGIN).unwrap(), dir.path(), "tmpfile=no");
}

#[test]
fn loaded() {
    let library = build_library();
    let loaded = Library::load(&library).unwrap();
    assert_eq!(loaded.plugin().name(), "disk");
    let dir = tempfile::tempdir().unwrap();
    must_pass(loaded.plugin(), dir.path(), "");
}

/// Builds the library with the cargo and the target directory of this test, and copies it to where only its owner may
/// write: the umask decides about the original.
fn build_library() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "setpiece-media-disk-cdylib", "--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).unwrap();
    let built = messages.split('"').find(|word| word.ends_with("/libsbt_disk.so")).expect("cargo names the library");
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libsbt_disk.so");
    std::fs::remove_file(&copy).ok();
    std::fs::copy(built, &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    copy
}
