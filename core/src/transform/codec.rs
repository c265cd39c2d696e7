//! Compression of one block at a time, with contexts that live as long as their writer or reader.

use std::io::Cursor;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use zstd::bulk::{Compressor, Decompressor};

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Codec, Compression};

/// Compresses blocks.
pub struct Packer(Inner);

enum Inner {
    None,
    Lz4 { table: CompressTable, scratch: Vec<u8> },
    Zstd(Compressor<'static>),
}

impl Packer {
    /// A packer with its own context.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the level is out of range.
    pub fn new(compression: Compression) -> Result<Self> {
        compression.validate()?;
        Ok(Packer(match compression {
            Compression::None => Inner::None,
            Compression::Fast => Inner::Lz4 { table: CompressTable::large(), scratch: Vec::new() },
            Compression::Zstd(level) => Inner::Zstd(Compressor::new(i32::from(level)).map_err(failed)?),
        }))
    }

    /// Appends `raw` to `out`, compressed if that makes it smaller, and says how.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the codec fails; `out` is then of no use.
    pub fn pack(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<Codec> {
        let start = out.len();
        let codec = match &mut self.0 {
            Inner::None => Codec::None,
            Inner::Lz4 { table, scratch } => {
                let bound = get_maximum_output_size(raw.len());
                if scratch.len() < bound {
                    scratch.resize(bound, 0);
                }
                let len = compress_into_with_table(raw, scratch, table).map_err(failed)?;
                if len < raw.len() {
                    out.extend_from_slice(&scratch[..len]);
                }
                Codec::Lz4
            }
            Inner::Zstd(context) => {
                out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
                let mut behind = Cursor::new(&mut *out);
                behind.set_position(start as u64);
                context.compress_to_buffer(raw, &mut behind).map_err(failed)?;
                Codec::Zstd
            }
        };
        let packed = out.len() - start;
        if codec != Codec::None && packed > 0 && packed < raw.len() {
            return Ok(codec);
        }
        out.truncate(start);
        out.extend_from_slice(raw);
        Ok(Codec::None)
    }
}

/// Decompresses blocks.
#[derive(Default)]
pub struct Unpacker {
    zstd: Option<Decompressor<'static>>,
}

impl Unpacker {
    /// Replaces the content of `raw` by what `packed` decompresses to, which must be `raw_len` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when it is anything else.
    pub fn unpack(&mut self, codec: Codec, packed: &[u8], raw_len: usize, raw: &mut Vec<u8>) -> Result<()> {
        let found = match codec {
            Codec::None => {
                raw.clear();
                raw.extend_from_slice(packed);
                raw.len()
            }
            Codec::Lz4 => {
                raw.resize(raw_len, 0);
                decompress_into(packed, raw).map_err(|error| not_decompressible(error, raw_len))?
            }
            Codec::Zstd => {
                let context = match &mut self.zstd {
                    Some(context) => context,
                    none => none.insert(Decompressor::new().map_err(failed)?),
                };
                raw.clear();
                raw.reserve(raw_len);
                context.decompress_to_buffer(packed, raw).map_err(|error| not_decompressible(error, raw_len))?
            }
        };
        if found == raw_len {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Damaged, format!("decompresses to {found} bytes instead of {raw_len}")))
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Internal, "the compression library failed").because(error)
}

fn not_decompressible(error: impl std::error::Error + Send + Sync + 'static, raw_len: usize) -> Error {
    Error::new(ErrorKind::Damaged, format!("cannot be decompressed to {raw_len} bytes")).because(error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ways() -> impl Strategy<Value = Compression> {
        prop_oneof![Just(Compression::None), Just(Compression::Fast), (1u8..=6).prop_map(Compression::Zstd)]
    }

    proptest! {
        /// Whatever goes in comes out, behind what was there already, with contexts used again.
        #[test]
        fn comes_back(way in ways(), blocks in proptest::collection::vec((any::<u8>(), 0usize..4000, any::<bool>()), 1..6)) {
            let mut packer = Packer::new(way).unwrap();
            let mut unpacker = Unpacker::default();
            let mut raw = Vec::new();
            for (seed, len, noise) in blocks {
                let step = if noise { 193 } else { 0 };
                let block: Vec<u8> = (0..len).map(|at| seed.wrapping_add((at * at * step / 7) as u8)).collect();
                let mut out = vec![1, 2, 3];
                let codec = packer.pack(&block, &mut out).unwrap();
                prop_assert_eq!(&out[..3], &[1, 2, 3]);
                prop_assert!(out.len() <= 3 + block.len());
                unpacker.unpack(codec, &out[3..], block.len(), &mut raw).unwrap();
                prop_assert_eq!(&raw, &block);
            }
        }
    }

    /// A length that lies, in either direction, is damage and costs no more memory than was declared.
    #[test]
    fn bombs_and_lies_are_damage() {
        let zeros = vec![0; 8 << 20];
        for way in [Compression::Fast, Compression::Zstd(1)] {
            let mut packed = Vec::new();
            let codec = Packer::new(way).unwrap().pack(&zeros, &mut packed).unwrap();
            for wrong in [0, 1, 4096, zeros.len() - 1, zeros.len() + 1] {
                let mut raw = Vec::new();
                let error = Unpacker::default().unpack(codec, &packed, wrong, &mut raw).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Damaged, "{way} {wrong}");
                assert!(raw.capacity() <= wrong + 64, "{way} {wrong}: {}", raw.capacity());
            }
        }
    }
}
