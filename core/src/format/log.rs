//! The table of a log frame: which units of redo, or which part of one, are in it.
//!
//! A frame holds either whole units, or one part of a unit that is too large for a frame. So a reader that wants one
//! unit starts at the frame in which it begins and never meets the tail of another.

use minicbor::{Decode, Encode};

use super::cbor;
use super::limits::{MAX_LOG_DATA, MAX_PARTS, MAX_UNIT, MAX_UNIT_RECORD};
use crate::error::{Error, ErrorKind, Result};
use crate::model::LogUnit;

/// A unit of redo, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct LogPart {
    /// The unit; absent in the parts behind the first.
    #[n(0)]
    pub unit: Option<LogUnit>,
    /// Where in the unit the bytes begin.
    #[n(1)]
    pub offset: u64,
    /// How many bytes of the unit are in the frame.
    #[n(2)]
    pub len: u32,
}

impl LogPart {
    /// Whether the whole unit is in the frame.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.unit.as_ref().is_some_and(|unit| unit.len == u64::from(self.len))
    }
}

/// The redo in a frame. The bytes of the parts follow each other in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct LogTable {
    /// Whole units, or one part.
    #[n(0)]
    #[cbor(decode_with = "cbor::list::<MAX_PARTS, _, _>")]
    pub parts: Vec<LogPart>,
}

impl LogTable {
    /// Checks the table against the bytes of redo that go with it. Used by writer and reader alike.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] that says what is wrong.
    pub fn validate(&self, data_len: usize) -> Result<()> {
        self.fault(data_len as u64)
            .map_or(Ok(()), |fault| Err(Error::new(ErrorKind::Damaged, format!("the table of redo is wrong: {fault}"))))
    }

    fn fault(&self, data_len: u64) -> Option<&'static str> {
        if self.parts.is_empty() || self.parts.len() > MAX_PARTS {
            return Some("number of units out of range");
        }
        let sum: u64 = self.parts.iter().map(|part| u64::from(part.len)).sum();
        if sum != data_len || sum > MAX_LOG_DATA as u64 {
            return Some("amount of data does not fit the units");
        }
        let consistent = |part: &LogPart| match &part.unit {
            Some(unit) => part.offset == 0 && u64::from(part.len) <= unit.len && unit.len <= MAX_UNIT,
            None => part.offset > 0 && part.len > 0 && part.offset + u64::from(part.len) <= MAX_UNIT,
        };
        let in_bounds = |part: &LogPart| part.offset <= MAX_UNIT && consistent(part);
        if !self.parts.iter().all(in_bounds) {
            return Some("a unit's length or offset is out of range");
        }
        (self.parts.len() > 1 && !self.parts.iter().all(LogPart::is_whole)).then_some("a part among whole units")
    }

    /// Bytes of redo that the parts have.
    #[must_use]
    pub fn data_len(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.len)).sum()
    }
}

/// The unit as it is recorded: without its change map where that is too large for a record, and then without its named
/// points. A unit without a change map is one whose changes are unknown, so nothing is lost but speed; one without points
/// leaves it to the engine to find them.
///
/// # Errors
/// [`ErrorKind::Internal`] when the record is too large even so.
pub fn bounded_unit(mut unit: LogUnit) -> Result<LogUnit> {
    if cbor::to_vec(&unit)?.len() > MAX_UNIT_RECORD {
        unit.changes = None;
    }
    if cbor::to_vec(&unit)?.len() > MAX_UNIT_RECORD {
        unit.points = None;
    }
    if cbor::to_vec(&unit)?.len() > MAX_UNIT_RECORD {
        return Err(
            Error::new(ErrorKind::Internal, "the name of a log unit is too long").on(format!("unit {}", unit.seq))
        );
    }
    Ok(unit)
}
