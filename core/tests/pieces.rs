//! Random pieces, written, read by way of the index and from front to back in portions of one, two and more bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use setpiece_core::format::{
    Compression, EntryContent, IndexEntry, PagesTable, PieceInfo, PieceKind, PieceScanner, RunKind, Scanned, StoredRun,
};
use setpiece_core::model::log::FileChanges;
use setpiece_core::model::{BranchId, FileId, LogUnit, Lsn, LsnSpan, NodeId, PageRun, PieceNo, Seq, SetId, Uuid};
use setpiece_core::transform::derive::{PIECE, object_key};
use setpiece_core::transform::{DataKey, FrameContent, PieceReader, PieceSpec, PieceWriter, WholeUnit, page_hash};
use setpiece_core::{ErrorKind, Result};

const SET: SetId = SetId(Uuid([5; 16]));
const PAGE: usize = 512;

#[derive(Clone, Debug, PartialEq)]
struct Frame {
    table: PagesTable,
    data: Vec<u8>,
    hashes: Option<Vec<u8>>,
}

fn runs() -> impl Strategy<Value = Vec<StoredRun>> {
    let kind = prop_oneof![Just(RunKind::Data), Just(RunKind::Zero), Just(RunKind::Free)];
    prop::collection::vec((0u64..3, 1u64..4, kind), 1..6).prop_map(|parts| {
        let mut next = 0;
        let place = |(gap, count, kind)| {
            let run = PageRun::new(next + gap, count);
            next = run.end();
            StoredRun { run, kind }
        };
        parts.into_iter().map(place).collect()
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    (1u64..4, 0u64..2, runs(), any::<u8>(), 0..PAGE, any::<bool>()).prop_map(
        |(file, generation, runs, fill, cut, hashed)| {
            let table = PagesTable { file: FileId(file), generation, page_size: PAGE as u32, runs };
            let short = if table.runs.last().unwrap().kind == RunKind::Data { cut } else { 0 };
            let len = table.data_pages() as usize * PAGE - short;
            let data: Vec<u8> = (0..len).map(|at| fill.wrapping_add((at * at / 77) as u8)).collect();
            let hashes = hashed.then(|| data.chunks(PAGE).flat_map(page_hash).collect());
            Frame { table, data, hashes }
        },
    )
}

fn units() -> impl Strategy<Value = Vec<WholeUnit>> {
    prop::collection::vec((0usize..3000, any::<bool>()), 0..8).prop_map(|lens| {
        let unit = |(seq, (len, named)): (u64, (usize, bool))| WholeUnit {
            unit: LogUnit {
                node: NodeId(0),
                branch: BranchId(1),
                seq: Seq(seq),
                span: LsnSpan { after: Lsn(seq), upto: Lsn(seq + 1) },
                first_commit: None,
                last_commit: None,
                len: len as u64,
                changes: None,
                name: named.then(|| format!("unit {seq}")),
                links: None,
                timing: None,
                points: None,
            },
            bytes: (0..len).map(|at| (at / 10) as u8).collect(),
        };
        (1..).zip(lens).map(unit).collect()
    })
}

fn ways() -> impl Strategy<Value = (Compression, Option<DataKey>)> {
    let way = prop_oneof![Just(Compression::None), Just(Compression::Fast), Just(Compression::Zstd(1))];
    (way, prop::option::of(any::<[u8; 32]>().prop_map(DataKey::from_bytes)))
}

fn spec(kind: PieceKind, compression: Compression, key: Option<&DataKey>) -> PieceSpec {
    PieceSpec { set: SET, piece: PieceNo(1), channel: 3, kind, compression, key: key.cloned() }
}

fn write(frames: &[Frame], compression: Compression, key: Option<&DataKey>) -> (PieceInfo, Vec<u8>) {
    let mut out = Vec::new();
    let mut writer = PieceWriter::new(spec(PieceKind::Data, compression, key), &mut out).unwrap();
    for frame in frames {
        writer.pages(frame.table.clone(), frame.hashes.clone(), &mut frame.data.clone(), &mut out).unwrap();
        assert_eq!(writer.written(), out.len() as u64);
    }
    let bound = writer.size_if_finished();
    let info = writer.finish(&mut out).unwrap();
    assert!(info.len == out.len() as u64 && info.len <= bound, "{} bytes, {bound} foretold", info.len);
    (info, out)
}

/// The index of a piece, by way of its trailer.
fn index(reader: &mut PieceReader, bytes: &[u8]) -> Result<Vec<IndexEntry>> {
    let trailer = reader.trailer(&bytes[bytes.len() - 64..], bytes.len() as u64)?;
    let at = |offset: u64, len: u32| &bytes[offset as usize..][..len as usize];
    let root = reader.root(at(trailer.root_offset, trailer.root_len), &trailer)?;
    let segments = root.segments.iter().map(|segment| reader.segment(segment, at(segment.offset, segment.stored_len)));
    Ok(segments.collect::<Result<Vec<_>>>()?.concat())
}

/// Everything in a piece from front to back, from portions of a size: pages as frames, units, and the index.
fn scan(bytes: &[u8], portion: usize, key: Option<&DataKey>) -> Result<(Vec<Frame>, Vec<WholeUnit>, Vec<IndexEntry>)> {
    let (mut scanner, mut reader, mut raw) = (PieceScanner::new(), None, Vec::new());
    let (mut frames, mut units, mut index) = (Vec::new(), Vec::new(), Vec::new());
    for mut rest in bytes.chunks(portion) {
        while !rest.is_empty() {
            let (taken, item) = scanner.push(rest)?;
            rest = &rest[taken..];
            match (item, reader.as_mut()) {
                (Some(Scanned::Header(_)), _) => {
                    reader = Some(PieceReader::open(scanner.bytes(), SET, PieceNo(1), key)?);
                }
                (Some(Scanned::Frame { offset, .. }), Some(reader)) => {
                    match reader.frame(offset, scanner.bytes(), &mut raw)? {
                        FrameContent::Pages(table) => frames.push(Frame { table, data: raw.clone(), hashes: None }),
                        FrameContent::Log(whole) => units.extend(whole),
                        FrameContent::Index(entries) => index.extend(entries),
                        FrameContent::Root(_) => {}
                    }
                }
                _ => {}
            }
        }
    }
    scanner.finish().map(|()| (frames, units, index))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_come_back(frames in prop::collection::vec(frame(), 0..6), (compression, key) in ways(), portion in 3usize..5000) {
        let key = key.as_ref();
        let (info, bytes) = write(&frames, compression, key);
        let mut reader = PieceReader::open(&bytes[..128], SET, PieceNo(1), key).unwrap();
        reader.matches(&info).unwrap();
        let entries = index(&mut reader, &bytes).unwrap();
        prop_assert_eq!(entries.len(), frames.len());
        let mut raw = Vec::new();
        for (entry, frame) in entries.iter().zip(&frames) {
            let stored = &bytes[entry.offset as usize..][..entry.stored_len as usize];
            prop_assert_eq!(&reader.pages(entry, stored, &mut raw).unwrap(), &frame.table);
            prop_assert_eq!(&raw, &frame.data);
            let EntryContent::Pages { hashes, .. } = &entry.content else { panic!("redo in a data piece") };
            prop_assert_eq!(hashes, &frame.hashes);
        }
        let unhashed: Vec<Frame> = frames.iter().map(|frame| Frame { hashes: None, ..frame.clone() }).collect();
        for portion in [1, 2, portion] {
            let (found, _, scanned) = scan(&bytes, portion, key).unwrap();
            prop_assert_eq!(&found, &unhashed);
            prop_assert_eq!(&scanned, &entries);
        }
    }

    #[test]
    fn redo_comes_back(units in units(), (compression, key) in ways()) {
        let key = key.as_ref();
        let mut bytes = Vec::new();
        let mut writer = PieceWriter::new(spec(PieceKind::Log, compression, key), &mut bytes).unwrap();
        for whole in &units {
            writer.log(whole.unit.clone(), &whole.bytes, &mut bytes).unwrap();
        }
        writer.finish(&mut bytes).unwrap();
        for portion in [1, 2, 1000] {
            prop_assert_eq!(&scan(&bytes, portion, key).unwrap().1, &units);
        }
    }

    /// Whatever bytes stand in for a piece's: an error, and never a panic or a piece.
    #[test]
    fn damage_is_noticed(frames in prop::collection::vec(frame(), 1..4), (compression, key) in ways(), at: prop::sample::Index, bit in 0..8) {
        let key = key.as_ref();
        let (_, mut bytes) = write(&frames, compression, key);
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        prop_assert!(scan(&bytes, 1000, key).is_err(), "byte {} bit {}", at, bit);
        bytes[at] ^= 1u8 << bit;
        bytes.truncate(at);
        prop_assert_eq!(scan(&bytes, 1000, key).unwrap_err().kind(), ErrorKind::Damaged);
    }
}

/// The parts of a unit of redo were expected in frames with consecutive numbers; when the index of the piece grew by a
/// segment between two of them, the unit was called damaged.
#[test]
fn a_unit_with_an_index_segment_among_its_parts_comes_back() {
    let span = |seq: u64| LsnSpan { after: Lsn(seq), upto: Lsn(seq + 1) };
    let unit = |seq: u64, len: usize, pages: u64| {
        let runs = (0..pages).map(|page| PageRun::new(3 * page, 1)).collect();
        let changes = Some(vec![FileChanges { file: FileId(1), pages: runs }]);
        let (node, branch, seq, span) = (NodeId(0), BranchId(1), Seq(seq), span(seq));
        let unit = LogUnit {
            node,
            branch,
            seq,
            span,
            first_commit: None,
            last_commit: None,
            len: len as u64,
            changes,
            name: None,
            links: None,
            timing: None,
            points: None,
        };
        WholeUnit { unit, bytes: (0..len).map(|at| (at / 10) as u8).collect() }
    };
    // Two records that do not fit into one segment, the second of a unit in three parts.
    let units = [unit(1, 10, 120_000), unit(2, 9 << 20, 120_000)];
    let mut bytes = Vec::new();
    let mut writer = PieceWriter::new(spec(PieceKind::Log, Compression::Fast, None), &mut bytes).unwrap();
    for whole in &units {
        writer.log(whole.unit.clone(), &whole.bytes, &mut bytes).unwrap();
    }
    writer.finish(&mut bytes).unwrap();
    let (_, found, entries) = scan(&bytes, 1 << 20, None).unwrap();
    assert!(entries.windows(2).any(|pair| pair[0].number + 1 < pair[1].number), "a segment lies among the frames");
    assert!(found == units, "from front to back");
    let mut reader = PieceReader::open(&bytes[..128], SET, PieceNo(1), None).unwrap();
    let entries = index(&mut reader, &bytes).unwrap();
    let stored = |entry: &IndexEntry| &bytes[entry.offset as usize..][..entry.stored_len as usize];
    let found: Vec<WholeUnit> = entries.iter().flat_map(|entry| reader.log(entry, stored(entry)).unwrap()).collect();
    assert!(found == units, "by way of the index");
}

#[test]
fn two_attempts_at_one_piece_share_no_key_and_are_told_apart() {
    let key = DataKey::from_bytes([1; 32]);
    let frames = [Frame {
        table: PagesTable {
            file: FileId(1),
            generation: 0,
            page_size: PAGE as u32,
            runs: vec![StoredRun { run: PageRun::new(0, 1), kind: RunKind::Data }],
        },
        data: vec![7; PAGE],
        hashes: None,
    }];
    let (info, one) = write(&frames, Compression::None, Some(&key));
    let (_, two) = write(&frames, Compression::None, Some(&key));
    assert_ne!(one[48..80], two[48..80]);
    assert_ne!(one[160..300], two[160..300], "the same page sealed twice does not look the same");
    let reader = PieceReader::open(&two[..128], SET, PieceNo(1), Some(&key)).unwrap();
    assert_eq!(reader.matches(&info).unwrap_err().kind(), ErrorKind::Damaged);
    let mixed = [&one[..128], &two[128..]].concat();
    assert_eq!(scan(&mixed, 1000, Some(&key)).unwrap_err().kind(), ErrorKind::Damaged);
}

/// The commitment was compared with one over a header that this version would write, so that an encrypted piece of a newer
/// minor version counted as one with a wrong key.
#[test]
fn an_encrypted_piece_of_a_newer_minor_version_is_read() {
    let key = DataKey::from_bytes([1; 32]);
    let table = PagesTable {
        file: FileId(1),
        generation: 0,
        page_size: PAGE as u32,
        runs: vec![StoredRun { run: PageRun::new(0, 1), kind: RunKind::Data }],
    };
    let frame = Frame { table, data: vec![7; PAGE], hashes: None };
    let (_, mut bytes) = write(std::slice::from_ref(&frame), Compression::Zstd(1), Some(&key));
    let commit = |bytes: &mut [u8]| {
        let salt: [u8; 32] = bytes[48..80].try_into().unwrap();
        let (_, commitment) = object_key(&key, &salt, PIECE, &bytes[..48]).unwrap();
        bytes[80..112].copy_from_slice(&commitment);
    };
    let sign = |bytes: &mut [u8]| {
        let crc = crc32fast::hash(&bytes[..124]);
        bytes[124..128].copy_from_slice(&crc.to_le_bytes());
    };
    // A minor version and a compatible feature that do not exist yet.
    (bytes[10], bytes[16]) = (7, 4);
    sign(&mut bytes);
    assert_eq!(scan(&bytes, 1000, Some(&key)).unwrap_err().kind(), ErrorKind::Key, "not what was committed to");
    commit(&mut bytes);
    sign(&mut bytes);
    assert_eq!(scan(&bytes, 1000, Some(&key)).unwrap().0, [frame]);
}

#[test]
fn a_writer_refuses_what_no_reader_would_take_and_is_poisoned() {
    let run = |first, count| StoredRun { run: PageRun::new(first, count), kind: RunKind::Data };
    let table = |runs, page_size| PagesTable { file: FileId(1), generation: 0, page_size, runs };
    let wrong = [
        (table(vec![], 512), 0),
        (table(vec![run(0, 1)], 511), 511),
        (table(vec![run(0, 2)], 512), 512),
        (table(vec![run(0, 1)], 512), 513),
        (table(vec![run(3, 1), run(2, 1)], 512), 1024),
        (table(vec![run((1 << 21) - 1, 2)], 512), 1024),
    ];
    for (table, len) in wrong {
        let mut out = Vec::new();
        let mut writer = PieceWriter::new(spec(PieceKind::Data, Compression::None, None), &mut out).unwrap();
        let error = writer.pages(table.clone(), None, &mut vec![1; len], &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{table:?}");
        let good = PagesTable { file: FileId(1), generation: 0, page_size: 512, runs: vec![run(0, 1)] };
        let again = writer.pages(good, None, &mut vec![1; 512], &mut out).unwrap_err();
        assert!(again.to_string().contains("writing failed before"), "{again}");
    }
}
