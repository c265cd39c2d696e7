//! START_REPLICATION: redo comes from the server while reports of what was done with it go to the server.
//!
//! Layouts from PostgreSQL's manual, "Streaming Replication Protocol".

use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use setpiece_core::model::{Lsn, Timestamp};
use setpiece_core::{ErrorKind, Result};

use super::fault::protocol;
use super::row::Row;
use super::session::Client;
use super::wire::Incoming;

/// Microseconds from 1970 to 2000, from which servers count.
const EPOCH: i64 = 946_684_800_000_000;
/// Bytes of a report of redo and of a sign of life, without the data.
const REDO_HEADER: usize = 25;
const KEEPALIVE: usize = 18;
/// Even a caller who does not want to wait gets what is already here.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// What the server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyData {
    /// Redo.
    XLogData {
        /// Where the data begins.
        start: Lsn,
        /// The end of the redo on the server.
        end: Lsn,
        /// The server's clock.
        clock: Timestamp,
        /// Redo as it stands in the server's log.
        bytes: Bytes,
    },
    /// A sign of life.
    Keepalive {
        /// The end of the redo on the server.
        end: Lsn,
        /// The server's clock.
        clock: Timestamp,
        /// Whether the server wants a [`CopyBoth::send_status`] at once; otherwise it may end the connection.
        reply_requested: bool,
    },
    /// The server has ended the stream. It is all that comes from now on.
    Ended(StreamEnd),
}

/// Why a server has ended a stream of redo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The timeline ends here, and its history goes on in another.
    Timeline {
        /// The next timeline.
        next: u32,
        /// Where it begins.
        start: Lsn,
    },
    /// The server shuts down; everything that it wrote has been sent. The connection is lost.
    Shutdown,
    /// It did not say why.
    Unknown,
}

/// What was done with the redo, for [`CopyBoth::send_status`]. All three are ends: everything before is included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandbyStatus {
    /// Received and written.
    pub written: Lsn,
    /// On stable storage: the server may remove what is before.
    pub flushed: Lsn,
    /// Applied to a database.
    pub applied: Lsn,
    /// Whether the server is to answer with a keepalive at once.
    pub reply_requested: bool,
}

/// A stream of redo. A server error or a lost connection ends it for good, and the connection with it: so does dropping
/// it.
#[derive(Debug)]
pub struct CopyBoth {
    client: Client,
    end: Option<StreamEnd>,
}

impl Client {
    /// Sends `command`, a START_REPLICATION. Asked for a timeline from just the point where it ends, a server ends the
    /// stream before it begins.
    ///
    /// # Errors
    /// Of the server (see [`server_error`](super::server_error)) or the connection.
    pub fn copy_both(mut self, command: &str) -> Result<CopyBoth> {
        let deadline = self.deadline();
        self.ask(command, deadline)?;
        let end = match self.answer(deadline)? {
            Incoming::CopyBoth => None,
            other => {
                let rows = self.collect(Some(other), deadline)?;
                Some(stream_end(&rows).ok_or_else(|| self.fail(protocol("no timeline in the end of a stream")))?)
            }
        };
        Ok(CopyBoth { client: self, end })
    }
}

impl CopyBoth {
    /// What the server sends next; `None` when nothing has come after `wait`.
    ///
    /// # Errors
    /// Of the server or the connection. Every later call fails as well.
    pub fn next(&mut self, wait: Duration) -> Result<Option<CopyData>> {
        if let Some(end) = &self.end {
            return Ok(Some(CopyData::Ended(end.clone())));
        }
        let deadline = Instant::now().checked_add(wait.max(SHORTEST_WAIT));
        match self.client.receive(deadline)? {
            None => Ok(None),
            Some(Incoming::CopyData(bytes)) => self.parse(bytes).map(Some),
            Some(other) => self.ended(other).map(|end| Some(CopyData::Ended(end))),
        }
    }

    /// Reports what was done with the redo. Where the server has ended the stream there is nobody to report to, and
    /// nothing is done.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_status(&mut self, status: StandbyStatus) -> Result<()> {
        if self.end.is_some() {
            return Ok(());
        }
        let mut report = BytesMut::with_capacity(34);
        report.put_u8(b'r');
        report.put_u64(status.written.0);
        report.put_u64(status.flushed.0);
        report.put_u64(status.applied.0);
        report.put_i64(Timestamp::from(SystemTime::now()).0.saturating_sub(EPOCH));
        report.put_u8(status.reply_requested.into());
        let mut message = BytesMut::new();
        let data = frontend::CopyData::new(report).map_err(|error| self.client.fail(error))?;
        data.write(&mut message);
        let deadline = self.client.deadline();
        self.client.send(&message, deadline)
    }

    /// Ends the stream, unless the server has, and gives the connection back. What is still on its way is thrown away.
    ///
    /// # Errors
    /// Of the server or the connection.
    pub fn finish(mut self) -> Result<Client> {
        self.client.check()?;
        if self.end.is_none() {
            let deadline = self.client.deadline();
            self.send_done(deadline)?;
            loop {
                match self.client.answer(deadline)? {
                    Incoming::CopyData(_) => {}
                    Incoming::Other(Message::CopyDone) => break,
                    Incoming::Other(Message::ErrorResponse(body)) => return Err(self.client.refusal(&body)),
                    _ => return Err(self.client.unexpected()),
                }
            }
            self.client.collect(None, deadline)?;
        }
        Ok(self.client)
    }

    fn send_done(&mut self, deadline: Option<Instant>) -> Result<()> {
        let mut message = BytesMut::new();
        frontend::copy_done(&mut message);
        self.client.send(&message, deadline)
    }

    /// The stream has ended by this message.
    fn ended(&mut self, message: Incoming) -> Result<StreamEnd> {
        let end = match message {
            Incoming::Other(Message::CopyDone) => {
                let deadline = self.client.deadline();
                self.send_done(deadline)?;
                let rows = self.client.collect(None, deadline).inspect_err(|error| self.client.give_up(error))?;
                stream_end(&rows).ok_or_else(|| self.client.fail(protocol("no timeline in the end of a stream")))?
            }
            Incoming::Other(Message::CommandComplete(_)) => {
                let error = self.client.error(ErrorKind::Source, "the server shuts down").retryable(true);
                self.client.give_up(&error);
                StreamEnd::Shutdown
            }
            Incoming::Other(Message::ErrorResponse(body)) => {
                let error = self.client.refusal(&body);
                self.client.give_up(&error);
                return Err(error);
            }
            _ => return Err(self.client.unexpected()),
        };
        self.end = Some(end.clone());
        Ok(end)
    }

    fn parse(&mut self, bytes: Bytes) -> Result<CopyData> {
        parse(bytes).ok_or_else(|| self.client.fail(protocol("neither redo nor a keepalive in a stream of redo")))
    }
}

fn parse(mut bytes: Bytes) -> Option<CopyData> {
    match bytes.first()? {
        b'w' if bytes.len() >= REDO_HEADER => {
            let mut header = bytes.split_to(REDO_HEADER);
            header.advance(1);
            let (start, end, clock) = (Lsn(header.get_u64()), Lsn(header.get_u64()), moment(header.get_i64()));
            Some(CopyData::XLogData { start, end, clock, bytes })
        }
        b'k' if bytes.len() == KEEPALIVE => {
            bytes.advance(1);
            let (end, clock) = (Lsn(bytes.get_u64()), moment(bytes.get_i64()));
            Some(CopyData::Keepalive { end, clock, reply_requested: bytes.get_u8() != 0 })
        }
        _ => None,
    }
}

fn moment(since_2000: i64) -> Timestamp {
    Timestamp(since_2000.saturating_add(EPOCH))
}

/// What the result behind a stream says; `None` when it cannot be understood.
fn stream_end(rows: &[Row]) -> Option<StreamEnd> {
    let Some(row) = rows.first() else { return Some(StreamEnd::Unknown) };
    let next = row.get(0).ok()?.parse().ok()?;
    let (high, low) = row.get(1).ok()?.split_once('/')?;
    let half = |text| u32::from_str_radix(text, 16).ok().map(u64::from);
    Some(StreamEnd::Timeline { next, start: Lsn(half(high)? << 32 | half(low)?) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn redo_and_keepalives_are_told_apart() {
        let mut redo = vec![b'w'];
        redo.extend([[0, 0, 0, 1, 0, 0, 0, 2], [0, 0, 0, 1, 0, 0, 0, 9], [0, 0, 0, 0, 0, 0x0f, 0x42, 0x40]].concat());
        redo.extend(b"data");
        let expected = CopyData::XLogData {
            start: Lsn(0x1_0000_0002),
            end: Lsn(0x1_0000_0009),
            clock: Timestamp(946_684_801_000_000),
            bytes: Bytes::from_static(b"data"),
        };
        assert_eq!(parse(redo.clone().into()), Some(expected));
        redo.truncate(REDO_HEADER - 1);
        assert_eq!(parse(redo.into()), None);
        let mut alive = [0xff; KEEPALIVE];
        alive[0] = b'k';
        alive[9] = 0x7f;
        let (end, clock) = (Lsn(u64::MAX), Timestamp(i64::MAX));
        let expected = CopyData::Keepalive { end, clock, reply_requested: true };
        assert_eq!(parse(Bytes::copy_from_slice(&alive)), Some(expected));
        assert_eq!(parse(Bytes::copy_from_slice(&alive[..17])), None);
        assert_eq!((parse(Bytes::new()), parse(Bytes::from_static(b"x"))), (None, None));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, kind in "[wkx]") {
            let _either = parse(bytes.clone().into());
            let _either = parse([kind.into_bytes(), bytes].concat().into());
        }
    }
}
