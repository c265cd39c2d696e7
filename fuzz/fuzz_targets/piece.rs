//! A piece from front to back, in portions, and its frames opened without an index.
#![no_main]

use libfuzzer_sys::fuzz_target;
use setpiece_core::format::{PieceScanner, Scanned};
use setpiece_core::transform::PieceReader;

fuzz_target!(|bytes: &[u8]| {
    let portion = usize::from(bytes.first().copied().unwrap_or(1)).max(1);
    let mut scanner = PieceScanner::new();
    let mut reader: Option<PieceReader> = None;
    let mut raw = Vec::new();
    for mut part in bytes.get(1..).unwrap_or_default().chunks(portion) {
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
});
