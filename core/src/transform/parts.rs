//! A unit of redo that is too long for one frame: its parts, each compressed by itself and by whichever thread.

use super::codec::Packer;
use crate::error::{Error, ErrorKind, Result};
use crate::format::limits::{LOG_PART, MAX_UNIT};
use crate::format::{Codec, LogPart, LogTable, bounded_unit, table};
use crate::model::LogUnit;

/// More than the bytes of an encoded part without its unit.
const PART_BOUND: usize = 64;

/// A part of a unit, compressed; numbered and sealed when it is written.
#[derive(Debug)]
pub struct PackedPart {
    pub(super) table: LogTable,
    /// Bytes of redo.
    pub(super) data_len: u64,
    /// Bytes of the frame's content.
    pub(super) raw_len: usize,
    pub(super) codec: Codec,
    pub(super) packed: Vec<u8>,
}

impl PackedPart {
    /// Compresses a part of which `bytes` is the redo. `raw` is room to work in.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the two do not fit each other or the codec fails.
    pub fn pack(packer: &mut Packer, part: LogPart, bytes: &[u8], raw: &mut Vec<u8>) -> Result<Self> {
        let table = LogTable { parts: vec![part] };
        table.validate(bytes.len()).map_err(|error| Error::new(ErrorKind::Internal, "no part").because(error))?;
        raw.clear();
        raw.reserve(bytes.len() + PART_BOUND);
        raw.extend_from_slice(bytes);
        table::append(raw, &table)?;
        let mut packed = Vec::new();
        let codec = packer.pack(raw, &mut packed)?;
        Ok(PackedPart { table, data_len: bytes.len() as u64, raw_len: raw.len(), codec, packed })
    }
}

/// The unit as it is recorded, see [`bounded_unit`].
///
/// # Errors
/// [`ErrorKind::Internal`] when the unit's length isn't that of its bytes, [`ErrorKind::Unsupported`] when it is larger
/// than a unit may be.
pub fn recorded(unit: LogUnit, bytes: &[u8]) -> Result<LogUnit> {
    if unit.len != bytes.len() as u64 {
        let text = format!("log unit {} has {} bytes, its record says {}", unit.seq, bytes.len(), unit.len);
        return Err(Error::new(ErrorKind::Internal, text));
    }
    if unit.len > MAX_UNIT {
        let text = format!("log unit {} has {} bytes, and may have {MAX_UNIT} at most", unit.seq, unit.len);
        let error = Error::new(ErrorKind::Unsupported, text);
        return Err(error.remedy("let the engine write smaller units of redo, and take a backup now"));
    }
    bounded_unit(unit)
}

/// The parts of a long unit, in order.
pub fn parts(unit: LogUnit, bytes: &[u8]) -> impl Iterator<Item = (LogPart, &[u8])> {
    let mut unit = Some(unit);
    bytes.chunks(LOG_PART).enumerate().map(move |(number, chunk)| {
        let offset = number as u64 * LOG_PART as u64;
        (LogPart { unit: unit.take(), offset, len: chunk.len() as u32 }, chunk)
    })
}
