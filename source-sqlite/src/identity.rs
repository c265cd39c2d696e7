//! Which source a database is: what a recovery wrote down, or else derived from where it is.

use std::path::Path;

use setpiece_core::Result;
use setpiece_core::model::{BranchHistory, BranchId, SourceId, Uuid};

use crate::bytes::fnv128;
use crate::place::{Cookie, ordinal_of};
use crate::sidecar::Sidecar;

/// The branch of a database that was never recovered.
const FIRST: BranchId = BranchId(1);

/// A database as a source with a history.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The source.
    pub(crate) id: SourceId,
    /// The branch it is on.
    pub(crate) branch: BranchHistory,
    /// Generation numbers up to this one are taken.
    taken: u32,
}

impl Identity {
    /// The identity of the database at `path`, which has no symbolic links in it. `given` is what the user chose.
    pub(crate) fn of(path: &Path, given: Option<SourceId>) -> Result<Self> {
        Ok(match Sidecar::read(path)? {
            Some(side) => {
                Identity { id: given.unwrap_or(side.source), branch: side.branch, taken: ordinal_of(side.highest) }
            }
            None => {
                Identity { id: given.unwrap_or_else(|| derived(path)), branch: BranchHistory::first(FIRST), taken: 0 }
            }
        })
    }

    /// A cookie that knows which numbers are taken, here and up to `others`, and all that `newer` know.
    pub(crate) fn cookie<'c>(&self, others: u32, newer: impl IntoIterator<Item = &'c Cookie>) -> Cookie {
        let mut cookie = Cookie::new(self.taken.max(others));
        newer.into_iter().for_each(|other| cookie.merge(other));
        cookie
    }
}

/// An identifier made of the machine and the path, so that it needs no file of ours beside the database: the same for
/// every process on this machine, for as long as the database stays where it is.
fn derived(path: &Path) -> SourceId {
    // The same path on two machines is not the same database. A machine without an id is told apart by nothing.
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let machine = machine.trim_ascii().get(..32).unwrap_or_default();
    let name = path.as_os_str().as_encoded_bytes();
    let mut id = fnv128(b"setpiece sqlite source\0".iter().chain(machine).chain(b"\0").chain(name)).to_le_bytes();
    // Version 8 of RFC 9562: made by a rule of our own.
    id[6] = 0x80 | (id[6] & 0x0f);
    id[8] = 0x80 | (id[8] & 0x3f);
    SourceId(Uuid(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_path_is_the_same_source() {
        assert_eq!(derived(Path::new("/a/b")), derived(Path::new("/a/b")));
        assert_ne!(derived(Path::new("/a/b")), derived(Path::new("/a/c")));
    }
}
