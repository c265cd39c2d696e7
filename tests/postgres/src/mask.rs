//! What a server may change in a page without telling the log: hints, bytes that mean nothing, how far a sequence is,
//! and room made ahead of its use.
//!
//! Two servers that replayed the same log have the same pages but for these. The facts are those of PostgreSQL's
//! `bufpage.h`, `htup_details.h`, `nbtree.h`, `hash.h`, `gist.h`, `spgist_private.h` and `brin_page.h`.

use crate::page::PAGE;

const HEADER: usize = 24;
/// Free line pointers and page full. That all is visible is none: it never says less than the map of visibility, or
/// later changes would leave that one as it is.
const PAGE_HINTS: u16 = 0b11;
/// Bytes before the values in a row without NULLs.
const ROW_HEADER: usize = 24;
/// A tuple's line pointer.
const NORMAL: u32 = 1;
const XMIN_HINTS: u16 = 0x0300;
const XMAX_HINTS: u16 = 0x0C00;
/// Whether the number of a command is one of two; it means nothing after the transaction, and nor does the number.
const COMBINED: u16 = 0x0020;
/// What the special area of a sequence's page begins with.
const SEQUENCE: u16 = 0x1717;
/// What the special area of a BRIN page ends with that is a map from end to end.
const BRIN_MAP: u16 = 0xF092;
/// That a page of a GIN index is no longer in use. Its flags are a byte, the one behind it is zero.
const GIN_DELETED: u16 = 0x04;
/// What the special area of an SP-GiST page ends with.
const SP_GIST_PAGE: u16 = 0xFF82;
/// The page numbers with which a special area of 16 bytes ends; that of a B-tree ends with a number below both.
const HASH_PAGE: u16 = 0xFF80;
const GIST_PAGE: u16 = 0xFF81;

/// Whether a page was made and never used; nobody misses it at the end of a file.
pub(crate) fn says_nothing(page: &[u8]) -> bool {
    page.iter().skip(HEADER).all(|byte| *byte == 0)
}

/// Sets all of it to zero. A map of visibility is used from end to end.
pub(crate) fn mask_hints(page: &mut [u8], is_map: bool) {
    if page.len() != PAGE {
        return;
    }
    let (lower, upper, special) = (u16_at(page, 12), u16_at(page, 14), u16_at(page, 16));
    let (lower, upper, special) = (usize::from(lower), usize::from(upper), usize::from(special));
    if !(HEADER <= lower && lower <= upper && upper <= special && special <= PAGE) {
        return;
    }
    // The LSN and the checksum, which hints move when they are logged.
    page[..10].fill(0);
    clear(page, 10, PAGE_HINTS);
    // The oldest transaction that may be pruned.
    page[20..24].fill(0);
    let is_used = is_map || PAGE - special == 8 && u16_at(page, special + 6) == BRIN_MAP;
    if !is_used {
        page[lower..upper].fill(0);
    }
    match PAGE - special {
        0 => (HEADER..lower).step_by(4).for_each(|at| mask_tuple(page, at)),
        // The log is told of many numbers of a sequence at once, before they are given out.
        8 if u16_at(page, special) == SEQUENCE => page[(upper + ROW_HEADER).min(special)..special].fill(0),
        // Where there was room lately.
        8 if is_first_of_spgist(page, special) => page[HEADER + 4..lower.max(HEADER + 4)].fill(0),
        // All but what says so, and the link to the next page.
        8 if is_deleted_gin(page, special) => {
            page[..special].fill(0);
            page[special + 4..special + 6].fill(0);
        }
        16 => mask_index(page, lower, special),
        _ => {}
    }
    if says_nothing(page) {
        page.fill(0);
    }
}

fn is_first_of_spgist(page: &[u8], special: usize) -> bool {
    u16_at(page, special + 6) == SP_GIST_PAGE && u16_at(page, special) & 1 == 1
}

fn is_deleted_gin(page: &[u8], special: usize) -> bool {
    let flags = u16_at(page, special + 6);
    flags & GIN_DELETED != 0 && flags <= 0xFF
}

/// A heap tuple: whether its transactions ended is written into it by whoever asked first.
fn mask_tuple(page: &mut [u8], pointer: usize) {
    let pointer = u32::from(u16_at(page, pointer)) | u32::from(u16_at(page, pointer + 2)) << 16;
    let (at, state, len) = ((pointer & 0x7FFF) as usize, pointer >> 15 & 3, (pointer >> 17) as usize);
    if state != NORMAL || len < 23 || at + len > PAGE {
        return;
    }
    // Numbers of commands are not brought back by replay.
    page[at + 8..at + 12].fill(0);
    let is_frozen = u16_at(page, at + 20) & XMIN_HINTS == XMIN_HINTS;
    clear(page, at + 20, COMBINED | XMAX_HINTS | if is_frozen { 0 } else { XMIN_HINTS });
    let end = (at + len).next_multiple_of(8).min(PAGE);
    page[at + len..end].fill(0);
}

/// An index page: entries of dead tuples are marked, and the page that has such.
fn mask_index(page: &mut [u8], lower: usize, special: usize) {
    // What has no entries: the first page of a B-tree or a hash index, and the map of pages of the latter.
    let (has_dead, without_entries) = match u16_at(page, special + 14) {
        HASH_PAGE => (0x80, 0x0C),
        GIST_PAGE => (0x10, 0),
        _ => {
            // The number of the vacuum that passed it last.
            page[special + 14..special + 16].fill(0);
            (0x40, 0x08)
        }
    };
    clear(page, special + 12, has_dead);
    if u16_at(page, special + 12) & without_entries == 0 {
        (HEADER..lower).step_by(4).for_each(|at| mask_pointer(page, at, special));
    }
}

/// Normal and dead, told apart by a hint only, become one.
fn mask_pointer(page: &mut [u8], at: usize, special: usize) {
    let offset = usize::from(u16_at(page, at) & 0x7FFF);
    if (HEADER..special).contains(&offset) {
        clear(page, at, 0x8000);
        clear(page, at + 2, 0x0001);
    }
}

fn u16_at(page: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

fn clear(page: &mut [u8], at: usize, bits: u16) {
    let kept = u16_at(page, at) & !bits;
    page[at..at + 2].copy_from_slice(&kept.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::{BRIN_MAP, GIN_DELETED, PAGE, SEQUENCE, SP_GIST_PAGE, mask_hints};

    /// A page that is in use, with a special area of 8 bytes that begins and ends with these.
    fn page(lower: u16, begin: u16, end: u16) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        page[8010] = 1;
        let special = (PAGE - 8) as u16;
        for (at, value) in [(12, lower), (14, 8000), (16, special), (PAGE - 8, begin), (PAGE - 2, end)] {
            page[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        page
    }

    /// Whether a changed byte is seen behind the mask.
    fn is_seen(page: &[u8], at: usize, is_map: bool) -> bool {
        let masked = |mut page: Vec<u8>| {
            mask_hints(&mut page, is_map);
            page
        };
        let mut changed = page.to_vec();
        changed[at] ^= 0x11;
        masked(page.to_vec()) != masked(changed)
    }

    #[test]
    fn what_counts_is_seen_and_what_does_not_is_not() {
        let index = page(100, 0, 0);
        for (at, seen) in [(0, false), (8, false), (12, true), (20, false), (99, true), (100, false), (8000, true)] {
            assert_eq!(is_seen(&index, at, false), seen, "byte {at}");
        }
        assert!(is_seen(&index, 5000, true), "a map of visibility");
        assert!(is_seen(&page(24, 0, BRIN_MAP), 5000, false), "a map of ranges");
        let deleted = page(100, 0, GIN_DELETED | 1);
        assert!(!is_seen(&deleted, 50, false) && !is_seen(&deleted, PAGE - 4, false), "a deleted page");
        assert!(is_seen(&deleted, PAGE - 8, false), "the link of a deleted page");
        assert!(is_seen(&page(100, 0, SP_GIST_PAGE), 60, false), "a page of SP-GiST");
        assert!(!is_seen(&page(100, 1, SP_GIST_PAGE), 60, false), "its first page");
        assert!(is_seen(&page(100, 1, SP_GIST_PAGE), 24, false), "the name of its first page");
        let sequence = page(28, SEQUENCE, 0);
        assert!(!is_seen(&sequence, 8024, false) && is_seen(&sequence, 8023, false), "a sequence");
        assert!(is_seen(&index[..300], 200, false), "a page that was cut off");
    }

    #[test]
    fn a_page_that_was_only_made_is_like_none() {
        let mut made = vec![0; PAGE];
        made[12..18].copy_from_slice(&[24, 0, 0, 32, 0, 32]);
        mask_hints(&mut made, true);
        assert_eq!(made, vec![0; PAGE]);
    }
}
