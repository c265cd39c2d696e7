//! Commands whose answer is data that the server copies out, such as BASE_BACKUP.

use bytes::Bytes;
use postgres_protocol::message::backend::Message;
use setpiece_core::{ErrorKind, Result};

use super::row::{Row, Rows};
use super::session::Client;
use super::wire::Incoming;

/// A piece of the answer, in the order in which the server sends them.
#[derive(Clone, Debug)]
pub enum CopyOutItem {
    /// A whole result.
    Rows(Vec<Row>),
    /// A stream of data begins.
    Begin,
    /// Data of the stream; where one piece ends and the next begins has a meaning in some commands.
    Data(Bytes),
    /// The stream ends.
    End,
}

/// The answer to a command, while it arrives. A server error or a lost connection ends it for good, and the connection
/// with it: so does dropping it.
#[derive(Debug)]
pub struct CopyOut {
    client: Client,
    /// A result whose end has not been seen.
    rows: Option<Rows>,
    streaming: bool,
    done: bool,
}

impl Client {
    /// Sends `command`, whose answer may be results and streams of data, several in a row.
    ///
    /// # Errors
    /// Of the connection; those of the server come with the first piece.
    pub fn copy_out(mut self, command: &str) -> Result<CopyOut> {
        let deadline = self.deadline();
        self.ask(command, deadline)?;
        Ok(CopyOut { client: self, rows: None, streaming: false, done: false })
    }
}

impl CopyOut {
    /// The next piece; `None` at the end of the answer.
    ///
    /// # Errors
    /// Of the server (see [`server_error`](super::server_error)) or the connection. Every later call fails as well.
    #[expect(clippy::should_implement_trait, reason = "an iterator would hide that the first error is the end")]
    pub fn next(&mut self) -> Result<Option<CopyOutItem>> {
        let deadline = self.client.deadline();
        while !self.done {
            let message = self.client.answer(deadline)?;
            if let Some(item) = self.take(message)? {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// Gives the connection back after the whole answer.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] before the end of the answer, or what ended it.
    pub fn finish(self) -> Result<Client> {
        self.client.check()?;
        if !self.done {
            return Err(self.client.error(ErrorKind::Usage, "the answer of the server was not read to its end"));
        }
        Ok(self.client)
    }

    fn take(&mut self, message: Incoming) -> Result<Option<CopyOutItem>> {
        let message = match message {
            Incoming::CopyData(bytes) if self.streaming => return Ok(Some(CopyOutItem::Data(bytes))),
            Incoming::Other(message) => message,
            _ => return Err(self.client.unexpected()),
        };
        match message {
            Message::CopyDone if self.streaming => {
                self.streaming = false;
                Ok(Some(CopyOutItem::End))
            }
            Message::ErrorResponse(body) => {
                let error = self.client.refusal(&body);
                self.client.give_up(&error);
                Err(error)
            }
            _ if self.streaming => Err(self.client.unexpected()),
            Message::CopyOutResponse(_) if self.rows.is_none() => {
                self.streaming = true;
                Ok(Some(CopyOutItem::Begin))
            }
            Message::RowDescription(body) if self.rows.is_none() => {
                self.rows = Some(Rows::described(&body).map_err(|error| self.client.fail(error))?);
                Ok(None)
            }
            Message::DataRow(body) => {
                let rows = self.rows.as_mut().ok_or_else(|| self.client.unexpected())?;
                rows.push(&body).map_err(|error| self.client.fail(error))?;
                Ok(None)
            }
            Message::CommandComplete(_) | Message::EmptyQueryResponse => {
                Ok(self.rows.take().map(|rows| CopyOutItem::Rows(rows.finish())))
            }
            Message::ReadyForQuery(_) if self.rows.is_none() => {
                self.done = true;
                Ok(None)
            }
            _ => Err(self.client.unexpected()),
        }
    }
}
