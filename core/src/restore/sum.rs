//! The checksum of a file whose parts are written in any order: CRC-32C, of each part by itself, joined at the end.
//!
//! A checksum is taken as a polynomial over two elements: bytes that follow multiply it by a power of `x`. So what stands
//! between two parts, zeros that were never written, costs no more than the parts do.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The polynomial of CRC-32C, its bits in reverse.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// `x` to the power of 2 to the power of the index.
const POWERS: [u32; 64] = powers();

/// What is known of a file while it is written.
#[derive(Debug, Default)]
pub(super) struct FileSum {
    /// By the place in the file: length and checksum.
    parts: Mutex<BTreeMap<u64, (u64, u32)>>,
}

impl FileSum {
    /// Takes in what is written at a place. Nothing is written twice.
    pub(super) fn add(&self, bytes: &[u8], offset: u64) {
        let (len, sum) = (bytes.len() as u64, crc32c::crc32c(bytes));
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        // Neighbours are joined at once: a file that is written in order is one part.
        match parts.range_mut(..offset).next_back() {
            Some((first, part)) if first.saturating_add(part.0) == offset => {
                *part = (part.0 + len, followed(part.1, sum, len));
            }
            _ => drop(parts.insert(offset, (len, sum))),
        }
    }

    /// The checksum of the file, `len` bytes, zeros where nothing was written.
    pub(super) fn whole(&self, len: u64) -> u32 {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let (sum, upto) = parts.iter().fold((0, 0), |(sum, upto), (&first, &(len, part))| {
            (followed(with_zeros(sum, first.saturating_sub(upto)), part, len), first + len)
        });
        with_zeros(sum, len.saturating_sub(upto))
    }
}

/// The checksum of bytes that are followed by others, `len` of them.
fn followed(sum: u32, other: u32, len: u64) -> u32 {
    moved(sum, len) ^ other
}

/// The checksum of bytes that are followed by zeros.
fn with_zeros(sum: u32, len: u64) -> u32 {
    !moved(!sum, len)
}

/// A checksum times `x` to the power of 8 times `len`.
fn moved(sum: u32, len: u64) -> u32 {
    let bits = (0..61).filter(|bit| len >> bit & 1 == 1);
    bits.fold(sum, |sum, bit| times(POWERS[bit + 3], sum))
}

const fn powers() -> [u32; 64] {
    let mut powers = [1 << 30; 64];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = times(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
}

/// The product of two polynomials; the highest bit is the power 0.
const fn times(one: u32, mut other: u32) -> u32 {
    let (mut product, mut bit) = (0, 1 << 31);
    while bit != 0 {
        if one & bit != 0 {
            product ^= other;
        }
        other = (other >> 1) ^ if other & 1 == 1 { POLYNOMIAL } else { 0 };
        bit >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_any_order_and_holes_between_them_sum_up_to_the_whole() {
        let mut file: Vec<u8> = (0..100_000u32).map(|at| (at * 31 % 255) as u8).collect();
        file[5_000..30_000].fill(0);
        file[90_000..].fill(0);
        let sum = FileSum::default();
        for part in [60_000..90_000, 0..4_000, 30_000..31_000, 4_000..5_000, 31_000..60_000] {
            sum.add(&file[part.clone()], part.start as u64);
        }
        assert_eq!(sum.whole(100_000), crc32c::crc32c(&file));
        assert_eq!(FileSum::default().whole(0), crc32c::crc32c(&[]));
        assert_eq!(FileSum::default().whole(70_000), crc32c::crc32c(&[0; 70_000]));
        assert_ne!(sum.whole(100_001), crc32c::crc32c(&file));
    }
}
