//! Log sequence numbers and the stretches of redo between them.
//!
//! A state "as of LSN x" includes every change with an LSN up to and including x. A stretch of redo is therefore open
//! on the left and closed on the right, `(after, upto]`, and two stretches fit when one's `upto` is the other's `after`.
//! Engines that number log by byte position (PostgreSQL) use the position at which a record ends, and the same
//! arithmetic holds.

use std::fmt;

use minicbor::{Decode, Encode};

/// Log sequence number. Grows for ever within a branch; 0 is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Lsn(#[n(0)] pub u64);

/// Sequence number of a log unit on its node and branch. Consecutive units have consecutive numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Seq(#[n(0)] pub u64);

impl Seq {
    /// The number that must follow this one; `None` when the numbers are used up.
    #[must_use]
    pub fn next(self) -> Option<Seq> {
        self.0.checked_add(1).map(Seq)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A stretch of redo: everything after `after`, up to and including `upto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct LsnSpan {
    /// The redo before this point is not in the stretch.
    #[n(0)]
    pub after: Lsn,
    /// The last LSN in the stretch.
    #[n(1)]
    pub upto: Lsn,
}

impl LsnSpan {
    /// The stretch `(after, upto]`; `None` when it would run backwards.
    #[must_use]
    pub fn new(after: Lsn, upto: Lsn) -> Option<Self> {
        (after <= upto).then_some(LsnSpan { after, upto })
    }

    /// Whether no LSN is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.after >= self.upto
    }

    /// Whether the redo of `lsn` is in it.
    #[must_use]
    pub fn contains(self, lsn: Lsn) -> bool {
        self.after < lsn && lsn <= self.upto
    }

    /// The part that both have; `None` when they share no LSN.
    #[must_use]
    pub fn intersect(self, other: LsnSpan) -> Option<LsnSpan> {
        let both = LsnSpan { after: self.after.max(other.after), upto: self.upto.min(other.upto) };
        (!both.is_empty()).then_some(both)
    }

    /// Whether `next` goes on where this one ends, or overlaps it, so that no redo is missing between them.
    #[must_use]
    pub fn reaches(self, next: LsnSpan) -> bool {
        next.after <= self.upto
    }
}

impl fmt::Display for LsnSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}]", self.after, self.upto)
    }
}
