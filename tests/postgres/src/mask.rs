//! What a server may change in a page without telling the log: hints, bytes that mean nothing, how far a sequence is,
//! and room made ahead of its use.
//!
//! Two servers that replayed the same log have the same pages but for these. The facts are those of PostgreSQL's
//! `bufpage.h`, `htup_details.h`, `nbtree.h`, `hash.h`, `gist.h`, `spgist_private.h` and `brin_page.h`.

use crate::page::PAGE;

const HEADER: usize = 24;
/// Free line pointers, page full, all visible.
const PAGE_HINTS: u16 = 0b111;
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
