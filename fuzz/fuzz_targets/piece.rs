//! A piece from front to back, in portions, and its frames opened without an index. The input is either the bytes of the
//! piece, or the contents of frames, to which headers and checksums are added: hardly any random bytes have right ones.
#![no_main]

use libfuzzer_sys::fuzz_target;
use setpiece_core::format::wire::crc;
use setpiece_core::format::{
    CipherId, Codec, FrameHeader, FrameKind, PieceHeader, PieceKind, PieceScanner, Scanned, Trailer,
};
use setpiece_core::model::{PieceNo, SetId};
use setpiece_core::transform::PieceReader;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let portion = usize::from(first >> 1).max(1);
    if first & 1 == 0 { read(rest, portion) } else { read(&piece_of(rest), portion) }
});

/// A piece of frames with these contents. Each begins with a byte for kind and codec, and two for its length.
fn piece_of(mut bytes: &[u8]) -> Vec<u8> {
    let kind = if bytes.first().is_some_and(|byte| byte & 0x80 == 0) { PieceKind::Data } else { PieceKind::Log };
    let (set, piece, cipher) = (SetId::default(), PieceNo(1), CipherId::None);
    let header = PieceHeader { set, piece, channel: 0, kind, cipher, salt: [0; 32], commitment: [0; 32] };
    let mut out = header.encode().to_vec();
    let (mut number, mut root) = (0, (0, 0));
    while let Some(([what, low, high], rest)) = bytes.split_first_chunk::<3>() {
        let (content, behind) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([*low, *high]))));
        bytes = behind;
        let kind = [FrameKind::Pages, FrameKind::Log, FrameKind::Index, FrameKind::Root][usize::from(what & 3)];
        let codec = [Codec::None, Codec::None, Codec::Lz4, Codec::Zstd][usize::from(what >> 2 & 3)];
        let header = FrameHeader {
            kind,
            codec,
            number,
            stored_len: content.len() as u32,
            raw_len: if codec == Codec::None { content.len() as u32 } else { content.len() as u32 * 4 },
            payload_crc: crc(content),
        };
        root = (out.len() as u64, header.total_len() as u32);
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(content);
        number += 1;
    }
    let piece_len = out.len() as u64 + 64;
    let trailer = Trailer { root_offset: root.0, root_len: root.1, frames: number, piece_len, set, piece };
    out.extend_from_slice(&trailer.encode());
    out
}

fn read(bytes: &[u8], portion: usize) {
    let mut scanner = PieceScanner::new();
    let mut reader: Option<PieceReader> = None;
    let mut raw = Vec::new();
    for mut part in bytes.chunks(portion) {
        while !part.is_empty() {
            let Ok((taken, item)) = scanner.push(part) else { return };
            part = &part[taken..];
            match item {
                Some(Scanned::Header(header)) => {
                    reader = PieceReader::open(scanner.bytes(), header.set, header.piece, None).ok();
                }
                Some(Scanned::Frame { offset, .. }) => {
                    if let Some(reader) = &mut reader {
                        let _opened = reader.frame(offset, scanner.bytes(), &mut raw);
                    }
                }
                Some(Scanned::Trailer(_)) | None => {}
            }
        }
    }
    let Some(mut reader) = reader else { return };
    let Some(end) = bytes.last_chunk::<64>() else { return };
    let Ok(trailer) = reader.trailer(end, bytes.len() as u64) else { return };
    let at =
        |offset: u64, len: u32| bytes.get(offset as usize..).and_then(|rest| rest.get(..len as usize)).unwrap_or(&[]);
    let Ok(root) = reader.root(at(trailer.root_offset, trailer.root_len), &trailer) else { return };
    for segment in &root.segments {
        let Ok(entries) = reader.segment(segment, at(segment.offset, segment.stored_len)) else { continue };
        for entry in &entries {
            let frame = at(entry.offset, entry.stored_len);
            let _opened = (reader.pages(entry, frame, &mut raw).is_ok(), reader.log(entry, frame).is_ok());
        }
    }
}
