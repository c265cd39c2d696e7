//! The log of a running server as it is written: by the replication protocol, with a slot.
//!
//! Whole segments become the units that an archive command would hand over. What there is of a segment that fills up
//! slowly is handed over as its beginning after some seconds, so that no commit waits for 16 MiB. The server is told that
//! it may remove log only when a unit is durable on a medium.
//!
//! A lost connection is made again for as long as the server may come back. The segment under way is then received again
//! from its begin, as it must be after a crash of ours, so nothing depends on what was in memory.

mod hold;
mod link;
mod segment;
mod slot;

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use setpiece_core::model::{BranchHistory, BranchId, Lsn, Seq};
use setpiece_core::source::{CaptureBegin, CapturedPoint, CapturedUnit, LogStream, NodePosition};
use setpiece_core::{Error, ErrorKind, Result};

use crate::archive::history_unit;
use crate::client::{ConnectInfo, CopyData, StreamEnd, sqlstate};
use crate::dialect::Dialect;
use crate::history::history_name;
use crate::segments::{Around, LogDirectory, NODE};
use crate::wal::{SegmentName, SegmentSize, lsn_text};

use hold::Hold;
use link::{Line, Link, history_until, timeline_at};
use segment::Segment;
use slot::{Keeper, Slot};

/// Between two tries to connect: at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long a slot may stay in use by a connection of ours that was lost.
const IN_USE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(90));
/// How long the first word of a server may take.
const FIRST_WORD: Duration = Duration::from_secs(30);
/// Beginnings of a segment are stored in at most one part of so many of the time.
const SHARE: u32 = 10;

/// How the log of a running server is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureOptions {
    /// The replication slot; made when it is not there.
    pub slot: String,
    /// How long redo may wait for its segment to be whole before the beginning of the segment is handed over: the longest
    /// stretch of time that can be lost with the server. `None` hands over whole segments only.
    pub max_delay: Option<Duration>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        CaptureOptions { slot: "setpiece".into(), max_delay: Some(Duration::from_secs(5)) }
    }
}

/// What a stream has to know of its server.
pub(crate) struct Server {
    pub connect: ConnectInfo,
    pub dialect: Dialect,
    pub options: CaptureOptions,
    /// For its sizes; its directory is not looked at.
    pub log: LogDirectory,
    pub size: SegmentSize,
}

/// A capture under way.
pub(crate) struct PostgresStream {
    server: Server,
    segment: Segment,
    /// Whole segments that wait for what comes behind them.
    held: Hold,
    /// The timeline that is received, and the history of the server's newest one.
    timeline: BranchId,
    history: BranchHistory,
    link: Option<Link>,
    /// Units that wait to be asked for, each with the LSN that is durable with it.
    ready: VecDeque<(CapturedUnit, Option<Lsn>)>,
    handed: Option<Handed>,
    flushed: Lsn,
    /// The server waits for all that it sent to be durable.
    urgent: bool,
    /// The histories that were handed over.
    histories: Vec<u32>,
    /// How long it took to make the last unit durable.
    cost: Duration,
    trouble: Option<Trouble>,
    lost: Option<String>,
}

/// A unit that is being made durable.
struct Handed {
    at: Instant,
    upto: Option<Lsn>,
}

/// A connection that is missed.
struct Trouble {
    error: Error,
    since: Instant,
    again: Instant,
    pause: Duration,
}

impl PostgresStream {
    /// Begins behind `last` where that is of the server's history and the server still has its log, otherwise where the
    /// slot begins.
    pub(crate) fn begin(server: Server, last: Option<&CapturedPoint>) -> Result<Self> {
        let (segment, held) = (Segment::at(server.size, Lsn(0)), Hold::new(server.log.block_size));
        let (timeline, history) = (BranchId(1), BranchHistory::first(BranchId(1)));
        let mut stream = PostgresStream {
            server,
            segment,
            held,
            timeline,
            history,
            link: None,
            ready: VecDeque::new(),
            handed: None,
            flushed: Lsn(0),
            urgent: false,
            histories: Vec::new(),
            cost: Duration::ZERO,
            trouble: None,
            lost: None,
        };
        stream.open(last)?;
        Ok(stream)
    }

    /// The first connection.
    fn open(&mut self, last: Option<&CapturedPoint>) -> Result<()> {
        let mut keeper = self.keeper()?;
        let slot = look_patiently(&mut keeper, IN_USE.0)?;
        // Nothing is made on a server that turns out to be another.
        let line = self.line()?;
        let kept = match slot {
            Slot::Missing => keeper.create()?,
            Slot::Keeps(from) => from,
        };
        let kept = kept.map_or_else(|| keeper.log_end(), Ok)?;
        drop(keeper);
        let known = last
            .map(|point| &point.unit)
            .filter(|unit| self.history.reach(unit.branch).is_some_and(|reach| unit.span.upto <= reach));
        let wished = known.map_or(kept, |unit| unit.span.upto.min(kept));
        self.place(wished);
        let begun = self.start(line).and_then(|()| self.first_word());
        match begun {
            Err(error) if is_removed(&error) && self.segment.start() < self.server.start_of(kept) => {
                self.link = None;
                self.lost = Some("the server has removed it".into());
                let line = self.line()?;
                self.place(kept);
                self.start(line)?;
                self.first_word()
            }
            begun => begun,
        }
        .map_err(explained)
    }

    fn keeper(&self) -> Result<Keeper> {
        Keeper::connect(&self.server.connect, self.server.dialect, &self.server.options.slot)
    }

    /// A connection to the server, whose history is known then and handed over.
    fn line(&mut self) -> Result<Line> {
        let mut line = Line::connect(&self.server.connect, self.server.log.system_identifier)?;
        self.history = BranchHistory::first(BranchId(u64::from(line.timeline)));
        if let Some(file) = line.history()? {
            self.history = file.history;
            if !self.histories.contains(&file.timeline) {
                self.histories.push(file.timeline);
                let (unit, branch) = history_unit(&history_name(file.timeline), file.timeline, &file.bytes)?;
                let unit = CapturedUnit { unit, bytes: file.bytes, cookie: Vec::new(), branch };
                self.ready.push_back((unit, None));
            }
        }
        Ok(line)
    }

    /// Begins with the segment that the byte at `lsn` is in, on the timeline that it was written on.
    fn place(&mut self, lsn: Lsn) {
        self.timeline = timeline_at(&self.history, lsn);
        self.segment.begin(lsn);
    }

    /// Asks for the redo from the begin of the segment on.
    fn start(&mut self, line: Line) -> Result<()> {
        let from = self.segment.start();
        let timeline = u32::try_from(self.timeline.0).unwrap_or(u32::MAX);
        self.link = Some(line.start(&self.server.options.slot, timeline, from)?);
        Ok(())
    }

    /// A server that no longer has the log says so only now.
    fn first_word(&mut self) -> Result<()> {
        let deadline = Instant::now() + FIRST_WORD;
        while Instant::now() < deadline {
            let Some(link) = &mut self.link else { return Ok(()) };
            if let Some(data) = link.next(deadline, self.segment.position(), self.flushed)? {
                return self.receive(data);
            }
        }
        Err(Error::new(ErrorKind::Source, "the server sends nothing").on(self.server.connect.to_string()))
    }

    /// Connects again.
    fn reconnect(&mut self) -> Result<()> {
        let slot = self.keeper()?.look()?;
        let line = self.line()?;
        if slot == Slot::Missing {
            let text =
                "somebody has dropped the slot while its log was captured: the server may have removed log since";
            return Err(Error::new(ErrorKind::Source, text)
                .on(format!("replication slot {}", self.server.options.slot))
                .remedy(
                    "start the stream again, which makes the slot; it warns if log is missing: take a backup then",
                ));
        }
        let Some(reach) = self.history.reach(self.timeline) else {
            let text =
                format!("the server is on timeline {} now, which does not come from {}", line.timeline, self.timeline);
            return Err(Error::new(ErrorKind::Source, text)
                .on(self.server.connect.to_string())
                .remedy("start the stream again if this is the server that is meant, and take a backup"));
        };
        // What was received beyond the fork belongs to nothing any more.
        self.segment.begin(self.segment.start().min(reach));
        self.held.again();
        self.start(line)
    }

    fn receive(&mut self, data: CopyData) -> Result<()> {
        match data {
            CopyData::XLogData { start, bytes, .. } => self.take(start, &bytes),
            CopyData::Keepalive { reply_requested, .. } => {
                self.urgent |= reply_requested && self.segment.waiting_since().is_some();
                Ok(())
            }
            CopyData::Ended(StreamEnd::Timeline { next, start }) => {
                self.link = None;
                self.hand_over_beginning()?;
                let line = self.line()?;
                // The first segment of the next timeline repeats what the last one of this holds before the fork.
                self.segment.begin(start);
                self.timeline = BranchId(u64::from(next));
                self.start(line)
            }
            CopyData::Ended(StreamEnd::Shutdown) => {
                Err(Error::new(ErrorKind::Source, "the server shuts down").retryable(true))
            }
            CopyData::Ended(StreamEnd::Unknown) => {
                Err(Error::new(ErrorKind::Source, "the server has ended the stream").retryable(true))
            }
        }
    }

    fn take(&mut self, start: Lsn, received: &[u8]) -> Result<()> {
        let (mut at, mut rest) = (start, received);
        while !rest.is_empty() {
            let left = self.segment.take(at, rest)?;
            at = Lsn(at.0.saturating_add((rest.len() - left.len()) as u64));
            rest = left;
            self.held.look(self.segment.start(), self.segment.bytes());
            self.let_go();
            if self.segment.is_whole() {
                self.turn()?;
            }
        }
        Ok(())
    }

    /// Goes on with the next segment.
    fn turn(&mut self) -> Result<()> {
        let (name, upto, branch) = (self.name()?, self.segment.position(), self.branch());
        let around = Around::Behind(self.held.follower());
        let unit = self.server.log.whole_unit(name, self.segment.bytes(), around)?;
        let bytes = self.segment.turn();
        self.held.add(CapturedUnit { unit, bytes, cookie: Vec::new(), branch }, upto);
        self.let_go();
        Ok(())
    }

    /// Puts whole segments among the units that wait for nothing.
    fn let_go(&mut self) {
        self.ready.extend(self.held.take().into_iter().map(|(unit, upto)| (unit, Some(upto))));
    }

    /// Puts whole segments among the units, whatever is not known of them.
    fn let_all_go(&mut self) {
        self.held.give_up();
        self.let_go();
    }

    /// Puts what there is of the segment among the units, if not all of it was handed over.
    fn hand_over_beginning(&mut self) -> Result<()> {
        self.urgent = false;
        self.let_all_go();
        if self.segment.waiting_since().is_none() {
            return Ok(());
        }
        let (name, bytes) = (self.name()?, self.segment.bytes().to_vec());
        let unit = self.server.log.beginning(name, &bytes, Around::Behind(self.held.follower()))?;
        let captured = CapturedUnit { unit, bytes, cookie: Vec::new(), branch: self.branch() };
        self.ready.push_back((captured, Some(self.segment.position())));
        self.segment.handed_over();
        Ok(())
    }

    /// Whether redo has waited long enough for its segment.
    fn is_due(&self) -> bool {
        let limit = self.server.options.max_delay.map(|limit| limit.max(self.cost * SHARE));
        let long = |since: Instant| limit.is_some_and(|limit| since.elapsed() >= limit);
        self.segment.waiting_since().is_some_and(|since| self.urgent || long(since))
    }

    fn name(&self) -> Result<SegmentName> {
        let timeline = u32::try_from(self.timeline.0).ok();
        let number = self.server.size.number(self.segment.start());
        timeline.and_then(|timeline| SegmentName::new(timeline, number, self.server.size)).ok_or_else(|| {
            Error::new(ErrorKind::Source, format!("no segment begins at {}", lsn_text(self.segment.start())))
        })
    }

    fn branch(&self) -> BranchHistory {
        history_until(&self.history, self.timeline).unwrap_or_else(|| BranchHistory::first(self.timeline))
    }

    /// Goes on receiving until `deadline` or the next unit.
    fn go_on(&mut self, deadline: Instant) -> Result<()> {
        if let Some(trouble) = &self.trouble {
            let pause = trouble.again.saturating_duration_since(Instant::now());
            let left = deadline.saturating_duration_since(Instant::now());
            thread::sleep(pause.min(left));
            if pause > left {
                return Ok(());
            }
            self.reconnect()?;
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        // Whether something is due is looked at now and then.
        let soon = deadline.min(Instant::now() + Duration::from_millis(250));
        let data = link.next(soon, self.segment.position(), self.flushed)?;
        self.trouble = None;
        data.map_or(Ok(()), |data| self.receive(data))
    }

    /// A connection that is lost is made again; other errors end the stream.
    fn bear(&mut self, error: Error) -> Result<()> {
        self.link = None;
        let now = Instant::now();
        let (since, pause) = self.trouble.as_ref().map_or((now, PAUSES.0), |old| (old.since, old.pause));
        let hopeless = is_in_use(&error) && since.elapsed() > IN_USE.1;
        if !error.is_retryable() || hopeless {
            return Err(explained(error));
        }
        tracing::debug!(%error, "the log is not received");
        self.trouble = Some(Trouble { error, since, again: now + pause, pause: (pause * 2).min(PAUSES.1) });
        Ok(())
    }

    fn hand(&mut self) -> Option<CapturedUnit> {
        let (unit, upto) = self.ready.pop_front()?;
        self.handed = Some(Handed { at: Instant::now(), upto });
        Some(unit)
    }
}

impl Server {
    fn start_of(&self, lsn: Lsn) -> Lsn {
        Lsn(lsn.0 - self.size.offset(lsn))
    }
}

impl LogStream for PostgresStream {
    fn begins(&self) -> Option<CaptureBegin> {
        let lsn = self.segment.start();
        let node = NodePosition { node: NODE, lsn, seq: Some(Seq(self.server.size.number(lsn).0)) };
        Some(CaptureBegin { branch: self.branch(), nodes: vec![node], lost: self.lost.clone() })
    }

    fn next(&mut self, wait: Duration) -> Result<Option<CapturedUnit>> {
        let deadline = Instant::now() + wait;
        loop {
            if self.ready.is_empty() && self.is_due() {
                self.hand_over_beginning()?;
            }
            if self.held.is_due(self.server.options.max_delay) {
                self.let_all_go();
            }
            if let Some(unit) = self.hand() {
                return Ok(Some(unit));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            if let Err(error) = self.go_on(deadline) {
                self.bear(error)?;
            }
        }
    }

    fn durable(&mut self, _lsn: Lsn) -> Result<()> {
        let Some(handed) = self.handed.take() else { return Ok(()) };
        let Some(upto) = handed.upto else { return Ok(()) };
        self.cost = handed.at.elapsed();
        self.flushed = upto;
        let position = self.segment.position();
        let reported = self.link.as_mut().map_or(Ok(()), |link| link.report(position, upto, false));
        reported.or_else(|error| self.bear(error))
    }

    fn trouble(&self) -> Option<Error> {
        let error = &self.trouble.as_ref()?.error;
        Some(Error::new(error.kind(), error.to_string()).retryable(true))
    }

    fn rest(&mut self) -> Result<Option<CapturedUnit>> {
        self.let_all_go();
        if self.ready.is_empty() && self.server.options.max_delay.is_some() {
            self.hand_over_beginning()?;
        }
        Ok(self.hand())
    }
}

/// Looks at a slot until it is free: that a stream has ended, the server may learn a little later.
fn look_patiently(keeper: &mut Keeper, patience: Duration) -> Result<Slot> {
    let began = Instant::now();
    loop {
        match keeper.look() {
            Err(error) if error.is_retryable() && began.elapsed() < patience => thread::sleep(PAUSES.0),
            looked => return looked,
        }
    }
}

/// The server has no such segment any more.
fn is_removed(error: &Error) -> bool {
    sqlstate(error) == Some("58P01")
}

fn is_in_use(error: &Error) -> bool {
    sqlstate(error) == Some("55006") || error.to_string().contains("in use")
}

fn explained(error: Error) -> Error {
    if is_removed(&error) {
        return error
            .remedy("log that was not captured is gone: drop the slot, start the stream again and take a backup");
    }
    error
}
