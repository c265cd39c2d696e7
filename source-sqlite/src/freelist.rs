//! The free list: which pages SQLite has no use for at the moment.
//!
//! The list is a chain of trunk pages; each names the next one and free pages (leaves). What a leaf holds is never read
//! again: when SQLite takes it, it writes it whole. So leaves need not be stored, and are restored as zeros; what was
//! deleted is then not in the backup. Trunk pages are needed. Databases with `auto_vacuum` also have pointer-map
//! pages, which are not in the list and are stored.

use setpiece_core::model::{PageRun, PageSet};

use crate::bytes::be32;

/// The pages in use, of `pages` altogether, or `None` when the list makes no sense, so that everything counts as used.
///
/// `page` hands out the bytes of a page, counted from 1.
pub(crate) fn used_pages<E>(
    first: u32,
    free: u32,
    pages: u32,
    mut page: impl FnMut(u32) -> Result<Vec<u8>, E>,
) -> Result<Option<PageSet>, E> {
    let mut leaves: Vec<u32> = Vec::new();
    let mut trunks: Vec<u32> = Vec::new();
    let mut trunk = first;
    while trunk != 0 {
        trunks.push(trunk);
        // More pages than the header counts means a circle or damage. SQLite finds it; nothing is left out then.
        if trunk > pages || trunks.len() + leaves.len() > free as usize {
            return Ok(None);
        }
        let bytes = page(trunk)?;
        let count = be32(&bytes, 4) as usize;
        if count > (bytes.len() / 4).saturating_sub(2) {
            return Ok(None);
        }
        leaves.extend((0..count).map(|leaf| be32(&bytes, 8 + 4 * leaf)));
        trunk = be32(&bytes, 0);
    }
    let counted = trunks.len() + leaves.len() == free as usize;
    leaves.sort_unstable();
    trunks.sort_unstable();
    let apart = leaves.iter().all(|leaf| trunks.binary_search(leaf).is_err());
    let plausible = apart && leaves.iter().all(|leaf| (2..=pages).contains(leaf)) && leaves.is_sorted_by(|a, b| a < b);
    Ok((counted && plausible).then(|| without(pages, &leaves)))
}

/// All of `pages` pages but the `leaves`, which ascend; counted from 0 in the result.
fn without(pages: u32, leaves: &[u32]) -> PageSet {
    let mut used = PageSet::new();
    let mut from = 0;
    for &leaf in leaves {
        let index = u64::from(leaf) - 1;
        used.insert(PageRun::new(from, index - from));
        from = index + 1;
    }
    used.insert(PageRun::new(from, u64::from(pages).saturating_sub(from)));
    used
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::bytes::put32;

    fn trunk(next: u32, leaves: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        put32(&mut bytes, 0, next);
        put32(&mut bytes, 4, leaves.len() as u32);
        for (at, leaf) in leaves.iter().enumerate() {
            put32(&mut bytes, 8 + 4 * at, *leaf);
        }
        bytes
    }

    fn used(first: u32, free: u32, trunks: &[(u32, Vec<u8>)]) -> Option<Vec<(u64, u64)>> {
        let page = |number| -> Result<Vec<u8>, Infallible> {
            Ok(trunks.iter().find(|(at, _)| *at == number).map_or_else(|| vec![0; 512], |(_, bytes)| bytes.clone()))
        };
        let set = used_pages(first, free, 10, page).unwrap_or_else(|never| match never {});
        set.map(|set| set.runs().iter().map(|run| (run.first.0, run.end())).collect())
    }

    #[test]
    fn leaves_are_free_and_trunks_are_not() {
        let list = [(3, trunk(5, &[10, 4])), (5, trunk(0, &[7]))];
        assert_eq!(used(3, 5, &list), Some(vec![(0, 3), (4, 6), (7, 9)]));
        assert_eq!(used(0, 0, &[]), Some(vec![(0, 10)]));
    }

    #[test]
    fn a_list_that_makes_no_sense_frees_nothing() {
        assert_eq!(used(3, 9, &[(3, trunk(3, &[4]))]), None, "a circle");
        assert_eq!(used(11, 1, &[]), None, "behind the end");
        assert_eq!(used(3, 3, &[(3, trunk(0, &[4, 4]))]), None, "a leaf twice");
        assert_eq!(used(3, 3, &[(3, trunk(4, &[4]))]), None, "a leaf that is a trunk");
        assert_eq!(used(3, 2, &[(3, trunk(0, &[11]))]), None, "a leaf behind the end");
        assert_eq!(used(3, 2, &[(3, trunk(0, &[1]))]), None, "page 1 as a leaf");
        assert_eq!(used(3, 4, &[(3, trunk(0, &[4]))]), None, "fewer than the header counts");
        let mut lie = trunk(0, &[]);
        put32(&mut lie, 4, u32::MAX);
        assert_eq!(used(3, 4, &[(3, lie)]), None, "a count that does not fit the page");
    }
}
