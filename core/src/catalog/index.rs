//! Which frame of which set of a chain holds the newest image of a page.
//!
//! Answers come section by section (1 GiB of a file): no frame covers more than one section, so each section can be
//! resolved by itself, in memory that does not grow with the database, and each frame is needed for one section only.
//!
//! The rule: walk from the newest set to the full one; the first set that holds a page wins. A set with a shorter file
//! hides what older sets have behind its end, and a file that is not in the next set, or there with another generation
//! or page size, ends the walk. A page that nobody holds is damage.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::pieces::{self, OpenPiece};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{EntryContent, IndexEntry, PieceKind, RunKind, SECTION, SectionKey, SetMeta};
use crate::media::repository::{Repository, read_range};
use crate::model::{FileEntry, FileId, PageRun, PageSet, SetId};
use crate::transform::{DataKey, PieceReader};

/// Bytes of decoded index segments that are kept for the next section.
const SEGMENT_CACHE: usize = 16 << 20;

/// One set of a chain, opened.
pub struct OpenSet {
    /// Its metadata.
    pub meta: SetMeta,
    /// The key of its pieces.
    pub key: Option<DataKey>,
    /// Its data pieces.
    pub pieces: Vec<OpenPiece>,
    files: BTreeMap<FileId, usize>,
}

impl OpenSet {
    /// Opens a set and the directories of its pieces of one kind.
    ///
    /// # Errors
    /// When anything of it is missing, damaged or sealed with another key.
    pub fn open(repository: &Repository, set: SetId, kind: PieceKind) -> Result<Self> {
        let opened = repository.open_set(set)?;
        let (meta, key) = (opened.meta, opened.key);
        let wanted = meta.pieces.iter().filter(|piece| piece.kind == kind);
        let opened = wanted.map(|piece| Ok(pieces::open(repository, set, piece, key.as_ref())?.0));
        let pieces = opened.collect::<Result<Vec<_>>>()?;
        let files = meta.files.iter().enumerate().map(|(at, file)| (file.id, at)).collect();
        Ok(OpenSet { meta, key, pieces, files })
    }

    /// The file as this set has it.
    #[must_use]
    pub fn file(&self, id: FileId) -> Option<&FileEntry> {
        self.files.get(&id).and_then(|&at| self.meta.files.get(at))
    }

    fn id(&self) -> SetId {
        self.meta.summary.id
    }
}

/// A frame and the pages that are wanted of it.
#[derive(Clone, Debug)]
pub struct LiveFrame {
    /// The set, counted from the newest.
    pub set: usize,
    /// The piece, counted in [`OpenSet::pieces`].
    pub piece: usize,
    /// The frame.
    pub entry: IndexEntry,
    /// The pages that this frame has the newest image of.
    pub pages: PageSet,
}

impl LiveFrame {
    /// From the first page that the frame speaks of to the last, live or not.
    #[must_use]
    pub fn span(&self) -> PageRun {
        let EntryContent::Pages { table, .. } = &self.entry.content else { return PageRun::new(0, 0) };
        let first = table.runs.first().map_or(0, |stored| stored.run.first.0);
        PageRun::new(first, table.runs.last().map_or(first, |stored| stored.run.end()) - first)
    }
}

/// What a chain knows of one section of a file.
#[derive(Clone, Debug, Default)]
pub struct SectionMap {
    /// The frames to read; each page is live in one of them at most.
    pub frames: Vec<LiveFrame>,
    /// Pages that are all zero.
    pub zero: PageSet,
    /// Pages that were not in use.
    pub free: PageSet,
    /// Pages that no set of the chain holds.
    pub unknown: PageSet,
}

/// The opened sets of a chain.
pub struct ChainIndex {
    sets: Vec<OpenSet>,
    hashes: bool,
    segments: Mutex<SegmentCache>,
}

impl ChainIndex {
    /// Opens a chain, newest set first. `hashes` says whether page hashes will be asked for.
    ///
    /// # Errors
    /// When any set of it is missing, damaged or sealed with another key.
    pub fn open(repository: &Repository, chain: &[SetId], hashes: bool) -> Result<Self> {
        let opened = chain.iter().map(|set| OpenSet::open(repository, *set, PieceKind::Data));
        Ok(ChainIndex { sets: opened.collect::<Result<Vec<_>>>()?, hashes, segments: Mutex::default() })
    }

    /// The sets, newest first.
    #[must_use]
    pub fn sets(&self) -> &[OpenSet] {
        &self.sets
    }

    /// The newest set.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for a chain without sets.
    pub fn newest(&self) -> Result<&OpenSet> {
        self.sets.first().ok_or_else(|| Error::new(ErrorKind::Internal, "a chain has at least one set"))
    }

    /// Resolves one section of a file of the newest set.
    ///
    /// # Errors
    /// When an index cannot be read. Pages that nobody holds are not an error here: see [`SectionMap::unknown`].
    pub fn section(&self, repository: &Repository, file: &FileEntry, section: u64) -> Result<SectionMap> {
        let mut map = SectionMap::default();
        let mut wanted: PageSet = section_run(file, section).into_iter().collect();
        let mut hidden = PageSet::new();
        for (at, set) in self.sets.iter().enumerate() {
            let Some(entry) = set.file(file.id).filter(|entry| continues(entry, file)) else { break };
            hidden.union(&wanted.take(PageRun::new(entry.pages(), u64::MAX - entry.pages())));
            if wanted.is_empty() {
                break;
            }
            self.take_from(repository, at, file, section, &mut wanted, &mut map)?;
        }
        hidden.union(&wanted);
        map.unknown = hidden;
        Ok(map)
    }

    fn take_from(
        &self,
        repository: &Repository,
        at: usize,
        file: &FileEntry,
        section: u64,
        wanted: &mut PageSet,
        map: &mut SectionMap,
    ) -> Result<()> {
        let set = &self.sets[at];
        let mut found = Found::default();
        let key = SectionKey { file: file.id, section };
        for (piece_at, piece) in set.pieces.iter().enumerate() {
            let overlaps = piece.root.segments.iter().enumerate().filter(|(_, segment)| segment.may_hold(key));
            for (segment_at, _) in overlaps {
                let entries = self.segment(repository, at, piece_at, segment_at)?;
                let from = entries.partition_point(|entry| place(entry) < Some(key));
                entries[from..]
                    .iter()
                    .take_while(|entry| place(entry) == Some(key))
                    .for_each(|entry| found.add(at, piece_at, entry, file));
            }
        }
        found.resolve(wanted, map);
        Ok(())
    }

    fn segment(
        &self,
        repository: &Repository,
        set_at: usize,
        piece_at: usize,
        segment_at: usize,
    ) -> Result<Arc<Vec<IndexEntry>>> {
        let key = (set_at, piece_at, segment_at);
        if let Some(found) = self.lock().get(key) {
            return Ok(found);
        }
        let set = &self.sets[set_at];
        let piece = &set.pieces[piece_at];
        let at = &piece.root.segments[segment_at];
        let medium = &**repository.medium();
        let mut reader: PieceReader = pieces::reader(medium, set.id(), &piece.info, set.key.as_ref())?;
        let frame = read_range(medium, &piece.name, at.offset, u64::from(at.stored_len))?;
        let mut entries = reader.segment(at, &frame).map_err(|error| error.on(piece.name.to_string()))?;
        if !self.hashes {
            entries.iter_mut().for_each(forget_hashes);
        }
        entries.sort_by_key(|entry| (place(entry), entry.number));
        let entries = Arc::new(entries);
        self.lock().put(key, &entries);
        Ok(entries)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SegmentCache> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many sections a file has.
#[must_use]
pub fn sections(file: &FileEntry) -> u64 {
    file.len.div_ceil(SECTION)
}

/// The pages of a section of a file; empty behind its end.
#[must_use]
pub fn section_run(file: &FileEntry, section: u64) -> Option<PageRun> {
    let per_section = pages_per_section(file);
    let first = section.saturating_mul(per_section);
    PageRun::new(first, per_section).intersect(PageRun::new(0, file.pages()))
}

/// The section in which a page lies.
#[must_use]
pub fn section_of(file: &FileEntry, page: u64) -> u64 {
    page / pages_per_section(file)
}

fn pages_per_section(file: &FileEntry) -> u64 {
    (SECTION / u64::from(file.page_size.max(1))).max(1)
}

/// Whether pages of `older` may stand in for pages of `newer`.
#[must_use]
pub fn continues(older: &FileEntry, newer: &FileEntry) -> bool {
    older.id == newer.id && older.generation == newer.generation && older.page_size == newer.page_size
}

/// What one set has of a section.
#[derive(Default)]
struct Found {
    frames: Vec<LiveFrame>,
    /// Runs with their kind and their frame.
    runs: Vec<(PageRun, RunKind, usize)>,
}

impl Found {
    fn add(&mut self, set: usize, piece: usize, entry: &IndexEntry, file: &FileEntry) {
        let EntryContent::Pages { table, .. } = &entry.content else { return };
        if table.generation != file.generation || table.page_size != file.page_size {
            return;
        }
        let frame = self.frames.len();
        self.runs.extend(table.runs.iter().map(|stored| (stored.run, stored.kind, frame)));
        self.frames.push(LiveFrame { set, piece, entry: entry.clone(), pages: PageSet::new() });
    }

    /// Takes what is wanted, in one pass over both.
    fn resolve(mut self, wanted: &mut PageSet, map: &mut SectionMap) {
        self.runs.sort_by_key(|(run, _, _)| *run);
        let runs: Vec<PageRun> = self.runs.iter().map(|(run, _, _)| *run).collect();
        wanted.take_ascending(&runs, |at, taken| {
            let (_, kind, frame) = self.runs[at];
            match kind {
                RunKind::Data => self.frames[frame].pages.insert(taken),
                RunKind::Zero => map.zero.insert(taken),
                RunKind::Free => map.free.insert(taken),
            }
        });
        map.frames.extend(self.frames.into_iter().filter(|frame| !frame.pages.is_empty()));
    }
}

/// The file and section that a frame of pages belongs to.
fn place(entry: &IndexEntry) -> Option<SectionKey> {
    match &entry.content {
        EntryContent::Pages { table, .. } => Some(SectionKey { file: table.file, section: table.section() }),
        EntryContent::Log { .. } => None,
    }
}

fn forget_hashes(entry: &mut IndexEntry) {
    if let EntryContent::Pages { hashes, .. } = &mut entry.content {
        *hashes = None;
    }
}

type SegmentKey = (usize, usize, usize);

/// The segments used last, up to a number of bytes.
#[derive(Default)]
struct SegmentCache {
    kept: VecDeque<(SegmentKey, Arc<Vec<IndexEntry>>)>,
    bytes: usize,
}

impl SegmentCache {
    fn get(&mut self, key: SegmentKey) -> Option<Arc<Vec<IndexEntry>>> {
        let at = self.kept.iter().position(|(have, _)| *have == key)?;
        let found = self.kept.remove(at)?;
        let entries = found.1.clone();
        self.kept.push_back(found);
        Some(entries)
    }

    fn put(&mut self, key: SegmentKey, entries: &Arc<Vec<IndexEntry>>) {
        self.bytes += weight(entries);
        self.kept.push_back((key, entries.clone()));
        while self.bytes > SEGMENT_CACHE && self.kept.len() > 1 {
            if let Some((_, old)) = self.kept.pop_front() {
                self.bytes -= weight(&old);
            }
        }
    }
}

fn weight(entries: &[IndexEntry]) -> usize {
    let one = |entry: &IndexEntry| match &entry.content {
        EntryContent::Pages { table, hashes } => {
            size_of::<IndexEntry>() + size_of_val(&table.runs[..]) + hashes.as_ref().map_or(0, Vec::len)
        }
        EntryContent::Log { .. } => size_of::<IndexEntry>(),
    };
    entries.iter().map(one).sum()
}
