//! What a stretch of WAL changes, put together so that it can be kept and joined with what comes before and after.
//!
//! It is complete in this sense: a file that was there when the stretch began, brought up to date with the pages named
//! here and with those that lie behind its old end, is as it was when the stretch ended. Some things are outside of WAL,
//! and so outside of this: the free space map, which is to be taken whole, always; the relations that are not logged, of
//! which only the init fork counts; hints, which any server can find out again, where neither checksums nor
//! `wal_log_hints` are on; and the list of pages with room on the first page of an SP-GiST index, of which a standby has
//! an old one as well.
//!
//! Memory is bounded: when there are too many runs, small gaps between them are filled in. Then there are more pages
//! than changed, never fewer.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use setpiece_core::model::{Lsn, LsnSpan, PageRun, PageSet, Timestamp};
use setpiece_core::{Error, ErrorKind, Result};

use super::blocks;
use super::facts::WalLevel;
use super::fork::ForkChanges;
use super::lsn::lsn_text;
use super::rel::{DatabaseDir, Fork, RelFork};

/// Runs of blocks over all forks; 64 MiB of them.
pub(super) const MAX_RUNS: usize = 4 << 20;

/// What happened to the directory of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct DirectoryChanges {
    /// It was made by copying another one: all files in it are to be taken.
    #[n(0)]
    pub copied: bool,
    /// It was made, and all that came into it is told.
    #[n(1)]
    pub made: bool,
    /// It was dropped, perhaps before it was made again.
    #[n(2)]
    pub dropped: bool,
    /// The file that maps catalogs to relations was replaced.
    #[n(3)]
    pub map: bool,
}

/// What happened to a tablespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TablespaceChanges {
    /// It was made.
    #[n(0)]
    pub made: bool,
    /// It was dropped, perhaps before it was made again.
    #[n(1)]
    pub dropped: bool,
}

/// The commits of a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Commits {
    /// How many.
    #[n(0)]
    pub count: u64,
    /// The earliest moment of one. Commits are not always in the order of their moments.
    #[n(1)]
    pub first: Timestamp,
    /// The latest moment of one.
    #[n(2)]
    pub last: Timestamp,
}

/// Something that happened at one place of the WAL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Event {
    /// Where its record ends: recovery that stops here has seen it.
    #[n(0)]
    pub lsn: Lsn,
    /// What happened.
    #[n(1)]
    pub what: Happening,
}

/// What can happen at one place of the WAL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[non_exhaustive]
pub enum Happening {
    /// A checkpoint was complete.
    #[n(0)]
    Checkpoint {
        /// Where its record begins.
        #[n(0)]
        record: Lsn,
        /// Recovery from it begins here.
        #[n(1)]
        redo: Lsn,
        /// Whether the server went on meanwhile; `false` for that of a clean shutdown.
        #[n(2)]
        online: bool,
        /// The moment, to the second.
        #[n(3)]
        time: Timestamp,
    },
    /// What follows is on another timeline.
    #[n(1)]
    Timeline {
        /// The new one.
        #[n(0)]
        timeline: u32,
        /// The one that it left.
        #[n(1)]
        previous: u32,
    },
    /// The server runs with this `wal_level` from here on.
    #[n(2)]
    WalLevel(#[n(0)] WalLevel),
    /// A named place to recover to.
    #[n(3)]
    RestorePoint {
        /// The name. What is not UTF-8 in it is replaced.
        #[n(0)]
        name: String,
        /// The moment, by the server's clock.
        #[n(1)]
        time: Timestamp,
    },
    /// A backup that began at `begin` ended.
    #[n(4)]
    BackupEnd {
        /// Its begin.
        #[n(0)]
        begin: Lsn,
    },
}

/// What a stretch of WAL changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Changes {
    #[n(0)]
    pub(super) span: LsnSpan,
    #[n(1)]
    #[cbor(with = "super::fork_cbor")]
    pub(super) forks: BTreeMap<RelFork, ForkChanges>,
    #[n(2)]
    pub(super) directories: BTreeMap<DatabaseDir, DirectoryChanges>,
    #[n(3)]
    pub(super) tablespaces: BTreeMap<u32, TablespaceChanges>,
    #[n(4)]
    pub(super) commits: Option<Commits>,
    /// Ascending by place.
    #[n(5)]
    pub(super) events: Vec<Event>,
}

impl Changes {
    /// No changes, at one place of the WAL.
    #[must_use]
    pub fn none(at: Lsn) -> Self {
        Changes { span: LsnSpan { after: at, upto: at }, ..Changes::default() }
    }

    /// The stretch: the records that end in it.
    #[must_use]
    pub fn span(&self) -> LsnSpan {
        self.span
    }

    /// The forks that changed, in order.
    pub fn forks(&self) -> impl Iterator<Item = (RelFork, &ForkChanges)> {
        self.forks.iter().map(|(fork, changes)| (*fork, changes))
    }

    /// What happened to one fork; `None` when nothing did.
    #[must_use]
    pub fn fork(&self, fork: RelFork) -> Option<&ForkChanges> {
        self.forks.get(&fork)
    }

    /// The directories of databases that changed as such, in order.
    pub fn directories(&self) -> impl Iterator<Item = (DatabaseDir, DirectoryChanges)> {
        self.directories.iter().map(|(directory, changes)| (*directory, *changes))
    }

    /// What happened to one directory as such.
    #[must_use]
    pub fn directory(&self, directory: DatabaseDir) -> DirectoryChanges {
        self.directories.get(&directory).copied().unwrap_or_default()
    }

    /// The tablespaces that were made or dropped, in order.
    pub fn tablespaces(&self) -> impl Iterator<Item = (u32, TablespaceChanges)> {
        self.tablespaces.iter().map(|(tablespace, changes)| (*tablespace, *changes))
    }

    /// The commits; `None` when there was none.
    #[must_use]
    pub fn commits(&self) -> Option<Commits> {
        self.commits
    }

    /// What else happened, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The blocks of `run` that are to be taken of a fork, whatever the reason. Blocks behind the end that the file had
    /// before are to be taken besides.
    #[must_use]
    pub fn pages(&self, fork: RelFork, run: PageRun) -> PageSet {
        if fork.fork == Fork::FreeSpaceMap || self.directory(fork.directory()).copied {
            return PageSet::from_iter([run]);
        }
        self.forks.get(&fork).map(|changes| changes.within(run)).unwrap_or_default()
    }

    /// Adds what the WAL right behind this stretch changes.
    ///
    /// # Errors
    /// When `later` does not begin where this ends.
    pub fn merge(&mut self, later: &Changes) -> Result<()> {
        if later.span.after != self.span.upto {
            let (ends, begins) = (lsn_text(self.span.upto), lsn_text(later.span.after));
            let what = format!("changes up to {ends} cannot be joined with changes from {begins}");
            return Err(Error::new(ErrorKind::Internal, what).remedy("join changes of adjoining stretches only"));
        }
        self.span.upto = later.span.upto;
        for (fork, changes) in &later.forks {
            self.forks.entry(*fork).or_default().merge(changes);
        }
        for (directory, changes) in &later.directories {
            let have = self.directories.entry(*directory).or_default();
            have.copied |= changes.copied;
            have.made |= changes.made;
            have.dropped |= changes.dropped;
            have.map |= changes.map;
        }
        for (tablespace, changes) in &later.tablespaces {
            let have = self.tablespaces.entry(*tablespace).or_default();
            have.made |= changes.made;
            have.dropped |= changes.dropped;
        }
        if let Some(commits) = later.commits {
            self.add_commits(commits);
        }
        self.events.extend_from_slice(&later.events);
        self.bound(MAX_RUNS);
        Ok(())
    }

    pub(super) fn add_commits(&mut self, more: Commits) {
        let have = self.commits.get_or_insert(Commits { count: 0, ..more });
        have.count = have.count.saturating_add(more.count);
        have.first = have.first.min(more.first);
        have.last = have.last.max(more.last);
    }

    /// Runs of blocks over all forks.
    pub(super) fn runs(&self) -> usize {
        self.forks.values().map(|changes| changes.blocks.runs().len()).sum()
    }

    /// The same with no more than `most` runs of blocks, or one for each fork: gaps are filled, the smallest first.
    #[must_use]
    pub fn bounded(mut self, most: usize) -> Self {
        self.bound(most);
        self
    }

    /// Fills gaps, the smallest first, until there are no more than `most` runs, or one for each fork.
    pub(super) fn bound(&mut self, most: usize) {
        let mut gap = 1u64;
        while self.runs() > most.max(self.forks.len()) {
            for changes in self.forks.values_mut() {
                changes.blocks = blocks::filled(&changes.blocks, gap);
            }
            gap = gap.saturating_mul(2);
        }
    }
}
