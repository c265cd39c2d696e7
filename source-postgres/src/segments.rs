//! Segments of the log as units of redo: those that lie in the server's own log directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpiece_core::model::{BranchHistory, BranchId, LogUnit, Lsn, LsnSpan, NodeId, Seq};
use setpiece_core::{Error, ErrorKind, Result};

use crate::changes::{SegmentFiles, unit_facts};
use crate::control::Control;
use crate::dialect::Dialect;
use crate::wal::{self, SegmentName, SegmentSize};

/// The node of a cluster's only log stream.
pub(crate) const NODE: NodeId = NodeId(0);

/// The log directory of a cluster.
pub(crate) struct LogDirectory {
    pub path: PathBuf,
    pub system_identifier: u64,
    pub segment_size: u32,
    pub block_size: u32,
}

impl LogDirectory {
    /// That of a data directory.
    pub(crate) fn of(directory: &Path, dialect: Dialect, control: &Control) -> Self {
        LogDirectory {
            path: directory.join(dialect.name("wal")),
            system_identifier: control.system_identifier,
            segment_size: control.wal_segment_size,
            block_size: control.block_size,
        }
    }

    /// The number of the segment that holds the byte at `lsn`.
    pub(crate) fn number(&self, lsn: Lsn) -> Seq {
        Seq(lsn.0 / u64::from(self.segment_size))
    }

    /// Hands over the segments of a timeline from the one that holds `begin` to the one that holds the byte before
    /// `end`.
    pub(crate) fn units(
        &self,
        timeline: u32,
        begin: Lsn,
        end: Lsn,
        sink: &mut dyn FnMut(LogUnit, Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let last = self.number(Lsn(end.0.saturating_sub(1)));
        let mut number = self.number(begin);
        while number <= last {
            let (unit, bytes) = self.unit(timeline, number)?;
            sink(unit, bytes)?;
            number = Seq(number.0 + 1);
        }
        Ok(())
    }

    fn unit(&self, timeline: u32, number: Seq) -> Result<(LogUnit, Vec<u8>)> {
        let name = SegmentName::new(timeline, number, self.size()?)
            .ok_or_else(|| Error::new(ErrorKind::Source, format!("segment {number} is beyond all names")))?;
        let path = self.path.join(name.to_string());
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(ErrorKind::Source, "the server has removed redo that the set needs")
                .on(path.display().to_string())
                .remedy("raise wal_keep_size or allow a replication slot, then back up again"),
            _ => Error::io(path.display().to_string(), error),
        })?;
        let unit =
            self.whole_unit(name, &bytes, Duration::ZERO).map_err(|error| error.on(path.display().to_string()))?;
        Ok((unit, bytes))
    }

    /// A segment that is whole, as a unit. A commit whose record begins in the segment before is told when that one is
    /// still there. What it changes is told when the rest of its last record is in the next one, at least after
    /// `patience`.
    pub(crate) fn whole_unit(&self, name: SegmentName, bytes: &[u8], patience: Duration) -> Result<LogUnit> {
        let size = self.size()?;
        if bytes.len() as u64 != size.bytes() {
            let text = format!("has {} bytes instead of {}", bytes.len(), size.bytes());
            return Err(Error::new(ErrorKind::Source, text));
        }
        wal::describe(bytes)?.check(name, self.system_identifier)?;
        let (number, start) = (name.number(size)?, name.start(size)?);
        let history = self.history(name.timeline).ok();
        let facts = unit_facts(&self.files()?, history.as_ref(), name, bytes, patience);
        Ok(LogUnit {
            node: NODE,
            branch: BranchId(u64::from(name.timeline)),
            seq: number,
            span: LsnSpan { after: start, upto: Lsn(start.0.saturating_add(size.bytes())) },
            first_commit: facts.commits.map(|commits| commits.first),
            last_commit: facts.commits.map(|commits| commits.last),
            len: bytes.len() as u64,
            changes: facts.changes,
            name: Some(name.to_string()),
            links: None,
            timing: None,
        })
    }

    /// Its files, for what they change.
    pub(crate) fn files(&self) -> Result<SegmentFiles> {
        let directory = self.path.clone();
        let (system_identifier, size) = (self.system_identifier, self.size()?);
        Ok(SegmentFiles { directory, system_identifier, size, block_size: self.block_size })
    }

    fn size(&self) -> Result<SegmentSize> {
        SegmentSize::new(u64::from(self.segment_size))
            .ok_or_else(|| Error::new(ErrorKind::Source, format!("no segment has {} bytes", self.segment_size)))
    }

    /// The history of a timeline, from the file that the server made when it began.
    pub(crate) fn history(&self, timeline: u32) -> Result<BranchHistory> {
        if timeline <= 1 {
            return Ok(BranchHistory::first(BranchId(u64::from(timeline))));
        }
        let path = self.path.join(history_name(timeline));
        let text = fs::read_to_string(&path).map_err(|error| Error::io(path.display().to_string(), error))?;
        history(timeline, &text).map_err(|error| error.on(path.display().to_string()))
    }
}

pub(crate) fn history_name(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

/// Reads a history file: one line for each timeline that was left, with the LSN at which.
pub(crate) fn history(timeline: u32, text: &str) -> Result<BranchHistory> {
    let mut left: Vec<(u32, Lsn)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let parsed = words.next().and_then(|number| number.parse().ok()).zip(words.next());
        let (number, at) =
            parsed.ok_or_else(|| Error::new(ErrorKind::Damaged, format!("{line:?} is no line of a history")))?;
        left.push((number, crate::session::lsn(at)?));
    }
    let first = left.first().map_or(timeline, |(number, _)| *number);
    let mut history = BranchHistory::first(BranchId(u64::from(first)));
    let later = left.iter().skip(1).map(|(number, _)| *number).chain([timeline]);
    for ((_, fork), next) in left.iter().zip(later) {
        history = history.fork(BranchId(u64::from(next)), *fork, None);
    }
    Ok(history)
}

/// Writes a history as the server reads it; `None` for a first timeline, which has no file.
pub(crate) fn history_text(history: &BranchHistory) -> Option<String> {
    let line = |point: &setpiece_core::model::BranchPoint| {
        format!("{}\t{:X}/{:X}\tleft by a recovery\n", point.parent, point.fork.0 >> 32, point.fork.0 & 0xFFFF_FFFF)
    };
    (!history.points.is_empty()).then(|| history.points.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_reads_back_as_it_was_written() {
        let text = "1\t0/3000000\tno recovery target specified\n\n2\t1/50000A0\tbefore 2026-11-22\n";
        let read = history(3, text).unwrap();
        assert_eq!((read.current, read.points.len()), (BranchId(3), 2));
        assert_eq!(read.reach(BranchId(1)), Some(Lsn(0x300_0000)));
        assert_eq!(read.reach(BranchId(2)), Some(Lsn(0x1_0500_00A0)));
        assert_eq!(history(3, &history_text(&read).unwrap()).unwrap(), read);
        assert!(history(3, "x\t0/1\n").is_err());
        assert_eq!(history_text(&BranchHistory::first(BranchId(1))), None);
    }
}
