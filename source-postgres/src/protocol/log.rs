//! The redo that a set needs, fetched from the server by replication: no segment has to lie where it can be read.

use std::time::{Duration, Instant};

use setpiece_core::model::{LogUnit, Lsn, Seq};
use setpiece_core::{Error, ErrorKind, Result};

use crate::changes::Follower;
use crate::client::{Client, CopyBoth, CopyData, StandbyStatus};
use crate::segments::{Around, LogDirectory};
use crate::wal::{SegmentName, SegmentSize, lsn_text};

/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the server is told that somebody listens.
const STATUS: Duration = Duration::from_secs(5);

/// Fetches the segments from the one that holds `begin` to the one that holds the byte before `end`, and hands them over.
/// Of the last one only what is before `end` is asked for: a standby does not end its segments.
pub(super) fn units(
    client: Client,
    log: &LogDirectory,
    timeline: u32,
    (begin, end): (Lsn, Lsn),
    sink: &mut dyn FnMut(LogUnit, Vec<u8>) -> Result<()>,
) -> Result<()> {
    let size = SegmentSize::new(u64::from(log.segment_size));
    let size = size.ok_or_else(|| Error::new(ErrorKind::Source, "the server's segments have an impossible size"))?;
    let mut number = log.number(begin);
    let from = Lsn(number.0.saturating_mul(size.bytes()));
    let command = format!("START_REPLICATION PHYSICAL {} TIMELINE {timeline}", lsn_text(from));
    let mut redo = Redo { stream: client.copy_both(&command)?, at: from, data: Vec::new() };
    let mut follower = Follower::new(log.block_size);
    while Lsn(number.0.saturating_mul(size.bytes())) < end {
        let name = SegmentName::new(timeline, number, size)
            .ok_or_else(|| Error::new(ErrorKind::Source, format!("segment {number} has no name")))?;
        let start = name.start(size)?;
        let upto = Lsn(start.0.saturating_add(size.bytes())).min(end);
        let received = redo.take(upto)?;
        let unit = log.up_to(name, received, upto, Around::Behind(&mut follower));
        let (unit, bytes) = unit.map_err(|error| error.on(name.to_string()))?;
        sink(unit, bytes)?;
        number = Seq(number.0.saturating_add(1));
    }
    Ok(())
}

struct Redo {
    stream: CopyBoth,
    /// Where `data` begins.
    at: Lsn,
    data: Vec<u8>,
}

impl Redo {
    /// What comes before `upto`.
    fn take(&mut self, upto: Lsn) -> Result<Vec<u8>> {
        let wanted = usize::try_from(upto.0.saturating_sub(self.at.0)).unwrap_or(usize::MAX);
        let (mut heard, mut told) = (Instant::now(), Instant::now());
        while self.data.len() < wanted {
            let reached = Lsn(self.at.0.saturating_add(self.data.len() as u64));
            match self.stream.next(STATUS)? {
                Some(CopyData::XLogData { start, bytes, .. }) if start == reached => {
                    heard = Instant::now();
                    self.data.extend_from_slice(&bytes);
                }
                Some(CopyData::XLogData { start, .. }) => {
                    let text = format!("redo from LSN {start} on came where LSN {reached} belongs");
                    return Err(Error::new(ErrorKind::Source, text));
                }
                Some(CopyData::Ended(end)) => {
                    let text = format!("the server ended the stream of redo at LSN {reached}: {end:?}");
                    return Err(Error::new(ErrorKind::Source, text).remedy("back up again").retryable(true));
                }
                Some(CopyData::Keepalive { .. }) | None if heard.elapsed() > PATIENCE => {
                    return Err(Error::new(
                        ErrorKind::Source,
                        format!("the server sends no redo behind LSN {reached}"),
                    )
                    .remedy("look at the server's log, then back up again"));
                }
                Some(CopyData::Keepalive { .. }) | None => {}
            }
            if told.elapsed() > STATUS {
                told = Instant::now();
                // Nothing is durable until the set is published.
                let (written, nothing) = (reached, Lsn(0));
                let status = StandbyStatus { written, flushed: nothing, applied: nothing, reply_requested: false };
                self.stream.send_status(status)?;
            }
        }
        let rest = self.data.split_off(wanted);
        self.at = upto;
        Ok(std::mem::replace(&mut self.data, rest))
    }
}
