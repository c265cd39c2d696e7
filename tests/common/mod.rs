//! What the integration tests share: a tiny source, a medium that fails, and a repository in one line.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses a part")]

pub mod faulty;
pub mod tiny;

use std::sync::Arc;

use setpiece_core::Result;
use setpiece_core::backup::{BackupOptions, BackupReport, Surroundings, backup, new_repository_id};
use setpiece_core::events::Silent;
use setpiece_core::media::Medium;
use setpiece_core::media::repository::Repository;
use setpiece_core::model::Level;
use setpiece_core::pipeline::Cancel;
use setpiece_core::source::Source;
use setpiece_core::transform::{KeyFile, Secret, SlotRequest, new_descriptor, plain_descriptor};

/// A key that is the same in every run.
pub fn key() -> KeyFile {
    KeyFile::from_bytes([42; 32])
}

/// Makes a repository, encrypted with [`key`] or not at all.
pub fn init(medium: Arc<dyn Medium>, encrypted: bool) -> Result<Repository> {
    let repo = new_repository_id()?;
    let (descriptor, vault) = if encrypted {
        new_descriptor(repo, &[SlotRequest::KeyFile { label: "test".into(), key: key() }])?
    } else {
        plain_descriptor(repo)
    };
    Repository::init(medium, descriptor, vault)
}

/// Opens a repository made by [`init`].
pub fn open(medium: Arc<dyn Medium>, encrypted: bool) -> Result<Repository> {
    let secrets: Vec<Secret> = encrypted.then(|| Secret::KeyFile(key())).into_iter().collect();
    Repository::open(medium, &secrets)
}

/// No observer, no copies of metadata.
pub fn quiet(cancel: &Cancel) -> Surroundings<'_> {
    Surroundings { observer: &Silent, cancel, cache: None }
}

/// A backup of a level, with one channel unless `change` says otherwise.
pub fn take(
    repository: &Repository,
    source: &dyn Source,
    level: Level,
    change: impl FnOnce(&mut BackupOptions),
) -> Result<BackupReport> {
    let mut options = BackupOptions::default();
    options.level = level;
    options.channels = 1;
    change(&mut options);
    backup(repository, source, &options, quiet(&Cancel::new()))
}

/// A source, and a set `full` of it in whose only piece the index has several segments: every other page has something
/// in it, and each of those has a hash.
pub fn with_segments(repository: &Repository) -> tiny::Tiny {
    let tiny = tiny::Tiny::new(2);
    for page in 0..40_000 {
        tiny.write(2, 2 * page, page as u8);
    }
    let report = take(repository, &tiny, Level::Full, |options| options.name = Some("full".into())).unwrap();
    let opened = repository.open_set(report.summary.id).unwrap();
    let (set, piece) = (report.summary.id, &opened.meta.pieces[0]);
    let (piece, _) = setpiece_core::catalog::pieces::open(repository, set, piece, opened.key.as_ref()).unwrap();
    assert!(piece.root.segments.len() >= 2, "{} segments", piece.root.segments.len());
    tiny
}
