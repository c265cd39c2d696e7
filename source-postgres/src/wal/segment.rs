//! What a segment of WAL says about itself, and whether it is the one that its name promises.

use setpiece_core::model::{Lsn, Seq};
use setpiece_core::{Error, ErrorKind, Result};

use super::lsn::lsn_text;
use super::name::{SegmentName, SegmentSize};
use super::page::{LongHeader, PageHeader};
use super::version::Version;

/// Bytes at the front of a segment that [`describe`] needs.
pub const DESCRIBED: usize = super::page::LONG;

/// What the first page of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The version of PostgreSQL that wrote it.
    pub version: Version,
    /// The timeline of its first record; that of its name may be later.
    pub timeline: u32,
    /// Where it begins.
    pub start: Lsn,
    /// The cluster that wrote it.
    pub system: u64,
    /// The size of all segments of the cluster.
    pub size: SegmentSize,
    /// Bytes of a WAL page.
    pub block_size: u32,
    /// Whether it begins with the rest of a record that begins before it.
    pub continues: bool,
}

/// Reads the first [`DESCRIBED`] bytes of a segment. Errors do not name the segment, for it is not known here.
///
/// # Errors
/// When the bytes are not the beginning of a segment, or of a version that is not understood.
pub fn describe(bytes: &[u8]) -> Result<SegmentInfo> {
    let (Some(header), Some(long)) = (PageHeader::read(bytes), LongHeader::read(bytes)) else {
        return Err(not_a_segment(format!("is shorter than the {DESCRIBED} bytes of a header")));
    };
    if header.is_blank() {
        return Err(not_a_segment("holds no WAL yet"));
    }
    let Some(version) = Version::from_magic(header.magic) else {
        let what = format!("WAL with the magic number {:04X} is of no known version", header.magic);
        return Err(Error::new(ErrorKind::Unsupported, what).remedy("PostgreSQL 12 to 18 are understood"));
    };
    if !header.is_long() || !header.has_known_flags() {
        return Err(not_a_segment("its first page is not the first of a segment"));
    }
    let size = SegmentSize::new(u64::from(long.segment_size))
        .ok_or_else(|| not_a_segment(format!("a segment cannot have {} bytes", long.segment_size)))?;
    if !is_block_size(long.block_size) {
        return Err(not_a_segment(format!("a WAL page cannot have {} bytes", long.block_size)));
    }
    if size.offset(header.address) != 0 {
        return Err(not_a_segment(format!("no segment begins at {}", lsn_text(header.address))));
    }
    Ok(SegmentInfo {
        version,
        timeline: header.timeline,
        start: header.address,
        system: long.system,
        size,
        block_size: long.block_size,
        continues: header.continues(),
    })
}

/// A size that WAL pages can have: a power of two from 1 to 64 KiB.
fn is_block_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && (1 << 10..=1 << 16).contains(&bytes)
}

fn not_a_segment(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Damaged, what).remedy("take the WAL segment from the server or from another copy")
}

impl SegmentInfo {
    /// The number of the segment.
    #[must_use]
    pub fn number(&self) -> Seq {
        self.size.number(self.start)
    }

    /// Where the segment ends, and the next one begins.
    #[must_use]
    pub fn end(&self) -> Lsn {
        Lsn(self.start.0.saturating_add(self.size.bytes()))
    }

    /// Whether this is the segment `name` of the cluster `system`.
    ///
    /// # Errors
    /// When it is of another cluster, or when the file still holds an older segment: the server renames finished
    /// segments ahead to write over them later.
    pub fn check(&self, name: SegmentName, system: u64) -> Result<()> {
        let object = || format!("WAL segment {name}");
        if self.system != system {
            let what = format!("is of the cluster {}, not of {system}", self.system);
            return Err(Error::new(ErrorKind::Source, what)
                .on(object())
                .remedy("keep the WAL of each cluster in a place of its own"));
        }
        let start = name.start(self.size)?;
        if self.start != start {
            let what = format!("holds WAL from {}, not from {}", lsn_text(self.start), lsn_text(start));
            let remedy = if self.start < start {
                "the file was recycled and is not written yet; take it when the server is done with it"
            } else {
                "the file has the name of another segment; take it from the server again"
            };
            return Err(Error::new(ErrorKind::Damaged, what).on(object()).remedy(remedy));
        }
        if self.timeline > name.timeline {
            let what = format!("begins on timeline {}, which its name has not reached", self.timeline);
            return Err(Error::new(ErrorKind::Damaged, what)
                .on(object())
                .remedy("the file has the name of another segment; take it from the server again"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::sample::first_page;

    #[test]
    fn the_first_page_tells_everything() {
        let info = describe(&first_page(15, 0x300_0000, 7)).unwrap();
        assert_eq!(info.version.major(), 15);
        assert_eq!((info.timeline, info.start, info.system), (1, Lsn(0x300_0000), 7));
        assert_eq!((info.size.bytes(), info.block_size), (1 << 20, 8192));
        assert_eq!((info.number(), info.end()), (Seq(48), Lsn(0x310_0000)));
    }

    #[test]
    fn a_foreign_or_a_recycled_segment_is_refused() {
        let info = describe(&first_page(15, 0x300_0000, 7)).unwrap();
        let name = |text| SegmentName::parse(text).unwrap();
        info.check(name("000000010000000000000030"), 7).unwrap();
        info.check(name("000000020000000000000030"), 7).unwrap();
        let refused = [
            ("000000010000000000000030", 8, ErrorKind::Source, "is of the cluster 7, not of 8"),
            ("000000010000000000000031", 7, ErrorKind::Damaged, "was recycled"),
            ("00000001000000000000002F", 7, ErrorKind::Damaged, "name of another segment"),
            ("000000000000000000000030", 7, ErrorKind::Damaged, "begins on timeline 1"),
        ];
        for (text, system, kind, words) in refused {
            let error = info.check(name(text), system).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(words) && error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn what_is_no_segment_is_refused() {
        let good = first_page(15, 0x300_0000, 7);
        let with = |at: usize, bytes: &[u8]| {
            let mut page = good.clone();
            page[at..at + bytes.len()].copy_from_slice(bytes);
            describe(&page).map(drop).map_err(|error| error.kind())
        };
        assert_eq!(with(0, &[]), Ok(()));
        assert_eq!(with(0, &[0xFF, 0xFF]), Err(ErrorKind::Unsupported));
        assert_eq!(with(0, &[0; 24]), Err(ErrorKind::Damaged), "zeros");
        assert_eq!(with(2, &[0]), Err(ErrorKind::Damaged), "a short header");
        assert_eq!(with(2, &[0x12]), Err(ErrorKind::Damaged), "an unknown flag");
        assert_eq!(with(9, &[0x20]), Err(ErrorKind::Damaged), "an address within a segment");
        assert_eq!(with(32, &[1]), Err(ErrorKind::Damaged), "a segment of an odd size");
        assert_eq!(with(36, &[1]), Err(ErrorKind::Damaged), "pages of an odd size");
        assert_eq!(with(36, &[0, 0, 2, 0]), Err(ErrorKind::Damaged), "pages that are too large");
        assert_eq!(describe(&good[..39]).unwrap_err().kind(), ErrorKind::Damaged);
    }
}
