//! Segments of the log as units of redo: those that lie in the server's own log directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpiece_core::model::log::BEGINNING;
use setpiece_core::model::{BranchHistory, BranchId, LogUnit, Lsn, LsnSpan, NodeId, Seq};
use setpiece_core::{Error, ErrorKind, Result};

use crate::changes::{SegmentFiles, UnitFacts, points, unit_facts};
use crate::control::Control;
use crate::dialect::Dialect;
use crate::wal::{self, Changes, Gatherer, Reader, SegmentName, SegmentSize};

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
            let (unit, bytes) = if number == last { self.as_far_as_written(unit, bytes, end)? } else { (unit, bytes) };
            sink(unit, bytes)?;
            number = Seq(number.0 + 1);
        }
        Ok(())
    }

    /// The last segment of a backup. A server that stands still or follows another goes on writing to it later, so that
    /// the redo on record must not be taken for all of it.
    fn as_far_as_written(&self, unit: LogUnit, mut bytes: Vec<u8>, end: Lsn) -> Result<(LogUnit, Vec<u8>)> {
        let written = written(&bytes)?;
        if written == bytes.len() {
            return Ok((unit, bytes));
        }
        let upto = Lsn(unit.span.after.0.saturating_add(written as u64));
        let name = unit.name.as_deref().and_then(SegmentName::parse).filter(|_| upto >= end);
        let name = name.ok_or_else(|| {
            Error::new(ErrorKind::Source, format!("the log ends at {upto}, before the end of the backup at {end}"))
                .on(format!("segment {}", unit.seq))
                .remedy("look at what the server says of its log, then back up again")
        })?;
        bytes.truncate(written);
        Ok((self.beginning(name, None, &bytes)?, bytes))
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
        self.must_be_whole(bytes)?;
        let history = self.history(name.timeline).ok();
        let facts = unit_facts(&self.files()?, history.as_ref(), name, bytes, patience);
        self.unit_of(name, facts, bytes)
    }

    /// A segment that is whole, as a unit, told besides the bytes of the segment before, if they are at hand.
    pub(crate) fn whole_unit_behind(&self, name: SegmentName, before: Option<&[u8]>, bytes: &[u8]) -> Result<LogUnit> {
        self.must_be_whole(bytes)?;
        let start = name.start(self.size()?)?;
        self.unit_of(name, told(before, start, bytes, self.block_size), bytes)
    }

    fn must_be_whole(&self, bytes: &[u8]) -> Result<()> {
        let size = self.size()?.bytes();
        if bytes.len() as u64 == size {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Source, format!("has {} bytes instead of {size}", bytes.len())))
    }

    /// What was written of a segment by now, as a unit: no record of it counts that is not there as a whole.
    pub(crate) fn beginning(&self, name: SegmentName, before: Option<&[u8]>, bytes: &[u8]) -> Result<LogUnit> {
        let page = wal::describe(bytes)?.block_size as usize;
        let mut pages = bytes.to_vec();
        pages.resize(bytes.len().next_multiple_of(page), 0);
        let start = name.start(self.size()?)?;
        let mut unit = self.unit_of(name, told(before, start, &pages, self.block_size), &pages)?;
        unit.name = Some(format!("{name}{BEGINNING}"));
        unit.len = bytes.len() as u64;
        unit.span.upto = Lsn(unit.span.after.0.saturating_add(unit.len));
        Ok(unit)
    }

    fn unit_of(&self, name: SegmentName, facts: UnitFacts, bytes: &[u8]) -> Result<LogUnit> {
        let size = self.size()?;
        wal::describe(bytes)?.check(name, self.system_identifier)?;
        let (number, start) = (name.number(size)?, name.start(size)?);
        Ok(LogUnit {
            node: NODE,
            branch: BranchId(u64::from(name.timeline)),
            seq: number,
            span: LsnSpan { after: start, upto: Lsn(start.0.saturating_add(bytes.len() as u64)) },
            first_commit: facts.commits.map(|commits| commits.first),
            last_commit: facts.commits.map(|commits| commits.last),
            len: bytes.len() as u64,
            changes: facts.changes,
            points: facts.points,
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

    pub(crate) fn size(&self) -> Result<SegmentSize> {
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

/// What a segment tells without its neighbours in the log directory, as far as its records can be read: what cannot be
/// read is for the server to say, which wrote it, when it recovers.
fn told(before: Option<&[u8]>, start: Lsn, bytes: &[u8], block_size: u32) -> UnitFacts {
    let with_before = before.and_then(|before| gather(&[before, bytes], start, block_size).ok());
    let all_of_it = with_before.is_some() || wal::describe(bytes).is_ok_and(|info| !info.continues);
    let told = with_before.or_else(|| gather(&[bytes], start, block_size).ok());
    let points = told.as_ref().filter(|_| all_of_it).map(points);
    UnitFacts { commits: told.and_then(|changes| changes.commits()), changes: None, points }
}

fn gather(segments: &[&[u8]], after: Lsn, block_size: u32) -> Result<Changes> {
    let mut reader = Reader::new();
    let mut gatherer = Gatherer::new(after, block_size);
    for segment in segments {
        let mut records = reader.push(segment)?;
        while let Some(record) = records.next_record()? {
            gatherer.add(&record)?;
        }
    }
    Ok(gatherer.finish(reader.position()))
}

/// How many bytes of a segment hold whole records.
pub(crate) fn written(bytes: &[u8]) -> Result<usize> {
    let start = wal::describe(bytes)?.start;
    let mut reader = Reader::new();
    let mut records = reader.push(bytes)?;
    // Where records that do not fit are met the log ends, whatever they are.
    while let Ok(Some(_)) = records.next_record() {}
    let end = reader.end().map_or(reader.position(), |end| end.at);
    let len = end.0.checked_sub(start.0).and_then(|len| usize::try_from(len).ok());
    Ok(len.unwrap_or(bytes.len()).min(bytes.len()))
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
