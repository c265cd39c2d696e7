//! The redo of a plan, read unit by unit as a recovery asks for it.

use crate::catalog::index::OpenSet;
use crate::catalog::named::standing_in;
use crate::catalog::pieces;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::{EntryContent, IndexEntry, PieceKind};
use crate::media::repository::{Repository, read_range};
use crate::model::{LogUnit, Lsn, SetId, SourceId};
use crate::pipeline::Cancel;
use crate::source::LogFeed;
use crate::transform::WholeUnit;

/// Units of redo in the order of a plan. Holds one set open at a time.
pub struct Feed<'a> {
    repository: &'a Repository,
    source: SourceId,
    units: &'a [(SetId, LogUnit)],
    cancel: &'a Cancel,
    next: usize,
    open: Option<LogSet>,
}

impl<'a> Feed<'a> {
    /// A feed of the units of a source, each with the set that holds it. Where a set is gone that held the beginning of
    /// a unit, what holds more of it takes its place.
    #[must_use]
    pub fn new(
        repository: &'a Repository,
        source: SourceId,
        units: &'a [(SetId, LogUnit)],
        cancel: &'a Cancel,
    ) -> Self {
        Feed { repository, source, units, cancel, next: 0, open: None }
    }

    fn read(&mut self, set: SetId, unit: &LogUnit) -> Result<WholeUnit> {
        let open = match self.open.take().filter(|open| open.set.meta.summary.id == set) {
            Some(open) => open,
            None => LogSet::open(self.repository, set)?,
        };
        let open = self.open.insert(open);
        open.read(self.repository, unit).doing(|| format!("reading unit {} of the redo", unit.seq))
    }
}

impl LogFeed for Feed<'_> {
    fn next(&mut self) -> Result<Option<(LogUnit, Vec<u8>)>> {
        self.cancel.check()?;
        let Some((set, unit)) = self.units.get(self.next) else { return Ok(None) };
        self.next += 1;
        let whole = match self.read(*set, unit) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let other = standing_in(self.repository, self.source, unit)?;
                let (set, unit) = other.ok_or(error)?;
                self.read(set, &unit)?
            }
            read => read?,
        };
        Ok(Some((whole.unit, whole.bytes)))
    }
}

/// A feed that notes what is taken from it.
pub(super) struct Noted<'f> {
    feed: &'f mut dyn LogFeed,
    taken: Vec<LogUnit>,
}

impl<'f> Noted<'f> {
    pub(super) fn new(feed: &'f mut dyn LogFeed) -> Self {
        Noted { feed, taken: Vec::new() }
    }

    /// The units that were taken and begin before the state at `lsn`.
    pub(super) fn before(&self, lsn: Lsn) -> impl Iterator<Item = &LogUnit> {
        self.taken.iter().filter(move |unit| unit.span.after < lsn)
    }
}

impl LogFeed for Noted<'_> {
    fn next(&mut self) -> Result<Option<(LogUnit, Vec<u8>)>> {
        let next = self.feed.next()?;
        // The pages that a unit changes can be many, and nobody asks for them again.
        self.taken.extend(next.iter().map(|(unit, _)| LogUnit { changes: None, ..unit.clone() }));
        Ok(next)
    }
}

/// A set with redo, its index read.
struct LogSet {
    set: OpenSet,
    /// Piece and frame, in order.
    frames: Vec<(usize, IndexEntry)>,
    /// Units that came out of the frame read last and were not asked for yet.
    ready: Vec<WholeUnit>,
}

impl LogSet {
    fn open(repository: &Repository, set: SetId) -> Result<Self> {
        let set = OpenSet::open(repository, set, PieceKind::Log)?;
        let mut frames = Vec::new();
        for (at, piece) in set.pieces.iter().enumerate() {
            let medium = &**repository.medium();
            let mut reader = pieces::reader(medium, set.meta.summary.id, &piece.info, set.key.as_ref())?;
            for segment in &piece.root.segments {
                let bytes = read_range(medium, &piece.name, segment.offset, u64::from(segment.stored_len))?;
                let entries = reader.segment(segment, &bytes).map_err(|error| error.on(piece.name.to_string()))?;
                frames.extend(entries.into_iter().map(|entry| (at, entry)));
            }
        }
        Ok(LogSet { set, frames, ready: Vec::new() })
    }

    fn read(&mut self, repository: &Repository, unit: &LogUnit) -> Result<WholeUnit> {
        if let Some(at) = self.ready.iter().position(|ready| same(&ready.unit, unit)) {
            return Ok(self.ready.swap_remove(at));
        }
        let begin = self.frames.iter().position(|(_, entry)| begins(entry, unit)).ok_or_else(|| {
            let set = &self.set.meta.summary;
            Error::damaged(format!("set {}", set.name), format!("its index does not know unit {}", unit.seq))
        })?;
        let piece_at = self.frames[begin].0;
        let piece = &self.set.pieces[piece_at];
        let medium = &**repository.medium();
        let mut reader = pieces::reader(medium, self.set.meta.summary.id, &piece.info, self.set.key.as_ref())?;
        for (_, entry) in self.frames[begin..].iter().take_while(|(at, _)| *at == piece_at) {
            let frame = read_range(medium, &piece.name, entry.offset, u64::from(entry.stored_len))?;
            let units = reader.log(entry, &frame).map_err(|error| error.on(piece.name.to_string()))?;
            self.ready = units;
            if let Some(at) = self.ready.iter().position(|ready| same(&ready.unit, unit)) {
                return Ok(self.ready.swap_remove(at));
            }
            if !self.ready.is_empty() {
                break;
            }
        }
        Err(Error::new(ErrorKind::Damaged, format!("unit {} ends before it is whole", unit.seq))
            .on(piece.name.to_string()))
    }
}

fn begins(entry: &IndexEntry, unit: &LogUnit) -> bool {
    let EntryContent::Log { table } = &entry.content else { return false };
    table.parts.iter().filter_map(|part| part.unit.as_ref()).any(|have| same(have, unit))
}

fn same(have: &LogUnit, wanted: &LogUnit) -> bool {
    let numbers = |unit: &LogUnit| (unit.node, unit.branch, unit.seq, unit.span);
    numbers(have) == numbers(wanted) && have.links == wanted.links
}
