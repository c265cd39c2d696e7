//! Whether the bytes of a piece that go by are those that were written, as far as that shows without a key.

use crate::error::{Error, Result};
use crate::format::frame::HEADER_LEN;
use crate::format::wire::crc;
use crate::format::{PieceScanner, Scanned};
use crate::media::{Medium, ObjectName};

/// Checks the order and every checksum of a piece whose bytes come in portions.
#[derive(Default)]
pub(super) struct Proof(PieceScanner);

impl Proof {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) with the offset.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (taken, item) = self.0.push(bytes)?;
            bytes = &bytes[taken..];
            let Some(Scanned::Frame { offset, header }) = item else { continue };
            if self.0.bytes().get(HEADER_LEN..).map(crc) != Some(header.payload_crc) {
                return Err(Error::damaged(format!("frame at offset {offset}"), "the checksum does not match"));
            }
        }
        Ok(())
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// When the piece ends too early.
    pub(super) fn finish(self) -> Result<()> {
        self.0.finish()
    }
}

/// Reads a piece that is there.
///
/// # Errors
/// When it is damaged, or cannot be read.
pub(super) fn prove(medium: &dyn Medium, name: &ObjectName, portion: usize) -> Result<()> {
    let mut reader = medium.open(name, 0)?;
    let mut buffer = vec![0; portion];
    let mut proof = Proof::default();
    loop {
        match reader.read(&mut buffer)? {
            0 => return proof.finish(),
            got => proof.push(&buffer[..got])?,
        }
    }
}
