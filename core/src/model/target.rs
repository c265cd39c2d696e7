//! Where a recovery shall end.

use super::id::BranchId;
use super::lsn::Lsn;
use super::time::Timestamp;

/// The point at which redo stops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Until {
    /// The end of the set itself, and no further.
    SetEnd,
    /// As far as the log reaches.
    #[default]
    Latest,
    /// An LSN.
    Lsn(Lsn),
    /// A moment.
    Time(Timestamp),
    /// A named point, for engines that have them.
    Name(String),
    /// A transaction, for engines that number them.
    Transaction(u64),
}

/// The point and the branch to recover to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryTarget {
    /// Where to stop.
    pub until: Until,
    /// Stop just before the point instead of just after it.
    pub exclusive: bool,
    /// The branch; the newest one when not given.
    pub branch: Option<BranchId>,
}
