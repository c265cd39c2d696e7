//! Sets of blocks of one fork: joined, cut and made coarser, each in one pass.

use setpiece_core::model::{PageRun, PageSet};

/// All blocks of both.
pub(super) fn join(one: &PageSet, two: &PageSet) -> PageSet {
    if one.is_empty() {
        return two.clone();
    }
    let (mut ones, mut twos) = (one.runs().iter().copied().peekable(), two.runs().iter().copied().peekable());
    let ascending = std::iter::from_fn(|| match (ones.peek(), twos.peek()) {
        (Some(left), Some(right)) if right.first < left.first => twos.next(),
        (Some(_), _) => ones.next(),
        (None, _) => twos.next(),
    });
    ascending.collect()
}

/// The blocks in `ascending`, which may repeat.
pub(super) fn of_blocks(ascending: impl Iterator<Item = u32>) -> PageSet {
    let mut ascending = ascending.map(u64::from).peekable();
    let runs = std::iter::from_fn(|| {
        let first = ascending.next()?;
        let mut end = first + 1;
        while let Some(next) = ascending.next_if(|next| *next <= end) {
            end = end.max(next + 1);
        }
        Some(PageRun::new(first, end - first))
    });
    runs.collect()
}

/// The blocks below `end`.
pub(super) fn below(set: &PageSet, end: u32) -> PageSet {
    set.within(PageRun::new(0, u64::from(end)))
}

/// The set with all gaps of up to `gap` blocks filled.
pub(super) fn filled(set: &PageSet, gap: u64) -> PageSet {
    let mut runs = set.runs().iter().copied().peekable();
    let wider = std::iter::from_fn(|| {
        let mut run = runs.next()?;
        while let Some(next) = runs.next_if(|next| next.first.0.saturating_sub(run.end()) <= gap) {
            run.count = next.end() - run.first.0;
        }
        Some(run)
    });
    wider.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn expand(set: &PageSet) -> BTreeSet<u64> {
        set.runs().iter().flat_map(|run| run.first.0..run.end()).collect()
    }

    fn sets() -> impl Strategy<Value = BTreeSet<u32>> {
        proptest::collection::btree_set(0u32..80, 0..40)
    }

    proptest! {
        #[test]
        fn they_are_sets(one in sets(), two in sets(), end in 0u32..90) {
            let (left, right) = (of_blocks(one.iter().copied()), of_blocks(two.iter().copied()));
            let wide = |set: &BTreeSet<u32>| set.iter().copied().map(u64::from).collect::<BTreeSet<u64>>();
            prop_assert_eq!(expand(&left), wide(&one));
            let both = join(&left, &right);
            prop_assert!(both.is_valid());
            prop_assert_eq!(expand(&both), wide(&one.union(&two).copied().collect()));
            prop_assert_eq!(expand(&below(&left, end)), wide(&one.range(..end).copied().collect()));
        }

        /// A filled set holds all that it held, has no gap that small, and ends where it ended.
        #[test]
        fn filling_adds_only_in_gaps(blocks in sets(), gap in 0u64..6) {
            let set = of_blocks(blocks.iter().copied());
            let wide = filled(&set, gap);
            prop_assert!(wide.is_valid());
            prop_assert!(expand(&wide).is_superset(&expand(&set)));
            prop_assert!(wide.runs().windows(2).all(|pair| pair[1].first.0 - pair[0].end() > gap));
            let (wide, set) = (expand(&wide), expand(&set));
            prop_assert_eq!(wide.first(), set.first());
            prop_assert_eq!(wide.last(), set.last());
            for block in wide.difference(&set) {
                let before = blocks.iter().rev().find(|have| u64::from(**have) < *block).unwrap();
                let after = blocks.iter().find(|have| u64::from(**have) > *block).unwrap();
                prop_assert!(u64::from(after - before - 1) <= gap);
            }
        }
    }
}
