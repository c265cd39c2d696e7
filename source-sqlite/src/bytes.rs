//! Big-endian numbers at fixed places, as SQLite writes them in its database and write-ahead log files.

/// The 32-bit number at byte `at`; 0 when `bytes` ends before it, which callers rule out by checking lengths.
#[expect(clippy::big_endian_bytes, reason = "SQLite's file formats are big-endian")]
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |four| u32::from_be_bytes(*four))
}

/// The 16-bit number at byte `at`; 0 when `bytes` ends before it.
#[expect(clippy::big_endian_bytes, reason = "SQLite's file formats are big-endian")]
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |two| u16::from_be_bytes(*two))
}

/// Writes the 32-bit number at byte `at` of a test's file image.
#[cfg(test)]
#[expect(clippy::big_endian_bytes, reason = "SQLite's file formats are big-endian")]
pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// A page size that SQLite can have: a power of two from 512 to 65536.
pub(crate) fn is_page_size(size: u32) -> bool {
    size.is_power_of_two() && (512..=65536).contains(&size)
}

/// The hash FNV-1a with 128 bits: fixed for ever, unlike the standard library's.
pub(crate) fn fnv128<'b>(bytes: impl Iterator<Item = &'b u8>) -> u128 {
    bytes.fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv128(b"".iter()), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv128(b"foobar".iter()), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }
}
