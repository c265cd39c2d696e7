//! One unit of redo as a set of its own: a piece, then the metadata.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::packer::{PieceFactory, Pieces};
use crate::catalog::Surroundings;
use crate::catalog::fresh::now;
use crate::error::Result;
use crate::events::Event;
use crate::format::{CipherId, Compression, PieceKind, SECTION, SetMeta};
use crate::media::HeldLock;
use crate::media::repository::Repository;
use crate::media::turn::in_turn;
use crate::model::{Consistency, Level, LogUnit, NodeRange, Scope, SetId, SetSummary, Timestamp};
use crate::source::{CapturedUnit, SourceInfo};

/// Stores one unit as a set: a piece, then the metadata. Gives the bytes on the medium.
pub(super) fn store(
    repository: &Repository,
    info: &SourceInfo,
    captured: &CapturedUnit,
    set: SetId,
    compression: Compression,
    around: Surroundings<'_>,
) -> Result<u64> {
    let _writer = wait_for_writing(repository, around)?;
    let began = now();
    let keys = repository.vault().new_set(set)?;
    let factory = PieceFactory {
        medium: repository.medium().clone(),
        set,
        compression,
        key: keys.as_ref().map(|(key, _)| key.clone()),
        max_piece_size: u64::MAX,
        numbers: Arc::new(AtomicU32::new(1)),
    };
    let mut pieces = Pieces::new(factory, 0, PieceKind::Log)?;
    pieces.log(captured.unit.clone(), &captured.bytes)?;
    let pieces = pieces.finish()?;
    let unit = &captured.unit;
    let mut meta = SetMeta {
        summary: summary(info, captured, set, began),
        tool: concat!("setpiece ", env!("CARGO_PKG_VERSION")).into(),
        tablespaces: Vec::new(),
        files: Vec::new(),
        raw_bytes: unit.len,
        stored_bytes: pieces.iter().map(|piece| piece.len).sum(),
        pieces,
        log: vec![crate::format::bounded_unit(unit.clone())?],
        parameters: Vec::new(),
        key_files: Vec::new(),
        cookie: captured.cookie.clone(),
        decisions: Vec::new(),
        bad_pages: Vec::new(),
        compression,
        cipher: if keys.is_some() { CipherId::Aes256Gcm } else { CipherId::None },
        section: SECTION,
        captured: true,
        channels: 1,
        put_back: None,
    };
    meta.summary.ended = now();
    let published = repository.publish(&meta, keys.as_ref().map(|(key, keys)| (keys, key)))?;
    around.observer.event(&Event::Progress { bytes: unit.len });
    Ok(meta.stored_bytes + published.len)
}

/// Removal takes moments; captured redo waits for it instead of failing.
fn wait_for_writing(repository: &Repository, around: Surroundings<'_>) -> Result<Box<dyn HeldLock>> {
    in_turn(None, || around.cancel.check(), || repository.lock_for_writing())
}

fn summary(info: &SourceInfo, captured: &CapturedUnit, set: SetId, began: Timestamp) -> SetSummary {
    let unit = &captured.unit;
    SetSummary {
        id: set,
        name: set_name(info, unit),
        source: info.id,
        source_name: info.name.clone(),
        engine: info.engine.clone(),
        level: Level::Full,
        scope: Scope::Log,
        base: None,
        consistency: Consistency::WithoutLog,
        online: true,
        branch: captured.branch.clone(),
        nodes: vec![NodeRange {
            node: unit.node,
            begin_lsn: unit.span.after,
            begin_seq: Some(unit.seq),
            end_lsn: unit.span.upto,
            end_seq: Some(unit.seq),
        }],
        bak_end_lsn: unit.span.upto,
        began,
        ended: began,
        bad_pages: 0,
        marks: None,
    }
}

/// Several beginnings of one unit may be there at a time.
fn set_name(info: &SourceInfo, unit: &LogUnit) -> String {
    let whole = format!("{}-log-{}-{}", info.name, unit.branch, unit.seq);
    if unit.whole().is_some() { format!("{whole}-upto-{}", unit.span.upto) } else { whole }
}
