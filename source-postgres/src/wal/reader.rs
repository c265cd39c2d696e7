//! Records out of a stream of WAL pages.
//!
//! Pages come in any number at a time; a record that goes on in pages that have not come yet waits for them. A stream
//! may begin in the middle of a record, whose rest is passed over. Where the WAL ends (nothing was written there yet, or
//! what was left of an older use of the file) nothing marks the end: the first thing that does not fit is taken for it,
//! unless a later page of the same bytes does fit. Then WAL was written past it, and it is damage.

use std::fmt;

use setpiece_core::model::Lsn;
use setpiece_core::{Error, ErrorKind, Result};

use super::lsn::lsn_text;
use super::page::{Misfit, PageHeader, Stream};
use super::record::{self, BlockRef, MAX_RECORD, Record, RecordHeader};
use super::rmgr;
use super::segment::{SegmentInfo, describe};

/// Where WAL ends and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalEnd {
    /// The end: the next record would begin here.
    pub at: Lsn,
    /// What is there instead.
    pub why: String,
}

/// Why reading cannot go on.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Page(Misfit),
    /// The page does not go on with the record that is open, or goes on with one that is not.
    Continuation,
    Nothing,
    Length(u32),
    Previous(Lsn),
    Checksum,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Page(Misfit::Blank) => write!(f, "a page that was never written"),
            Stop::Page(Misfit::Magic(magic)) => write!(f, "a page with the magic number {magic:04X}"),
            Stop::Page(Misfit::Address(lsn)) => write!(f, "a page of {}", lsn_text(*lsn)),
            Stop::Page(Misfit::Flags) => write!(f, "a page header with the wrong flags"),
            Stop::Page(Misfit::System(system)) => write!(f, "a page of the cluster {system}"),
            Stop::Page(Misfit::Sizes) => write!(f, "a page with other sizes of segment and page"),
            Stop::Page(Misfit::Timeline(timeline)) => write!(f, "a page of the older timeline {timeline}"),
            Stop::Continuation => write!(f, "a page that does not continue the page before"),
            Stop::Nothing => write!(f, "no record"),
            Stop::Length(len) => write!(f, "a record with the impossible length {len}"),
            Stop::Previous(lsn) => write!(f, "a record that follows another at {}", lsn_text(*lsn)),
            Stop::Checksum => write!(f, "a record whose checksum does not match"),
        }
    }
}

/// What is open where the pages read so far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    /// The rest of a record that began before the stream: so many bytes.
    Foreign(u32),
    /// A record that began at this LSN lacks so many bytes; what there is of it is in `carry`.
    Record(Lsn, u32),
}

/// Reads records out of pages that are pushed to it in order.
#[derive(Clone, Debug)]
pub struct Reader {
    stream: Option<Stream>,
    /// Where the bytes that are pushed next must begin.
    position: Lsn,
    /// Nothing before this LSN is looked at: the rest of a segment behind a switch.
    resume: Lsn,
    timeline: u32,
    open: Open,
    carry: Vec<u8>,
    /// Where the last record began.
    last: Option<Lsn>,
    blocks: Vec<BlockRef>,
    end: Option<WalEnd>,
    /// Pushed bytes were not read to their end.
    unread: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Reader::new()
    }
}

impl Reader {
    /// A reader that begins with whatever segment is pushed first.
    #[must_use]
    pub fn new() -> Self {
        Reader {
            stream: None,
            position: Lsn(0),
            resume: Lsn(0),
            timeline: 0,
            open: Open::Nothing,
            carry: Vec::new(),
            last: None,
            blocks: Vec::new(),
            end: None,
            unread: false,
        }
    }

    /// A reader that begins with the page at `at`, in the segment that `segment` describes.
    #[must_use]
    pub fn within(segment: &SegmentInfo, at: Lsn) -> Self {
        let SegmentInfo { version, system, size, block_size, .. } = *segment;
        let stream = Stream { version, system, segment_size: size, block_size };
        Reader { stream: Some(stream), position: at, timeline: segment.timeline, ..Reader::new() }
    }

    /// Where the record begins that the bytes pushed so far hold in part.
    #[must_use]
    pub fn unfinished(&self) -> Option<Lsn> {
        if let Open::Record(start, _) = self.open { Some(start) } else { None }
    }

    /// Where the bytes that are pushed next must begin; 0 before the first.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// Passes over what is behind a switch of segments, when all that was pushed was read: gives how many bytes need not
    /// be pushed.
    pub fn pass_over(&mut self) -> u64 {
        let resume = if self.unread || self.end.is_some() { self.position } else { self.resume.max(self.position) };
        let passed = resume.0 - self.position.0;
        self.position = resume;
        passed
    }

    /// Where the WAL ends, once that was seen; damage ends it as well.
    #[must_use]
    pub fn end(&self) -> Option<&WalEnd> {
        self.end.as_ref()
    }

    /// Goes on with `bytes`: the first time the beginning of a segment, from then on what follows. Any number of whole
    /// pages will do; a segment at a time is best. The records must be read to the end before more is pushed.
    ///
    /// # Errors
    /// When `bytes` are not whole pages, do not begin a segment the first time, or come after the end of the WAL.
    pub fn push<'r>(&'r mut self, bytes: &'r [u8]) -> Result<Records<'r>> {
        if self.unread {
            let what = "more WAL was pushed before the records in it were read";
            return Err(Error::new(ErrorKind::Internal, what).on(self.here(self.position)));
        }
        if let Some(end) = &self.end {
            let what = format!("WAL ends here ({}), yet there is more behind it", end.why);
            let remedy = "take the segment that it ends in from the server or from another copy";
            return Err(Error::damaged(self.here(end.at), what).remedy(remedy));
        }
        let stream = self.stream_of(bytes)?;
        let page = stream.block_size as usize;
        let upto = u64::try_from(bytes.len()).ok().and_then(|len| self.position.0.checked_add(len));
        let Some(upto) = upto.filter(|_| bytes.len().is_multiple_of(page)) else {
            let what = format!("{} bytes are not whole WAL pages of {page}", bytes.len());
            let remedy = "the segment is cut short; take it from the server or from another copy";
            return Err(Error::damaged(self.here(self.position), what).remedy(remedy));
        };
        let base = self.position;
        self.position = Lsn(upto);
        self.unread = true;
        Ok(Records { reader: self, stream, bytes, base, page, at: 0 })
    }

    fn stream_of(&mut self, bytes: &[u8]) -> Result<Stream> {
        if let Some(stream) = self.stream {
            return Ok(stream);
        }
        let info = describe(bytes)?;
        let stream =
            Stream { version: info.version, system: info.system, segment_size: info.size, block_size: info.block_size };
        self.position = info.start;
        self.timeline = info.timeline;
        self.stream = Some(stream);
        Ok(stream)
    }

    fn here(&self, lsn: Lsn) -> String {
        format!("WAL at {} on timeline {}", lsn_text(lsn), self.timeline)
    }
}

/// A whole record: its LSNs, and where its bytes are.
struct Found {
    start: Lsn,
    end: Lsn,
    /// In the pushed bytes; `None` when it was put together in `carry`.
    place: Option<std::ops::Range<usize>>,
}

/// The records that end in pushed bytes.
#[derive(Debug)]
pub struct Records<'r> {
    reader: &'r mut Reader,
    stream: Stream,
    bytes: &'r [u8],
    /// The LSN of the first byte.
    base: Lsn,
    /// Bytes of a page.
    page: usize,
    /// The next byte to look at.
    at: usize,
}

impl Records<'_> {
    /// The next record; `None` when the bytes are used up, or the WAL ends in them, which [`Reader::end`] tells.
    ///
    /// # Errors
    /// When WAL is damaged.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>> {
        let Some(found) = self.advance()? else { return Ok(None) };
        let reader = &mut *self.reader;
        let raw = match &found.place {
            Some(place) => self.bytes.get(place.clone()).unwrap_or_default(),
            None => &reader.carry,
        };
        let header = RecordHeader::read(raw);
        let main = record::parse(raw, self.stream.version, &mut reader.blocks);
        let (Some(header), Some(main)) = (header, main) else {
            let object = format!("WAL record at {}", lsn_text(found.start));
            let what = format!("is laid out as no record of {} is", self.stream.version);
            return Err(Error::damaged(object, what).remedy("begin a new chain with a full backup"));
        };
        Ok(Some(Record {
            version: self.stream.version,
            start: found.start,
            end: found.end,
            len: header.len,
            xid: header.xid,
            rmgr: header.rmgr,
            info: header.info,
            prev: header.prev,
            main: raw.get(main).unwrap_or_default(),
            blocks: &reader.blocks,
        }))
    }

    fn lsn(&self, at: usize) -> Lsn {
        Lsn(self.base.0.saturating_add(at as u64))
    }

    fn advance(&mut self) -> Result<Option<Found>> {
        while self.at < self.bytes.len() && self.reader.end.is_none() {
            let lsn = self.lsn(self.at);
            if lsn < self.reader.resume {
                let skipped = usize::try_from(self.reader.resume.0 - lsn.0).unwrap_or(usize::MAX);
                self.at = self.at.saturating_add(skipped).min(self.bytes.len());
                continue;
            }
            let step = if self.at.is_multiple_of(self.page) { self.enter_page() } else { self.begin_record() };
            match step {
                Ok(Some(found)) => return Ok(Some(self.accept(found))),
                Ok(None) => {}
                Err((stop, lsn)) => self.stop(stop, lsn)?,
            }
        }
        self.reader.unread = false;
        Ok(None)
    }

    /// Takes a record whose checksum fits for the last one.
    fn accept(&mut self, mut found: Found) -> Found {
        let raw = found.place.as_ref().and_then(|place| self.bytes.get(place.clone())).unwrap_or(&self.reader.carry);
        let is_switch = RecordHeader::read(raw).is_some_and(|head| head.rmgr == rmgr::XLOG && head.info & 0xF0 == 0x40);
        if is_switch {
            found.end = self.segment_end(found.end);
            self.reader.resume = found.end;
        }
        self.reader.last = Some(found.start);
        found
    }

    /// The end of the segment that the byte before `lsn` is in.
    fn segment_end(&self, lsn: Lsn) -> Lsn {
        let size = self.stream.segment_size;
        let into = size.offset(lsn);
        Lsn(if into == 0 { lsn.0 } else { (lsn.0 - into).saturating_add(size.bytes()) })
    }

    /// Passes the header of the page at `at`, and takes what it has of the record that is open.
    fn enter_page(&mut self) -> Result<Option<Found>, (Stop, Lsn)> {
        let (from, lsn) = (self.at, self.lsn(self.at));
        let page = self.bytes.get(from..from + self.page).unwrap_or_default();
        let header =
            self.stream.page(page, lsn, self.reader.timeline).map_err(|misfit| (Stop::Page(misfit), self.tip(lsn)))?;
        self.reader.timeline = header.timeline;
        let body = from + header.len();
        let Some(missing) = self.missing(&header) else { return Err((Stop::Continuation, self.tip(lsn))) };
        let rest = page.get(header.len()..).unwrap_or_default();
        let taken = rest.len().min(missing as usize);
        // Records begin at multiples of eight bytes, and pages end there.
        self.at = body + taken.next_multiple_of(8);
        let left = missing - taken as u32;
        match self.reader.open {
            Open::Nothing => {}
            Open::Foreign(_) => self.reader.open = if left == 0 { Open::Nothing } else { Open::Foreign(left) },
            Open::Record(start, _) => {
                self.reader.carry.extend_from_slice(rest.get(..taken).unwrap_or_default());
                self.reader.open = Open::Record(start, left);
                if left == 0 {
                    return self.close_record(start).map(Some).inspect_err(|_| self.at = from);
                }
            }
        }
        Ok(None)
    }

    /// How many bytes of the open record are missing where `header` begins; `None` when the header does not fit that.
    fn missing(&mut self, header: &PageHeader) -> Option<u32> {
        match self.reader.open {
            Open::Foreign(missing) | Open::Record(_, missing) => {
                if header.overwrites() {
                    // The server crashed within the record and gave it up when it started again.
                    self.reader.open = Open::Nothing;
                    return Some(0);
                }
                (header.continues() && header.remaining == missing).then_some(missing)
            }
            Open::Nothing if header.continues() => {
                // Only a stream that begins here can know nothing of the record.
                let fresh = self.reader.last.is_none() && self.at == 0 && header.remaining > 0;
                fresh.then(|| {
                    self.reader.open = Open::Foreign(header.remaining);
                    header.remaining
                })
            }
            Open::Nothing => Some(0),
        }
    }

    /// Where WAL ends when it ends at the page `lsn`: at the beginning of the open record, if there is one.
    fn tip(&self, lsn: Lsn) -> Lsn {
        if let Open::Record(start, _) = self.reader.open { start } else { lsn }
    }

    /// Looks at the record that begins at `at`, within a page.
    fn begin_record(&mut self) -> Result<Option<Found>, (Stop, Lsn)> {
        let (from, start) = (self.at, self.lsn(self.at));
        let upto = from.next_multiple_of(self.page);
        let rest = self.bytes.get(from..upto).unwrap_or_default();
        let len = record::claimed_len(rest).unwrap_or(0);
        if len == 0 {
            return Err((Stop::Nothing, start));
        }
        if !(record::HEADER as u32..=MAX_RECORD).contains(&len) {
            return Err((Stop::Length(len), start));
        }
        if let Some(header) = RecordHeader::read(rest) {
            self.check(&header, start)?;
        }
        let whole = len as usize;
        if whole > rest.len() {
            self.reader.carry.clear();
            self.reader.carry.extend_from_slice(rest);
            self.reader.open = Open::Record(start, len - rest.len() as u32);
            self.at = upto;
            return Ok(None);
        }
        let raw = rest.get(..whole).unwrap_or_default();
        if !record::checksum_fits(raw) {
            return Err((Stop::Checksum, start));
        }
        self.at = from + whole.next_multiple_of(8);
        Ok(Some(Found { start, end: self.lsn(self.at), place: Some(from..from + whole) }))
    }

    /// The record in `carry` has all its bytes.
    fn close_record(&mut self, start: Lsn) -> Result<Found, (Stop, Lsn)> {
        let carry = &self.reader.carry;
        let Some(header) = RecordHeader::read(carry) else { return Err((Stop::Checksum, start)) };
        if !record::checksum_fits(carry) {
            return Err((Stop::Checksum, start));
        }
        self.check(&header, start)?;
        self.reader.open = Open::Nothing;
        Ok(Found { start, end: self.lsn(self.at), place: None })
    }

    /// Whether the record at `start` can follow the last one.
    fn check(&self, header: &RecordHeader, start: Lsn) -> Result<(), (Stop, Lsn)> {
        let follows = match self.reader.last {
            Some(last) => header.prev == last,
            None => header.prev < start,
        };
        if follows { Ok(()) } else { Err((Stop::Previous(header.prev), start)) }
    }

    /// Ends the WAL at `lsn`, unless it goes on behind the page that is being looked at.
    fn stop(&mut self, stop: Stop, lsn: Lsn) -> Result<()> {
        let later = self.later_page();
        self.reader.end = Some(WalEnd { at: lsn, why: stop.to_string() });
        self.reader.unread = false;
        let Some(later) = later else { return Ok(()) };
        let what = format!("there is {stop}, yet the page at {} is in order", lsn_text(later));
        let remedy = "take the segment from the server or from another copy, or begin a new chain with a full backup";
        Err(Error::damaged(self.reader.here(lsn), what).remedy(remedy))
    }

    /// A page behind the one at `at` that belongs to the stream.
    fn later_page(&self) -> Option<Lsn> {
        let next = (self.at + 1).next_multiple_of(self.page);
        let pages = self.bytes.get(next..)?.chunks_exact(self.page);
        let mut placed = pages.enumerate().map(|(number, page)| (self.lsn(next + number * self.page), page));
        placed.find(|(lsn, page)| self.stream.page(page, *lsn, self.reader.timeline).is_ok()).map(|(lsn, _)| lsn)
    }
}
