//! Records put together to changes, many a millisecond.
//!
//! Blocks are noted as they come and sorted now and then. A small table of those that came last keeps out most that are
//! named again and again.

use std::collections::HashMap;

use setpiece_core::Result;
use setpiece_core::model::{Lsn, LsnSpan, PageSet};

use super::blocks;
use super::changes::{Changes, Commits, DirectoryChanges, Event, Happening, MAX_RUNS};
use super::facts::{Fact, facts};
use super::record::Record;
use super::rel::{DatabaseDir, Fork, RelFork};

/// Notes that are sorted at once: 8 MiB.
const NOTES: usize = 1 << 20;
/// Places in the table of the latest notes; a power of two.
const LATEST: usize = 4096;
/// Places in the table of the latest forks; a power of two.
const FAMILIAR: usize = 64;

/// Gathers what the records of a stretch of WAL change.
#[derive(Debug)]
pub struct Gatherer {
    block_size: u32,
    upto: Lsn,
    changes: Changes,
    notes: Notes,
    /// Runs of blocks that are kept at most.
    pub(super) most_runs: usize,
}

impl Gatherer {
    /// Gathers the records that end after `after`, in a cluster whose relations have blocks of `block_size` bytes.
    #[must_use]
    pub fn new(after: Lsn, block_size: u32) -> Self {
        Gatherer { block_size, upto: after, changes: Changes::none(after), notes: Notes::new(), most_runs: MAX_RUNS }
    }

    /// Adds what `record` changes. Records are to come in their order; those that end before the stretch begins are
    /// passed over.
    ///
    /// # Errors
    /// When what the record changes cannot be told.
    pub fn add(&mut self, record: &Record<'_>) -> Result<()> {
        if record.end <= self.changes.span.after {
            return Ok(());
        }
        self.upto = self.upto.max(record.end);
        let (changes, notes) = (&mut self.changes, &mut self.notes);
        facts(record, self.block_size, &mut |fact| {
            if let Fact::Block(fork, block) = fact {
                notes.add(fork, block);
            } else {
                note(changes, record, fact);
            }
        })?;
        if self.notes.keys.len() >= NOTES {
            self.settle();
        }
        Ok(())
    }

    /// What was gathered. The stretch ends at `upto`, or with the last record if that is later: there is WAL up to
    /// `upto`, but no record ends between.
    #[must_use]
    pub fn finish(mut self, upto: Lsn) -> Changes {
        self.settle();
        self.changes.span = LsnSpan { after: self.changes.span.after, upto: self.upto.max(upto) };
        self.changes
    }

    fn settle(&mut self) {
        self.notes.drain(|fork, blocks| self.changes.forks.entry(fork).or_default().add(blocks));
        self.changes.bound(self.most_runs);
    }
}

/// Notes everything but a single block.
fn note(changes: &mut Changes, record: &Record<'_>, fact: Fact<'_>) {
    match fact {
        Fact::From(fork, from) => changes.forks.entry(fork).or_default().add_from(from),
        Fact::Dropped(relation) => {
            for fork in Fork::ALL {
                changes.forks.entry(relation.with(fork)).or_default().add_from(0);
            }
        }
        Fact::DirectoryCopied(at) => directory(changes, at).copied = true,
        Fact::DirectoryMade(at) => directory(changes, at).made = true,
        Fact::DirectoryDropped(at) => directory(changes, at).dropped = true,
        Fact::MapChanged(at) => directory(changes, at).map = true,
        Fact::TablespaceMade { tablespace, .. } => changes.tablespaces.entry(tablespace).or_default().made = true,
        Fact::TablespaceDropped(tablespace) => changes.tablespaces.entry(tablespace).or_default().dropped = true,
        Fact::Commit { time, .. } => changes.add_commits(Commits { count: 1, first: time, last: time }),
        fact => changes.events.extend(happening(record, fact).map(|what| Event { lsn: record.end, what })),
    }
}

fn directory(changes: &mut Changes, at: DatabaseDir) -> &mut DirectoryChanges {
    changes.directories.entry(at).or_default()
}

/// What is kept with its place.
fn happening(record: &Record<'_>, fact: Fact<'_>) -> Option<Happening> {
    match fact {
        Fact::Checkpoint { redo, online, time } => {
            Some(Happening::Checkpoint { record: record.start, redo, online, time })
        }
        Fact::Timeline { timeline, previous } => Some(Happening::Timeline { timeline, previous }),
        Fact::WalLevel(level) => Some(Happening::WalLevel(level)),
        Fact::RestorePoint { name, time } => {
            Some(Happening::RestorePoint { name: String::from_utf8_lossy(name).into_owned(), time })
        }
        Fact::BackupEnd(begin) => Some(Happening::BackupEnd { begin }),
        _ => None,
    }
}

/// Blocks as they come.
#[derive(Debug)]
struct Notes {
    /// Each fork's number in the upper half of a key.
    numbers: HashMap<RelFork, u32>,
    forks: Vec<RelFork>,
    /// Forks that came lately, by the lower bits of their relation, and their numbers.
    familiar: Vec<Option<(RelFork, u32)>>,
    /// Number of the fork and of the block, in no order.
    keys: Vec<u64>,
    /// Keys that were added lately, by their lower bits.
    latest: Vec<u64>,
}

impl Notes {
    fn new() -> Self {
        Notes {
            numbers: HashMap::new(),
            forks: Vec::new(),
            familiar: vec![None; FAMILIAR],
            keys: Vec::new(),
            // No fork has this number.
            latest: vec![u64::MAX; LATEST],
        }
    }

    fn add(&mut self, fork: RelFork, block: u32) {
        let key = u64::from(self.number(fork)) << 32 | u64::from(block);
        let place = (key ^ key >> 27) as usize % LATEST;
        if let Some(latest) = self.latest.get_mut(place)
            && *latest != key
        {
            *latest = key;
            self.keys.push(key);
        }
    }

    fn number(&mut self, fork: RelFork) -> u32 {
        let place = (fork.relation as usize ^ (fork.fork as usize) << 4) % FAMILIAR;
        if let Some(Some((familiar, number))) = self.familiar.get(place)
            && *familiar == fork
        {
            return *number;
        }
        let number = *self.numbers.entry(fork).or_insert_with(|| {
            self.forks.push(fork);
            // There are never more forks than notes.
            self.forks.len() as u32 - 1
        });
        if let Some(familiar) = self.familiar.get_mut(place) {
            *familiar = Some((fork, number));
        }
        number
    }

    /// Hands over the blocks of each fork and forgets them.
    fn drain(&mut self, mut each: impl FnMut(RelFork, &PageSet)) {
        self.keys.sort_unstable();
        for keys in self.keys.chunk_by(|one, two| one >> 32 == two >> 32) {
            let number = keys.first().map_or(0, |key| (key >> 32) as usize);
            if let Some(fork) = self.forks.get(number) {
                each(*fork, &blocks::of_blocks(keys.iter().map(|key| *key as u32)));
            }
        }
        *self = Notes::new();
    }
}
