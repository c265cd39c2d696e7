//! WAL made for tests, page by page as a server lays it out.

use setpiece_core::model::Lsn;

use super::record;
use super::rel::RelFork;
use super::version::Version;

/// Segments of samples are as small as they can be.
pub(crate) const SEGMENT: u64 = 1 << 20;
const PAGE: u64 = 8192;

/// The first page of a segment without any record.
pub(crate) fn first_page(major: u16, lsn: u64, system: u64) -> Vec<u8> {
    let mut writer = Writer::new(major, lsn, system);
    writer.fill_page();
    writer.bytes
}

/// A block reference of a record to be written.
#[derive(Clone, Debug)]
pub(crate) struct SampleBlock {
    pub(crate) id: u8,
    pub(crate) fork: RelFork,
    pub(crate) block: u32,
    /// Bytes of an image: how many, with a hole, compressed.
    pub(crate) image: Option<(u16, bool, bool)>,
    pub(crate) data: u16,
    pub(crate) will_init: bool,
    /// Leave the relation out when it is that of the block before.
    pub(crate) same: bool,
}

/// A record to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct SampleRecord {
    pub(crate) rmgr: u8,
    pub(crate) info: u8,
    pub(crate) xid: u32,
    pub(crate) origin: bool,
    pub(crate) top: bool,
    pub(crate) blocks: Vec<SampleBlock>,
    pub(crate) main: Vec<u8>,
}

impl SampleRecord {
    /// A record with main data only.
    pub(crate) fn plain(rmgr: u8, info: u8, main: &[u8]) -> Self {
        SampleRecord { rmgr, info, main: main.to_vec(), ..SampleRecord::default() }
    }

    /// The record as bytes.
    pub(crate) fn bytes(&self, version: Version, prev: u64) -> Vec<u8> {
        let mut bytes = vec![0; record::HEADER];
        let mut data = Vec::new();
        let mut before: Option<&SampleBlock> = None;
        for block in &self.blocks {
            let same = block.same && before.is_some_and(|before| before.fork.with(block.fork.fork) == block.fork);
            let flags = block.fork.fork as u8
                | u8::from(block.image.is_some()) << 4
                | u8::from(block.data > 0) << 5
                | u8::from(block.will_init) << 6
                | u8::from(same) << 7;
            bytes.extend([block.id, flags]);
            bytes.extend(block.data.to_le_bytes());
            if let Some((len, hole, compressed)) = block.image {
                let way = if version.major() >= 15 { 0x08 } else { 0x02 };
                bytes.extend(len.to_le_bytes());
                bytes.extend([0, 0, u8::from(hole) | if compressed { way } else { 0 }]);
                if hole && compressed {
                    bytes.extend([9, 9]);
                }
                data.extend(vec![0xEE; len.into()]);
            }
            if !same {
                for number in [block.fork.tablespace, block.fork.database, block.fork.relation] {
                    bytes.extend(number.to_le_bytes());
                }
            }
            bytes.extend(block.block.to_le_bytes());
            data.extend(vec![0xDD; block.data.into()]);
            before = Some(block);
        }
        if self.origin {
            bytes.extend([253, 1, 0]);
        }
        if self.top {
            bytes.extend([252, 1, 0, 0, 0]);
        }
        match self.main.len() {
            0 => {}
            len @ 1..=255 => bytes.extend([255, len as u8]),
            len => {
                bytes.push(254);
                bytes.extend((len as u32).to_le_bytes());
            }
        }
        bytes.extend(data);
        bytes.extend(&self.main);
        let len = bytes.len() as u32;
        bytes[0..4].copy_from_slice(&len.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.xid.to_le_bytes());
        bytes[8..16].copy_from_slice(&prev.to_le_bytes());
        bytes[16] = self.info;
        bytes[17] = self.rmgr;
        seal(&mut bytes);
        bytes
    }
}

/// Puts the right checksum into a record.
pub(crate) fn seal(record: &mut [u8]) {
    let sum = crc32c::crc32c_append(crc32c::crc32c(&record[record::HEADER..]), &record[..20]);
    record[20..24].copy_from_slice(&sum.to_le_bytes());
}

/// Lays records out on pages.
#[derive(Clone)]
pub(crate) struct Writer {
    version: Version,
    system: u64,
    pub(crate) timeline: u32,
    /// Where the bytes begin.
    base: u64,
    pub(crate) prev: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(major: u16, lsn: u64, system: u64) -> Self {
        assert_eq!(lsn % SEGMENT, 0);
        let version = Version::from_major(major).unwrap();
        Writer { version, system, timeline: 1, base: lsn, prev: 0, bytes: Vec::new() }
    }

    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(self.base + self.bytes.len() as u64)
    }

    fn header(&mut self, flags: u16, remaining: u32) {
        let address = self.lsn().0;
        let first = address.is_multiple_of(SEGMENT);
        self.bytes.extend(self.version.magic().to_le_bytes());
        self.bytes.extend((flags | u16::from(first) << 1).to_le_bytes());
        self.bytes.extend(self.timeline.to_le_bytes());
        self.bytes.extend(address.to_le_bytes());
        self.bytes.extend(remaining.to_le_bytes());
        self.bytes.extend([0; 4]);
        if first {
            self.bytes.extend(self.system.to_le_bytes());
            self.bytes.extend((SEGMENT as u32).to_le_bytes());
            self.bytes.extend((PAGE as u32).to_le_bytes());
        }
    }

    fn room(&self) -> usize {
        (PAGE - self.bytes.len() as u64 % PAGE) as usize
    }

    fn begin_page(&mut self, flags: u16, remaining: u32) {
        if (self.bytes.len() as u64).is_multiple_of(PAGE) {
            self.header(flags, remaining);
        }
    }

    /// Writes a record and says where it begins.
    pub(crate) fn record(&mut self, record: &SampleRecord) -> Lsn {
        let bytes = record.bytes(self.version, self.prev);
        self.raw(&bytes)
    }

    /// Writes the bytes of a record and says where it begins.
    pub(crate) fn raw(&mut self, mut bytes: &[u8]) -> Lsn {
        self.begin_page(0, 0);
        let start = self.lsn();
        self.prev = start.0;
        while !bytes.is_empty() {
            self.begin_page(1, bytes.len() as u32);
            let (now, later) = bytes.split_at(bytes.len().min(self.room()));
            self.bytes.extend(now);
            bytes = later;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        start
    }

    /// Begins a page that says that the record open there was given up.
    pub(crate) fn overwrite(&mut self) {
        self.begin_page(0x0008, 0);
    }

    /// Zeros up to the end of the page.
    pub(crate) fn fill_page(&mut self) {
        self.begin_page(0, 0);
        self.bytes.resize(self.bytes.len().next_multiple_of(PAGE as usize), 0);
    }

    /// Zeros up to the end of the segment.
    pub(crate) fn fill_segment(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(SEGMENT as usize), 0);
    }
}
