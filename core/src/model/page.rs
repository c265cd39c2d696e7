//! Pages and sets of pages.

use minicbor::{Decode, Encode};

use super::id::PageNo;

/// So many runs are put into a set one by one.
const FEW: usize = 4;

/// `count` pages from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(array)]
pub struct PageRun {
    /// The first page.
    #[n(0)]
    pub first: PageNo,
    /// How many pages; a run in a [`PageSet`] is never empty.
    #[n(1)]
    pub count: u64,
}

impl PageRun {
    /// A run of `count` pages from `first` on.
    #[must_use]
    pub fn new(first: u64, count: u64) -> Self {
        PageRun { first: PageNo(first), count }
    }

    /// The number of the page after the last; saturates at the largest number.
    #[must_use]
    pub fn end(self) -> u64 {
        self.first.0.saturating_add(self.count)
    }

    /// The pages that both runs have.
    #[must_use]
    pub fn intersect(self, other: PageRun) -> Option<PageRun> {
        let first = self.first.0.max(other.first.0);
        let end = self.end().min(other.end());
        (first < end).then(|| PageRun::new(first, end - first))
    }
}

/// A set of page numbers of one file, kept as ascending runs that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct PageSet(#[n(0)] Vec<PageRun>);

impl PageSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        PageSet::default()
    }

    /// The runs, ascending.
    #[must_use]
    pub fn runs(&self) -> &[PageRun] {
        &self.0
    }

    /// Whether there is no page in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many pages are in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.iter().map(|run| run.count).sum()
    }

    /// Whether `page` is in it.
    #[must_use]
    pub fn contains(&self, page: u64) -> bool {
        let at = self.0.partition_point(|run| run.end() <= page);
        self.0.get(at).is_some_and(|run| run.first.0 <= page)
    }

    /// Adds a run. Cheapest when runs come in ascending order.
    pub fn insert(&mut self, run: PageRun) {
        if run.count == 0 {
            return;
        }
        let (mut first, mut end) = (run.first.0, run.end());
        let from = self.0.partition_point(|have| have.end() < first);
        let upto = from + self.0[from..].partition_point(|have| have.first.0 <= end);
        if from < upto {
            first = first.min(self.0[from].first.0);
            end = end.max(self.0[upto - 1].end());
        }
        self.0.splice(from..upto, [PageRun::new(first, end - first)]);
    }

    /// Adds every page of `other`.
    pub fn union(&mut self, other: &PageSet) {
        if other.0.len() <= FEW || self.0.is_empty() {
            other.0.iter().for_each(|run| self.insert(*run));
            return;
        }
        // Many runs at once go in one pass: put in one by one, each would move all behind it.
        let mut joined: Vec<PageRun> = Vec::with_capacity(self.0.len() + other.0.len());
        let (mut ours, mut theirs) = (self.0.iter().copied().peekable(), other.0.iter().copied().peekable());
        loop {
            let theirs_first = match (ours.peek(), theirs.peek()) {
                (Some(our), Some(their)) => their.first < our.first,
                (our, _) => our.is_none(),
            };
            let Some(run) = (if theirs_first { theirs.next() } else { ours.next() }) else { break };
            match joined.last_mut().filter(|last| run.first.0 <= last.end()) {
                Some(last) => last.count = last.end().max(run.end()) - last.first.0,
                None => joined.push(run),
            }
        }
        self.0 = joined;
    }

    /// The pages of this set that lie within `run`.
    #[must_use]
    pub fn within(&self, run: PageRun) -> PageSet {
        let from = self.0.partition_point(|have| have.end() <= run.first.0);
        PageSet(self.0[from..].iter().map_while(|have| have.intersect(run)).collect())
    }

    /// Takes the pages of `run` out of the set and returns those that were in it.
    pub fn take(&mut self, run: PageRun) -> PageSet {
        let taken = self.within(run);
        if taken.is_empty() {
            return taken;
        }
        let from = self.0.partition_point(|have| have.end() <= run.first.0);
        let upto = from + self.0[from..].partition_point(|have| have.first.0 < run.end());
        let mut left = Vec::with_capacity(2);
        if from < upto {
            let (head, tail) = (self.0[from], self.0[upto - 1]);
            if head.first < run.first {
                left.push(PageRun::new(head.first.0, run.first.0 - head.first.0));
            }
            if tail.end() > run.end() {
                left.push(PageRun::new(run.end(), tail.end() - run.end()));
            }
        }
        self.0.splice(from..upto, left);
        taken
    }

    /// Takes runs out of the set in one pass, however many there are. `runs` ascend by their first page; where they
    /// overlap, the earlier one gets the page. Hands each stretch that was in the set to `taken`, together with the place
    /// of its run in `runs`.
    pub fn take_ascending(&mut self, runs: &[PageRun], mut taken: impl FnMut(usize, PageRun)) {
        let mut left = Vec::with_capacity(self.0.len());
        let mut at = 0;
        for &have in &self.0 {
            let mut begin = have.first.0;
            while let Some(run) = runs.get(at) {
                if run.first.0 >= have.end() {
                    break;
                }
                let open = PageRun::new(begin, have.end() - begin);
                if let Some(both) = open.intersect(*run) {
                    if both.first.0 > begin {
                        left.push(PageRun::new(begin, both.first.0 - begin));
                    }
                    taken(at, both);
                    begin = both.end();
                }
                if run.end() > have.end() {
                    break;
                }
                at += 1;
            }
            if begin < have.end() {
                left.push(PageRun::new(begin, have.end() - begin));
            }
        }
        self.0 = left;
    }

    /// Whether the runs ascend, are not empty and do not touch; what comes from a medium is checked with this.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let sized = self.0.iter().all(|run| run.count > 0 && run.first.0.checked_add(run.count).is_some());
        sized && self.0.windows(2).all(|pair| pair[0].end() < pair[1].first.0)
    }
}

impl FromIterator<PageRun> for PageSet {
    fn from_iter<I: IntoIterator<Item = PageRun>>(runs: I) -> Self {
        let mut set = PageSet::new();
        for run in runs {
            set.insert(run);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn expand(set: &PageSet) -> BTreeSet<u64> {
        set.runs().iter().flat_map(|run| run.first.0..run.end()).collect()
    }

    proptest! {
        /// Many runs at once are joined as they are one by one.
        #[test]
        fn joins_many_runs_like_one_by_one(
            one in proptest::collection::vec((0u64..90, 1u64..5), 0..20),
            other in proptest::collection::vec((0u64..90, 1u64..5), 0..20),
        ) {
            let set = |runs: Vec<(u64, u64)>| runs.into_iter().map(|(first, n)| PageRun::new(first, n)).collect();
            let (one, other): (PageSet, PageSet) = (set(one), set(other));
            let mut joined = one.clone();
            joined.union(&other);
            prop_assert!(joined.is_valid());
            prop_assert_eq!(expand(&joined), &expand(&one) | &expand(&other));
        }

        /// Taking many runs in one pass gives each page to the first run that has it.
        #[test]
        fn takes_many_runs_like_one_by_one(
            have in proptest::collection::vec((0u64..60, 0u64..12), 0..12),
            mut runs in proptest::collection::vec((0u64..60, 1u64..9), 0..12),
        ) {
            runs.sort();
            let runs: Vec<PageRun> = runs.into_iter().map(|(first, count)| PageRun::new(first, count)).collect();
            let mut one_by_one: PageSet = have.iter().map(|&(first, count)| PageRun::new(first, count)).collect();
            let mut at_once = one_by_one.clone();
            let mut expected = vec![PageSet::new(); runs.len()];
            for (at, run) in runs.iter().enumerate() {
                expected[at] = one_by_one.take(*run);
            }
            let mut given = vec![PageSet::new(); runs.len()];
            at_once.take_ascending(&runs, |at, run| given[at].insert(run));
            prop_assert_eq!(at_once, one_by_one);
            prop_assert_eq!(given, expected);
        }

        /// Inserting and taking runs behaves like the same on a plain set of numbers.
        #[test]
        fn behaves_like_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..20), 0..40)) {
            let mut set = PageSet::new();
            let mut oracle = BTreeSet::new();
            for (insert, first, count) in steps {
                let run = PageRun::new(first, count);
                if insert {
                    set.insert(run);
                    oracle.extend(first..first + count);
                } else {
                    let expected: BTreeSet<u64> = oracle.iter().copied().filter(|p| (first..first + count).contains(p)).collect();
                    prop_assert_eq!(expand(&set.within(run)), expected.clone());
                    prop_assert_eq!(expand(&set.take(run)), expected);
                    oracle.retain(|page| !(first..first + count).contains(page));
                }
                prop_assert!(set.is_valid());
                prop_assert_eq!(&expand(&set), &oracle);
                prop_assert_eq!(set.len(), oracle.len() as u64);
                for page in 0..80 {
                    prop_assert_eq!(set.contains(page), oracle.contains(&page));
                }
            }
        }
    }
}
