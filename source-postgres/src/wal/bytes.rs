//! Little-endian numbers, one behind the other or at fixed places, out of bytes that may be too short.
//!
//! PostgreSQL writes WAL in the byte order of its machine; all that it runs on today are little-endian, and on the few
//! that are not the magic number of a page reads as an unknown version.

/// Reads from the front of bytes; every answer is `None` when they end too early.
#[derive(Clone, Copy, Debug)]
pub(super) struct Take<'b>(&'b [u8]);

impl<'b> Take<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Take(bytes)
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// Passes over `count` items of `size` bytes each.
    pub(super) fn skip(&mut self, count: u32, size: usize) -> Option<()> {
        let bytes = usize::try_from(count).ok()?.checked_mul(size)?;
        self.bytes(bytes).map(drop)
    }
}

/// The 32-bit number at byte `at`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_le_bytes(*four))
}

/// A string without its end.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
