//! A long unit of redo, compressed by several threads: whoever archives redo waits for it, and most of that is this.

use std::sync::Mutex;
use std::sync::PoisonError;

use crate::error::Result;
use crate::format::Compression;
use crate::model::LogUnit;
use crate::pipeline::Cancel;
use crate::pipeline::run::{Stop, workers};
use crate::transform::PackedPart;
use crate::transform::codec::Packer;
use crate::transform::parts::{parts, recorded};

/// Threads that compress one unit.
const THREADS: usize = 2;

/// Compresses a unit in parts.
pub(super) fn packed(unit: LogUnit, bytes: &[u8], compression: Compression) -> Result<Vec<PackedPart>> {
    let todo = Mutex::new(parts(recorded(unit, bytes)?, bytes).enumerate());
    let cancel = Cancel::new();
    let stop = Stop::new(&cancel);
    let done = workers("pack", THREADS, &stop, |_| {
        let mut packer = Packer::new(compression)?;
        let (mut packed, mut raw) = (Vec::new(), Vec::new());
        loop {
            let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, (part, bytes))) = next.filter(|_| !stop.is_set()) else { return Ok(packed) };
            packed.push((number, PackedPart::pack(&mut packer, part, bytes, &mut raw)?));
        }
    })?;
    let mut all: Vec<_> = done.into_iter().flatten().collect();
    all.sort_unstable_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, part)| part).collect())
}
