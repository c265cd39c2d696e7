//! Redo as it is written: packages of all nodes, handed over one by one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use setpiece_core::model::{LogUnit, Lsn, Seq};
use setpiece_core::source::{CapturedPoint, CapturedUnit, LogStream};
use setpiece_core::{Error, ErrorKind, Result};

use crate::engine::Engine;
use crate::model::Shared;
use crate::source::Cookie;

/// How long to sleep between two looks at the log.
const PAUSE: Duration = Duration::from_millis(2);

/// A capture.
pub(crate) struct Stream {
    shared: Arc<Shared>,
    at: Cookie,
}

impl Stream {
    pub(crate) fn begin(shared: Arc<Shared>, last: Option<&CapturedPoint>) -> Result<Self> {
        let engine = shared.lock();
        if !engine.config.archive {
            return Err(
                Error::new(ErrorKind::Source, "the database does not archive its redo").remedy("turn archive mode on")
            );
        }
        let branch = engine.control.branch.current;
        let known = last.map(|last| Cookie::decode(&last.cookie)).transpose()?;
        // On another branch the numbers mean nothing: all redo of this one is new.
        let same = known.filter(|known| known.branch == branch && known.last.len() == engine.nodes());
        let at = same.unwrap_or_else(|| Cookie { branch, last: vec![Seq(0); engine.nodes()] });
        drop(engine);
        Ok(Stream { shared, at })
    }

    /// The package that vouches for the least among those that come next on each node.
    fn newest(&self, engine: &Engine) -> Option<LogUnit> {
        let next = |(log, last): (&crate::log::NodeLog, &Seq)| log.units(Lsn(0)).find(|unit| unit.seq > *last).cloned();
        engine.logs.iter().zip(&self.at.last).filter_map(next).min_by_key(|unit| unit.span.upto)
    }

    fn take(&mut self) -> Result<Option<CapturedUnit>> {
        let engine = self.shared.lock();
        if engine.control.branch.current != self.at.branch {
            return Err(Error::new(ErrorKind::Source, "the database went on as another branch")
                .remedy("begin the capture again"));
        }
        let Some(unit) = self.newest(&engine) else { return Ok(None) };
        let node = unit.node.0 as usize;
        let bytes = engine.logs[node].read(unit.seq)?;
        let branch = engine.control.branch.clone();
        drop(engine);
        self.at.last[node] = unit.seq;
        Ok(Some(CapturedUnit { unit, bytes, cookie: self.at.encode()?, branch }))
    }
}

impl LogStream for Stream {
    fn next(&mut self, wait: Duration) -> Result<Option<CapturedUnit>> {
        let until = Instant::now() + wait;
        loop {
            if let Some(unit) = self.take()? {
                return Ok(Some(unit));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(left.min(PAUSE));
        }
    }

    fn durable(&mut self, lsn: Lsn) -> Result<()> {
        let mut engine = self.shared.lock();
        engine.captured = engine.captured.max(lsn);
        Ok(())
    }
}
