//! Segments of the log as units of redo: those that lie in the server's own log directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpiece_core::model::log::BEGINNING;
use setpiece_core::model::{BranchHistory, BranchId, CarriedFile, LogUnit, Lsn, LsnSpan, NodeId, NodeRange, Seq};
use setpiece_core::source::EndInfo;
use setpiece_core::{Error, ErrorKind, Result};

use crate::changes::{Follower, SegmentFiles, UnitFacts, points, unit_facts};
use crate::control::Control;
use crate::dialect::Dialect;
use crate::history::{history, history_name};
use crate::wal::{self, Changes, Gatherer, Reader, SegmentName, SegmentSize, lsn_text};

/// The node of a cluster's only log stream.
pub(crate) const NODE: NodeId = NodeId(0);

/// What is known of a segment's neighbours.
#[derive(Debug)]
pub(crate) enum Around<'a> {
    /// What lies in the log directory. A commit whose record begins in the segment before is told when that one is still
    /// there, and what a whole segment changes when the rest of its last record is in the next one, at least after so long.
    Directory(Duration),
    /// What came before it, one segment after the other. What it changes that goes on behind it is told later.
    Behind(&'a mut Follower),
    /// Nothing.
    Nothing,
}

/// How much of the last segment of a range goes with it. Once it is more than the redo on record, that must not be taken
/// for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// All that is written: the end of the range may be within its last record.
    AsWritten,
    /// What the range needs, where the segment may be written right now.
    UpToEnd,
}

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

    /// How a backup ended whose redo is from `begin` to `end`.
    pub(crate) fn end_info(
        &self,
        (begin, end): (Lsn, Lsn),
        parameters: Vec<(String, String)>,
        carried: Vec<CarriedFile>,
    ) -> EndInfo {
        let range = NodeRange {
            node: NODE,
            begin_lsn: begin,
            begin_seq: Some(self.number(begin)),
            end_lsn: end,
            end_seq: Some(self.number(Lsn(end.0.saturating_sub(1)))),
        };
        EndInfo {
            nodes: vec![range],
            bak_end_lsn: end,
            needs_log: true,
            cookie: Vec::new(),
            marks: None,
            parameters,
            carried,
        }
    }

    /// Hands over the segments of a timeline from the one that holds `begin` to the one that holds the byte before
    /// `end`.
    pub(crate) fn units(
        &self,
        timeline: u32,
        (begin, end): (Lsn, Lsn),
        last: Last,
        sink: &mut dyn FnMut(LogUnit, Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let last_number = self.number(Lsn(end.0.saturating_sub(1)));
        let mut number = self.number(begin);
        while number <= last_number {
            let name = self.name(timeline, number)?;
            let path = self.path.join(name.to_string());
            let bytes = read(&path)?;
            let upto = match last {
                _ if number < last_number => self.end_of(name),
                Last::UpToEnd => Ok(end),
                Last::AsWritten => as_written(name.start(self.size()?)?, &bytes, end),
            };
            let unit = upto.and_then(|upto| self.up_to(name, bytes, upto, Around::Directory(Duration::ZERO)));
            let (unit, bytes) = unit.map_err(|error| error.on(path.display().to_string()))?;
            sink(unit, bytes)?;
            number = Seq(number.0 + 1);
        }
        Ok(())
    }

    /// A segment that may still grow, as a unit: what of it lies before `end`, under the name of a beginning when that is
    /// not all of it. What lies behind is yet to come, or older than the file's name.
    pub(crate) fn up_to(
        &self,
        name: SegmentName,
        mut bytes: Vec<u8>,
        end: Lsn,
        around: Around<'_>,
    ) -> Result<(LogUnit, Vec<u8>)> {
        let start = name.start(self.size()?)?;
        if end >= self.end_of(name)? {
            return Ok((self.whole_unit(name, &bytes, around)?, bytes));
        }
        let wanted = end.0.checked_sub(start.0).and_then(|len| usize::try_from(len).ok());
        let Some(wanted) = wanted.filter(|wanted| *wanted <= bytes.len()) else {
            let text = format!("has {} bytes, which do not go to {}", bytes.len(), lsn_text(end));
            return Err(Error::new(ErrorKind::Source, text).remedy("look at the server's log, then back up again"));
        };
        bytes.truncate(wanted);
        Ok((self.beginning(name, &bytes, around)?, bytes))
    }

    fn name(&self, timeline: u32, number: Seq) -> Result<SegmentName> {
        SegmentName::new(timeline, number, self.size()?)
            .ok_or_else(|| Error::new(ErrorKind::Source, format!("segment {number} is beyond all names")))
    }

    fn end_of(&self, name: SegmentName) -> Result<Lsn> {
        let size = self.size()?;
        Ok(Lsn(name.start(size)?.0.saturating_add(size.bytes())))
    }

    /// A segment that is whole, as a unit.
    pub(crate) fn whole_unit(&self, name: SegmentName, bytes: &[u8], around: Around<'_>) -> Result<LogUnit> {
        self.must_be_whole(bytes)?;
        let facts = match around {
            Around::Directory(patience) => {
                let history = self.history(name.timeline).ok();
                unit_facts(&self.files()?, history.as_ref(), name, bytes, patience)
            }
            Around::Behind(follower) => follower.segment(bytes),
            Around::Nothing => Follower::new(self.block_size).segment(bytes),
        };
        self.unit_of(name, facts, bytes)
    }

    fn must_be_whole(&self, bytes: &[u8]) -> Result<()> {
        let size = self.size()?.bytes();
        if bytes.len() as u64 == size {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Source, format!("has {} bytes instead of {size}", bytes.len())))
    }

    /// What was written of a segment by now, as a unit: no record of it counts that is not there as a whole.
    pub(crate) fn beginning(&self, name: SegmentName, bytes: &[u8], around: Around<'_>) -> Result<LogUnit> {
        let page = wal::describe(bytes)?.block_size as usize;
        let mut pages = bytes.to_vec();
        pages.resize(bytes.len().next_multiple_of(page), 0);
        let start = name.start(self.size()?)?;
        let front = if let Around::Behind(follower) = around { follower.front(start) } else { None };
        let mut unit = self.unit_of(name, told(front, start, &pages, self.block_size), &pages)?;
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

/// What the beginning of a segment tells, as far as its records can be read: what cannot be read is for the server to
/// say, which wrote it, when it recovers. What it changes is told by the whole segment.
fn told(front: Option<Reader>, start: Lsn, bytes: &[u8], block_size: u32) -> UnitFacts {
    let with_front = front.and_then(|reader| gather(reader, bytes, start, block_size).ok());
    let all_of_it = with_front.is_some() || wal::describe(bytes).is_ok_and(|info| !info.continues);
    let told = with_front.or_else(|| gather(Reader::new(), bytes, start, block_size).ok());
    let points = told.as_ref().filter(|_| all_of_it).map(points);
    UnitFacts { commits: told.and_then(|changes| changes.commits()), changes: None, points }
}

fn gather(mut reader: Reader, bytes: &[u8], after: Lsn, block_size: u32) -> Result<Changes> {
    let mut gatherer = Gatherer::new(after, block_size);
    let mut records = reader.push(bytes)?;
    while let Some(record) = records.next_record()? {
        gatherer.add(&record)?;
    }
    Ok(gatherer.finish(reader.position()))
}

/// The file of a segment that a backup needs.
fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::new(ErrorKind::Source, "the server has removed redo that the set needs")
            .on(path.display().to_string())
            .remedy("raise wal_keep_size or allow a replication slot, then back up again"),
        _ => Error::io(path.display().to_string(), error),
    })
}

/// Where the records of a segment end, which is not to be before `end`.
fn as_written(start: Lsn, bytes: &[u8], end: Lsn) -> Result<Lsn> {
    let upto = Lsn(start.0.saturating_add(written(bytes)? as u64));
    if upto >= end {
        return Ok(upto);
    }
    let (upto, end) = (lsn_text(upto), lsn_text(end));
    Err(Error::new(ErrorKind::Source, format!("the log ends at {upto}, before the end of the backup at {end}"))
        .remedy("look at what the server says of its log, then back up again"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::sample::{SEGMENT, SampleRecord, Writer};

    const START: u64 = 0x500_0000;

    fn log() -> (LogDirectory, SegmentName) {
        let log = LogDirectory {
            path: PathBuf::new(),
            system_identifier: 77,
            segment_size: u32::try_from(SEGMENT).unwrap(),
            block_size: 8192,
        };
        let name = log.name(1, log.number(Lsn(START))).unwrap();
        (log, name)
    }

    /// A segment of which only so many records are written, and where they end.
    fn segment(records: usize) -> (Vec<u8>, Lsn) {
        let mut writer = Writer::new(15, START, 77);
        for _ in 0..records {
            writer.record(&SampleRecord::plain(11, 0, &[0; 5000]));
        }
        let end = writer.lsn();
        let mut bytes = writer.bytes;
        bytes.resize(usize::try_from(SEGMENT).unwrap(), 0);
        (bytes, end)
    }

    #[test]
    fn a_growing_segment_goes_up_to_the_end_and_is_named_a_beginning() {
        let (log, name) = log();
        let (bytes, end) = segment(20);
        let up_to = |bytes: &[u8], end| log.up_to(name, bytes.to_vec(), end, Around::Nothing);
        let len = usize::try_from(end.0 - START).unwrap();
        let (unit, cut) = up_to(&bytes, end).unwrap();
        assert_eq!((unit.whole(), unit.span.upto, unit.len), (Some(name.to_string().as_str()), end, len as u64));
        assert!(cut == bytes[..len] && unit.changes.is_none());
        let whole = Lsn(START + SEGMENT);
        for behind in [whole, Lsn(whole.0 + 8)] {
            let (unit, all) = up_to(&bytes, behind).unwrap();
            assert_eq!((unit.name, unit.span.upto), (Some(name.to_string()), whole));
            assert!(all == bytes);
        }
        let short = up_to(&bytes[..len - 8], end).unwrap_err();
        assert!(short.to_string().contains("do not go to 0/5"), "{short}");
        assert!(up_to(&bytes[..len], whole).is_err() && up_to(&bytes, Lsn(START - 8)).is_err());
    }

    #[test]
    fn a_log_that_ends_before_the_backup_does_is_no_use() {
        let (bytes, end) = segment(20);
        let written = |upto| as_written(Lsn(START), &bytes, upto);
        assert_eq!((written(end).unwrap(), written(Lsn(START + 40)).unwrap()), (end, end));
        assert!(written(Lsn(end.0 + 8)).unwrap_err().to_string().contains("before the end of the backup"));
    }

    #[test]
    fn a_backup_needs_the_segments_from_its_begin_to_the_byte_before_its_end() {
        let (log, _) = log();
        let numbers = |begin, end| {
            let info = log.end_info((Lsn(begin), Lsn(end)), Vec::new(), Vec::new());
            assert!(info.bak_end_lsn == Lsn(end) && info.needs_log && info.marks.is_none());
            (info.nodes[0].begin_seq.unwrap().0, info.nodes[0].end_seq.unwrap().0)
        };
        assert_eq!(numbers(START, START + SEGMENT), (80, 80));
        assert_eq!(numbers(START + SEGMENT - 8, START + SEGMENT + 8), (80, 81));
    }
}
