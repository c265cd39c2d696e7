//! The log of a running server as it is written: by the replication protocol, with a slot.
//!
//! Whole segments become the units that an archive command would hand over. What there is of a segment that fills up
//! slowly is handed over as its beginning after some seconds, so that no commit waits for 16 MiB. The server is told that
//! it may remove log only when a unit is durable on a medium.
//!
//! A lost connection is made again for as long as the server may come back. The segment under way is then received again
//! from its begin, as it must be after a crash of ours, so nothing depends on what was in memory.

mod hold;
mod intake;
mod link;
mod segment;
mod slot;
mod trouble;

use std::thread;
use std::time::{Duration, Instant};

use setpiece_core::model::{BranchHistory, BranchId, Lsn};
use setpiece_core::source::{CaptureBegin, CapturedPoint, CapturedUnit, LogStream};
use setpiece_core::{Error, ErrorKind, Result};

use crate::archive::history_unit;
use crate::client::{ConnectInfo, CopyData, StreamEnd};
use crate::dialect::Dialect;
use crate::history::history_name;
use crate::segments::LogDirectory;
use crate::wal::SegmentSize;

use intake::Intake;
use link::{Line, Link, history_until, timeline_at};
use slot::{Keeper, Slot};
use trouble::{Trouble, explained, is_removed};

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
    connect: ConnectInfo,
    dialect: Dialect,
    options: CaptureOptions,
    system_identifier: u64,
    intake: Intake,
    /// Of the server's newest timeline.
    history: BranchHistory,
    link: Option<Link>,
    handed: Option<Handed>,
    flushed: Lsn,
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

impl PostgresStream {
    /// Begins behind `last` where that is of the server's history and the server still has its log, otherwise where the
    /// slot begins.
    pub(crate) fn begin(server: Server, last: Option<&CapturedPoint>) -> Result<Self> {
        let Server { connect, dialect, options, log, size } = server;
        let mut stream = PostgresStream {
            connect,
            dialect,
            options,
            system_identifier: log.system_identifier,
            intake: Intake::new(log, size),
            history: BranchHistory::first(BranchId(1)),
            link: None,
            handed: None,
            flushed: Lsn(0),
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
        let slot = keeper.look_patiently()?;
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
            Err(error) if is_removed(&error) && self.intake.start() < self.intake.start_of(kept) => {
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
        Keeper::connect(&self.connect, self.dialect, &self.options.slot)
    }

    /// A connection to the server, whose history is known then and handed over.
    fn line(&mut self) -> Result<Line> {
        let mut line = Line::connect(&self.connect, self.system_identifier)?;
        self.history = BranchHistory::first(BranchId(u64::from(line.timeline)));
        if let Some(file) = line.history()? {
            self.history = file.history;
            if !self.histories.contains(&file.timeline) {
                self.histories.push(file.timeline);
                let (unit, branch) = history_unit(&history_name(file.timeline), file.timeline, &file.bytes)?;
                self.intake.add(CapturedUnit { unit, bytes: file.bytes, cookie: Vec::new(), branch });
            }
        }
        Ok(line)
    }

    /// Begins with the segment that the byte at `lsn` is in, on the timeline that it was written on.
    fn place(&mut self, lsn: Lsn) {
        self.intake.begin(lsn, self.branch(timeline_at(&self.history, lsn)));
    }

    /// Asks for the redo from the begin of the segment on.
    fn start(&mut self, line: Line) -> Result<()> {
        let timeline = u32::try_from(self.intake.timeline().0).unwrap_or(u32::MAX);
        self.link = Some(line.start(&self.options.slot, timeline, self.intake.start())?);
        Ok(())
    }

    /// A server that no longer has the log says so only now.
    fn first_word(&mut self) -> Result<()> {
        let deadline = Instant::now() + FIRST_WORD;
        while Instant::now() < deadline {
            let Some(link) = &mut self.link else { return Ok(()) };
            if let Some(data) = link.next(deadline, self.intake.position(), self.flushed)? {
                return self.receive(data);
            }
        }
        Err(Error::new(ErrorKind::Source, "the server sends nothing").on(self.connect.to_string()))
    }

    /// Connects again.
    fn reconnect(&mut self) -> Result<()> {
        let slot = self.keeper()?.look()?;
        let line = self.line()?;
        if slot == Slot::Missing {
            let text =
                "somebody has dropped the slot while its log was captured: the server may have removed log since";
            return Err(Error::new(ErrorKind::Source, text)
                .on(format!("replication slot {}", self.options.slot))
                .remedy(
                    "start the stream again, which makes the slot; it warns if log is missing: take a backup then",
                ));
        }
        let timeline = self.intake.timeline();
        let Some(reach) = self.history.reach(timeline) else {
            let text = format!("the server is on timeline {} now, which does not come from {timeline}", line.timeline);
            return Err(Error::new(ErrorKind::Source, text)
                .on(self.connect.to_string())
                .remedy("start the stream again if this is the server that is meant, and take a backup"));
        };
        // What was received beyond the fork belongs to nothing any more.
        self.intake.begin(self.intake.start().min(reach), self.branch(timeline));
        self.start(line)
    }

    fn receive(&mut self, data: CopyData) -> Result<()> {
        match data {
            CopyData::XLogData { start, bytes, .. } => self.intake.take(start, &bytes),
            CopyData::Keepalive { reply_requested, .. } => {
                if reply_requested {
                    self.intake.hurry();
                }
                Ok(())
            }
            CopyData::Ended(StreamEnd::Timeline { next, start }) => {
                self.link = None;
                self.intake.hand_over_beginning()?;
                let line = self.line()?;
                // The first segment of the next timeline repeats what the last one of this holds before the fork.
                self.intake.begin(start, self.branch(BranchId(u64::from(next))));
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

    /// The history of one of the server's timelines.
    fn branch(&self, timeline: BranchId) -> BranchHistory {
        history_until(&self.history, timeline).unwrap_or_else(|| BranchHistory::first(timeline))
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
        let data = link.next(soon, self.intake.position(), self.flushed)?;
        self.trouble = None;
        data.map_or(Ok(()), |data| self.receive(data))
    }

    /// A connection that is lost is made again; other errors end the stream.
    fn bear(&mut self, error: Error) -> Result<()> {
        self.link = None;
        self.trouble = Some(Trouble::bear(self.trouble.as_ref(), error)?);
        Ok(())
    }

    fn hand(&mut self) -> Option<CapturedUnit> {
        let (unit, upto) = self.intake.next()?;
        self.handed = Some(Handed { at: Instant::now(), upto });
        Some(unit)
    }
}

impl LogStream for PostgresStream {
    fn begins(&self) -> Option<CaptureBegin> {
        let branch = self.intake.branch().clone();
        Some(CaptureBegin { branch, nodes: vec![self.intake.node()], lost: self.lost.clone() })
    }

    fn next(&mut self, wait: Duration) -> Result<Option<CapturedUnit>> {
        let deadline = Instant::now() + wait;
        loop {
            let delay = self.options.max_delay;
            self.intake.hand_over_due(delay, delay.map(|delay| delay.max(self.cost * SHARE)))?;
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
        let position = self.intake.position();
        let reported = self.link.as_mut().map_or(Ok(()), |link| link.report(position, upto, false));
        reported.or_else(|error| self.bear(error))
    }

    fn trouble(&self) -> Option<Error> {
        let error = &self.trouble.as_ref()?.error;
        Some(Error::new(error.kind(), error.to_string()).retryable(true))
    }

    fn rest(&mut self) -> Result<Option<CapturedUnit>> {
        self.intake.let_all_go();
        if self.intake.is_empty() && self.options.max_delay.is_some() {
            self.intake.hand_over_beginning()?;
        }
        Ok(self.hand())
    }
}
