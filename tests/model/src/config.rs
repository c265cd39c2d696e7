//! What kind of engine a model is: everything in which real engines differ and on which core must not depend.

use std::path::PathBuf;

use setpiece_core::model::{BranchId, SourceId, Timestamp, Uuid};
use setpiece_core::source::IncrementRule;

use crate::rng::Rng;

/// Which changed pages the engine can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeMapMode {
    /// All that its redo on disk names.
    Complete,
    /// Only those behind this LSN.
    Since(u64),
    /// None, neither in a backup nor in captured redo.
    Never,
}

/// How the files that are made are tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackingMode {
    /// Page LSN; plain files by hash.
    PageLsn,
    /// Page hash.
    PageHash,
    /// Not at all.
    Always,
    /// Any of these, drawn for each file.
    Mixed,
}

/// Where the moments of transactions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// `origin + LSN * tick` microseconds: the same in every run.
    Logical {
        /// The moment of LSN 0.
        origin: Timestamp,
        /// Microseconds between one LSN and the next, at least 1.
        tick: i64,
    },
    /// The clock of the machine, made to ascend.
    Wall,
}

/// How an engine behaves. [`Config::default`] is a plain single-node engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name in [`setpiece_core::source::SourceInfo`].
    pub name: String,
    /// The identity of the database.
    pub source: SourceId,
    /// The first branch.
    pub branch: BranchId,
    /// Log streams, 1 to 3.
    pub nodes: u32,
    /// Bytes in a page of paged files: a power of two from 512 on.
    pub page_size: u32,
    /// Bytes in a block of plain files.
    pub block: u32,
    /// Pages in each of the first files.
    pub initial_pages: u64,
    /// Whether redo is kept when the engine no longer needs it. Without it there is no online backup.
    pub archive: bool,
    /// Where redo goes; by default a directory beside the data with `.redo` at the end of its name.
    pub log_dir: Option<PathBuf>,
    /// What [`setpiece_core::source::Source::increment_rule`] answers.
    pub rule: IncrementRule,
    /// See the type.
    pub change_map: ChangeMapMode,
    /// See the type.
    pub tracking: TrackingMode,
    /// Whether `valid_pages` tells which pages are in use.
    pub allocation_map: bool,
    /// In how many of 1000 reads of a page that was written lately the page comes torn the first time.
    pub torn_per_mille: u32,
    /// Streams in a package; with more than one the LSNs in a package are out of order.
    pub parallel_log: u32,
    /// Whether a new branch numbers its packages from 1 on, or goes on numbering.
    pub seq_anew: bool,
    /// Whether one checkpoint asked for by core writes half of the dirty pages only.
    pub lazy_checkpoint: bool,
    /// Whether random steps make, drop and resize files and tablespaces.
    pub ddl: bool,
    /// See the type.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: "model".into(),
            source: SourceId(Uuid::from_time(1, [7; 10])),
            branch: BranchId(1),
            nodes: 1,
            page_size: 512,
            block: 1024,
            initial_pages: 24,
            archive: true,
            log_dir: None,
            rule: IncrementRule::KeepFromBaseBegin,
            change_map: ChangeMapMode::Never,
            tracking: TrackingMode::PageLsn,
            allocation_map: true,
            torn_per_mille: 0,
            parallel_log: 1,
            seq_anew: true,
            lazy_checkpoint: false,
            ddl: true,
            clock: Clock::Logical { origin: Timestamp(0), tick: 1_000_000 },
        }
    }
}

impl Config {
    /// An engine with archived redo and everything else drawn from `seed`.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let rules = [IncrementRule::CheckpointUntilBaseEnd, IncrementRule::KeepFromBaseBegin];
        let maps = [ChangeMapMode::Complete, ChangeMapMode::Since(100), ChangeMapMode::Never];
        let tracks = [TrackingMode::PageLsn, TrackingMode::PageHash, TrackingMode::Always, TrackingMode::Mixed];
        Config {
            source: SourceId(Uuid::from_time(seed, [7; 10])),
            nodes: 1 + rng.below(3) as u32,
            page_size: 512 << rng.below(3),
            block: 512 << rng.below(3),
            initial_pages: 8 + rng.below(40),
            rule: rules[rng.index(rules.len())],
            change_map: maps[rng.index(maps.len())],
            tracking: tracks[rng.index(tracks.len())],
            allocation_map: rng.chance(800),
            torn_per_mille: rng.below(3) as u32 * 150,
            parallel_log: 1 + rng.below(4) as u32,
            seq_anew: rng.chance(500),
            lazy_checkpoint: rng.chance(500),
            ..Config::default()
        }
    }
}
