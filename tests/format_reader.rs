//! The specification is enough: a reader written from it alone, in another language, restores what the library wrote.
#![cfg(feature = "disk")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use common::tiny::{PAGE, Tiny};
use common::{init, key, take};
use setpiece_core::format::Compression;
use setpiece_core::media::{Medium, PluginMedium, PluginParams};
use setpiece_core::model::{CarriedFile, Level, RelPath, SetSummary};
use setpiece_core::transform::{Identity, KeyFile, Recipient, SlotRequest};
use setpiece_media_disk::PLUGIN;
use setpiece_sbt_abi::host::Plugin;

fn disk(dir: &Path) -> Arc<dyn Medium> {
    let location = dir.to_str().unwrap().into();
    let params = PluginParams { label: "disk".into(), location, ..PluginParams::default() };
    Arc::new(PluginMedium::open(Plugin::from_static(&PLUGIN).unwrap(), params).unwrap())
}

fn read(repository: &Path, set: &str, target: &Path, key_file: Option<&Path>) -> Output {
    let python = std::env::var_os("SETPIECE_TEST_PYTHON").unwrap_or_else(|| "/usr/bin/python3".into());
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format/reader.py"));
    command.args([repository.as_os_str(), set.as_ref(), target.as_os_str()]);
    if let Some(file) = key_file {
        command.arg("--key-file").arg(file);
    }
    command.output().expect("the reader needs Python: scripts/test installs it")
}

fn reads(repository: &Path, set: &str, target: &Path, key_file: Option<&Path>, tiny: &Tiny) {
    let output = read(repository, set, target, key_file);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(tiny.difference(target), None, "{set}");
}

/// The reader refuses, with its own words and not those of an interpreter that gave up, and leaves nothing.
fn refuses(repository: &Path, target: &Path, key_file: Option<&Path>, because: &str) {
    let output = read(repository, "latest", target, key_file);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.starts_with("reader.py: ") && words.contains(because), "{because:?} is not in: {words}");
    assert!(!target.exists());
}

/// A chain of a full set and two differential ones, each compressed in another way; calls `seen` after each.
fn chain(dir: &Path, encrypted: bool, mut seen: impl FnMut(&Tiny, &SetSummary)) -> Tiny {
    fs::create_dir(dir).unwrap();
    let repository = init(disk(dir), encrypted).unwrap();
    let tiny = Tiny::new(6000);
    let ways = [Compression::Zstd(1), Compression::Fast, Compression::None];
    for (number, compression) in ways.into_iter().enumerate() {
        let level = if number == 0 { Level::Full } else { Level::Differential };
        tiny.write(1, 100 * number, 7);
        tiny.write(2, 200 * number, 8);
        tiny.write(1, 6000 + 3 * number, 9);
        match number {
            1 => tiny.truncate(2, 4000 * PAGE + 17),
            2 => tiny.write(2, 5000, 10),
            _ => {}
        }
        let report = take(&repository, &tiny, level, |options| {
            options.name = Some(format!("set-{number}"));
            options.compression = compression;
            options.channels = 2;
            let path = RelPath::new("keys/one").unwrap();
            options.key_files = vec![CarriedFile { path, bytes: b"engine's key".to_vec() }];
        });
        seen(&tiny, &report.unwrap().summary);
    }
    tiny
}

fn objects(dir: &Path) -> Vec<PathBuf> {
    let below = |dir: PathBuf| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let sets = below(dir.join("sets")).into_iter().flat_map(below);
    let mut all: Vec<PathBuf> = below(dir.join("repo")).into_iter().chain(sets).collect();
    all.sort();
    all
}

#[test]
fn a_reader_written_from_the_specification_restores_every_set_of_a_chain() {
    for encrypted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("repository");
        let key_path = dir.path().join("key");
        fs::write(&key_path, key().to_text().as_str()).unwrap();
        let key_file = encrypted.then_some(key_path.as_path());
        let mut number = 0;
        let tiny = chain(&repository, encrypted, |tiny, summary| {
            let target = dir.path().join(format!("by-name-{number}"));
            reads(&repository, &summary.name, &target, key_file, tiny);
            assert_eq!(fs::read(target.join("keys/one")).unwrap(), b"engine's key");
            number += 1;
        });
        reads(&repository, "latest", &dir.path().join("latest"), key_file, &tiny);
        let two_channels = objects(&repository).iter().any(|path| path.ends_with("000002.bak"));
        assert!(two_channels, "both channels are to have a piece");
    }
}

#[test]
fn a_piece_with_several_index_segments_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("repository");
    fs::create_dir(&place).unwrap();
    let tiny = common::with_segments(&init(disk(&place), false).unwrap());
    reads(&place, "full", &dir.path().join("db"), None, &tiny);
}

#[test]
fn a_flipped_bit_in_any_object_is_refused() {
    for encrypted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path().join("repository");
        let key_path = dir.path().join("key");
        fs::write(&key_path, key().to_text().as_str()).unwrap();
        let tiny = chain(&repository, encrypted, |_, _| {});
        let key_file = encrypted.then_some(key_path.as_path());
        for path in objects(&repository) {
            let whole = fs::read(&path).unwrap();
            let mut damaged = whole.clone();
            damaged[whole.len() / 2] ^= 0x10;
            fs::remove_file(&path).unwrap();
            fs::write(&path, &damaged).unwrap();
            refuses(&repository, &dir.path().join("out"), key_file, "");
            fs::write(&path, &whole).unwrap();
        }
        reads(&repository, "latest", &dir.path().join("out"), key_file, &tiny);
    }
}

#[test]
fn the_wrong_key_and_a_needless_one_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, encrypted) = (dir.path().join("plain"), dir.path().join("encrypted"));
    chain(&plain, false, |_, _| {});
    chain(&encrypted, true, |_, _| {});
    let (right, wrong) = (dir.path().join("right"), dir.path().join("wrong"));
    fs::write(&right, key().to_text().as_str()).unwrap();
    fs::write(&wrong, KeyFile::from_bytes([43; 32]).to_text().as_str()).unwrap();
    let out = dir.path().join("out");
    refuses(&encrypted, &out, Some(&wrong), "the key does not open the repository");
    refuses(&encrypted, &out, None, "a key is missing");
    refuses(&plain, &out, Some(&right), "given for a plain repository");
}

/// The keys of older epochs, keys wrapped anew, and a host that wrote without a secret.
#[test]
fn a_private_key_reads_what_was_written_before_and_after_rotation_and_without_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("repository");
    let tiny = chain(&place, true, |_, _| {});
    let identity = Identity::from_bytes([5; 32]);
    let identity_file = dir.path().join("identity");
    fs::write(&identity_file, identity.to_text().as_str()).unwrap();
    let slot = |recipient: Recipient| SlotRequest::Recipient { label: "auditor".into(), recipient };
    let mut repository = common::open(disk(&place), true).unwrap();
    let slots = [slot(identity.recipient())];
    let renewal = setpiece_core::rekey::Renewal { slots: &slots, drop_recipients: false };
    setpiece_core::rekey::renew(&mut repository, &renewal).unwrap();
    drop(repository);
    reads(&place, "latest", &dir.path().join("rotated"), Some(&identity_file), &tiny);
    let writer = common::open(disk(&place), false).unwrap();
    tiny.write(1, 1, 77);
    let path = RelPath::new("keys/one").unwrap();
    let key_files = vec![CarriedFile { path, bytes: b"engine's key".to_vec() }];
    take(&writer, &tiny, Level::Full, |options| options.key_files = key_files).unwrap();
    reads(&place, "latest", &dir.path().join("blind"), Some(&identity_file), &tiny);
}
