//! The write-ahead log as a file: its header, its frames, their checksums, and which of them are committed.
//!
//! Knows the bytes and nothing of connections, snapshots or locks. Layout: a header of 32 bytes, then frames of 24
//! bytes and a page. A frame counts only if it carries the header's salts and if the checksum, which runs from the
//! header over all frames, fits; a frame that ends a transaction carries the size of the database after it. What lies
//! behind the first frame that does not fit is left over from before and means nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use crate::bytes::{be32, is_page_size};

/// Bytes of the header.
pub(crate) const HEADER: usize = 32;
/// Bytes of the header of a frame; the page follows.
pub(crate) const FRAME_HEADER: usize = 24;
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
/// About this many bytes are read from the log at a time.
const CHUNK: usize = 256 << 10;

/// The two halves of the running checksum.
pub(crate) type Sum = [u32; 2];
/// The two salts of a header. A restart of the log adds 1 to the first and draws the second.
pub(crate) type Salts = [u32; 2];

/// Something that can be read at any place: a file, or bytes in a test.
pub(crate) trait ReadAt {
    /// Fills `into` from byte `offset` on as far as there are bytes, and says how many there were.
    fn fill(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn fill(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut have = 0;
        while have < into.len() {
            match self.read_at(&mut into[have..], offset.saturating_add(have as u64)) {
                Ok(0) => break,
                Ok(more) => have += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(have)
    }
}

impl ReadAt for [u8] {
    fn fill(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|from| self.get(from..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// A header that is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalHeader {
    /// Whether checksums are made of big-endian words.
    pub(crate) big: bool,
    /// Bytes of a page.
    pub(crate) page_size: u32,
    /// What tells this generation of the log from others.
    pub(crate) salts: Salts,
    /// Where the running checksum begins.
    pub(crate) sum: Sum,
}

impl WalHeader {
    /// Reads a header; `None` when the bytes are none, which is what an empty log looks like.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        let (magic, page_size) = (be32(bytes, 0), be32(bytes, 8));
        if magic & !1 != MAGIC || be32(bytes, 4) != VERSION || !is_page_size(page_size) {
            return None;
        }
        let big = magic & 1 == 1;
        let sum = checksum(big, [0, 0], &bytes[..24]);
        let stored = [be32(bytes, 24), be32(bytes, 28)];
        let salts = [be32(bytes, 16), be32(bytes, 20)];
        (sum == stored).then_some(WalHeader { big, page_size, salts, sum })
    }

    /// Reads the header of a log.
    pub(crate) fn read(log: &(impl ReadAt + ?Sized)) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEADER];
        let have = log.fill(&mut bytes, 0)?;
        Ok(WalHeader::parse(&bytes[..have]))
    }

    /// Bytes of a frame with its header.
    pub(crate) fn frame_len(&self) -> usize {
        FRAME_HEADER + self.page_size as usize
    }

    /// The byte at which frame `number` begins; frames are counted from 1.
    fn offset(&self, number: u32) -> u64 {
        HEADER as u64 + u64::from(number.saturating_sub(1)) * self.frame_len() as u64
    }

    /// Takes `bytes` for frame `number` whose predecessor's checksum is `before`; `None` when it isn't that.
    fn frame<'b>(&self, number: u32, before: Sum, bytes: &'b [u8]) -> Option<Frame<'b>> {
        if bytes.len() != self.frame_len() {
            return None;
        }
        let (head, data) = bytes.split_at(FRAME_HEADER);
        let page = be32(head, 0);
        if page == 0 || [be32(head, 8), be32(head, 12)] != self.salts {
            return None;
        }
        let after = checksum(self.big, checksum(self.big, before, &head[..8]), data);
        let fits = after == [be32(head, 16), be32(head, 20)];
        fits.then_some(Frame { number, page, database: be32(head, 4), before, after, data })
    }

    /// The running checksum that frame `number` carries, which has been proven before; `None` when the frame is of
    /// another generation by now.
    pub(crate) fn sum_at(&self, log: &(impl ReadAt + ?Sized), number: u32) -> io::Result<Option<Sum>> {
        let mut head = [0; FRAME_HEADER];
        let have = log.fill(&mut head, self.offset(number))?;
        let own = have == FRAME_HEADER && [be32(&head, 8), be32(&head, 12)] == self.salts;
        Ok(own.then(|| [be32(&head, 16), be32(&head, 20)]))
    }

    /// Reads frame `number` again and proves that it is still what it was when its predecessor's checksum was
    /// `before`. `scratch` is overwritten.
    pub(crate) fn read_frame<'b>(
        &self,
        log: &(impl ReadAt + ?Sized),
        number: u32,
        before: Sum,
        scratch: &'b mut Vec<u8>,
    ) -> io::Result<Option<Frame<'b>>> {
        scratch.resize(self.frame_len(), 0);
        let have = log.fill(scratch, self.offset(number))?;
        Ok(self.frame(number, before, &scratch[..have]))
    }
}

/// The running checksum after `bytes`, whose length is a multiple of 8.
#[expect(clippy::big_endian_bytes, reason = "the header says which byte order the checksum has")]
pub(crate) fn checksum(big: bool, sum: Sum, bytes: &[u8]) -> Sum {
    let word = |four: &[u8; 4]| if big { u32::from_be_bytes(*four) } else { u32::from_le_bytes(*four) };
    let [mut one, mut two] = sum;
    for pair in bytes.as_chunks::<8>().0 {
        let ([a, b], _) = pair.as_chunks::<4>() else { continue };
        one = one.wrapping_add(word(a)).wrapping_add(two);
        two = two.wrapping_add(word(b)).wrapping_add(one);
    }
    [one, two]
}

/// A frame that is in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'b> {
    /// Its place, counted from 1.
    pub(crate) number: u32,
    /// The page it holds, counted from 1.
    pub(crate) page: u32,
    /// Pages of the database after the transaction that it ends; 0 when it ends none.
    pub(crate) database: u32,
    /// The running checksum before it.
    pub(crate) before: Sum,
    /// The running checksum after it.
    pub(crate) after: Sum,
    /// The page.
    pub(crate) data: &'b [u8],
}

/// A place in a log: behind frame `frame`, where the running checksum is `sum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// 0 is behind the header.
    pub(crate) frame: u32,
    /// The running checksum there.
    pub(crate) sum: Sum,
}

impl Cursor {
    /// Behind the header.
    pub(crate) fn start(header: &WalHeader) -> Self {
        Cursor { frame: 0, sum: header.sum }
    }
}

/// Hands the frames behind `from`, up to number `limit`, to `each`, until one does not fit or `each` breaks off.
pub(crate) fn scan(
    log: &(impl ReadAt + ?Sized),
    header: &WalHeader,
    from: Cursor,
    limit: u32,
    each: &mut dyn FnMut(Frame<'_>) -> ControlFlow<()>,
) -> io::Result<()> {
    let frame_len = header.frame_len();
    let per_chunk = (CHUNK / frame_len).max(1);
    let mut chunk = vec![0; per_chunk * frame_len];
    let mut at = from;
    while at.frame < limit {
        let wanted = per_chunk.min((limit - at.frame) as usize) * frame_len;
        let have = log.fill(&mut chunk[..wanted], header.offset(at.frame + 1))?;
        for bytes in chunk[..have].chunks(frame_len) {
            let Some(frame) = header.frame(at.frame + 1, at.sum, bytes) else { return Ok(()) };
            at = Cursor { frame: frame.number, sum: frame.after };
            if each(frame).is_break() {
                return Ok(());
            }
        }
        if have < wanted {
            break;
        }
    }
    Ok(())
}

/// The end of a transaction in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Its last frame and the checksum there.
    pub(crate) at: Cursor,
    /// Pages of the database after it.
    pub(crate) database: u32,
}

/// Where the newest image of a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The page, counted from 1.
    pub(crate) page: u32,
    /// The frame.
    pub(crate) frame: u32,
    /// The running checksum before the frame, which makes it possible to prove it when it is read again.
    pub(crate) before: Sum,
}

/// The committed pages of a log up to some frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageMap {
    /// The newest place of each page, ascending by page, none behind the end of the database.
    pub(crate) places: Vec<Place>,
    /// The last transaction; `None` when there is none.
    pub(crate) last: Option<Commit>,
    /// The running checksum at the frame that was asked for, if that is committed.
    pub(crate) watched: Option<Sum>,
}

impl PageMap {
    /// Reads the log up to frame `limit`, and notes the checksum at frame `watch`.
    pub(crate) fn read(
        log: &(impl ReadAt + ?Sized),
        header: &WalHeader,
        limit: u32,
        watch: Option<u32>,
    ) -> io::Result<Self> {
        let mut map = PageMap::default();
        let mut newest: HashMap<u32, Place> = HashMap::new();
        let mut open: Vec<Place> = Vec::new();
        let mut watched = None;
        scan(log, header, Cursor::start(header), limit, &mut |frame| {
            open.push(Place { page: frame.page, frame: frame.number, before: frame.before });
            if watch == Some(frame.number) {
                watched = Some(frame.after);
            }
            if frame.database != 0 {
                let at = Cursor { frame: frame.number, sum: frame.after };
                map.last = Some(Commit { at, database: frame.database });
                map.watched = watched;
                newest.extend(open.drain(..).map(|place| (place.page, place)));
            }
            ControlFlow::Continue(())
        })?;
        let pages = map.last.map_or(0, |last| last.database);
        map.places = newest.into_values().filter(|place| place.page <= pages).collect();
        map.places.sort_unstable_by_key(|place| place.page);
        Ok(map)
    }

    /// The places of the pages from `first` up to, not including, `end`.
    pub(crate) fn within(&self, first: u64, end: u64) -> &[Place] {
        let from = self.places.partition_point(|place| u64::from(place.page) < first);
        let upto = self.places.partition_point(|place| u64::from(place.page) < end);
        self.places.get(from..upto).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bytes::put32;

    /// A log of frames: page number, size of the database if it ends a transaction, and a byte to fill the page with.
    fn log(big: bool, frames: &[(u32, u32, u8)]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        put32(&mut bytes, 0, MAGIC | u32::from(big));
        put32(&mut bytes, 4, VERSION);
        put32(&mut bytes, 8, 512);
        put32(&mut bytes, 16, 0x0102_0304);
        put32(&mut bytes, 20, 0x0506_0708);
        let mut sum = checksum(big, [0, 0], &bytes[..24]);
        put32(&mut bytes, 24, sum[0]);
        put32(&mut bytes, 28, sum[1]);
        for (page, database, fill) in frames {
            let mut frame = vec![*fill; FRAME_HEADER + 512];
            put32(&mut frame, 0, *page);
            put32(&mut frame, 4, *database);
            put32(&mut frame, 8, 0x0102_0304);
            put32(&mut frame, 12, 0x0506_0708);
            sum = checksum(big, checksum(big, sum, &frame[..8]), &frame[FRAME_HEADER..]);
            put32(&mut frame, 16, sum[0]);
            put32(&mut frame, 20, sum[1]);
            bytes.extend_from_slice(&frame);
        }
        bytes
    }

    fn map(bytes: &[u8], limit: u32, watch: Option<u32>) -> PageMap {
        let header = WalHeader::read(bytes).unwrap().unwrap();
        PageMap::read(bytes, &header, limit, watch).unwrap()
    }

    fn places(map: &PageMap) -> Vec<(u32, u32)> {
        map.places.iter().map(|place| (place.page, place.frame)).collect()
    }

    #[test]
    fn only_committed_frames_count_in_either_byte_order() {
        for big in [false, true] {
            let bytes = log(big, &[(1, 0, 1), (2, 3, 2), (1, 3, 3), (3, 0, 4)]);
            let all = map(&bytes, u32::MAX, Some(2));
            assert_eq!(places(&all), [(1, 3), (2, 2)]);
            assert_eq!(all.last.map(|last| (last.at.frame, last.database)), Some((3, 3)));
            assert!(all.watched.is_some());
            let two = map(&bytes, 2, Some(3));
            assert_eq!((places(&two), two.watched), (vec![(1, 1), (2, 2)], None));
            assert_eq!(map(&bytes, 1, None), PageMap::default());
            assert_eq!(places(&map(&bytes[..bytes.len() - 1], u32::MAX, None)), places(&all), "cut in the last frame");
        }
    }

    #[test]
    fn pages_that_were_cut_off_are_not_in_the_map() {
        let bytes = log(false, &[(9, 9, 1), (2, 3, 2)]);
        assert_eq!(places(&map(&bytes, u32::MAX, None)), [(2, 2)]);
    }

    #[test]
    fn a_changed_byte_ends_the_log_there() {
        let good = log(false, &[(1, 1, 1), (2, 2, 2), (3, 3, 3)]);
        let frame_len = FRAME_HEADER + 512;
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            let Some(header) = WalHeader::read(&bytes[..]).unwrap() else {
                assert!(at < HEADER);
                continue;
            };
            let map = PageMap::read(&bytes[..], &header, u32::MAX, None).unwrap();
            let intact = (at - HEADER) / frame_len;
            assert_eq!(map.last.map_or(0, |last| last.at.frame) as usize, intact, "byte {at}");
        }
    }

    #[test]
    fn a_frame_is_proven_when_it_is_read_again() {
        let mut bytes = log(false, &[(1, 0, 1), (2, 2, 2)]);
        let header = WalHeader::read(&bytes[..]).unwrap().unwrap();
        let place = map(&bytes, u32::MAX, None).places[1];
        let mut scratch = Vec::new();
        let frame = header.read_frame(&bytes[..], place.frame, place.before, &mut scratch).unwrap();
        assert_eq!(frame.map(|frame| (frame.page, frame.data[0])), Some((2, 2)));
        bytes.truncate(bytes.len() - 1);
        assert!(header.read_frame(&bytes[..], place.frame, place.before, &mut scratch).unwrap().is_none());
        let other = log(false, &[(1, 0, 9), (2, 2, 2)]);
        assert!(header.read_frame(&other[..], place.frame, place.before, &mut scratch).unwrap().is_none());
    }

    proptest! {
        /// Hostile bytes are passed over, without a panic and without reading more than there is.
        #[test]
        fn any_bytes_are_survived(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..3000),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            keep_header in any::<bool>(),
        ) {
            let good = log(true, &[(1, 0, 1), (7, 9, 2), (1, 9, 3)]);
            if keep_header && bytes.len() >= HEADER {
                bytes[..HEADER].copy_from_slice(&good[..HEADER]);
            }
            let mut flipped = good;
            for (at, value) in flips {
                let at = at.index(flipped.len());
                flipped[at] = value;
            }
            for bytes in [&bytes, &flipped] {
                if let Some(header) = WalHeader::read(&bytes[..]).unwrap() {
                    let map = PageMap::read(&bytes[..], &header, u32::MAX, Some(1)).unwrap();
                    prop_assert!(map.places.len() * header.frame_len() <= bytes.len());
                }
            }
        }
    }
}
