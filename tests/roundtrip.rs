//! Sets of a tiny source, on a medium in memory: what goes in comes out, whatever the chain.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::sync::Arc;

use common::tiny::{Tiny, TinyRecovery};
use common::{init, open, quiet, take, with_segments};
use setpiece_core::ErrorKind;
use setpiece_core::catalog::Catalog;
use setpiece_core::format::Compression;
use setpiece_core::media::memory::MemoryMedium;
use setpiece_core::model::{CarriedFile, FileEntry, Level, RelPath};
use setpiece_core::pipeline::Cancel;
use setpiece_core::restore::{RestoreRequest, plan, restore};
use setpiece_core::retain::remove;
use setpiece_core::source::{LogFeed, PageState, RecoverRequest, Recovered, Recovery};
use setpiece_core::verify::{Depth, check};

fn request(set: &str) -> RestoreRequest {
    let mut request = RestoreRequest::default();
    request.set = Some(set.into());
    request.target.until = setpiece_core::model::Until::SetEnd;
    request
}

#[test]
fn chains_of_every_level_restore_to_what_the_source_was() {
    for encrypted in [false, true] {
        let medium = Arc::new(MemoryMedium::new());
        let repository = init(medium.clone(), encrypted).unwrap();
        let tiny = Tiny::new(20);
        let dir = tempfile::tempdir().unwrap();
        let steps: [(Level, Compression); 6] = [
            (Level::Full, Compression::Zstd(1)),
            (Level::Differential, Compression::None),
            (Level::Differential, Compression::Fast),
            (Level::Cumulative, Compression::Zstd(19)),
            (Level::Differential, Compression::Zstd(3)),
            (Level::Full, Compression::Fast),
        ];
        for (number, (level, compression)) in steps.into_iter().enumerate() {
            tiny.write(1, 3 * number, 200);
            tiny.write(2, 2 * number, 201);
            tiny.write(1, 20 + number, 202);
            if number == 2 {
                tiny.truncate(2, 7 * common::tiny::PAGE);
            }
            let name = format!("set-{number}");
            let report = take(&repository, &tiny, level, |options| {
                options.name = Some(name.clone());
                options.compression = compression;
                options.channels = 1 + number as u16 % 3;
            })
            .unwrap();
            assert_eq!(report.summary.level, level);
            let to = dir.path().join(&name);
            let done = restore(&repository, &[&TinyRecovery], &request(&name), &to, quiet(&Cancel::new())).unwrap();
            assert_eq!(tiny.difference(&to), None, "{name}, encrypted {encrypted}");
            assert!(done.recovered.is_some());
        }
        let report = check(&repository, &[&TinyRecovery], &[], Depth::Pages, 2, quiet(&Cancel::new())).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        assert_eq!(report.sets, 6);
    }
}

#[test]
fn an_increment_stores_only_what_changed_and_a_restore_reads_only_what_lives() {
    let repository = init(Arc::new(MemoryMedium::new()), false).unwrap();
    let tiny = Tiny::new(4000);
    let full = take(&repository, &tiny, Level::Full, |_| {}).unwrap();
    tiny.write(1, 7, 9);
    tiny.write(2, 8, 9);
    let increment = take(&repository, &tiny, Level::Differential, |_| {}).unwrap();
    assert_eq!(increment.pages, 3, "one page by LSN, one by hash, and the file that is always taken");
    assert_eq!(increment.summary.base, Some(full.summary.id));
    for page in 0..4000 {
        tiny.write(1, page, 10);
        tiny.write(2, page, 10);
    }
    take(&repository, &tiny, Level::Differential, |_| {}).unwrap();
    let plan = plan(&repository, &[], &RestoreRequest::default(), quiet(&Cancel::new())).unwrap();
    assert_eq!(plan.shares[1].frames + plan.shares[2].frames, 0, "frames whose pages were all replaced are not read");
    assert!(plan.totals.dead_frames >= 4);
    assert_eq!(plan.totals.pages, 2 * 4000 + 1);
}

#[test]
fn removing_a_base_needs_the_others_to_go_too() {
    let cancel = Cancel::new();
    let repository = init(Arc::new(MemoryMedium::new()), false).unwrap();
    let tiny = Tiny::new(8);
    take(&repository, &tiny, Level::Full, |options| options.name = Some("base".into())).unwrap();
    tiny.write(1, 1, 1);
    take(&repository, &tiny, Level::Differential, |options| options.name = Some("top".into())).unwrap();
    let error = remove(&repository, "base", false, quiet(&cancel)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.to_string().contains("top"), "{error}");
    assert_eq!(remove(&repository, "base", true, quiet(&cancel)).unwrap().len(), 2);
    assert_eq!(Catalog::load(&repository, None).unwrap().records().count(), 0);
}

#[test]
fn a_source_that_vanishes_leaves_nothing_behind() {
    let medium = Arc::new(MemoryMedium::new());
    let repository = init(medium.clone(), true).unwrap();
    let tiny = Tiny::new(8);
    take(&repository, &tiny, Level::Full, |_| {}).unwrap();
    let before = medium.objects().len();
    tiny.vanish();
    let error = take(&repository, &tiny, Level::Full, |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert_eq!(medium.objects().len(), before);
    assert_eq!(Catalog::load(&open(medium, true).unwrap(), None).unwrap().records().count(), 1);
}

#[test]
fn targets_in_use_are_refused_and_left_alone() {
    let repository = init(Arc::new(MemoryMedium::new()), false).unwrap();
    let tiny = Tiny::new(8);
    take(&repository, &tiny, Level::Full, |_| {}).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "precious").unwrap();
    let result = restore(&repository, &[&TinyRecovery], &RestoreRequest::default(), dir.path(), quiet(&Cancel::new()));
    assert_eq!(result.err().map(|error| error.kind()), Some(ErrorKind::Target));
    assert_eq!(std::fs::read(dir.path().join("mine")).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// Looks at the permissions of the files that it is to recover.
struct Looking(std::sync::Mutex<Vec<u32>>);

fn mode(path: &std::path::Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o7777
}

impl Recovery for Looking {
    fn engine(&self) -> &str {
        common::tiny::ENGINE
    }

    fn recover(&self, request: &RecoverRequest<'_>, _log: &mut dyn LogFeed) -> setpiece_core::Result<Recovered> {
        let modes = request.files.iter().map(|file| mode(&file.path.below(request.directory)));
        self.0.lock().unwrap().extend(modes);
        std::fs::remove_file(request.files[2].path.below(request.directory)).unwrap();
        Ok(Recovered { lsn: request.consistent_from, time: None, branch: Some(request.new_branch) })
    }

    fn inspect(&self, _file: &FileEntry, _page: u64, _bytes: &[u8]) -> PageState {
        PageState::Unversioned
    }
}

/// Files got the permissions of the source when they were made. One that nobody may write to could then not be recovered,
/// except by root.
#[test]
fn files_get_their_permissions_when_nobody_has_to_write_to_them_any_more() {
    let repository = init(Arc::new(MemoryMedium::new()), false).unwrap();
    let tiny = Tiny::new(8);
    tiny.chmod(0o100_444);
    take(&repository, &tiny, Level::Full, |_| {}).unwrap();
    let (dir, looking) = (tempfile::tempdir().unwrap(), Looking(Default::default()));
    let to = dir.path().join("db");
    restore(&repository, &[&looking], &RestoreRequest::default(), &to, quiet(&Cancel::new())).unwrap();
    assert_eq!(looking.0.into_inner().unwrap(), [0o600; 3]);
    assert_eq!([mode(&to.join("file-1")), mode(&to.join("file-2"))], [0o444; 2]);
}

/// A descriptor that was lost was replaced by one of another repository, without a word.
#[test]
fn sets_without_a_descriptor_are_not_taken_for_nothing() {
    let medium = Arc::new(MemoryMedium::new());
    let repository = init(medium.clone(), true).unwrap();
    let report = take(&repository, &Tiny::new(8), Level::Full, |_| {}).unwrap();
    let (name, _) = medium.objects().into_iter().find(|(name, _)| name.as_str().ends_with(".repo")).unwrap();
    setpiece_core::media::Medium::remove(&*medium, &name).unwrap();
    let before = medium.objects().len();
    let error = init(medium.clone(), false).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert!(error.to_string().contains(&report.summary.id.to_string()), "{error}");
    assert_eq!(medium.objects().len(), before);
}

#[test]
fn two_writers_of_one_source_are_not_let_in() {
    let medium = Arc::new(MemoryMedium::new());
    let repository = init(medium.clone(), false).unwrap();
    let tiny = Tiny::new(8);
    let _other = repository.lock_source(setpiece_core::source::Source::info(&tiny).unwrap().id, "backup").unwrap();
    let error = take(&repository, &tiny, Level::Full, |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("wait for it or stop it"), "{error}");
}

/// A backup that met a log stream taking away the beginning of a segment, or an expiry, failed at once.
#[test]
fn a_backup_waits_for_a_removal_that_is_done_in_moments() {
    let medium = Arc::new(MemoryMedium::new());
    let repository = init(medium.clone(), false).unwrap();
    let other = open(medium, false).unwrap();
    let removing = other.lock_for_removal().unwrap();
    std::thread::scope(|scope| {
        let backup = scope.spawn(|| take(&repository, &Tiny::new(8), Level::Full, |_| {}).map(drop));
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!backup.is_finished());
        drop(removing);
        backup.join().unwrap().unwrap();
    });
}

#[test]
fn parameters_and_key_files_travel_with_the_set() {
    let repository = init(Arc::new(MemoryMedium::new()), true).unwrap();
    let tiny = Tiny::new(8);
    let copy =
        CarriedFile { path: RelPath::new("keys/service.prikey").unwrap(), bytes: b"secret of the engine".to_vec() };
    let report = take(&repository, &tiny, Level::Full, |options| options.key_files = vec![copy]).unwrap();
    let meta = repository.open_set(report.summary.id).unwrap().meta;
    assert!(meta.parameters.iter().any(|parameter| parameter.name == "page_size" && parameter.value == "512"));
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("db");
    restore(&repository, &[&TinyRecovery], &RestoreRequest::default(), &to, quiet(&Cancel::new())).unwrap();
    assert_eq!(std::fs::read(to.join("keys/service.prikey")).unwrap(), b"secret of the engine");
}

#[test]
fn pieces_are_bounded_and_channels_write_their_own() {
    let medium = Arc::new(MemoryMedium::new());
    let repository = init(medium.clone(), true).unwrap();
    let tiny = Tiny::new(60_000);
    let report = take(&repository, &tiny, Level::Full, |options| {
        options.compression = Compression::None;
        options.max_piece_size = setpiece_core::backup::MIN_PIECE_SIZE;
        options.channels = 3;
    })
    .unwrap();
    assert!(report.pieces >= 3, "{}", report.pieces);
    for (name, bytes) in medium.objects() {
        assert!(bytes.len() as u64 <= setpiece_core::backup::MIN_PIECE_SIZE, "{name} has {} bytes", bytes.len());
    }
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("db");
    restore(&repository, &[&TinyRecovery], &RestoreRequest::default(), &to, quiet(&Cancel::new())).unwrap();
    assert_eq!(tiny.difference(&to), None);
}

/// A piece with more than one index segment was called damaged: the frame that no longer fits into a segment stands
/// before it and is named by the next one, and every segment was expected to name all frames before it.
#[test]
fn a_piece_with_several_index_segments_is_whole_at_every_depth_and_restores() {
    let repository = init(Arc::new(MemoryMedium::new()), true).unwrap();
    let tiny = with_segments(&repository);
    for depth in [Depth::Meta, Depth::Frames, Depth::Pages] {
        let report = check(&repository, &[&TinyRecovery], &[], depth, 1, quiet(&Cancel::new())).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("db");
    restore(&repository, &[&TinyRecovery], &request("full"), &to, quiet(&Cancel::new())).unwrap();
    assert_eq!(tiny.difference(&to), None);
    let copied = init(Arc::new(MemoryMedium::new()), true).unwrap();
    setpiece_core::copy::copy(&repository, &copied, &[], quiet(&Cancel::new())).unwrap();
    let report = check(&copied, &[&TinyRecovery], &[], Depth::Frames, 1, quiet(&Cancel::new())).unwrap();
    assert!(report.findings.is_empty() && report.sets == 1, "{:?}", report.findings);
}

/// What was wrong first was all that was said of a piece.
#[test]
fn everything_that_is_wrong_with_a_piece_is_found_and_the_rest_is_checked() {
    let medium = Arc::new(MemoryMedium::new());
    let repository = init(medium.clone(), false).unwrap();
    with_segments(&repository);
    let (name, bytes) = medium.objects().into_iter().find(|(name, _)| name.as_str().ends_with(".bak")).unwrap();
    let frames: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, four)| four == b"SPFR").map(|(at, _)| at).collect();
    let found = |flips: &[usize]| {
        let mut damaged = bytes.to_vec();
        flips.iter().for_each(|at| damaged[*at] ^= 1);
        medium.corrupt(&name, damaged);
        let report = check(&repository, &[&TinyRecovery], &[], Depth::Pages, 1, quiet(&Cancel::new())).unwrap();
        report.findings.iter().map(|finding| finding.error.to_string()).collect::<Vec<_>>()
    };
    let kind = |frame: usize| bytes[frames[frame] + 4];
    let segment = (0..frames.len()).find(|frame| kind(*frame) == 3).unwrap();
    let (one, two) = (frames[1], frames[segment + 2]);
    let text = found(&[one + 40, two + 40]);
    assert!(text.len() == 2 && text[0].contains(&one.to_string()) && text[1].contains(&two.to_string()), "{text:#?}");
    // The header of a frame leads to the next; without it the index does.
    let text = found(&[one + 12, two + 40]);
    assert!(text.len() == 2 && text[0].contains(&one.to_string()) && text[1].contains(&two.to_string()), "{text:#?}");
    // A segment that cannot be read says nothing about the frames that it names, be it their absence.
    for byte in [12, 40] {
        let text = found(&[frames[segment] + byte, two + 40]);
        assert!(text.len() == 2 && text[1].contains(&two.to_string()), "{text:#?}");
    }
    // Neither header nor index: what was not checked is named.
    let text = found(&[one + 12, frames[frames.len() - 1] + 40]);
    assert!(text.len() == 2 && text[1].contains("was not checked"), "{text:#?}");
    // All is wrong: that need not be said of each frame.
    let text = found(&frames.iter().map(|frame| frame + 40).collect::<Vec<_>>());
    assert!(text.len() == 17 && text[16].contains("more is wrong"), "{text:#?}");
}
