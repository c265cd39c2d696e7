//! What released versions wrote is read for ever, and what was done to it by damage or malice is refused by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use setpiece_core::catalog::{Catalog, Surroundings};
use setpiece_core::events::Silent;
use setpiece_core::format::{FrameHeader, PieceScanner, RepoDescriptor, Scanned};
use setpiece_core::media::ObjectName;
use setpiece_core::media::memory::MemoryMedium;
use setpiece_core::media::repository::Repository;
use setpiece_core::model::{FileEntry, Lsn, LsnSpan, PieceNo, SetId, Timestamp, Until};
use setpiece_core::pipeline::Cancel;
use setpiece_core::restore::{RestoreRequest, restore};
use setpiece_core::source::{LogFeed, PageState, RecoverRequest, Recovered, Recovery};
use setpiece_core::transform::{FrameContent, OpenedMeta, PieceReader, Secret, Vault, WholeUnit, decode_meta};
use setpiece_core::verify::{Depth, check};
use setpiece_core::{ErrorKind, Result};

const PAGE: usize = 512;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn secrets(encrypted: bool) -> Vec<Secret> {
    let text = fs::read_to_string(root().join("key")).unwrap();
    encrypted.then(|| Secret::from_key_text(&text).unwrap()).into_iter().collect()
}

/// A copy of a fixture in memory.
fn medium(encrypted: bool) -> MemoryMedium {
    let from = root().join(if encrypted { "encrypted" } else { "plain" });
    let medium = MemoryMedium::new();
    let mut folders = vec![from.clone()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = ObjectName::new(path.strip_prefix(&from).unwrap().to_str().unwrap()).unwrap();
                medium.corrupt(&name, fs::read(&path).unwrap());
            }
        }
    }
    medium
}

fn open(encrypted: bool) -> Repository {
    Repository::open(Arc::new(medium(encrypted)), &secrets(encrypted)).unwrap()
}

fn set_named(repository: &Repository, name: &str) -> SetId {
    Catalog::load(repository, None).unwrap().find(name).unwrap().summary.id
}

struct NoRecovery;

impl Recovery for NoRecovery {
    fn engine(&self) -> &str {
        "tiny"
    }

    fn recover(&self, request: &RecoverRequest<'_>, _log: &mut dyn LogFeed) -> Result<Recovered> {
        Ok(Recovered { lsn: request.consistent_from, time: None, branch: Some(request.new_branch) })
    }

    fn inspect(&self, _file: &FileEntry, _page: u64, _bytes: &[u8]) -> PageState {
        PageState::Unversioned
    }
}

/// A page as the source of the fixtures wrote it.
fn page(fill: u8, lsn: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..PAGE).map(|at| fill ^ (at as u8).wrapping_mul(37) ^ (lsn as u8)).collect();
    bytes[..8].copy_from_slice(&lsn.to_le_bytes());
    bytes
}

/// What the two files of pages were at the full set, and at the increment.
fn expected(increment: bool) -> [Vec<u8>; 2] {
    let half = |first_fill: u8, first_lsn: u64| {
        let mut bytes: Vec<u8> = (0..6).flat_map(|at| page(first_fill + at, first_lsn + 2 * u64::from(at))).collect();
        bytes.resize(12 * PAGE, 0);
        bytes
    };
    let (mut one, mut two) = (half(1, 1), half(101, 2));
    if increment {
        one[PAGE..2 * PAGE].copy_from_slice(&page(60, 13));
        one.extend(page(61, 14));
        two[7 * PAGE..8 * PAGE].copy_from_slice(&page(62, 15));
        two.truncate(9 * PAGE + 100);
    }
    [one, two]
}

#[test]
fn every_set_restores_to_what_it_was() {
    for (encrypted, name, increment) in
        [(false, "full", false), (false, "increment", true), (true, "full", false), (true, "increment", true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("db");
        let mut request = RestoreRequest::default();
        request.set = Some(name.into());
        request.target.until = Until::SetEnd;
        let around = Surroundings { observer: &Silent, cancel: &Cancel::new(), cache: None };
        restore(&open(encrypted), &[&NoRecovery], &request, &target, around).unwrap();
        let [one, two] = expected(increment);
        assert!(fs::read(target.join("file-1")).unwrap() == one, "{name} encrypted {encrypted}");
        assert!(fs::read(target.join("file-2")).unwrap() == two, "{name} encrypted {encrypted}");
        assert_eq!(fs::read(target.join("file-3")).unwrap(), b"settings = few\n");
        let key_file = fs::read(target.join("keys/one")).ok();
        assert_eq!(key_file, (!increment).then(|| b"engine's key".to_vec()));
    }
}

#[test]
fn nothing_is_wrong_with_them_at_any_depth() {
    for encrypted in [false, true] {
        for depth in [Depth::Meta, Depth::Frames, Depth::Pages] {
            let around = Surroundings { observer: &Silent, cancel: &Cancel::new(), cache: None };
            let report = check(&open(encrypted), &[&NoRecovery], &[], depth, 1, around).unwrap();
            assert!(report.findings.is_empty(), "{:?}", report.findings);
            assert_eq!(report.sets, 3);
        }
    }
}

#[test]
fn records_hold_what_was_put_into_them() {
    for encrypted in [false, true] {
        let repository = open(encrypted);
        let full = repository.open_set(set_named(&repository, "full")).unwrap().meta;
        assert_eq!(
            (full.key_files[0].path.as_str(), full.key_files[0].bytes.as_slice()),
            ("keys/one", &b"engine's key"[..])
        );
        let log = repository.open_set(set_named(&repository, "log")).unwrap().meta;
        assert_eq!(
            (log.cookie.as_slice(), log.decisions[0].as_str(), log.captured),
            (&[1, 2, 3][..], "made by hand", true)
        );
        let unit = &log.log[0];
        assert_eq!(unit.span, LsnSpan { after: Lsn(10), upto: Lsn(20) });
        assert_eq!(unit.last_commit, Some(Timestamp(1_700_000_001_000_000)));
        assert_eq!(unit.name.as_deref(), Some("unit-1"));
        let changes = unit.changes.as_ref().unwrap();
        assert!(changes[0].file.0 == 1 && changes[0].pages.contains(4) && changes[0].pages.len() == 2);
        assert_eq!((&log.log[1].changes, log.log[1].first_commit), (&None, None));
    }
}

/// A set's opened metadata and the bytes of its first piece.
fn piece(encrypted: bool, name: &str) -> (SetId, OpenedMeta, Vec<u8>) {
    let repository = open(encrypted);
    let set = set_named(&repository, name);
    let object = ObjectName::new(format!("sets/{set}/000001.bak")).unwrap();
    let found = medium(encrypted).objects().into_iter().find(|(name, _)| *name == object);
    (set, repository.open_set(set).unwrap(), found.unwrap().1.to_vec())
}

/// Reads a piece front to back, from portions of `portion` bytes, and gives its redo.
fn scan(set: SetId, meta: &OpenedMeta, bytes: &[u8], portion: usize) -> Result<Vec<WholeUnit>> {
    let (mut scanner, mut reader, mut raw, mut units) = (PieceScanner::new(), None, Vec::new(), Vec::new());
    for mut rest in bytes.chunks(portion) {
        while !rest.is_empty() {
            let (taken, item) = scanner.push(rest)?;
            rest = &rest[taken..];
            match item {
                Some(Scanned::Header(_)) => {
                    reader = Some(PieceReader::open(scanner.bytes(), set, PieceNo(1), meta.key.as_ref())?);
                }
                Some(Scanned::Frame { offset, .. }) => {
                    let content = reader.as_mut().unwrap().frame(offset, scanner.bytes(), &mut raw)?;
                    if let FrameContent::Log(whole) = content {
                        units.extend(whole);
                    }
                }
                Some(Scanned::Trailer(_)) | None => {}
            }
        }
    }
    scanner.finish().map(|()| units)
}

#[test]
fn redo_comes_back_whole_from_portions_of_any_size() {
    for (encrypted, portion) in [(false, 1), (false, 2), (true, 1), (true, 100_000)] {
        let (set, meta, bytes) = piece(encrypted, "log");
        let units = scan(set, &meta, &bytes, portion).unwrap();
        let records: Vec<_> = units.iter().map(|whole| whole.unit.clone()).collect();
        assert_eq!(records, meta.meta.log);
        for (seq, whole) in (1..).zip(&units) {
            assert!(whole.bytes.iter().enumerate().all(|(at, byte)| *byte == (at / 1000 + seq) as u8), "unit {seq}");
        }
    }
}

/// Writes the CRC that ends a header anew, as one who means harm would.
fn sign(header: &mut [u8]) {
    let at = header.len() - 4;
    let crc = crc32fast::hash(&header[..at]);
    header[at..].copy_from_slice(&crc.to_le_bytes());
}

#[track_caller]
fn refused<T>(result: Result<T>, kind: ErrorKind, words: &str) {
    let error = result.map(drop).unwrap_err();
    assert!(
        error.kind() == kind && error.to_string().contains(words),
        "{kind:?} {words:?} expected: {error:?} {error}"
    );
}

/// The plain full set's metadata with a change to its header, read.
fn changed_meta(change: impl FnOnce(&mut Vec<u8>)) -> Result<OpenedMeta> {
    let repository = open(false);
    let mut bytes = repository.meta_bytes(set_named(&repository, "full")).unwrap();
    change(&mut bytes);
    let header = bytes.len().min(160);
    sign(&mut bytes[..header]);
    decode_meta(&bytes, &Vault::plain(repository.descriptor()).unwrap(), None)
}

/// A piece of the plain repository with a change to it, read.
fn changed_piece(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Result<Vec<WholeUnit>> {
    let (set, meta, mut bytes) = piece(false, name);
    change(&mut bytes);
    scan(set, &meta, &bytes, 4096)
}

fn changed_descriptor(change: impl FnOnce(&mut Vec<u8>)) -> Result<RepoDescriptor> {
    let (_, bytes) = medium(true).objects().into_iter().find(|(name, _)| name.as_str().starts_with("repo/")).unwrap();
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    sign(&mut bytes[..64]);
    RepoDescriptor::decode(&bytes)
}

#[test]
fn newer_formats_are_refused_with_their_version_and_newer_minors_are_read() {
    let newer = |bytes: &mut Vec<u8>| bytes[8] = 2;
    refused(changed_meta(newer), ErrorKind::Unsupported, "format 2.0");
    refused(changed_descriptor(newer), ErrorKind::Unsupported, "format 2.0");
    refused(changed_piece("full", newer), ErrorKind::Unsupported, "format 2.0");
    let minor = |bytes: &mut Vec<u8>| bytes[10] = 7;
    changed_meta(minor).unwrap();
    changed_descriptor(minor).unwrap();
    changed_piece("full", |bytes| {
        minor(bytes);
        sign(&mut bytes[..128]);
    })
    .unwrap();
}

#[test]
fn unknown_features_count_when_they_must() {
    let incompatible = |bytes: &mut Vec<u8>| bytes[20] = 4;
    refused(changed_meta(incompatible), ErrorKind::Unsupported, "mask 0x4");
    refused(changed_descriptor(incompatible), ErrorKind::Unsupported, "mask 0x4");
    let change = |bytes: &mut Vec<u8>| {
        incompatible(bytes);
        sign(&mut bytes[..128]);
    };
    refused(changed_piece("increment", change), ErrorKind::Unsupported, "mask 0x4");
    changed_meta(|bytes| bytes[16] = 4).unwrap();
    changed_descriptor(|bytes| bytes[16] = 4).unwrap();
}

#[test]
fn what_is_cut_short_is_damaged() {
    for len in [0, 7, 8, 100, 128, 140, 1000, 3800] {
        refused(changed_piece("full", |bytes| bytes.truncate(len)), ErrorKind::Damaged, "truncated");
    }
    let (_, _, bytes) = piece(false, "full");
    refused(changed_piece("full", |piece| piece.truncate(bytes.len() - 1)), ErrorKind::Damaged, "truncated");
    refused(changed_piece("full", |piece| piece.push(0)), ErrorKind::Damaged, "behind the trailer");
    refused(changed_meta(|bytes| bytes.truncate(200)), ErrorKind::Damaged, "there are 200");
    refused(changed_meta(|bytes| bytes.truncate(50)), ErrorKind::Damaged, "inside its header");
    refused(changed_descriptor(|bytes| bytes.truncate(80)), ErrorKind::Damaged, "the object has 80");
}

#[test]
fn lengths_that_lie_are_damage() {
    let put =
        |at: usize, value: u64| move |bytes: &mut Vec<u8>| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    refused(changed_meta(put(48, u64::MAX)), ErrorKind::Damaged, "impossible lengths");
    refused(changed_meta(put(48, 1 << 20)), ErrorKind::Damaged, "says that it has");
    refused(changed_meta(put(56, 1 << 40)), ErrorKind::Damaged, "impossible lengths");
    refused(changed_meta(put(56, 1000)), ErrorKind::Damaged, "decompress");
    refused(changed_descriptor(|bytes| bytes[44..48].fill(0xff)), ErrorKind::Damaged, "says that its record");
}

/// Changes a length in the header of the first frame and makes the header's checksum right again.
fn frame_len(at: usize, len: u32) -> impl FnOnce(&mut Vec<u8>) {
    move |bytes| {
        bytes[128 + at..132 + at].copy_from_slice(&len.to_le_bytes());
        sign(&mut bytes[128..160]);
    }
}

#[test]
fn a_frame_that_decompresses_to_more_than_it_says_is_damage() {
    for name in ["full", "increment", "log"] {
        let (_, _, bytes) = piece(false, name);
        let header = FrameHeader::decode(&bytes[128..]).unwrap();
        assert_ne!(header.codec as u8, 0, "the frame is to be compressed");
        for raw in [0, 1, header.raw_len - 1, header.raw_len + 1, 16 << 20] {
            refused(changed_piece(name, frame_len(16, raw)), ErrorKind::Damaged, "decompress");
        }
        refused(changed_piece(name, frame_len(16, u32::MAX)), ErrorKind::Damaged, "the frame claims");
        refused(changed_piece(name, frame_len(12, u32::MAX)), ErrorKind::Damaged, "the frame claims");
        refused(changed_piece(name, frame_len(12, 1)), ErrorKind::Damaged, "checksum");
    }
}

#[test]
fn swapped_pieces_and_swapped_frames_are_damage() {
    for encrypted in [false, true] {
        let (full, meta, bytes) = piece(encrypted, "full");
        let (increment, other, _) = piece(encrypted, "increment");
        refused(scan(increment, &other, &bytes, 4096), ErrorKind::Damaged, "pieces were swapped");
        let first = FrameHeader::decode(&bytes[128..]).unwrap().total_len();
        let second = FrameHeader::decode(&bytes[128 + first..]).unwrap().total_len();
        let mut swapped = bytes.clone();
        swapped[128..128 + first + second].rotate_left(first);
        refused(scan(full, &meta, &swapped, 4096), ErrorKind::Damaged, "frame 1 stands where frame 0 should");
        for (at, number) in [(128, 0u32), (128 + second, 1)] {
            swapped[at + 8..at + 12].copy_from_slice(&number.to_le_bytes());
            sign(&mut swapped[at..at + 32]);
        }
        if encrypted {
            refused(scan(full, &meta, &swapped, 4096), ErrorKind::Damaged, "the seal is broken");
        }
    }
}

#[test]
fn another_key_opens_nothing() {
    let other = Secret::from_key_text(&setpiece_core::transform::KeyFile::from_bytes([1; 32]).to_text()).unwrap();
    let opened = Repository::open(Arc::new(medium(true)), &[other]).map(drop);
    refused(opened, ErrorKind::Key, "does not open the repository");
    refused(Repository::open(Arc::new(medium(true)), &[]).map(drop), ErrorKind::Key, "no secret was given");
    refused(Repository::open(Arc::new(medium(false)), &secrets(true)).map(drop), ErrorKind::Key, "not encrypted");
    let (set, mut meta, bytes) = piece(true, "full");
    meta.key = Some(setpiece_core::transform::DataKey::from_bytes([1; 32]));
    refused(scan(set, &meta, &bytes, 4096), ErrorKind::Key, "not the one that the piece was sealed with");
}
