//! Recovery: the transactions of captured redo are laid over the restored database file, up to the target.
//!
//! The result is a plain database file without a log, and a file beside it that says which branch it is now.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::SystemTime;

use setpiece_core::model::log::Timing;
use setpiece_core::model::{FileEntry, FileKind, LogUnit, Lsn, LsnSpan, StateMark, Timestamp, Until};
use setpiece_core::source::{LogFeed, PageState, RecoverRequest, Recovered, Recovery};
use setpiece_core::{Error, ErrorKind, Result};

use crate::pending::Pending;
use crate::place::ordinal_of;
use crate::run::{FILE, inspect_page};
use crate::sidecar::Sidecar;
use crate::source::ENGINE;
use crate::unit::{Transaction, Unit, read_unit};
use crate::wal::{Salts, Sum};

/// Brings restored SQLite databases to a target.
#[derive(Clone, Copy, Debug, Default)]
pub struct SqliteRecovery;

impl Recovery for SqliteRecovery {
    fn engine(&self) -> &str {
        ENGINE
    }

    fn recover(&self, request: &RecoverRequest<'_>, log: &mut dyn LogFeed) -> Result<Recovered> {
        let mut replay = Replay::new(request)?;
        if request.target.until != Until::SetEnd {
            while !replay.done
                && let Some((unit, bytes)) = log.next()?
            {
                replay.unit(&unit, &bytes)?;
            }
        }
        replay.finish()
    }

    fn inspect(&self, file: &FileEntry, page: u64, bytes: &[u8]) -> PageState {
        inspect_page(file.page_size, page, bytes)
    }
}

/// A recovery on its way.
struct Replay<'r> {
    request: &'r RecoverRequest<'r>,
    path: PathBuf,
    file: File,
    page_size: u32,
    /// The state of the file.
    reached: Lsn,
    /// How far the log goes without a gap.
    log_end: Lsn,
    /// The marks of the state there, as far as there are any on record.
    marks: Option<Vec<StateMark>>,
    /// The last commit that was in the log, in the file or not.
    log_time: Option<Timestamp>,
    time: Option<Timestamp>,
    database: Option<u32>,
    pending: Pending,
    last: Option<Last>,
    done: bool,
}

/// The place in the log where the unit before ended.
struct Last {
    generation: u32,
    upto: Lsn,
    salts: Salts,
    sum: Sum,
}

impl<'r> Replay<'r> {
    fn new(request: &'r RecoverRequest<'r>) -> Result<Self> {
        let target = &request.target.until;
        if !matches!(target, Until::SetEnd | Until::Latest | Until::Lsn(_) | Until::Time(_)) {
            return Err(Error::new(ErrorKind::Usage, "SQLite has neither named points nor numbered transactions")
                .remedy("give an LSN or a time"));
        }
        let entry = request
            .files
            .iter()
            .find(|file| file.id == FILE && file.kind == FileKind::Paged)
            .ok_or_else(|| Error::new(ErrorKind::Damaged, "the set holds no SQLite database"))?;
        let path = entry.path.below(request.directory);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| Error::io(path.display().to_string(), error))?;
        let from = request.from.iter().map(|node| node.end_lsn).max().unwrap_or_default().max(request.consistent_from);
        let replay = Replay {
            request,
            path,
            file,
            page_size: entry.page_size,
            reached: from,
            log_end: from,
            marks: request.marks.filter(|_| from == request.consistent_from).map(<[_]>::to_vec),
            log_time: None,
            time: None,
            database: None,
            pending: Pending::new(request.directory, entry.page_size),
            last: None,
            done: false,
        };
        replay.refuse_before(from)?;
        Ok(replay)
    }

    /// A target before what the set holds would need pages that the set has not.
    fn refuse_before(&self, from: Lsn) -> Result<()> {
        let target = self.request.target;
        match target.until {
            Until::Lsn(lsn) if lsn < from || (lsn == from && target.exclusive) => {
                let what = format!("the set already holds everything up to LSN {from}");
                Err(Error::new(ErrorKind::Unreachable, what).remedy("restore an older set"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a transaction is behind the target.
    fn is_behind(&self, transaction: &Transaction<'_>) -> bool {
        let exclusive = self.request.target.exclusive;
        match self.request.target.until {
            Until::Lsn(lsn) => transaction.lsn > lsn || (exclusive && transaction.lsn == lsn),
            Until::Time(time) => transaction.seen > time || (exclusive && transaction.seen == time),
            _ => false,
        }
    }

    /// Takes the next unit of the log.
    fn unit(&mut self, unit: &LogUnit, bytes: &[u8]) -> Result<()> {
        let limit = self.request.branch.reach(unit.branch).ok_or_else(|| {
            self.misfit(unit, format!("it is of branch {}, which is not in the history", unit.branch))
        })?;
        if unit.span.upto <= self.log_end {
            return Ok(());
        }
        if unit.span.after > self.log_end {
            let missing = LsnSpan { after: self.log_end, upto: unit.span.after };
            let what = format!("redo {missing} is missing before it");
            return Err(self.misfit(unit, what).remedy("choose a target before the gap, or a newer set"));
        }
        if !unit.goes_on_from(self.log_end, self.marks.as_deref()) {
            let what = format!("it cannot be proven to go on from the state at LSN {}", self.log_end);
            return Err(self.misfit(unit, what).remedy("restore without redo behind the set, or from another set"));
        }
        self.refuse_unknown_moment(unit)?;
        let damaged = |what: &str| Error::damaged(format!("log unit {} {}", unit.seq, unit.span), what);
        let read = read_unit(bytes).map_err(damaged)?;
        let (page_size, transactions) = (read.page_size, &read.transactions);
        if page_size != self.page_size {
            let what = format!("its pages have {page_size} bytes, those of the database {}", self.page_size);
            return Err(self.misfit(unit, what));
        }
        let within = |lsn: Lsn| unit.span.contains(lsn);
        if !transactions.iter().all(|one| within(one.lsn))
            || transactions.last().map(|one| one.lsn) != Some(unit.span.upto)
        {
            return Err(damaged("its transactions are not the ones it is said to hold"));
        }
        self.prove_order(unit, &read)?;
        let from = self.reached;
        let of_history = transactions.iter().take_while(|one| one.lsn <= limit);
        self.apply(of_history.filter(|one| one.lsn > from))?;
        self.log_end = unit.span.upto.min(limit).max(self.log_end);
        self.marks = unit.marks_at(self.log_end);
        Ok(())
    }

    /// A target before the moment at which transactions were found that had been committed earlier: they may be before
    /// the target or behind it.
    fn refuse_unknown_moment(&self, unit: &LogUnit) -> Result<()> {
        let (Until::Time(time), Some(Timing::Late)) = (&self.request.target.until, unit.timing) else { return Ok(()) };
        let hidden = |found: &Timestamp| *time < *found || (self.request.target.exclusive && *time == *found);
        match unit.last_commit.filter(hidden) {
            Some(found) => {
                let what = format!("its transactions were committed at moments not known, by {found}");
                Err(self.misfit(unit, what).remedy("choose a moment before the unit ahead of it ended, or behind it"))
            }
            None => Ok(()),
        }
    }

    /// Units of one generation of the log must fit by SQLite's own checksum, too.
    fn prove_order(&mut self, unit: &LogUnit, read: &Unit<'_>) -> Result<()> {
        let generation = ordinal_of(unit.span.upto);
        if let Some(last) = &self.last
            && last.generation == generation
            && (last.salts != read.salts || (unit.span.after == last.upto && last.sum != read.before))
        {
            let what = "it does not go on where the unit before it ended, though the LSNs say so".to_owned();
            return Err(self.misfit(unit, what).remedy("choose a target before it, or a newer set"));
        }
        if self.last.as_ref().is_some_and(|last| last.generation != generation) && !self.pending.is_empty() {
            let what = "the transaction before it was cut into parts, and the last of them is missing".to_owned();
            return Err(self.misfit(unit, what).remedy("choose a target before it, or a newer set"));
        }
        self.last = Some(Last { generation, upto: unit.span.upto, salts: read.salts, sum: read.after });
        Ok(())
    }

    /// Writes the newest image of each page of the transactions that are not behind the target.
    fn apply<'t>(&mut self, transactions: impl Iterator<Item = &'t Transaction<'t>>) -> Result<()> {
        let mut newest: BTreeMap<u32, &[u8]> = BTreeMap::new();
        for one in transactions {
            if one.goes_on() {
                self.pending.add(one)?;
                continue;
            }
            self.log_time = Some(one.seen);
            if self.done || self.is_behind(one) {
                self.done = true;
                continue;
            }
            self.pending.commit(one, &self.file).map_err(|error| self.io(error))?;
            newest.extend(one.pages());
            // What a transaction cut off is not the content of pages that a later one adds again.
            drop(newest.split_off(&one.database.saturating_add(1)));
            (self.reached, self.time, self.database) = (one.lsn, Some(one.seen), Some(one.database));
        }
        let len = |pages: u32| u64::from(pages) * u64::from(self.page_size);
        if let Some(pages) = self.database {
            self.file.set_len(len(pages)).map_err(|error| self.io(error))?;
        }
        for (page, image) in newest {
            self.file.write_all_at(image, len(page - 1)).map_err(|error| self.io(error))?;
        }
        Ok(())
    }

    /// Checks that the target was reached, and makes the result durable and a branch of its own.
    fn finish(self) -> Result<Recovered> {
        self.refuse_unreached()?;
        self.file.sync_all().map_err(|error| self.io(error))?;
        let request = self.request;
        let branch = request.branch.fork(request.new_branch, self.reached, Some(SystemTime::now().into()));
        let highest = request.highest.max(self.reached);
        Sidecar { source: request.source, branch, highest }.write(&self.path)?;
        let directory = File::open(request.directory).and_then(|directory| directory.sync_all());
        directory.map_err(|error| Error::io(request.directory.display().to_string(), error))?;
        Ok(Recovered { lsn: self.reached, time: self.time, branch: request.new_branch })
    }

    fn refuse_unreached(&self) -> Result<()> {
        let missing = match self.request.target.until {
            Until::Lsn(lsn) => {
                (self.log_end < lsn).then(|| format!("the log ends at LSN {}, before {lsn}", self.log_end))
            }
            Until::Time(time) => match self.log_time {
                Some(last) => (last < time)
                    .then(|| format!("the last commit in the log is {} µs before the target", time.0 - last.0)),
                None => Some("there is no log behind the set".to_owned()),
            },
            _ => None,
        };
        match missing {
            Some(what) => Err(Error::new(ErrorKind::Unreachable, what)
                .on(self.path.display().to_string())
                .remedy("choose an earlier target, or recover as far as the log reaches")),
            None => Ok(()),
        }
    }

    fn misfit(&self, unit: &LogUnit, what: String) -> Error {
        Error::new(ErrorKind::Unreachable, what).on(format!("log unit {} {}", unit.seq, unit.span))
    }

    fn io(&self, error: std::io::Error) -> Error {
        Error::io(self.path.display().to_string(), error)
    }
}
