//! Makes the repositories of core/tests/fixtures anew: `cargo run --example format-fixtures -- EMPTY_DIR`.
//!
//! For a new version of the format only. What a released version wrote is never made again.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a tool for developers")]

#[path = "../common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;

use common::tiny::Tiny;
use common::{init, take};
use setpiece_core::format::limits::MAX_LOG_DATA;
use setpiece_core::format::{CipherId, Compression, PieceKind, SECTION, SetMeta};
use setpiece_core::media::layout::{SetObject, object};
use setpiece_core::media::repository::Repository;
use setpiece_core::media::{PluginMedium, PluginParams};
use setpiece_core::model::log::FileChanges;
use setpiece_core::model::*;
use setpiece_core::transform::{PieceSpec, PieceWriter};
use setpiece_media_disk::PLUGIN;
use setpiece_sbt_abi::host::Plugin;

fn main() {
    let dir = std::env::args().nth(1).expect("name an empty directory");
    for (name, encrypted) in [("plain", false), ("encrypted", true)] {
        make(&Path::new(&dir).join(name), encrypted);
    }
    std::fs::write(Path::new(&dir).join("key"), common::key().to_text().as_str()).unwrap();
}

fn make(dir: &Path, encrypted: bool) {
    std::fs::create_dir_all(dir).unwrap();
    let location = dir.to_str().unwrap().into();
    let params = PluginParams { label: "disk".into(), location, ..PluginParams::default() };
    let medium = PluginMedium::open(Plugin::from_static(&PLUGIN).unwrap(), params).unwrap();
    let repository = init(Arc::new(medium), encrypted).unwrap();
    let tiny = Tiny::new(12);
    take(&repository, &tiny, Level::Full, |options| {
        options.name = Some("full".into());
        options.channels = 2;
        let path = RelPath::new("keys/one").unwrap();
        options.key_files = vec![CarriedFile { path, bytes: b"engine's key".to_vec() }];
    })
    .unwrap();
    tiny.write(1, 1, 60);
    tiny.write(1, 12, 61);
    tiny.write(2, 7, 62);
    tiny.truncate(2, 9 * common::tiny::PAGE + 100);
    take(&repository, &tiny, Level::Differential, |options| {
        options.name = Some("increment".into());
        options.compression = Compression::Fast;
    })
    .unwrap();
    log_set(&repository);
    drop(std::fs::remove_dir_all(dir.join("locks")));
}

/// Three units of redo: one with everything that a record may have, one with the least, one that is split.
fn units() -> Vec<(LogUnit, Vec<u8>)> {
    let unit = |seq: u64, len: usize, rich: bool| LogUnit {
        node: NodeId(0),
        branch: BranchId(1),
        seq: Seq(seq),
        span: LsnSpan { after: Lsn(10 * seq), upto: Lsn(10 * seq + 10) },
        first_commit: rich.then_some(Timestamp(1_700_000_000_000_000)),
        last_commit: rich.then_some(Timestamp(1_700_000_001_000_000)),
        len: len as u64,
        changes: rich.then(|| vec![FileChanges { file: FileId(1), pages: [PageRun::new(3, 2)].into_iter().collect() }]),
        name: rich.then(|| "unit-1".into()),
        links: None,
        timing: None,
        points: None,
    };
    let bytes = |seq: usize, len: usize| (0..len).map(|at| (at / 1000 + seq) as u8).collect();
    [(1, 100, true), (2, 50, false), (3, MAX_LOG_DATA + 10, false)]
        .map(|(seq, len, rich)| (unit(seq as u64, len, rich), bytes(seq, len)))
        .into()
}

fn log_set(repository: &Repository) {
    let set = SetId(Uuid::from_time(4_000_000_000_000, [3; 10]));
    let keys = repository.vault().new_set(set).unwrap();
    let key = keys.as_ref().map(|(key, _)| key.clone());
    let piece = PieceNo(1);
    let compression = Compression::Zstd(19);
    let mut bytes = Vec::new();
    let spec = PieceSpec { set, piece, channel: 0, kind: PieceKind::Log, compression, key };
    let mut writer = PieceWriter::new(spec, &mut bytes).unwrap();
    for (unit, data) in units() {
        writer.log(unit, &data, &mut bytes).unwrap();
    }
    let info = writer.finish(&mut bytes).unwrap();
    repository.write_object(&object(set, SetObject::Piece(piece)).unwrap(), &bytes).unwrap();
    let meta = SetMeta {
        summary: summary(set),
        tool: "fixture".into(),
        tablespaces: Vec::new(),
        files: Vec::new(),
        raw_bytes: info.raw_bytes,
        stored_bytes: info.len,
        pieces: vec![info],
        log: units().into_iter().map(|(unit, _)| unit).collect(),
        parameters: Vec::new(),
        key_files: Vec::new(),
        cookie: vec![1, 2, 3],
        decisions: vec!["made by hand".into()],
        bad_pages: Vec::new(),
        compression,
        cipher: if keys.is_some() { CipherId::Aes256Gcm } else { CipherId::None },
        section: SECTION,
        captured: true,
        channels: 1,
        put_back: None,
    };
    repository.publish(&meta, keys.as_ref().map(|(key, keys)| (keys, key))).unwrap();
}

fn summary(set: SetId) -> SetSummary {
    let (begin_seq, end_seq) = (Some(Seq(1)), Some(Seq(3)));
    let node = NodeRange { node: NodeId(0), begin_lsn: Lsn(10), begin_seq, end_lsn: Lsn(40), end_seq };
    SetSummary {
        id: set,
        name: "log".into(),
        source: SourceId(Uuid([9; 16])),
        source_name: "tiny".into(),
        engine: "tiny".into(),
        level: Level::Full,
        scope: Scope::Log,
        base: None,
        consistency: Consistency::WithoutLog,
        online: true,
        branch: BranchHistory::first(BranchId(1)),
        nodes: vec![node],
        bak_end_lsn: Lsn(40),
        began: Timestamp(4_000_000_000_000_000),
        ended: Timestamp(4_000_000_000_000_001),
        bad_pages: 0,
        marks: None,
    }
}
