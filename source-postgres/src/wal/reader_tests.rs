//! Tests of reading records out of pages.

use proptest::prelude::*;
use setpiece_core::ErrorKind;
use setpiece_core::model::Lsn;

use super::reader::Reader;
use super::record::BlockRef;
use super::rel::{Fork, RelFork};
use super::sample::{SEGMENT, SampleBlock, SampleRecord, Writer};

const BASE: u64 = 0x500_0000;

/// A record as it was read, without borrows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    start: Lsn,
    end: Lsn,
    prev: Lsn,
    xid: u32,
    rmgr: u8,
    info: u8,
    main: Vec<u8>,
    blocks: Vec<BlockRef>,
}

/// Reads chunks of pages until the WAL ends; `Err` when there is damage.
fn read(chunks: &[&[u8]]) -> (Vec<Read>, Result<Option<Lsn>, setpiece_core::Error>) {
    let mut reader = Reader::new();
    let mut found = Vec::new();
    for chunk in chunks {
        let mut records = match reader.push(chunk) {
            Ok(records) => records,
            Err(error) => return (found, Err(error)),
        };
        loop {
            match records.next_record() {
                Ok(Some(record)) => found.push(Read {
                    start: record.start,
                    end: record.end,
                    prev: record.prev,
                    xid: record.xid,
                    rmgr: record.rmgr,
                    info: record.info,
                    main: record.main.to_vec(),
                    blocks: record.blocks.to_vec(),
                }),
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
            }
        }
        if reader.end().is_some() {
            break;
        }
    }
    let end = reader.end().map(|end| end.at);
    (found, Ok(end))
}

fn block() -> impl Strategy<Value = SampleBlock> {
    let fork = (prop_oneof![Just(1663u32), any::<u32>()], 1u32..4, 1u32..4, prop::sample::select(&Fork::ALL[..]));
    let image = prop::option::of((1u16..8192, any::<bool>(), any::<bool>()));
    (fork, any::<u32>(), image, prop_oneof![Just(0u16), 1u16..300], any::<bool>(), any::<bool>()).prop_map(
        |((tablespace, database, relation, fork), block, image, data, will_init, same)| SampleBlock {
            id: 0,
            fork: RelFork { tablespace, database, relation, fork },
            block,
            image,
            data,
            will_init,
            same,
        },
    )
}

fn record() -> impl Strategy<Value = SampleRecord> {
    let main = prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..300),
        1 => proptest::collection::vec(any::<u8>(), 20_000..60_000),
    ];
    let blocks = prop_oneof![
        6 => proptest::collection::vec(block(), 0..4),
        1 => proptest::collection::vec(block(), 33..=33),
    ];
    // Any resource manager but XLOG, one of whose records ends the segment.
    ((1u8..22, any::<u8>(), any::<u32>()), any::<bool>(), any::<bool>(), blocks, main).prop_map(
        |((rmgr, info, xid), origin, top, mut blocks, main)| {
            for (id, block) in blocks.iter_mut().enumerate() {
                block.id = id as u8;
            }
            SampleRecord { rmgr, info, xid, origin, top, blocks, main }
        },
    )
}

fn expected(record: &SampleRecord) -> Vec<BlockRef> {
    let block = |block: &SampleBlock| BlockRef {
        id: block.id,
        fork: block.fork,
        block: block.block,
        image: block.image.map(|(len, _, _)| len),
        will_init: block.will_init,
    };
    record.blocks.iter().map(block).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What was written is read, however the pages come, up to where the WAL ends.
    #[test]
    fn what_was_written_is_read(
        major in 12u16..=18,
        records in proptest::collection::vec(record(), 1..60),
        chunk in 1usize..9,
        stale in any::<bool>(),
    ) {
        let mut writer = Writer::new(major, BASE, 7);
        let starts: Vec<Lsn> = records.iter().map(|record| writer.record(record)).collect();
        let end = writer.lsn();
        let pages = writer.bytes.len().div_ceil(8192);
        writer.fill_segment();
        if stale {
            // What an older use of the file left behind the last page.
            let mut older = Writer::new(major, 0x100_0000, 7);
            while (older.bytes.len() as u64) < SEGMENT {
                older.record(&SampleRecord::plain(10, 0, &[1; 3000]));
            }
            let from = pages * 8192;
            let upto = writer.bytes.len().min(SEGMENT as usize);
            if from < upto {
                writer.bytes[from..upto].copy_from_slice(&older.bytes[from..upto]);
            }
        }
        let chunks: Vec<&[u8]> = writer.bytes.chunks(chunk * 8192).collect();
        let (found, stop) = read(&chunks);
        let stop = stop.unwrap();
        prop_assert!(stop == Some(end) || (stop.is_none() && end.0.is_multiple_of(SEGMENT)), "{:?} {:?}", stop, end);
        prop_assert_eq!(found.len(), records.len());
        let mut prev = Lsn(0);
        for ((found, record), start) in found.iter().zip(&records).zip(&starts) {
            prop_assert_eq!((found.start, found.prev), (*start, prev));
            prop_assert_eq!((found.rmgr, found.info, found.xid), (record.rmgr, record.info, record.xid));
            prop_assert_eq!(&found.main, &record.main);
            prop_assert_eq!(&found.blocks, &expected(record));
            prev = *start;
        }
        prop_assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));
        prop_assert_eq!(found.last().unwrap().end, end);
    }

    /// A flipped bit changes no record: at most it ends the WAL early, or is damage.
    #[test]
    fn a_flipped_bit_is_never_read(
        records in proptest::collection::vec(record(), 10..40),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut writer = Writer::new(15, BASE, 7);
        for record in &records {
            writer.record(record);
        }
        writer.fill_segment();
        let (good, _) = read(&[&writer.bytes]);
        let at = at.index(writer.bytes.len());
        writer.bytes[at] ^= 1 << bit;
        let (found, _) = read(&[&writer.bytes]);
        prop_assert!(good.starts_with(&found), "{} of {} records after a flip at {at}", found.len(), good.len());
    }

    /// Bytes of no meaning are survived, alone and behind a good page.
    #[test]
    fn any_bytes_are_survived(noise in proptest::collection::vec(any::<u8>(), 0..40_000), keep in 0usize..300) {
        let mut writer = Writer::new(15, BASE, 7);
        writer.record(&SampleRecord::plain(10, 0, &[5; 100]));
        writer.fill_page();
        let mut bytes = noise.clone();
        let keep = keep.min(bytes.len());
        bytes[..keep].copy_from_slice(&writer.bytes[..keep]);
        bytes.resize(bytes.len().next_multiple_of(8192), 0);
        for chunks in [vec![&bytes[..]], vec![&writer.bytes[..], &noise], vec![&writer.bytes[..], &bytes]] {
            let (found, _) = read(&chunks);
            prop_assert!(found.len() <= 1);
        }
    }
}

fn plain(len: usize) -> SampleRecord {
    SampleRecord::plain(10, 0, &vec![0xAB; len])
}

/// Two segments full of records of an odd size.
fn two_segments() -> Writer {
    let mut writer = Writer::new(15, BASE, 7);
    while writer.bytes.len() as u64 + 5000 < 2 * SEGMENT {
        writer.record(&plain(777));
    }
    writer.fill_segment();
    writer
}

#[test]
fn a_stream_that_begins_within_a_record_begins_with_the_next() {
    let writer = two_segments();
    let (first, second) = writer.bytes.split_at(SEGMENT as usize);
    let (all, end) = read(&[first, second]);
    let (rest, rest_end) = read(&[second]);
    assert!(!rest.is_empty() && all.ends_with(&rest));
    assert_eq!(end.unwrap(), rest_end.unwrap());
    let straddles = &all[all.len() - rest.len() - 1];
    assert!(straddles.start.0 < BASE + SEGMENT && straddles.end.0 > BASE + SEGMENT, "{straddles:?}");
}

#[test]
fn a_record_longer_than_a_segment_is_put_together() {
    let mut writer = Writer::new(15, BASE, 7);
    writer.record(&plain(100));
    writer.record(&plain(3 << 20));
    writer.record(&plain(100));
    let end = writer.lsn();
    writer.fill_segment();
    let segments: Vec<&[u8]> = writer.bytes.chunks(SEGMENT as usize).collect();
    let (found, stop) = read(&segments);
    assert_eq!((found.len(), stop.unwrap()), (3, Some(end)));
    assert_eq!(found[1].main.len(), 3 << 20);
    let (tail, _) = read(&segments[2..]);
    assert_eq!(tail, &found[2..], "a stream that begins far inside of it");
}

#[test]
fn a_switch_ends_the_segment_and_nothing_behind_it_counts() {
    let mut writer = Writer::new(15, BASE, 7);
    writer.record(&plain(50));
    writer.record(&SampleRecord { rmgr: 0, info: 0x40, ..SampleRecord::default() });
    let rest = writer.bytes.len();
    writer.fill_segment();
    writer.bytes[rest..].fill(0x5A);
    let last = writer.record(&plain(60));
    writer.fill_segment();
    for chunk in [8192, 5 * 8192, SEGMENT as usize, 2 * SEGMENT as usize] {
        let chunks: Vec<&[u8]> = writer.bytes.chunks(chunk).collect();
        let (found, _) = read(&chunks);
        assert_eq!(found.len(), 3, "chunks of {chunk}");
        assert_eq!((found[1].end, found[2].start), (Lsn(BASE + SEGMENT), last));
    }
    let mut reader = Reader::new();
    let (page, next) = (&writer.bytes[..8192], &writer.bytes[SEGMENT as usize..]);
    assert_eq!(count(&mut reader, page), 2);
    assert_eq!([reader.pass_over(), reader.pass_over()], [SEGMENT - 8192, 0]);
    assert_eq!((reader.position(), count(&mut reader, next)), (Lsn(BASE + SEGMENT), 1));
    assert_eq!(reader.pass_over(), 0);
}

fn count(reader: &mut Reader, bytes: &[u8]) -> usize {
    let mut records = reader.push(bytes).unwrap();
    std::iter::from_fn(|| records.next_record().unwrap().map(drop)).count()
}

#[test]
fn a_record_that_was_given_up_is_replaced() {
    let mut writer = Writer::new(15, BASE, 7);
    writer.record(&plain(50));
    let last = writer.prev;
    writer.record(&plain(20_000));
    let lost = writer.prev;
    writer.bytes.truncate(2 * 8192);
    writer.prev = last;
    writer.overwrite();
    writer.record(&SampleRecord::plain(0, 0xD0, &[0; 16]));
    writer.record(&plain(10));
    writer.fill_segment();
    let (found, _) = read(&[&writer.bytes]);
    assert_eq!(found.iter().map(|read| (read.rmgr, read.info)).collect::<Vec<_>>(), [(10, 0), (0, 0xD0), (10, 0)]);
    assert!(found.iter().all(|read| read.start.0 != lost));
}

#[test]
fn the_end_is_told_from_damage() {
    let good = two_segments();
    let (all, _) = read(&[&good.bytes]);
    let half = &good.bytes[..SEGMENT as usize];
    let victim = &all[all.len() / 4];
    let offset = (victim.start.0 - BASE) as usize;

    let spoil = |at: usize, with: &[u8]| {
        let mut bytes = half.to_vec();
        bytes[at..at + with.len()].copy_from_slice(with);
        read(&[&bytes])
    };
    // Each of these is damage as long as there are pages in order behind it.
    let cases: [(&str, usize, &[u8]); 6] = [
        ("checksum", offset + 24, &[1, 2, 3]),
        ("zeros", offset, &[0; 64]),
        ("previous", offset + 8, &[9]),
        ("length", offset, &[7, 0, 0, 0]),
        ("huge", offset, &[0xFF, 0xFF, 0xFF, 0xFF]),
        ("page", 5 * 8192, &[0; 24]),
    ];
    for (name, at, with) in cases {
        let (found, stop) = spoil(at, with);
        let error = stop.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{name}");
        assert!(all.starts_with(&found) && found.len() < all.len());
        assert!(error.to_string().contains("WAL at 0/5"), "{error}");
    }
    // The same in the last page that was written is the end.
    let last = all.iter().rev().find(|read| read.end.0 <= BASE + SEGMENT).unwrap();
    for (at, with) in [(24, &[1u8, 2, 3][..]), (0, &[0; 64]), (8, &[9])] {
        let (found, stop) = spoil((last.start.0 - BASE) as usize + at, with);
        assert_eq!(stop.unwrap(), Some(last.start));
        assert_eq!(found.last().unwrap().end, last.start);
    }
}

#[test]
fn each_header_that_does_not_fit_ends_the_wal() {
    let good = two_segments();
    // Magic, flags, timeline, address, bytes that remain of a record.
    let cases: [(usize, &[u8], &str); 7] = [
        (0, &[0x0D, 0xD1], "a page with the magic number D10D"),
        (2, &[0x11], "a page header with the wrong flags"),
        (2, &[0x03], "a page header with the wrong flags"),
        (2, &[0x00], "a page that does not continue the page before"),
        (4, &[0], "a page of the older timeline 0"),
        (9, &[0xFF], "a page of 0/500FF00"),
        (16, &[1, 2], "a page that does not continue the page before"),
    ];
    for (at, with, why) in cases {
        let mut bytes = good.bytes[..3 * 8192].to_vec();
        bytes[2 * 8192 + at..2 * 8192 + at + with.len()].copy_from_slice(with);
        let (found, stop) = read(&[&bytes]);
        let stop = stop.unwrap().unwrap_or_else(|| panic!("{at} {with:?}"));
        assert_eq!(found.last().unwrap().end, stop, "{at}");
        assert!(stop.0 < BASE + 2 * 8192);
        let mut reader = Reader::new();
        let mut records = reader.push(&bytes).unwrap();
        while records.next_record().unwrap().is_some() {}
        assert_eq!(reader.end().unwrap().why, why);
    }
    // The second segment is of another cluster, or of other sizes.
    for at in [24, 32, 36] {
        let mut bytes = good.bytes.clone();
        bytes[SEGMENT as usize + at] ^= 0x40;
        let (_, stop) = read(&[&bytes[..SEGMENT as usize + 8192]]);
        assert!(stop.unwrap().unwrap().0 < BASE + SEGMENT);
    }
}

#[test]
fn the_timeline_may_rise_and_not_fall() {
    let mut writer = Writer::new(15, BASE, 7);
    writer.timeline = 3;
    writer.record(&plain(9000));
    writer.timeline = 4;
    writer.record(&plain(9000));
    let good = writer.lsn();
    writer.timeline = 3;
    writer.record(&plain(9000));
    writer.fill_segment();
    let (found, stop) = read(&[&writer.bytes[..5 * 8192]]);
    assert_eq!((found.len(), stop.unwrap()), (2, Some(good)));
}

#[test]
fn a_reader_is_to_be_used_in_order() {
    let good = two_segments();
    let (first, second) = good.bytes.split_at(SEGMENT as usize);
    let mut reader = Reader::new();
    assert_eq!(reader.push(&first[8192..]).unwrap_err().kind(), ErrorKind::Damaged, "not the beginning of a segment");
    let mut reader = Reader::new();
    assert!(reader.push(first).unwrap().next_record().unwrap().is_some());
    assert_eq!(reader.push(second).unwrap_err().kind(), ErrorKind::Internal, "unread");
    let mut reader = Reader::new();
    assert_eq!(reader.push(&first[..first.len() - 1]).unwrap_err().kind(), ErrorKind::Damaged, "cut short");
    let (_, stop) = read(&[first, first]);
    assert!(stop.unwrap().is_some(), "the same segment again is not what follows");
    let mut reader = Reader::new();
    let mut records = reader.push(&good.bytes).unwrap();
    while records.next_record().unwrap().is_some() {}
    assert_eq!(reader.position(), Lsn(BASE + 2 * SEGMENT));
    assert_eq!(reader.end().unwrap().why, "no record");
    assert_eq!(reader.push(first).unwrap_err().kind(), ErrorKind::Damaged, "behind the end");
}

#[test]
fn a_record_that_is_laid_out_wrongly_is_damage_though_its_checksum_fits() {
    let version = super::version::Version::from_major(15).unwrap();
    let fork = RelFork { tablespace: 1663, database: 5, relation: 9, fork: Fork::Main };
    let block = |id| SampleBlock { id, fork, block: 1, image: None, data: 4, will_init: false, same: false };
    let sample = SampleRecord { blocks: vec![block(0), block(1)], ..plain(10) };
    let second = 24 + 20;
    for (at, value) in
        [(24, 40u8), (24, 2), (second, 0), (second + 1, 0x0F), (second + 1, 0), (26, 200), (24 + 40, 251)]
    {
        let mut bytes = sample.bytes(version, 0);
        bytes[at] = value;
        super::sample::seal(&mut bytes);
        let mut writer = Writer::new(15, BASE, 7);
        writer.raw(&bytes);
        writer.fill_segment();
        let (found, stop) = read(&[&writer.bytes]);
        assert!(found.is_empty());
        assert_eq!(stop.unwrap_err().kind(), ErrorKind::Damaged, "{at}");
    }
}

#[test]
fn a_record_that_follows_another_than_the_last_ends_the_wal() {
    let version = super::version::Version::from_major(15).unwrap();
    let mut writer = Writer::new(15, BASE, 7);
    let first = writer.record(&plain(40));
    let last = writer.record(&plain(40));
    let end = writer.lsn();
    for (prev, follows) in [(first.0, false), (last.0 + 8, false), (end.0, false), (last.0, true)] {
        let mut writer = writer.clone();
        writer.raw(&plain(40).bytes(version, prev));
        let after = writer.lsn();
        writer.fill_page();
        let (found, stop) = read(&[&writer.bytes]);
        assert_eq!((found.len(), stop.unwrap()), if follows { (3, Some(after)) } else { (2, Some(end)) }, "{prev}");
    }
}

#[test]
fn a_page_that_continues_nothing_ends_the_wal() {
    let mut writer = Writer::new(15, BASE, 7);
    // Fills the first page to its last byte: headers of page and record, and five bytes before the main data.
    writer.record(&plain(8192 - 40 - 24 - 5));
    assert_eq!(writer.bytes.len(), 8192);
    writer.record(&plain(40));
    writer.fill_page();
    assert_eq!(read(&[&writer.bytes]).0.len(), 2);
    writer.bytes[8192 + 2] |= 1;
    writer.bytes[8192 + 16] = 64;
    let (found, stop) = read(&[&writer.bytes]);
    assert_eq!((found.len(), stop.unwrap()), (1, Some(Lsn(BASE + 8192))));
}

#[test]
fn damage_in_a_record_that_ends_with_its_page_is_seen() {
    let mut writer = Writer::new(15, BASE, 7);
    writer.record(&plain(8192 - 40 - 24 - 5 + 8192 - 24));
    assert_eq!(writer.bytes.len(), 2 * 8192);
    writer.record(&plain(40));
    writer.fill_page();
    assert_eq!(read(&[&writer.bytes]).0.len(), 2);
    writer.bytes[9000] ^= 1;
    assert_eq!(read(&[&writer.bytes]).1.unwrap_err().kind(), ErrorKind::Damaged);
}
