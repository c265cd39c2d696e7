//! The checksum of a page: PostgreSQL's, as described in its `storage/checksum_impl.h`.
//!
//! 32 sums run side by side over the page's words, each beginning with a constant of its own: word `n` goes into sum
//! `n % 32` by a step of FNV-1a that also mixes the upper bits down. Two rounds of zeros end it. The sums are joined by
//! XOR, then with the block's number, and brought into 1 to 65535.

use crate::page::PAGE;

const LANES: usize = 32;
const FNV_PRIME: u32 = 16_777_619;

/// What each sum begins with.
const BEGIN: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// Where the checksum is in the page; it counts as zero.
pub(crate) const CHECKSUM_AT: usize = 8;

/// The checksum that a page should have as block `block` of its relation.
pub(crate) fn checksum(page: &[u8; PAGE], block: u32) -> u16 {
    let mut copy = *page;
    copy[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
    let mut sums = BEGIN;
    for row in copy.chunks_exact(LANES * 4) {
        for (sum, word) in sums.iter_mut().zip(row.chunks_exact(4)) {
            *sum = mix(*sum, u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let joined = sums.iter().fold(0, |joined, sum| joined ^ mix(mix(*sum, 0), 0));
    ((joined ^ block) % 65535 + 1) as u16
}

fn mix(sum: u32, word: u32) -> u32 {
    let mixed = sum ^ word;
    mixed.wrapping_mul(FNV_PRIME) ^ (mixed >> 17)
}
