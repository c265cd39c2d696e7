//! One connection by which redo comes: made again whenever it is lost.

use std::time::{Duration, Instant};

use setpiece_core::model::{BranchHistory, BranchId, Lsn};
use setpiece_core::{Error, ErrorKind, Result};

use crate::client::{Client, ConnectInfo, CopyBoth, CopyData, Mode, StandbyStatus, quote_identifier};
use crate::history::history;
use crate::wal::lsn_text;

/// After so long without a word from the server it is asked for one, and after twice that the connection is taken for
/// lost. Servers say something at least every 30 seconds unless told otherwise.
const QUIET: Duration = Duration::from_secs(40);
/// The server ends a connection that it hears nothing of, by default after 60 seconds.
const REPORT: Duration = Duration::from_secs(10);

/// A replication connection that was asked for nothing yet.
pub(super) struct Line {
    client: Client,
    /// The newest timeline of the server.
    pub timeline: u32,
}

/// A timeline's history, as the server has it.
pub(super) struct HistoryFile {
    pub timeline: u32,
    pub bytes: Vec<u8>,
    pub history: BranchHistory,
}

impl Line {
    /// Connects, and makes sure that it is still the same cluster.
    pub(super) fn connect(info: &ConnectInfo, system_identifier: u64) -> Result<Self> {
        let mut client = Client::connect(info, Mode::PhysicalReplication)?;
        let rows = client.query("IDENTIFY_SYSTEM")?;
        let strange = || Error::new(ErrorKind::Source, "the server does not say who it is").on(info.to_string());
        let row = rows.first().ok_or_else(strange)?;
        let system: u64 = row.get("systemid")?.parse().map_err(|_| strange())?;
        if system != system_identifier {
            let text = format!("here is the cluster {system} now, where {system_identifier} was");
            return Err(Error::new(ErrorKind::Source, text)
                .on(info.to_string())
                .remedy("start the stream again if this is the one that is meant"));
        }
        Ok(Line { timeline: row.get("timeline")?.parse().map_err(|_| strange())?, client })
    }

    /// The history of the newest timeline; none for a first one.
    pub(super) fn history(&mut self) -> Result<Option<HistoryFile>> {
        if self.timeline <= 1 {
            return Ok(None);
        }
        let rows = self.client.query(&format!("TIMELINE_HISTORY {}", self.timeline))?;
        let strange = || Error::new(ErrorKind::Source, "the server does not tell the history of its timeline");
        let bytes = rows.first().ok_or_else(strange)?.bytes("content")?.ok_or_else(strange)?.to_vec();
        let history = history(self.timeline, &String::from_utf8_lossy(&bytes))?;
        Ok(Some(HistoryFile { timeline: self.timeline, bytes, history }))
    }

    /// Asks for the redo of a timeline.
    pub(super) fn start(self, slot: &str, timeline: u32, from: Lsn) -> Result<Link> {
        let command = format!(
            "START_REPLICATION SLOT {} PHYSICAL {} TIMELINE {timeline}",
            quote_identifier(slot),
            lsn_text(from)
        );
        let now = Instant::now();
        let copy = self.client.copy_both(&command)?;
        Ok(Link { copy, heard: now, asked: false, reported: now })
    }
}

/// Redo on its way.
pub(super) struct Link {
    copy: CopyBoth,
    heard: Instant,
    asked: bool,
    reported: Instant,
}

impl Link {
    /// What comes next, if it comes before `deadline`. Reports in time what was done with what came before.
    pub(super) fn next(&mut self, deadline: Instant, written: Lsn, flushed: Lsn) -> Result<Option<CopyData>> {
        let now = Instant::now();
        if self.reported.elapsed() >= REPORT {
            self.report(written, flushed, false)?;
        }
        let wait = deadline.saturating_duration_since(now).min(REPORT);
        let Some(data) = self.copy.next(wait)? else {
            self.expect_a_word(written, flushed)?;
            return Ok(None);
        };
        (self.heard, self.asked) = (Instant::now(), false);
        if let CopyData::Keepalive { reply_requested: true, .. } = data {
            self.report(written, flushed, false)?;
        }
        Ok(Some(data))
    }

    /// Tells the server what was done with the redo. What is not durable is not said to be.
    pub(super) fn report(&mut self, written: Lsn, flushed: Lsn, reply_requested: bool) -> Result<()> {
        self.reported = Instant::now();
        self.copy.send_status(StandbyStatus { written, flushed, applied: Lsn(0), reply_requested })
    }

    fn expect_a_word(&mut self, written: Lsn, flushed: Lsn) -> Result<()> {
        match (self.heard.elapsed(), self.asked) {
            (quiet, _) if quiet >= 2 * QUIET => {
                Err(Error::new(ErrorKind::Source, "the server has been silent for too long").retryable(true))
            }
            (quiet, false) if quiet >= QUIET => {
                self.asked = true;
                self.report(written, flushed, true)
            }
            _ => Ok(()),
        }
    }
}

/// The timeline of a history that the byte at `lsn` was written on.
pub(super) fn timeline_at(history: &BranchHistory, lsn: Lsn) -> BranchId {
    history.points.iter().find(|point| lsn < point.fork).map_or(history.current, |point| point.parent)
}

/// The history of one of the timelines of a history; `None` when it is not one of them.
pub(super) fn history_until(history: &BranchHistory, timeline: BranchId) -> Option<BranchHistory> {
    if timeline == history.current {
        return Some(history.clone());
    }
    let left = history.points.iter().position(|point| point.parent == timeline)?;
    Some(BranchHistory { current: timeline, points: history.points[..left].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_was_written_on_one_timeline() {
        let second = BranchHistory::first(BranchId(1)).fork(BranchId(2), Lsn(100), None);
        let third = second.fork(BranchId(3), Lsn(150), None);
        let at = |lsn| timeline_at(&third, Lsn(lsn)).0;
        assert_eq!([at(0), at(99), at(100), at(149), at(150), at(900)], [1, 1, 2, 2, 3, 3]);
        assert_eq!(history_until(&third, BranchId(2)), Some(second));
        assert_eq!(history_until(&third, BranchId(1)), Some(BranchHistory::first(BranchId(1))));
        assert_eq!(history_until(&third, BranchId(9)), None);
    }
}
