//! Names of files in the WAL directory and in an archive, and the arithmetic between LSNs and segments.

use std::fmt;

use setpiece_core::model::{Lsn, Seq};
use setpiece_core::{Error, ErrorKind, Result};

/// Bytes of a WAL segment: a power of two from 1 MiB to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// What a cluster has when nothing else was chosen: 16 MiB.
    pub const DEFAULT: SegmentSize = SegmentSize(16 << 20);

    /// A size, when a segment can have it.
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        let bytes = u32::try_from(bytes).ok()?;
        (bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)).then_some(SegmentSize(bytes))
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// How many segments share the middle part of their names.
    fn per_log(self) -> u64 {
        (1 << 32) / self.bytes()
    }

    /// The number of the segment that holds the byte at `lsn`.
    #[must_use]
    pub fn number(self, lsn: Lsn) -> Seq {
        Seq(lsn.0 / self.bytes())
    }

    /// The number of the segment that holds the last byte of a record that ends at `lsn`.
    #[must_use]
    pub fn number_of_end(self, lsn: Lsn) -> Seq {
        Seq(lsn.0.saturating_sub(1) / self.bytes())
    }

    /// Where segment `number` begins; `None` behind the last LSN.
    #[must_use]
    pub fn start(self, number: Seq) -> Option<Lsn> {
        number.0.checked_mul(self.bytes()).map(Lsn)
    }

    /// How far into its segment `lsn` is.
    #[must_use]
    pub fn offset(self, lsn: Lsn) -> u64 {
        lsn.0 % self.bytes()
    }
}

/// The name of a segment: 24 hexadecimal digits for the timeline and the two parts of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The timeline that it was written on.
    pub timeline: u32,
    /// The upper 32 bits of its LSNs.
    pub log: u32,
    /// Its number among the segments with the same `log`.
    pub segment: u32,
}

impl SegmentName {
    /// The name of segment `number` of a timeline; `None` when no LSN is that large.
    #[must_use]
    pub fn new(timeline: u32, number: Seq, size: SegmentSize) -> Option<Self> {
        let log = u32::try_from(number.0 / size.per_log()).ok()?;
        let segment = u32::try_from(number.0 % size.per_log()).ok()?;
        Some(SegmentName { timeline, log, segment })
    }

    /// Reads a name of exactly 24 upper-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 24 {
            return None;
        }
        Some(SegmentName {
            timeline: digits(text.get(..8)?)?,
            log: digits(text.get(8..16)?)?,
            segment: digits(text.get(16..)?)?,
        })
    }

    /// The number of the segment.
    ///
    /// # Errors
    /// When no segment of this size has such a name.
    pub fn number(self, size: SegmentSize) -> Result<Seq> {
        if u64::from(self.segment) >= size.per_log() {
            let what = format!("no segment of {} bytes has this name", size.bytes());
            let remedy = "give the segment size that the cluster was made with (show wal_segment_size)";
            return Err(Error::new(ErrorKind::Damaged, what).on(format!("WAL segment {self}")).remedy(remedy));
        }
        Ok(Seq(u64::from(self.log) * size.per_log() + u64::from(self.segment)))
    }

    /// Where the segment begins.
    ///
    /// # Errors
    /// As [`SegmentName::number`].
    pub fn start(self, size: SegmentSize) -> Result<Lsn> {
        // A log and a segment below `per_log` never make an LSN that is too large.
        self.number(size).map(|number| Lsn(number.0.saturating_mul(size.bytes())))
    }
}

/// Eight upper-case hexadecimal digits.
fn digits(text: &str) -> Option<u32> {
    let fits = text.len() == 8 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'));
    fits.then(|| u32::from_str_radix(text, 16).ok())?
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline, self.log, self.segment)
    }
}

/// A file of the WAL directory or of an archive, by its name (PostgreSQL's xlog_internal.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WalFile {
    /// A segment.
    Segment(SegmentName),
    /// A segment that its timeline ended in, or that is still being received.
    Partial(SegmentName),
    /// The ancestors of a timeline.
    History(u32),
    /// The record of a backup that began in a segment, at an offset.
    Backup(SegmentName, u32),
}

impl WalFile {
    /// Reads a file name; `None` for all others.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, rest) = name.split_once('.').unwrap_or((name, ""));
        match rest {
            "" if stem.len() == name.len() => SegmentName::parse(stem).map(WalFile::Segment),
            "partial" => SegmentName::parse(stem).map(WalFile::Partial),
            "history" => digits(stem).map(WalFile::History),
            _ => {
                let offset = digits(rest.strip_suffix(".backup")?)?;
                SegmentName::parse(stem).map(|segment| WalFile::Backup(segment, offset))
            }
        }
    }
}

impl fmt::Display for WalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalFile::Segment(segment) => write!(f, "{segment}"),
            WalFile::Partial(segment) => write!(f, "{segment}.partial"),
            WalFile::History(timeline) => write!(f, "{timeline:08X}.history"),
            WalFile::Backup(segment, offset) => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_powers_of_two_from_1_mib_to_1_gib() {
        for bytes in [1 << 20, 16 << 20, 1 << 30] {
            assert_eq!(SegmentSize::new(bytes).unwrap().bytes(), bytes);
        }
        for bytes in [0, 1 << 19, (16 << 20) + 1, 1 << 31, u64::MAX, 3 << 20] {
            assert_eq!(SegmentSize::new(bytes), None);
        }
    }

    #[test]
    fn names_are_those_of_postgresql() {
        let size = SegmentSize::DEFAULT;
        let name = SegmentName::new(3, size.number(Lsn(0x12_FE00_0000)), size).unwrap();
        assert_eq!(name.to_string(), "0000000300000012000000FE");
        assert_eq!(name.start(size).unwrap(), Lsn(0x12_FE00_0000));
        let wide = SegmentSize::new(1 << 30).unwrap();
        assert_eq!(SegmentName::new(1, Seq(7), wide).unwrap().to_string(), "000000010000000100000003");
        let out_of_range = SegmentName::parse("000000010000000100000004").unwrap();
        assert_eq!(out_of_range.number(wide).unwrap_err().kind(), ErrorKind::Damaged);
        assert_eq!(size.number_of_end(Lsn(0x200_0000)), Seq(1));
        assert_eq!(size.number(Lsn(0x200_0000)), Seq(2));
        assert_eq!(size.offset(Lsn(0x200_0001)), 1);
        assert_eq!(size.start(Seq(u64::MAX)), None);
    }

    #[test]
    fn files_are_told_apart() {
        let segment = SegmentName { timeline: 1, log: 2, segment: 0xAB };
        let known = [
            ("0000000100000002000000AB", WalFile::Segment(segment)),
            ("0000000100000002000000AB.partial", WalFile::Partial(segment)),
            ("0000000A.history", WalFile::History(10)),
            ("0000000100000002000000AB.00000028.backup", WalFile::Backup(segment, 0x28)),
        ];
        for (name, file) in known {
            assert_eq!(WalFile::parse(name), Some(file));
            assert_eq!(file.to_string(), name);
        }
        for name in [
            "",
            ".",
            "0000000100000002000000ab",
            "0000000100000002000000A",
            "0000000100000002000000ABC",
            "0000000100000002000000AB.",
            "0000000100000002000000AB.part",
            "+000000100000002000000AB",
            "0000000A.histor",
            "000000010000000A.history",
            "0000000100000002000000AB.28.backup",
            "0000000100000002000000AB.backup",
            "archive_status",
            "0000000100000002000000\u{c4}",
        ] {
            assert_eq!(WalFile::parse(name), None, "{name:?}");
        }
    }

    proptest! {
        /// Name, number and LSN lead to each other for every size.
        #[test]
        fn number_and_name_lead_to_each_other(timeline in any::<u32>(), lsn in any::<u64>(), shift in 20u32..=30) {
            let size = SegmentSize::new(1 << shift).unwrap();
            let number = size.number(Lsn(lsn));
            let name = SegmentName::new(timeline, number, size).unwrap();
            prop_assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
            prop_assert_eq!(name.number(size).unwrap(), number);
            prop_assert_eq!(name.start(size).unwrap().0 + size.offset(Lsn(lsn)), lsn);
            prop_assert_eq!(size.start(number), Some(name.start(size).unwrap()));
        }
    }
}
