//! Where recovery stops at a transaction or a name: found in the log, as the server's recovery would.
//!
//! A server takes the record that commits or aborts a transaction, prepared ones by the number they were prepared under; a
//! subtransaction has no such record (PostgreSQL's `xlogrecovery.c`). It knows the lower 32 bits of a number only.

use setpiece_core::Result;
use setpiece_core::model::{BranchId, Lsn, Until};
use setpiece_core::source::LogFeed;

use crate::wal::{self, Fact, Reader, Record, facts};

/// Facts about pages are of no interest here, so any size of them will do.
const BLOCK: u32 = 8192;

/// The places in redo without a gap; what cannot be read ends it, as it ends a recovery.
pub(crate) fn locate(until: &Until, log: &mut dyn LogFeed) -> Result<Vec<(BranchId, Lsn)>> {
    let mut found = Vec::new();
    let mut reader = Reader::new();
    while let Some((unit, bytes)) = log.next()? {
        let Ok(pages) = whole_pages(bytes) else { break };
        let Ok(mut records) = reader.push(&pages) else { break };
        loop {
            match records.next_record() {
                Ok(Some(record)) if stops(until, &record) => found.push((unit.branch, record.end)),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return Ok(found),
            }
        }
    }
    Ok(found)
}

/// The beginning of a segment may end within a page.
fn whole_pages(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let page = wal::describe(&bytes)?.block_size as usize;
    bytes.resize(bytes.len().next_multiple_of(page), 0);
    Ok(bytes)
}

/// Whether recovery to `until` stops at this record.
fn stops(until: &Until, record: &Record<'_>) -> bool {
    if !matches!(wal::rmgr_name(record.rmgr), Some("Transaction" | "XLOG")) {
        return false;
    }
    let mut here = false;
    let told = facts(record, BLOCK, &mut |fact| match (until, fact) {
        (Until::Transaction(wanted), Fact::Commit { xid, .. } | Fact::Abort { xid, .. }) => {
            here |= xid != 0 && u64::from(xid) == wanted & u64::from(u32::MAX);
        }
        (Until::Name(wanted), Fact::RestorePoint { name, .. }) => here |= name == wanted.as_bytes(),
        _ => {}
    });
    told.is_ok() && here
}
