//! Which pages a set has to hold: the rule that keeps more.
//!
//! Of a file that the base has too, a page is kept when it lies behind the base's end of the file, when a complete
//! change map names it, when its LSN is above the base's begin, when its hash differs, when it is in use now and was not
//! when the base was made, or when nothing is known of it. Of any other file everything is kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::catalog::index::{ChainIndex, SectionMap, continues, section_of, section_run, sections};
use crate::error::Result;
use crate::format::limits::PAGE_HASH;
use crate::format::{EntryContent, RunKind};
use crate::media::repository::Repository;
use crate::model::{FileEntry, FileId, Lsn, PageRun, PageSet, Timestamp, Tracking};
use crate::source::{BackupRun, JoinedChanges, PageState};

/// Bytes of a page hash: BLAKE3, cut short.
pub(super) const HASH_LEN: usize = PAGE_HASH;

/// How the pages of one file are chosen.
pub(super) struct FilePlan {
    /// The pages to look at.
    pub look: PageSet,
    /// Of those, the pages that are recorded as not in use, without reading them.
    pub free: PageSet,
    /// Of those, the pages that are kept whatever they hold.
    pub surely: PageSet,
    /// What decides on the others.
    pub rule: Rule,
}

/// What decides whether a page is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// All are.
    All,
    /// Those changed after an LSN.
    After(Lsn),
    /// Those whose hash is another one than the chain's.
    Differs,
}

/// What an increment is measured against.
pub(super) struct Baseline<'a> {
    repository: &'a Repository,
    chain: ChainIndex,
    since: Lsn,
    /// When the base was begun.
    began: Timestamp,
    changes: Option<JoinedChanges>,
    known: Mutex<KnownSections>,
}

/// The sections that the channels are in.
type KnownSections = VecDeque<((FileId, u64), Arc<Known>)>;

impl<'a> Baseline<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        chain: ChainIndex,
        (since, began): (Lsn, Timestamp),
        changes: Option<JoinedChanges>,
    ) -> Self {
        Baseline { repository, chain, since, began, changes, known: Mutex::default() }
    }

    /// The pages of `entry` that the chain has as not in use.
    fn free_in_chain(&self, entry: &FileEntry) -> Result<PageSet> {
        let mut free = PageSet::new();
        for section in 0..sections(entry) {
            free.union(&self.chain.section(self.repository, entry, section)?.free);
        }
        Ok(free)
    }

    /// What the chain knows of the section that `page` is in.
    pub(super) fn known(&self, entry: &FileEntry, page: u64) -> Result<Arc<Known>> {
        let section = section_of(entry, page);
        let key = (entry.id, section);
        let mut cache = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = cache.iter().find(|(have, _)| *have == key) {
            return Ok(found.clone());
        }
        let map = self.chain.section(self.repository, entry, section)?;
        let known = Arc::new(Known::new(section_run(entry, section).unwrap_or(PageRun::new(0, 0)), &map));
        cache.push_back((key, known.clone()));
        // Channels work in at most two neighbouring sections at a time, apart from stragglers.
        if cache.len() > 2 {
            cache.pop_front();
        }
        Ok(known)
    }
}

/// Plans one file.
pub(super) fn plan(baseline: Option<&Baseline<'_>>, run: &dyn BackupRun, entry: &FileEntry) -> Result<FilePlan> {
    let all: PageSet = [PageRun::new(0, entry.pages())].into_iter().collect();
    let valid = run.valid_pages(entry.id)?;
    // Recorded in every set: a page that is in use again later is then known to have been free, and is kept.
    let mut free = PageSet::new();
    if let Some(valid) = &valid {
        free = all.clone();
        valid.runs().iter().for_each(|used| drop(free.take(*used)));
    }
    let older = baseline.and_then(|b| b.chain.newest().ok()?.file(entry.id).filter(|older| continues(older, entry)));
    let (Some(baseline), Some(older)) = (baseline, older) else {
        return Ok(FilePlan { look: all, free, surely: PageSet::new(), rule: Rule::All });
    };
    let fresh = fresh_pages(older, entry);
    let mut surely = fresh.clone();
    if let Some(valid) = &valid {
        for was_free in baseline.free_in_chain(entry)?.runs() {
            surely.union(&valid.within(*was_free));
        }
    }
    let rule = match (&baseline.changes, entry.tracking) {
        (Some(_), _) | (None, Tracking::Always) => Rule::All,
        (None, Tracking::PageLsn) if run.lsns_tell(entry.id, baseline.began) => Rule::After(baseline.since),
        (None, Tracking::PageLsn) => Rule::All,
        (None, Tracking::PageHash) => Rule::Differs,
    };
    let mut look = match (&baseline.changes, entry.tracking) {
        (Some(changes), Tracking::PageLsn | Tracking::PageHash) => {
            let changed = run.changed_pages(entry, changes);
            let mut look = surely.clone();
            look.union(&changed.within(PageRun::new(0, entry.pages())));
            look
        }
        _ => all,
    };
    if let Some(valid) = &valid {
        let mut used = free.clone();
        for run in valid.runs() {
            used.union(&look.within(*run));
        }
        look = used;
    }
    Ok(FilePlan { look, free, surely, rule })
}

/// The first page that the older state of a file does not hold whole.
fn first_fresh(older: &FileEntry) -> u64 {
    older.len / u64::from(older.page_size.max(1))
}

/// The pages that are new or whose length is another one.
fn fresh_pages(older: &FileEntry, entry: &FileEntry) -> PageSet {
    if older.len == entry.len {
        return PageSet::new();
    }
    let mut fresh = PageSet::new();
    let first = first_fresh(older).min(entry.pages());
    fresh.insert(PageRun::new(first, entry.pages() - first));
    if !entry.len.is_multiple_of(u64::from(entry.page_size.max(1))) {
        fresh.insert(PageRun::new(entry.pages() - 1, 1));
    }
    fresh
}

/// Whether a page is kept, judged by its place and content.
pub(super) fn keep(
    rule: Rule,
    surely: &PageSet,
    known: Option<&Known>,
    page: u64,
    state: &PageState,
    content: &Content,
) -> bool {
    match rule {
        Rule::All => true,
        Rule::After(since) => !matches!(state, PageState::At(lsn) if *lsn <= since) || surely.contains(page),
        Rule::Differs => surely.contains(page) || known.is_none_or(|known| !known.same(page, content)),
    }
}

/// What a page holds, for comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing but zeros.
    Zero,
    /// Something with this hash; all zeros when no hash was asked for.
    Hash([u8; HASH_LEN]),
}

/// What a chain holds of one section, page by page.
pub(super) struct Known {
    run: PageRun,
    pages: Vec<Option<Content>>,
}

impl Known {
    fn new(run: PageRun, map: &SectionMap) -> Self {
        let mut known = Known { run, pages: vec![None; usize::try_from(run.count).unwrap_or(0)] };
        for zero in map.zero.runs() {
            (zero.first.0..zero.end()).for_each(|page| known.set(page, Content::Zero));
        }
        for frame in &map.frames {
            let EntryContent::Pages { table, hashes: Some(hashes) } = &frame.entry.content else { continue };
            let mut hashes = hashes.chunks_exact(HASH_LEN);
            let data = table.runs.iter().filter(|stored| stored.kind == RunKind::Data);
            for page in data.flat_map(|stored| stored.run.first.0..stored.run.end()) {
                let Some(Ok(hash)) = hashes.next().map(<[u8; HASH_LEN]>::try_from) else { break };
                if frame.pages.contains(page) {
                    known.set(page, Content::Hash(hash));
                }
            }
        }
        known
    }

    fn set(&mut self, page: u64, content: Content) {
        let at = usize::try_from(page.wrapping_sub(self.run.first.0)).unwrap_or(usize::MAX);
        if let Some(slot) = self.pages.get_mut(at) {
            *slot = Some(content);
        }
    }

    fn same(&self, page: u64, content: &Content) -> bool {
        let at = usize::try_from(page.wrapping_sub(self.run.first.0)).unwrap_or(usize::MAX);
        self.pages.get(at).is_some_and(|known| known.as_ref() == Some(content))
    }
}
