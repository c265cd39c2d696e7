//! What a repository holds: every set, every unit of redo, what is damaged and what a crash left behind.
//!
//! The medium is the truth. The catalog is read from it each time; a local directory may hold copies of the metadata
//! objects, exactly as they are on the medium (sealed ones stay sealed), so that only new ones have to be fetched.
//! Throwing that directory away loses nothing.

mod align;
pub mod around;
pub mod cache;
pub mod fresh;
pub mod index;
pub mod named;
pub mod pieces;

pub use around::{MAX_CHANNELS, Surroundings, check_channels};

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::SetMeta;
use crate::media::repository::{Repository, SetObjects};
use crate::model::chain::chain_of;
use crate::model::log::LogTrack;
use crate::model::window::{Window, windows};
use crate::model::{BranchId, LogUnit, Lsn, Scope, SetId, SetSummary, SourceId};
use crate::source::Source;

use cache::Cache;

/// The word for the newest set.
pub const LATEST: &str = "latest";

/// One set, as far as lists, chains and windows need it.
#[derive(Clone, Debug)]
pub struct SetRecord {
    /// What the set is.
    pub summary: SetSummary,
    /// Redo in it, in the order of the pieces.
    pub log: Vec<LogUnit>,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Bytes on the medium, metadata and all.
    pub stored_bytes: u64,
    /// Pieces that the metadata names but the medium does not have, or not with that length.
    pub missing: Vec<String>,
    /// What the source wanted to find again.
    pub cookie: Vec<u8>,
    /// Whether it was captured by a log stream.
    pub captured: bool,
    /// The last LSN as the set itself gives it. In `summary` it may be the one that captured redo gives to that state.
    pub numbered: Lsn,
    /// Where redo on record had its state when it was taken, and went on from there: the database had been put back.
    pub put_back: Option<Lsn>,
}

/// All that was found on the medium.
#[derive(Default)]
pub struct Catalog {
    records: BTreeMap<SetId, SetRecord>,
    damaged: Vec<(SetId, Error)>,
    orphans: Vec<(SetId, SetObjects)>,
}

impl Catalog {
    /// Reads it. Sets whose metadata is damaged are listed apart and stand in nobody's way.
    ///
    /// # Errors
    /// When the medium fails, or the secrets cannot open any metadata.
    pub fn load(repository: &Repository, cache: Option<&Cache>) -> Result<Self> {
        Catalog::read(repository, cache, false)
    }

    /// As [`Catalog::load`], for those who remove: of sets that hold pages the metadata is read from the medium, for a
    /// copy of it proves nothing about what is there.
    ///
    /// # Errors
    /// As [`Catalog::load`].
    pub fn load_proven(repository: &Repository, cache: Option<&Cache>) -> Result<Self> {
        Catalog::read(repository, cache, true)
    }

    fn read(repository: &Repository, cache: Option<&Cache>, proven: bool) -> Result<Self> {
        let mut catalog = Catalog::default();
        let found = repository.sets()?;
        for (set, objects) in found {
            if objects.meta.is_none() {
                catalog.orphans.push((set, objects));
                continue;
            }
            let read = match read_record(repository, cache, set, &objects) {
                Ok(record) if proven && cache.is_some() && record.summary.holds_pages() => {
                    read_record(repository, None, set, &objects)
                }
                read => read,
            };
            match read {
                Ok(record) => drop(catalog.records.insert(set, record)),
                Err(error) if stands_for_itself(&error) => catalog.damaged.push((set, error)),
                // A set that was removed since the list was made.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        catalog.align();
        if let Some(cache) = cache {
            note(cache.keep_only(&|set| catalog.records.contains_key(&set)));
        }
        Ok(catalog)
    }

    /// The sets, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &SetRecord> {
        self.records.values()
    }

    /// The summaries, oldest first.
    #[must_use]
    pub fn summaries(&self) -> Vec<SetSummary> {
        self.records.values().map(|record| record.summary.clone()).collect()
    }

    /// One set.
    #[must_use]
    pub fn get(&self, set: SetId) -> Option<&SetRecord> {
        self.records.get(&set)
    }

    /// Sets whose metadata cannot be used, and why.
    #[must_use]
    pub fn damaged(&self) -> &[(SetId, Error)] {
        &self.damaged
    }

    /// What writers that never got to the end left behind, or are still writing.
    #[must_use]
    pub fn orphans(&self) -> &[(SetId, SetObjects)] {
        &self.orphans
    }

    /// The set that a user means by a name, an identifier, the beginning of one (8 digits or more), or `latest`: the one
    /// begun last of those that are not redo alone, whole or not, on whatever branch.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Usage`] when the word fits several sets, or is `latest` and there are
    /// sets of several sources.
    pub fn find(&self, word: &str) -> Result<&SetRecord> {
        if word == LATEST {
            let mut sources: Vec<_> = self.not_log().map(|record| record.summary.source).collect();
            sources.sort_unstable();
            sources.dedup();
            return if sources.len() > 1 { Err(self.several(&sources)) } else { self.latest(word, |_| true) };
        }
        match &self.called(word)[..] {
            [only] => Ok(only),
            [] => Err(self.damaged_or_missing(word)),
            _ => Err(Error::new(ErrorKind::Usage, "several sets are called that")
                .on(word)
                .remedy("name the set by its identifier")),
        }
    }

    /// As [`Catalog::find`], where the source is known: `latest` is its newest set, and its sets come before those of
    /// others that are called the same.
    ///
    /// # Errors
    /// As [`Catalog::find`].
    pub fn find_of(&self, source: SourceId, word: &str) -> Result<&SetRecord> {
        let own = |record: &SetRecord| record.summary.source == source;
        if word == LATEST {
            return self.latest(word, own);
        }
        let of_source: Vec<&SetRecord> = self.called(word).into_iter().filter(|record| own(record)).collect();
        if let [only] = of_source[..] { Ok(only) } else { self.find(word) }
    }

    fn not_log(&self) -> impl DoubleEndedIterator<Item = &SetRecord> {
        self.records.values().filter(|record| record.summary.scope != Scope::Log)
    }

    fn latest(&self, word: &str, wanted: impl Fn(&SetRecord) -> bool) -> Result<&SetRecord> {
        self.not_log().rfind(|record| wanted(record)).ok_or_else(|| no_such_set(word))
    }

    fn called(&self, word: &str) -> Vec<&SetRecord> {
        let fits = |record: &&SetRecord| {
            let id = record.summary.id.to_string();
            record.summary.name == word || (word.len() >= 8 && id.starts_with(word))
        };
        self.records.values().filter(fits).collect()
    }

    fn several(&self, sources: &[SourceId]) -> Error {
        let names = self.sources();
        let named = |id: &SourceId| format!("{} ({id})", names.get(id).map_or("?", String::as_str));
        let named: Vec<String> = sources.iter().map(named).collect();
        Error::new(ErrorKind::Usage, "the repository has sets of several sources")
            .on(LATEST)
            .remedy(format!("name the set, or the source where that can be said: {}", named.join(", ")))
    }

    fn damaged_or_missing(&self, word: &str) -> Error {
        let fits = |set: &&(SetId, Error)| word.len() >= 8 && set.0.to_string().starts_with(word);
        match self.damaged.iter().find(fits) {
            Some((set, error)) => Error::new(error.kind(), error.to_string()).on(format!("set {set}")),
            None => no_such_set(word),
        }
    }

    /// The source that a user means by a name, an identifier or the beginning of one (8 digits or more); without a word
    /// the only one there is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::Usage`] when the word fits several sources, naming them.
    pub fn find_source(&self, word: Option<&str>) -> Result<SourceId> {
        let sources = self.sources();
        let fits = |(id, name): &(&SourceId, &String)| {
            word.is_none_or(|word| word == name.as_str() || (word.len() >= 8 && id.to_string().starts_with(word)))
        };
        let listed = |known: Vec<(&SourceId, &String)>| {
            known.iter().map(|(id, name)| format!("{name} ({id})")).collect::<Vec<_>>().join(", ")
        };
        let found: Vec<_> = sources.iter().filter(fits).collect();
        match found.as_slice() {
            [(only, _)] => Ok(**only),
            [] => Err(Error::new(ErrorKind::NotFound, "the repository has nothing of that source")
                .on(word.unwrap_or("any source"))
                .remedy(format!("it has: {}", listed(sources.iter().collect())))),
            _ => Err(Error::new(ErrorKind::Usage, "the repository has several such sources")
                .on(word.unwrap_or("any source"))
                .remedy(format!("say which, by its identifier or the first 8 or more characters: {}", listed(found)))),
        }
    }

    /// Every unit of redo on record and the set that holds it.
    pub fn units(&self) -> impl Iterator<Item = (SetId, &LogUnit)> {
        self.records.values().flat_map(|record| record.log.iter().map(|unit| (record.summary.id, unit)))
    }

    /// The records of one source.
    pub fn of_source(&self, source: SourceId) -> impl Iterator<Item = &SetRecord> {
        self.records.values().filter(move |record| record.summary.source == source)
    }

    /// What a source wanted to find again: the cookie of the record with the largest LSN of each branch, that of the
    /// branch that was worked on last at the end. Within a branch the clock does not count, it may have been wrong.
    fn memories(&self, source: SourceId) -> Vec<&[u8]> {
        let mut newest: BTreeMap<BranchId, &SetRecord> = BTreeMap::new();
        for record in self.of_source(source).filter(|record| !record.cookie.is_empty()) {
            let place = newest.entry(record.summary.branch.current).or_insert(record);
            if (place.numbered, place.summary.id) < (record.numbered, record.summary.id) {
                *place = record;
            }
        }
        let mut newest: Vec<&SetRecord> = newest.into_values().collect();
        newest.sort_by_key(|record| (record.summary.ended, record.numbered, record.summary.id));
        newest.into_iter().map(|record| record.cookie.as_slice()).collect()
    }

    /// What a source is told of its memory: its cookies joined, or nothing but that they cannot be read.
    ///
    /// # Errors
    /// As [`Source::join_memories`].
    pub fn memory_of(&self, source: &dyn Source, id: SourceId, readable: bool) -> Result<Option<Vec<u8>>> {
        if !readable {
            return Ok(Some(Vec::new()));
        }
        source.join_memories(&self.memories(id)).doing(|| "reading what is on record".into())
    }

    /// The largest LSN on record for a source, on any branch.
    #[must_use]
    pub fn highest(&self, source: SourceId) -> Lsn {
        self.of_source(source).map(SetRecord::end).max().unwrap_or_default()
    }

    /// The chain below a set, the set first, the full one last.
    ///
    /// # Errors
    /// [`ErrorKind::ChainBroken`] when a base is gone.
    pub fn chain(&self, set: SetId) -> Result<Vec<SetId>> {
        let summaries = self.summaries();
        let chain = chain_of(set, &summaries)?;
        for member in &chain {
            self.whole(*member)?;
        }
        Ok(chain)
    }

    /// Whether redo on record covers all that a set needs.
    #[must_use]
    pub fn log_archived(&self, set: &SetSummary) -> bool {
        let units: Vec<&LogUnit> = self.of_source(set.source).flat_map(|record| &record.log).collect();
        set.nodes.iter().all(|range| {
            let reach = |branch| set.branch.reach(branch);
            let stretch = LogTrack::new(units.iter().copied(), range.node, reach).from(range.begin_lsn);
            range.span().is_empty() || stretch.reached >= range.end_lsn
        })
    }

    /// Where recovery of a source is possible without a gap, on each of its branches.
    #[must_use]
    pub fn windows(&self, source: SourceId) -> Vec<Window> {
        self.windows_without(source, &BTreeSet::new())
    }

    /// The same as it would be if these sets were gone.
    #[must_use]
    pub fn windows_without(&self, source: SourceId, gone: &BTreeSet<SetId>) -> Vec<Window> {
        let left: Vec<&SetRecord> = self.records().filter(|record| !gone.contains(&record.summary.id)).collect();
        let of_source = left.iter().filter(|record| record.summary.source == source);
        let units: Vec<LogUnit> = of_source.flat_map(|record| record.log.iter().cloned()).collect();
        let summaries: Vec<SetSummary> = left.iter().map(|record| record.summary.clone()).collect();
        let usable = |set: SetId| self.whole(set).map_err(|error| error.to_string());
        windows(source, &summaries, &usable, &units)
    }

    /// Every source with a set or redo on record, and its name.
    #[must_use]
    pub fn sources(&self) -> BTreeMap<SourceId, String> {
        let named = self.records.values().map(|record| (record.summary.source, record.summary.source_name.clone()));
        named.collect()
    }

    /// Whether a set's pieces are all there.
    ///
    /// # Errors
    /// [`ErrorKind::ChainBroken`] naming what is missing.
    pub fn whole(&self, set: SetId) -> Result<()> {
        let record = self.get(set).ok_or_else(|| no_such_set(&set.to_string()))?;
        match record.missing.first() {
            None => Ok(()),
            Some(object) => Err(Error::new(ErrorKind::ChainBroken, "is missing or has the wrong length")
                .on(object.clone())
                .remedy(format!("bring it back from a copy; set {set} is of no use without it"))),
        }
    }
}

impl SetRecord {
    /// The last LSN that the set or its redo reaches.
    #[must_use]
    pub fn end(&self) -> Lsn {
        let log = self.log.iter().map(|unit| unit.span.upto).max().unwrap_or_default();
        self.summary.bak_end_lsn.max(log)
    }
}

fn no_such_set(word: &str) -> Error {
    Error::new(ErrorKind::NotFound, "no such set").on(word).remedy("look at `setpiece sets`")
}

/// Copies make things faster; what goes wrong with them is no failure of the operation.
fn note(kept: Result<()>) {
    if let Err(error) = kept {
        tracing::warn!(%error, "the local copies of metadata cannot be kept");
    }
}

/// Whether an error is about one set only, so that the others can still be used.
fn stands_for_itself(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported | ErrorKind::Key)
}

fn read_record(repository: &Repository, cache: Option<&Cache>, set: SetId, objects: &SetObjects) -> Result<SetRecord> {
    let len = objects.meta.as_ref().map_or(0, |info| info.len);
    let cached = cache.and_then(|cache| cache.get(set, len));
    let bytes = match &cached {
        Some(bytes) => bytes.clone(),
        None => repository.meta_bytes(set)?,
    };
    let newer = repository.newer_keys(set, objects.keys())?;
    let meta = match (repository.decode_meta(set, &bytes, newer.as_ref()), cached.is_some()) {
        // A damaged copy proves nothing about the medium.
        (Err(_), true) => repository.decode_meta(set, &repository.meta_bytes(set)?, newer.as_ref())?,
        (decoded, _) => decoded?,
    };
    if let (Some(cache), None) = (cache, &cached) {
        note(cache.put(set, &bytes));
    }
    Ok(record(meta.meta, objects))
}

fn record(meta: SetMeta, objects: &SetObjects) -> SetRecord {
    let missing = pieces::missing(&meta, objects);
    SetRecord {
        missing,
        stored_bytes: objects.bytes(),
        raw_bytes: meta.raw_bytes,
        log: meta.log,
        cookie: meta.cookie,
        captured: meta.captured,
        put_back: meta.put_back,
        numbered: meta.summary.bak_end_lsn,
        summary: meta.summary,
    }
}
