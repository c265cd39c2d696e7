//! Capture of the log while it is written, without a gap, and without standing in the way of checkpoints for long.
//!
//! Nothing is lost because a read transaction of ours is open all the time, and because of what one means (see
//! `snapshot.rs`): a reader with a mark R > 0 in the log keeps it from being restarted. A reader at mark 0 allows one
//! restart, but only of a log that had been copied into the database file as a whole when the reader began, and none
//! after that; nothing is appended to such a log either without making it one that cannot be restarted. So it is
//! enough to keep this rule:
//!
//! *When a read transaction becomes the only one of ours, everything that it sees has been captured.*
//!
//! Then, if the log is restarted, all that was in it has been captured, and the restarted log is the next one. To let
//! checkpoints go on, a second read transaction is begun while the first is held (`hand_over`), what was committed by
//! then is captured, and only then the first one ends. Where writers never pause, the log would never be copied as a
//! whole; when it has become large they are asked to wait for a moment (`help`).
//!
//! When a stream ends, the log is the engine's again. What is committed until the next stream begins is captured then
//! if the log was not restarted meanwhile; if it was, the stream says so when it begins. What the restarted log holds
//! already is not captured then: without the redo before it no set could be brought up to it.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use setpiece_core::error::Context;
use setpiece_core::model::log::{FileChanges, Timing};
use setpiece_core::model::{BranchHistory, LogUnit, Lsn, LsnSpan, MarkedState, Seq, StateMark, UnitLinks};
use setpiece_core::source::{CaptureBegin, CapturedPoint, CapturedUnit, LogStream, NodePosition};
use setpiece_core::{Error, ErrorKind, Result};

use crate::batch::Batch;
use crate::connect::{Link, Published};
use crate::dbfile::{FileMark, descriptor, is_named};
use crate::fault::{lock, unsettled};
use crate::held::Held;
use crate::identity::Identity;
use crate::look::{Log, Look, look_until_settled};
use crate::mark;
use crate::place::{Clock, Cookie, Memory, Placed, Point, WalMark, frame_of, lsn, next_ordinal, place};
use crate::run::{FILE, NODE};
use crate::site::Site;
use crate::snapshot::seen;
use crate::wal::{Cursor, WalHeader, scan};
use crate::witness::Witness;

/// How often the log is looked at.
const POLL: Duration = Duration::from_millis(50);
/// A read transaction is replaced when this much was captured since it began, or when it has become this old.
const FRAMES_A_READER: u32 = 256;
const READER_AGE: Duration = Duration::from_millis(200);
/// Writers are asked to wait when the log has become this long.
const LONG_LOG: u64 = 4 << 20;
/// So much is captured in a few milliseconds.
const LITTLE: u64 = 1 << 20;
/// So much captured redo may lie in memory.
const WAITING: u64 = 64 << 20;
/// How long to try to make writers wait. They wait only once it has come to that, for some milliseconds.
const HELP_WAIT: Duration = Duration::from_millis(500);
/// How long the log is kept for redo that was captured and is not durable yet.
const PATIENCE: Duration = Duration::from_secs(1);
/// A transaction is found late when so much time has passed since the last time that nothing was left to be found.
const LATE: Duration = Duration::from_secs(2);
/// So many looks may find less in the file than SQLite says is committed.
const MISFITS: u32 = 100;

/// The generation that is captured, and how far.
#[derive(Clone, Copy, Debug)]
struct Generation {
    header: WalHeader,
    at: Cursor,
}

/// Capture that runs.
pub(crate) struct Stream {
    site: Site,
    file: Arc<File>,
    held: Held,
    witness: Witness,
    branch: BranchHistory,
    known: Arc<Mutex<Option<Cookie>>>,
    cookie: Cookie,
    clock: Option<Clock>,
    /// The number of the generation.
    ordinal: u32,
    /// `None` as long as the log has no frames.
    generation: Option<Generation>,
    /// The end of the log when the stream began: a restart before that is captured loses redo.
    backlog: Point,
    /// Why redo before the begin of the stream was lost, if it was.
    lost: Option<String>,
    /// The end of what was captured.
    captured: Lsn,
    /// The marks of the state there.
    marks: Vec<StateMark>,
    /// When everything that was committed had been captured.
    complete: Option<Instant>,
    durable: Lsn,
    captured_at: Instant,
    seq: Seq,
    readers: Readers,
    probe: Link,
    ready: VecDeque<CapturedUnit>,
    misfits: u32,
    helped_at: u32,
}

/// The read transactions that pin the log.
struct Readers {
    first: Link,
    second: Link,
    /// What must be captured before the second transaction may become the only one; `None` when it is not open.
    goal: Option<Goal>,
    began: Instant,
    /// The frame captured when the first one began.
    frame: u32,
    /// Whether the first one is at mark 0, as far as can be told.
    at_zero: bool,
}

/// A frame of a generation.
#[derive(Clone, Copy, Debug)]
struct Goal {
    salts: Option<crate::wal::Salts>,
    frame: u32,
    at_zero: bool,
    /// The database file, when nobody may write to it as long as the second transaction is open.
    rest: Option<FileMark>,
}

impl Stream {
    /// Begins to capture, behind `last` if the log still allows that. `memory` holds the newest on record.
    pub(crate) fn begin(
        site: &Site,
        identity: &Identity,
        memory: Memory,
        known: Arc<Mutex<Option<Cookie>>>,
        last: Option<&CapturedPoint>,
    ) -> Result<Self> {
        let Memory { cookie, floor, clock } = memory;
        let branch = identity.branch.clone();
        let began = Instant::now();
        let file = descriptor(&site.path)?;
        // The first connection makes the files of the log. Those that are opened between two looks at their paths that find
        // the same files have these open.
        drop(site.link()?);
        let held = Held::now(site)?;
        let (probe, first, second) = (site.link()?, site.link()?, site.link()?);
        first.begin_read()?;
        let point = cookie.point(branch.current).copied();
        let log = match look_until_settled(site, &probe, point.map(|point| point.frame))? {
            Look::Journal => return Err(no_log(site)),
            Look::Empty => None,
            Look::Log(log) => Some(log),
        };
        if probe.published()? == Published::Unknown {
            return Err(Error::new(ErrorKind::Source, "the database may not be written to by this user")
                .on(site.path.display().to_string())
                .remedy("let the log stream run as a user who may write to the database and its directory"));
        }
        let held = held.ok_or_else(|| unsettled(&site.path, "its log was removed just now"))?;
        let placed = place(&cookie, branch.current, seen(log.as_ref(), &file), floor)?;
        let last = last.map(|last| &last.unit).filter(|unit| unit.branch == branch.current);
        let (from, marks, lost) = go_on_from(site, log.as_ref(), last, point, &placed)?;
        let seq = last.and_then(|unit| unit.seq.next());
        let mut stream = Stream {
            site: site.clone(),
            file,
            held,
            witness: Witness::default(),
            known,
            ordinal: placed.point.ordinal,
            generation: None,
            backlog: placed.point,
            lost: point.filter(|_| lost).map(lost_since),
            captured: from,
            marks,
            complete: (frame_of(from) == placed.point.frame).then_some(began),
            durable: from,
            captured_at: Instant::now(),
            seq: seq.unwrap_or(Seq(1)),
            readers: Readers { first, second, goal: None, began: Instant::now(), frame: 0, at_zero: false },
            probe,
            ready: VecDeque::new(),
            misfits: 0,
            helped_at: 0,
            clock,
            cookie,
            branch,
        };
        stream.witness.rest(placed.point.file);
        if let Some(log) = log {
            stream.enter(log.header, frame_of(from), placed.point)?;
        }
        stream.check_presence()?;
        Ok(stream)
    }

    /// Goes to frame `frame` of the log that was found, or to its end if the frame is gone by now.
    fn enter(&mut self, header: WalHeader, frame: u32, end: Point) -> Result<()> {
        let mut at = Cursor::start(&header);
        let witness = &mut self.witness;
        let walk = scan(self.held.log(), &header, at, frame, &mut |one| {
            at = Cursor { frame: one.number, sum: one.after };
            witness.learn(header.page_size, [(one.page, crc32fast::hash(one.data))], one.database);
            ControlFlow::Continue(())
        });
        walk.map_err(|error| self.log_fault(error))?;
        if at.frame < frame {
            self.witness.forget();
            at = Cursor { frame: end.frame, sum: end.wal.map_or(header.sum, |mark| mark.sum) };
            self.captured = end.lsn();
            self.marks = mark::of_point(&end);
        }
        self.generation = Some(Generation { header, at });
        self.readers.frame = at.frame;
        Ok(())
    }

    /// The frame captured last.
    fn frame(&self) -> u32 {
        self.generation.map_or(0, |generation| generation.at.frame)
    }

    /// Captures what is committed, up to the size of a unit; `None` when there is nothing more.
    fn capture(&mut self) -> Result<Option<CapturedUnit>> {
        let looked = Instant::now();
        let Some(header) = self.header()? else {
            self.complete = Some(looked);
            return Ok(None);
        };
        self.follow(header)?;
        let Some(generation) = self.generation else { return Ok(None) };
        // Frames are there before they are committed. Asking SQLite costs more than a look at one frame.
        let mut next = false;
        scan(self.held.log(), &header, generation.at, generation.at.frame.saturating_add(1), &mut |_| {
            next = true;
            ControlFlow::Break(())
        })
        .map_err(|error| self.log_fault(error))?;
        let committed = self.committed()?;
        if !next {
            return self.nothing_found(committed, looked);
        }
        let mut batch = Batch::new(&header, self.ordinal, generation.at);
        scan(self.held.log(), &header, generation.at, committed, &mut |frame| batch.take(&frame))
            .map_err(|error| self.log_fault(error))?;
        if batch.is_empty() {
            return self.nothing_found(committed, looked);
        }
        self.misfits = 0;
        let unit = self.close(batch);
        if self.frame() >= committed {
            self.complete = Some(looked);
        }
        Ok(Some(unit))
    }

    /// What the log begins with; `None` when it is empty.
    fn header(&self) -> Result<Option<WalHeader>> {
        WalHeader::read(self.held.log()).map_err(|error| self.log_fault(error))
    }

    fn log_fault(&self, error: std::io::Error) -> Error {
        Error::io(self.site.log_path().display().to_string(), error)
    }

    /// How many frames of the log are committed.
    fn committed(&self) -> Result<u32> {
        match self.probe.published()? {
            Published::Log { frames, .. } => Ok(frames),
            Published::NotWal | Published::Unknown => Err(no_log(&self.site)),
        }
    }

    /// Nothing can be captured. That is the end if SQLite goes on saying that there is something.
    fn nothing_found(&mut self, committed: u32, looked: Instant) -> Result<Option<CapturedUnit>> {
        if committed <= self.frame() {
            self.complete = Some(looked);
        }
        // A log that was restarted counts from 1 again before its file shows it, so this may be so for a moment.
        self.misfits = if committed > self.frame() { self.misfits + 1 } else { 0 };
        if self.misfits < MISFITS {
            return Ok(None);
        }
        let what = format!("the log does not go on behind frame {}, though {committed} are committed", self.frame());
        Err(unsettled(&self.site.path, &what).remedy("begin the log stream again, and take a backup"))
    }

    /// Notes that the log has `header` now.
    fn follow(&mut self, header: WalHeader) -> Result<()> {
        match self.generation {
            Some(generation) if generation.header.salts == header.salts => return Ok(()),
            // The log had no frames when the stream began; this is the first generation since, with its number.
            None => {}
            // Nothing was committed in that one: its first transaction was rolled back, and the next wrote it anew.
            Some(generation) if generation.at.frame == 0 && self.backlog.frame == 0 => {}
            Some(generation) if generation.header.page_size != header.page_size => {
                // SQLite does not change the page size of a database that has a log.
                let what = format!("the page size changed from {}", generation.header.page_size);
                let error = Error::new(ErrorKind::Source, what).on(self.site.path.display().to_string());
                return Err(error.remedy("take a full backup and begin the log stream again"));
            }
            Some(generation) => self.next_generation(generation)?,
        }
        self.generation = Some(Generation { header, at: Cursor::start(&header) });
        self.readers.frame = 0;
        self.helped_at = 0;
        // A log begins when all before it is in the database file. Nobody has written to that since: all read
        // transactions of ours that could be open are at mark 0, and the oldest is older than the log.
        let file = FileMark::settled(&self.file);
        if !self.witness.holds(&self.file).map_err(|error| Error::io(self.site.path.display().to_string(), error))? {
            // Somebody did, other than SQLite: what follows goes on from another state than the one that was captured.
            self.marks.clear();
        }
        self.witness = Witness::default();
        self.witness.rest(file);
        self.marks.extend(file.as_ref().map(mark::of_file));
        self.marks.dedup();
        Ok(())
    }

    /// The log was restarted. All of `left` has been captured, except when it happened before the stream had caught
    /// up with what it found at its begin: then the next unit shows the gap.
    fn next_generation(&mut self, left: Generation) -> Result<()> {
        if left.at.frame < self.backlog.frame {
            self.captured = self.captured.max(self.backlog.lsn());
            self.marks = mark::of_point(&self.backlog);
            self.witness.forget();
        }
        self.backlog.frame = 0;
        let floor = self.clock.map_or(0, |clock| clock.next(self.ordinal));
        self.ordinal = next_ordinal(self.ordinal)?.max(floor);
        Ok(())
    }

    /// Makes a unit of what was found.
    fn close(&mut self, mut batch: Batch) -> CapturedUnit {
        let end = batch.last();
        self.witness.learn(batch.header.page_size, batch.images(), end.database);
        let last = end.at;
        let upto = lsn(self.ordinal, last.frame);
        let (header, committed) = (batch.header, batch.committed());
        let late = self.complete.is_none_or(|complete| complete.elapsed() > LATE);
        let (bytes, changed, states) = batch.finish();
        let links = self.links(states);
        let unit = LogUnit {
            node: NODE,
            branch: self.branch.current,
            seq: self.seq,
            span: LsnSpan { after: self.captured, upto },
            first_commit: committed.filter(|_| !late),
            last_commit: committed,
            len: bytes.len() as u64,
            changes: Some(vec![FileChanges { file: FILE, pages: changed }]),
            name: None,
            links: Some(links),
            timing: committed.filter(|_| late).map(|_| Timing::Late),
            points: None,
        };
        let wal = Some(WalMark { salts: header.salts, sum: last.sum });
        let point = Point { branch: self.branch.current, ordinal: self.ordinal, frame: last.frame, wal, file: None };
        self.cookie.note(point);
        match &mut *lock(&self.known) {
            Some(known) => known.merge(&self.cookie),
            none => *none = Some(self.cookie.clone()),
        }
        self.generation = Some(Generation { header, at: last });
        self.captured = upto;
        self.captured_at = Instant::now();
        self.seq = self.seq.next().unwrap_or(self.seq);
        CapturedUnit { unit, bytes, cookie: self.cookie.encode(), branch: self.branch.clone() }
    }

    /// What the next unit, which leads to `states`, joins.
    fn links(&mut self, mut states: Vec<MarkedState>) -> UnitLinks {
        let end = states.last().map(|last| last.mark).into_iter().collect();
        let from = std::mem::replace(&mut self.marks, end);
        // A backup that finds the log empty numbers the state by the log that is to come.
        let begin = lsn(self.ordinal, 0);
        if self.frame() == 0 && self.captured < begin {
            states.splice(..0, from.iter().map(|mark| MarkedState { lsn: begin, mark: *mark }));
        }
        UnitLinks { from, states }
    }

    /// Whether the log may be let go: what was captured is durable, or that takes too long.
    fn may_let_go(&self) -> bool {
        self.durable >= self.captured || self.captured_at.elapsed() > PATIENCE
    }

    /// Lets checkpoints go on: begins the second read transaction, or ends the first one when all that the second one
    /// sees has been captured.
    fn hand_over(&mut self) -> Result<()> {
        if let Some(goal) = self.readers.goal {
            if self.has_reached(goal) && self.may_let_go() {
                self.swap(goal);
            }
            return Ok(());
        }
        let captured = self.frame().saturating_sub(self.readers.frame);
        let old = self.readers.began.elapsed() > READER_AGE;
        let stale = captured >= FRAMES_A_READER || (captured > 0 && old) || (old && !self.readers.at_zero);
        if stale && self.may_let_go() {
            self.begin_second()?;
        }
        Ok(())
    }

    fn begin_second(&mut self) -> Result<()> {
        let before = self.probe.published()?;
        self.readers.second.begin_read()?;
        let goal = self.goal(before).inspect_err(|_| self.readers.second.end())?;
        self.readers.goal = Some(goal);
        Ok(())
    }

    /// What there is to capture now that the second transaction has begun.
    fn goal(&self, before: Published) -> Result<Goal> {
        let now = self.probe.published()?;
        let Published::Log { frames, copied } = now else { return Err(no_log(&self.site)) };
        let header = self.header()?;
        let at_zero = before == now && frames == copied;
        let rest = if at_zero { FileMark::of(&self.file) } else { None };
        Ok(Goal { salts: header.map(|header| header.salts), frame: frames, at_zero, rest })
    }

    fn has_reached(&self, goal: Goal) -> bool {
        match (self.generation, goal.salts) {
            (Some(generation), Some(salts)) if generation.header.salts == salts => self.frame() >= goal.frame,
            // No log in the file: it was truncated, which takes that all of it was captured.
            (_, None) => true,
            // The log of the goal is left behind already, or it is not entered yet.
            (Some(_), Some(_)) | (None, Some(_)) => false,
        }
    }

    fn swap(&mut self, goal: Goal) {
        self.readers.first.end();
        std::mem::swap(&mut self.readers.first, &mut self.readers.second);
        self.readers.goal = None;
        self.readers.began = Instant::now();
        self.readers.frame = self.frame();
        self.readers.at_zero = goal.at_zero;
        self.witness.rest(goal.rest);
    }

    /// When the log has become long: copies it into the database file, and lets writers wait while the rest is
    /// captured and copied, so that the next one restarts it.
    fn help(&mut self) -> Result<()> {
        let grown = |from: u32, upto: u32| u64::from(upto.saturating_sub(from)) * self.frame_len();
        if self.readers.goal.is_some() || grown(self.helped_at, self.frame()) < LONG_LOG || !self.may_let_go() {
            return Ok(());
        }
        // Writers wait until the rest is captured, so let it be little, unless they are faster than capture.
        let committed = self.committed()?;
        if grown(self.frame(), committed) > LITTLE && grown(self.helped_at, committed) < 8 * LONG_LOG {
            return Ok(());
        }
        let helper = self.site.link()?;
        // Pages of a log must not get into the file of another state.
        self.check_presence()?;
        helper.checkpoint()?;
        if helper.begin_write(HELP_WAIT)? {
            let done = self.restartable();
            helper.end();
            done?;
        }
        // If a writer did not come to an end, the log grows some more until the next try.
        self.helped_at = self.frame();
        Ok(())
    }

    fn frame_len(&self) -> u64 {
        self.generation.map_or(0, |generation| generation.header.frame_len() as u64)
    }

    /// Nobody commits meanwhile: captures all there is, moves to the end of the log, copies it, moves to mark 0. When
    /// that is more than may lie in memory, captures so much: the next time there is less left.
    fn restartable(&mut self) -> Result<()> {
        let mut waiting = 0;
        while let Some(unit) = self.capture()? {
            waiting += unit.unit.len;
            self.ready.push_back(unit);
            if waiting > WAITING {
                return Ok(());
            }
        }
        for _ in 0..2 {
            self.begin_second()?;
            match self.readers.goal {
                Some(goal) if self.has_reached(goal) => self.swap(goal),
                _ => return Ok(()),
            }
            self.probe.checkpoint()?;
        }
        Ok(())
    }

    /// Whether the database and its log are still where they were.
    fn check_presence(&self) -> Result<()> {
        let (path, what) = match (is_named(&self.file, &self.site.path), self.held.in_place()) {
            (true, true) => return Ok(()),
            (false, _) => (self.site.path.clone(), "the database is gone or was replaced"),
            (true, false) => {
                (self.site.log_path(), "the write-ahead log or its index was removed or replaced while it was in use")
            }
        };
        Err(Error::new(ErrorKind::Source, what).on(path.display().to_string()).remedy(
            "begin the log stream again when the database is back, and take a backup; stop the stream before an \
                     older copy is put back",
        ))
    }

    /// What is ready, else what can be captured.
    fn round(&mut self) -> Result<Option<CapturedUnit>> {
        match self.ready.pop_front() {
            Some(unit) => Ok(Some(unit)),
            None => self.capture(),
        }
    }
}

impl LogStream for Stream {
    fn begins(&self) -> Option<CaptureBegin> {
        let begin = NodePosition { node: NODE, lsn: self.captured, seq: None };
        Some(CaptureBegin { branch: self.branch.clone(), nodes: vec![begin], lost: self.lost.clone() })
    }

    fn next(&mut self, wait: Duration) -> Result<Option<CapturedUnit>> {
        let began = Instant::now();
        loop {
            // Before capture, because at this moment what was handed out before may be durable.
            if self.ready.is_empty() {
                self.check_presence()?;
                self.hand_over().and_then(|()| self.help()).doing(|| "letting checkpoints go on".into())?;
            }
            if let Some(unit) = self.round().doing(|| "capturing the log".into())? {
                return Ok(Some(unit));
            }
            let left = wait.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(POLL.min(left));
        }
    }

    fn durable(&mut self, lsn: Lsn) -> Result<()> {
        self.durable = self.durable.max(lsn);
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.readers.first.end();
        self.readers.second.end();
    }
}

/// Where capture goes on, and the marks of the state there: behind the last unit if the log proves that this is in it;
/// behind what was seen last of the database, if nothing is missing since; otherwise at the end of the log, and then
/// redo is lost.
fn go_on_from(
    site: &Site,
    log: Option<&Log>,
    last: Option<&LogUnit>,
    point: Option<Point>,
    placed: &Placed,
) -> Result<(Lsn, Vec<StateMark>, bool)> {
    if let (Some(last), Some(log)) = (last, log) {
        let upto = last.span.upto;
        let known = last.marks_at(upto).unwrap_or_default();
        if let Some(mark) = log.mark_at(site, frame_of(upto))?.filter(|mark| known.contains(mark)) {
            return Ok((upto, vec![mark], false));
        }
    }
    let from = point.filter(|_| placed.linked).unwrap_or(placed.point);
    Ok((from.lsn(), mark::of_point(&from), !placed.linked))
}

/// What became of the redo behind `point`, which nobody captured.
fn lost_since(point: Point) -> String {
    format!(
        "the write-ahead log was emptied or begun anew since LSN {} (SQLite does so when the last connection closes, and \
         after a checkpoint)",
        point.lsn()
    )
}

fn no_log(site: &Site) -> Error {
    Error::new(ErrorKind::Source, "the database has no write-ahead log that could be captured")
        .on(site.path.display().to_string())
        .remedy("switch it on once with PRAGMA journal_mode=WAL")
}
