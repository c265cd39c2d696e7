//! What a page of a relation says of itself: its LSN, its checksum, and whether its header makes sense.
//!
//! Layout from PostgreSQL's `bufpage.h`, the checksum's algorithm and constants from `checksum_impl.h`.

use setpiece_core::model::{FileEntry, FileKind, Lsn};
use setpiece_core::source::PageState;

/// Bytes of a page's header.
const HEADER: usize = 24;
/// Where the flags are, and the one that says that all rows are visible to everybody.
const FLAGS: usize = 10;
const ALL_VISIBLE: u16 = 4;
/// Bytes in a segment of a relation.
const SEGMENT: u64 = 1 << 30;
/// Sums that are kept side by side.
const LANES: usize = 32;
const PRIME: u32 = 16_777_619;
const OFFSETS: [u32; LANES] = [
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

/// Judges a page that is backed up. `block` is its number in the relation's fork, counted over all segments. With
/// `checksums` the page must carry a right one.
///
/// Without, the LSN of a page on which all rows are visible does not tell when it was changed last: a vacuum that finds
/// it so leaves the LSN alone, lest a torn page seem whole. If such a page were taken to be as old as it looks, the map
/// of visibility would come back without it, and later changes of the page would leave the map as it is. Where hints are
/// logged the LSN does tell, but not whether they were logged all the time.
pub(crate) fn judge(bytes: &[u8], block: u64, checksums: bool) -> PageState {
    match state(bytes, block, checksums) {
        PageState::At(_) if !checksums && half(bytes, FLAGS) & ALL_VISIBLE != 0 => PageState::Unversioned,
        state => state,
    }
}

/// What a page says of itself.
fn state(bytes: &[u8], block: u64, checksums: bool) -> PageState {
    if bytes.len() < HEADER || !bytes.len().is_power_of_two() || is_zero(bytes) {
        // The end of a file that is being extended, or a page that is not in use yet.
        return PageState::Unversioned;
    }
    if !header_makes_sense(bytes) {
        return PageState::Torn;
    }
    if checksums && checksum(bytes, block) != half(bytes, 8) {
        return PageState::Torn;
    }
    PageState::At(lsn(bytes))
}

/// Judges a page of a stored file. Whether it had to carry a checksum says the file's generation.
pub(crate) fn judge_stored(file: &FileEntry, page: u64, bytes: &[u8]) -> PageState {
    if file.kind != FileKind::Paged {
        return PageState::Unversioned;
    }
    let segment = file.path.as_str().rsplit_once('.').and_then(|(_, segment)| segment.parse::<u64>().ok());
    // All known servers are built with segments of 1 GiB.
    let first = segment.unwrap_or(0) * (SEGMENT / u64::from(file.page_size.max(1)));
    match state(bytes, first + page, file.generation != 0) {
        PageState::Torn => PageState::Bad("its checksum or its header is wrong".into()),
        state => state,
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The header's LSN: the upper half comes first.
pub(crate) fn lsn(bytes: &[u8]) -> Lsn {
    let word = |at: usize| u64::from(half(bytes, at)) | u64::from(half(bytes, at + 2)) << 16;
    Lsn(word(0) << 32 | word(4))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Lower, upper and special lie in this order within the page, and the page's size is the page's size.
fn header_makes_sense(bytes: &[u8]) -> bool {
    let [lower, upper, special] = [12, 14, 16].map(|at| usize::from(half(bytes, at)));
    let size = usize::from(half(bytes, 18) & 0xFF00);
    let ordered = HEADER <= lower && lower <= upper && upper <= special && special <= bytes.len();
    // A page that was made and never filled has no bounds yet.
    let new = upper == 0;
    new || (ordered && size == bytes.len() & 0xFF00)
}

/// The checksum of a page as it should be.
pub(crate) fn checksum(page: &[u8], block: u64) -> u16 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions that the function is compiled for.
        return unsafe { checksum_avx2(page, block) };
    }
    checksum_anywhere(page, block)
}

/// The same, compiled for wider registers: four times as fast.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn checksum_avx2(page: &[u8], block: u64) -> u16 {
    checksum_anywhere(page, block)
}

#[inline(always)]
fn checksum_anywhere(page: &[u8], block: u64) -> u16 {
    let mut sums = OFFSETS;
    let (head, rest) = page.split_at(LANES * 4);
    let mut first = [0; LANES * 4];
    first.copy_from_slice(head);
    // The field of the checksum itself counts as zero.
    first[8..10].fill(0);
    mix_rows(&mut sums, &first);
    mix_rows(&mut sums, rest);
    for _ in 0..2 {
        sums.iter_mut().for_each(|sum| *sum = mix(*sum, 0));
    }
    let folded = sums.iter().fold(0, |folded, sum| folded ^ sum);
    // Blocks are numbered in 32 bits.
    let placed = folded ^ block as u32;
    (placed % 65_535) as u16 + 1
}

#[inline(always)]
fn mix_rows(sums: &mut [u32; LANES], bytes: &[u8]) {
    for row in bytes.chunks_exact(LANES * 4) {
        for (sum, word) in sums.iter_mut().zip(row.chunks_exact(4)) {
            *sum = mix(*sum, u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
}

#[inline(always)]
fn mix(sum: u32, word: u32) -> u32 {
    let mixed = sum ^ word;
    mixed.wrapping_mul(PRIME) ^ (mixed >> 17)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Vec<u8> {
        let mut page: Vec<u8> = (0..8192u32).map(|at| (at * 7 % 251) as u8).collect();
        page[..8].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
        page[12..20].copy_from_slice(&[40, 0, 0, 16, 0, 32, 4, 32]);
        let sum = checksum(&page, 7).to_le_bytes();
        page[8..10].copy_from_slice(&sum);
        page
    }

    #[test]
    fn a_whole_page_has_its_lsn() {
        assert_eq!(judge(&page(), 7, true), PageState::At(Lsn(1 << 32 | 2)));
    }

    #[test]
    fn without_checksums_a_page_that_is_all_visible_may_be_younger_than_it_says() {
        let mut page = page();
        page[FLAGS] = 0;
        assert_eq!(judge(&page, 7, false), PageState::At(Lsn(1 << 32 | 2)));
        page[FLAGS] = 5;
        assert_eq!(judge(&page, 7, false), PageState::Unversioned);
        assert_eq!(state(&page, 7, false), PageState::At(Lsn(1 << 32 | 2)));
        let sum = checksum(&page, 7).to_le_bytes();
        page[8..10].copy_from_slice(&sum);
        assert_eq!(judge(&page, 7, true), PageState::At(Lsn(1 << 32 | 2)));
    }

    #[test]
    fn a_page_in_the_wrong_place_or_with_any_bit_flipped_is_not_taken() {
        assert_eq!(judge(&page(), 8, true), PageState::Torn);
        assert_eq!(state(&page(), 8, false), PageState::At(Lsn(1 << 32 | 2)));
        // Of 65,535 damages one is not noticed by 16 bits; none of these.
        for at in (0..8192).step_by(7) {
            let mut damaged = page();
            damaged[at] ^= 1 << (at % 8);
            assert_eq!(judge(&damaged, 7, true), PageState::Torn, "byte {at}");
        }
    }

    #[test]
    fn every_build_of_the_checksum_gives_the_same() {
        assert_eq!(checksum(&page(), 7), checksum_anywhere(&page(), 7));
    }

    #[test]
    fn pages_without_content_carry_no_lsn() {
        assert_eq!(judge(&[0; 8192], 3, true), PageState::Unversioned);
        assert_eq!(judge(&[1; 100], 3, true), PageState::Unversioned);
    }
}
