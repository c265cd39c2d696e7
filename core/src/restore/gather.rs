//! Pages of scattered frames, kept until the frame that lies around them is written, so that a file is written in long
//! runs however many increments replaced pages here and there. A page written by itself costs several times what it
//! costs within a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::format::limits::MAX_PAGE_SIZE;
use crate::model::{PageRun, PageSet};

/// Bytes of pages that may wait. What does not fit is written at once.
const ROOM: usize = 32 << 20;
/// Bytes that are allocated at once; no page is larger.
const CHUNK: usize = MAX_PAGE_SIZE as usize;

/// Chunks that were used for one section, for the next.
#[derive(Default)]
pub(super) struct Memory(Mutex<Vec<Vec<u8>>>);

impl Memory {
    fn chunks(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waiting pages of one section of a file.
pub(super) struct Gather {
    held: Mutex<Held>,
    handed_in: Condvar,
}

impl Gather {
    /// `page_size` is one that the format allows.
    pub(super) fn new(page_size: u32, memory: Arc<Memory>) -> Self {
        let slots = Slots { page_size: page_size as usize, chunks: Vec::new(), free: Vec::new(), memory };
        let held = Held { slots, pages: BTreeMap::new(), pending: BTreeSet::new() };
        Gather { held: Mutex::new(held), handed_in: Condvar::new() }
    }

    /// Announces that batch `number` will hand in pages. The ticket is dropped when it has.
    pub(super) fn announce(self: &Arc<Self>, number: usize) -> Ticket {
        self.lock().pending.insert(number);
        Ticket { gather: self.clone(), number }
    }

    /// Waits until every batch up to `number` has handed in its pages. They never wait for a later one.
    pub(super) fn wait(&self, number: usize) {
        let early = |held: &mut Held| held.pending.first().is_some_and(|&first| first <= number);
        drop(self.handed_in.wait_while(self.lock(), early).unwrap_or_else(PoisonError::into_inner));
    }

    /// Keeps runs of pages, each with its first page. Gives back what there was no room for.
    pub(super) fn keep<'b>(&self, runs: impl Iterator<Item = (u64, &'b [u8])>) -> Vec<(u64, &'b [u8])> {
        let mut held = self.lock();
        let mut refused = Vec::new();
        for (first, bytes) in runs {
            let page_size = held.slots.page_size;
            for (page, bytes) in (first..).zip(bytes.chunks(page_size)) {
                match held.slots.put(bytes) {
                    Some(slot) => drop(held.pages.insert(page, slot)),
                    None => refused.push((page, bytes)),
                }
            }
        }
        refused
    }

    /// Moves the waiting pages of `run` into `raw`, which begins with the run's first page. Those that `raw` is too
    /// short for go on waiting.
    pub(super) fn fill(&self, run: PageRun, raw: &mut [u8]) -> PageSet {
        let mut held = self.lock();
        let page_size = held.slots.page_size;
        let whole = (raw.len() / page_size) as u64;
        held.take(PageRun::new(run.first.0, run.count.min(whole)), |page, bytes| {
            // The page is one of the first `whole`, so its place is within `raw`.
            let at = (page - run.first.0) as usize * page_size;
            raw[at..at + bytes.len()].copy_from_slice(bytes);
        })
    }

    /// Takes the waiting pages of `run`, neighbours together. Ascending.
    pub(super) fn take_joined(&self, run: PageRun) -> Vec<(u64, Vec<u8>)> {
        let mut joined: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut next = None;
        self.lock().take(run, |page, bytes| {
            match joined.last_mut() {
                Some((_, before)) if next == Some(page) => before.extend_from_slice(bytes),
                _ => joined.push((page, bytes.to_vec())),
            }
            next = Some(page + 1);
        });
        joined
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Held {
    slots: Slots,
    /// The slots of the waiting pages.
    pages: BTreeMap<u64, Slot>,
    /// Batches whose scattered frames are still being read.
    pending: BTreeSet<usize>,
}

impl Held {
    fn take(&mut self, run: PageRun, mut each: impl FnMut(u64, &[u8])) -> PageSet {
        let mut taken = PageSet::new();
        for (&page, &slot) in self.pages.range(run.first.0..run.end()) {
            each(page, self.slots.get(slot));
            taken.insert(PageRun::new(page, 1));
        }
        for page in taken.runs().iter().flat_map(|run| run.first.0..run.end()) {
            if let Some(slot) = self.pages.remove(&page) {
                self.slots.free.push(slot.number);
            }
        }
        taken
    }
}

/// Where a page lies, and its length: the last page of a file may be shorter.
#[derive(Clone, Copy)]
struct Slot {
    number: usize,
    len: usize,
}

/// Memory for pages of one size, used again and again.
struct Slots {
    page_size: usize,
    chunks: Vec<Vec<u8>>,
    free: Vec<usize>,
    memory: Arc<Memory>,
}

impl Slots {
    fn put(&mut self, bytes: &[u8]) -> Option<Slot> {
        if self.free.is_empty() && self.chunks.len() < ROOM / CHUNK {
            let first = self.chunks.len() * self.pages_per_chunk();
            self.free.extend((first..first + self.pages_per_chunk()).rev());
            let used_before = self.memory.chunks().pop();
            self.chunks.push(used_before.unwrap_or_else(|| vec![0; CHUNK]));
        }
        let slot = Slot { number: self.free.pop()?, len: bytes.len() };
        let (chunk, at) = self.place(slot);
        self.chunks[chunk][at..at + slot.len].copy_from_slice(bytes);
        Some(slot)
    }

    fn get(&self, slot: Slot) -> &[u8] {
        let (chunk, at) = self.place(slot);
        &self.chunks[chunk][at..at + slot.len]
    }

    fn place(&self, slot: Slot) -> (usize, usize) {
        (slot.number / self.pages_per_chunk(), slot.number % self.pages_per_chunk() * self.page_size)
    }

    fn pages_per_chunk(&self) -> usize {
        CHUNK / self.page_size
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.memory.chunks().append(&mut self.chunks);
    }
}

/// A batch's word that it will hand in pages; others wait until it is dropped, also when the batch failed.
pub(super) struct Ticket {
    gather: Arc<Gather>,
    number: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gather.lock().pending.remove(&self.number);
        self.gather.handed_in.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4;

    fn run(first: u8, count: u8) -> Vec<u8> {
        (first..first + count).flat_map(|page| [page; PAGE]).collect()
    }

    fn keep(gather: &Gather, first: u64, bytes: &[u8]) -> bool {
        gather.keep([(first, bytes)].into_iter()).is_empty()
    }

    #[test]
    fn pages_move_into_the_frame_around_them() {
        let gather = Gather::new(PAGE as u32, Arc::default());
        assert!(keep(&gather, 8, &run(8, 4)) && keep(&gather, 20, &run(20, 1)));
        let mut raw = vec![0; 6 * PAGE];
        let filled = gather.fill(PageRun::new(4, 6), &mut raw);
        assert_eq!(filled.runs(), [PageRun::new(8, 2)]);
        assert_eq!(raw, [vec![0; 4 * PAGE], run(8, 2)].concat());
        assert_eq!(gather.take_joined(PageRun::new(0, 100)), [(10, run(10, 2)), (20, run(20, 1))]);
    }

    #[test]
    fn a_frame_shorter_than_its_run_leaves_pages_waiting() {
        let gather = Gather::new(PAGE as u32, Arc::default());
        assert!(keep(&gather, 1, &run(1, 3)));
        let mut raw = vec![0; 2 * PAGE + 1];
        assert_eq!(gather.fill(PageRun::new(0, 4), &mut raw).runs(), [PageRun::new(1, 1)]);
        assert_eq!(gather.take_joined(PageRun::new(0, 4)), [(2, run(2, 2))]);
    }

    #[test]
    fn neighbours_are_joined_and_a_short_last_page_is_kept_short() {
        let gather = Gather::new(PAGE as u32, Arc::default());
        assert!(keep(&gather, 3, &[7; 2]) && keep(&gather, 2, &run(2, 1)) && keep(&gather, 0, &run(0, 1)));
        let last = [run(2, 1), vec![7; 2]].concat();
        assert_eq!(gather.take_joined(PageRun::new(0, 9)), [(0, run(0, 1)), (2, last)]);
    }

    #[test]
    fn what_does_not_fit_is_given_back() {
        let page = vec![1; CHUNK];
        let gather = Gather::new(CHUNK as u32, Arc::default());
        let all = (0..=(ROOM / CHUNK) as u64).map(|number| (number, &page[..]));
        assert_eq!(gather.keep(all), [((ROOM / CHUNK) as u64, &page[..])]);
        gather.take_joined(PageRun::new(0, 1));
        assert!(keep(&gather, 99, &page));
        assert!(!keep(&gather, 100, &page));
    }

    #[test]
    fn a_batch_waits_for_those_before_it_only() {
        let gather = Arc::new(Gather::new(1, Arc::default()));
        let (early, late) = (gather.announce(1), gather.announce(3));
        gather.wait(0);
        let waiting = {
            let gather = gather.clone();
            std::thread::spawn(move || gather.wait(2))
        };
        drop(early);
        waiting.join().unwrap();
        drop(late);
        gather.wait(9);
    }
}
