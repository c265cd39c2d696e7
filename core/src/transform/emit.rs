//! Turns the content of one frame after the other into stored bytes.

use super::codec::Packer;
use super::seal::FrameSeal;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::HEADER_LEN;
use crate::format::limits::{MAX_RAW, MAX_STORED};
use crate::format::wire::{crc, put};
use crate::format::{Codec, FrameHeader, FrameKind};

/// Where a frame went.
#[derive(Clone, Copy, Debug)]
pub struct Emitted {
    /// Its number.
    pub number: u32,
    /// Where its header begins in the piece.
    pub offset: u64,
    /// Bytes of header and payload.
    pub stored_len: u32,
    /// Bytes of content.
    pub raw_len: u32,
}

/// Writes frames: compresses, seals, numbers them.
pub struct FrameEmitter {
    packer: Packer,
    seal: FrameSeal,
    next: u32,
    offset: u64,
}

impl FrameEmitter {
    /// An emitter whose first frame begins at `offset`.
    #[must_use]
    pub fn new(packer: Packer, seal: FrameSeal, offset: u64) -> Self {
        FrameEmitter { packer, seal, next: 0, offset }
    }

    /// How many frames were written.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.next
    }

    /// Where the next frame begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What compresses its frames.
    pub fn packer(&mut self) -> &mut Packer {
        &mut self.packer
    }

    /// Appends a frame with the content `raw` to `out`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`]; `out` is then of no use.
    pub fn emit(&mut self, kind: FrameKind, raw: &[u8], out: &mut Vec<u8>) -> Result<Emitted> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_LEN]);
        let codec = self.packer.pack(raw, out)?;
        self.close(kind, codec, raw.len(), start, out)
    }

    /// As [`FrameEmitter::emit`], where the content, `raw_len` bytes, was compressed before.
    ///
    /// # Errors
    /// As [`FrameEmitter::emit`].
    pub fn emit_packed(
        &mut self,
        kind: FrameKind,
        (codec, raw_len): (Codec, usize),
        packed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Emitted> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_LEN]);
        out.extend_from_slice(packed);
        self.close(kind, codec, raw_len, start, out)
    }

    /// Seals the frame that begins at `start` in `out`, with room for its header.
    fn close(
        &mut self,
        kind: FrameKind,
        codec: Codec,
        raw_len: usize,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<Emitted> {
        let payload = start + HEADER_LEN;
        let stored = out.len() - payload + self.seal.overhead();
        let next = self.next.checked_add(1);
        let (Some(next), true) = (next, raw_len <= MAX_RAW && stored <= MAX_STORED) else {
            return Err(Error::new(ErrorKind::Internal, format!("a frame of {raw_len} bytes, or one too many")));
        };
        let mut header = FrameHeader {
            kind,
            codec,
            number: self.next,
            stored_len: stored as u32,
            raw_len: raw_len as u32,
            payload_crc: 0,
        };
        self.seal.seal(&header, out, payload)?;
        header.payload_crc = crc(out.get(payload..).unwrap_or_default());
        put(out, start, &header.encode());
        let emitted = Emitted {
            number: self.next,
            offset: self.offset,
            stored_len: header.total_len() as u32,
            raw_len: header.raw_len,
        };
        self.next = next;
        self.offset += header.total_len() as u64;
        Ok(emitted)
    }
}
