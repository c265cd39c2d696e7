//! Resource managers: who wrote a record, and who would replay it (PostgreSQL's rmgrlist.h).

pub(super) const XLOG: u8 = 0;
pub(super) const XACT: u8 = 1;
pub(super) const SMGR: u8 = 2;
pub(super) const DATABASE: u8 = 4;
pub(super) const TABLESPACE: u8 = 5;
pub(super) const RELMAP: u8 = 7;
pub(super) const HEAP2: u8 = 9;
pub(super) const HEAP: u8 = 10;

/// Names in the order of the numbers, which are the same in all versions.
const NAMES: [&str; 22] = [
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

/// The name of a resource manager as pg_waldump shows it; `None` for one that an extension brought (128 and above) or
/// that a later version has.
#[must_use]
pub fn name(rmgr: u8) -> Option<&'static str> {
    NAMES.get(usize::from(rmgr)).copied()
}
