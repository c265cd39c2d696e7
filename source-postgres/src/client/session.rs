//! A connection as its user sees it: statements and their answers, by the simple protocol, in the text format.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::backend::{ErrorResponseBody, Message, NoticeResponseBody, ParameterStatusBody};
use postgres_protocol::message::frontend;
use setpiece_core::{Error, ErrorKind, Result};

use super::fault::{ServerError, lost, protocol};
use super::row::{Row, Rows};
use super::socket::Endpoint;
use super::stream::{Encryption, Stream};
use super::wire::{Incoming, Wire};

/// How long the answer to a statement may take unless it is said otherwise.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long we wait when we leave, and for the last words of a server that has left.
const FAREWELL: Duration = Duration::from_secs(1);
/// The most that is kept of what a server reports of its parameters.
const PARAMETERS_LIMIT: usize = 1024 * 1024;

/// A connection to a server.
///
/// Made by [`Client::connect`]. It is used by one thread at a time. After an error that leaves unclear where the two sides
/// stand (the connection was lost, no answer came in time, the server broke the protocol or ended the connection) every
/// call fails and says so; after any other error of the server it can be used on. Dropping it says farewell.
pub struct Client {
    wire: Wire,
    pub(super) endpoint: Endpoint,
    pub(super) encryption: Encryption,
    /// For messages.
    server: String,
    parameters: BTreeMap<String, String>,
    parameters_size: usize,
    /// Number of the server's process, and the secret by which we may interrupt it.
    pub(super) key: Option<(i32, i32)>,
    patience: Option<Duration>,
    /// Why the connection cannot be used any more.
    broken: Option<String>,
}

impl Client {
    /// A connection over which nothing has gone yet. `encryption` is what a second connection is to have.
    pub(super) fn new(stream: Stream, endpoint: Endpoint, encryption: Encryption) -> Self {
        Client {
            wire: Wire::new(stream),
            server: endpoint.to_string(),
            endpoint,
            encryption,
            parameters: BTreeMap::new(),
            parameters_size: 0,
            key: None,
            patience: Some(PATIENCE),
            broken: None,
        }
    }

    /// Runs `sql`, one statement or several, and returns the rows of the last result that has rows.
    ///
    /// # Errors
    /// Of the server (see [`server_error`](super::server_error)) or the connection.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>> {
        let deadline = self.deadline();
        self.ask(sql, deadline)?;
        self.collect(None, deadline)
    }

    /// Runs `sql`, one statement or several, for its effect.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub fn execute(&mut self, sql: &str) -> Result<()> {
        self.query(sql).map(drop)
    }

    /// How long the whole answer to a statement may take, or a single piece of a copy; `None` is for ever. At first it
    /// is a quarter of an hour.
    pub fn set_patience(&mut self, patience: Option<Duration>) {
        self.patience = patience;
    }

    /// What the server reported of its parameter `name`, such as `server_version`.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The number of the server's process that serves this connection, if it told us.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.key.map(|(process, _)| process)
    }

    /// Whether what is sent is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.wire.stream().is_encrypted()
    }

    /// When an answer must be there that is asked for now.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.patience.and_then(|patience| Instant::now().checked_add(patience))
    }

    pub(super) fn stream(&self) -> &Stream {
        self.wire.stream()
    }

    /// Sends a statement.
    pub(super) fn ask(&mut self, sql: &str, deadline: Option<Instant>) -> Result<()> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message)
            .map_err(|error| Error::new(ErrorKind::Usage, "the statement cannot be sent").because(error))?;
        self.send(&message, deadline)
    }

    pub(super) fn send(&mut self, messages: &[u8], deadline: Option<Instant>) -> Result<()> {
        self.check()?;
        self.wire.send(messages, deadline).map_err(|error| self.last_words(error))
    }

    /// The next message that is part of an answer; what the server tells besides is taken care of. `None` when it has not
    /// come by `deadline`.
    pub(super) fn receive(&mut self, deadline: Option<Instant>) -> Result<Option<Incoming>> {
        self.check()?;
        loop {
            let message = self.wire.receive(deadline).map_err(|error| self.fail(error))?;
            match message {
                Some(Incoming::Other(Message::NoticeResponse(body))) => self.notice(&body)?,
                Some(Incoming::Other(Message::ParameterStatus(body))) => {
                    self.remember(&body).map_err(|error| self.fail(error))?;
                }
                Some(Incoming::Other(Message::NotificationResponse(_))) => {}
                other => return Ok(other),
            }
        }
    }

    /// The next message of an answer, which must come by `deadline`.
    pub(super) fn answer(&mut self, deadline: Option<Instant>) -> Result<Incoming> {
        let message = self.receive(deadline)?;
        message.ok_or_else(|| self.fail(io::ErrorKind::TimedOut.into()))
    }

    /// Reads an answer to its end, of which `first` is already here, and returns the last rows in it.
    pub(super) fn collect(&mut self, first: Option<Incoming>, deadline: Option<Instant>) -> Result<Vec<Row>> {
        let (mut rows, mut refusal) = (None, None);
        let mut next = first;
        loop {
            let message = match next.take() {
                Some(message) => message,
                None => self.answer(deadline)?,
            };
            match message {
                Incoming::Other(Message::RowDescription(body)) => {
                    rows = Some(Rows::described(&body).map_err(|error| self.fail(error))?);
                }
                Incoming::Other(Message::DataRow(body)) => {
                    let rows = rows.as_mut().ok_or_else(|| self.unexpected())?;
                    rows.push(&body).map_err(|error| self.fail(error))?;
                }
                Incoming::Other(Message::CommandComplete(_) | Message::EmptyQueryResponse) => {}
                Incoming::Other(Message::ErrorResponse(body)) => {
                    let error = self.refusal(&body);
                    if self.broken.is_some() {
                        return Err(error);
                    }
                    refusal.get_or_insert(error);
                }
                Incoming::Other(Message::ReadyForQuery(_)) => break,
                _ => return Err(self.unexpected()),
            }
        }
        match refusal {
            Some(error) => Err(error),
            None => Ok(rows.map(Rows::finish).unwrap_or_default()),
        }
    }

    /// The error that the server has sent. One that ends the connection makes it unusable.
    pub(super) fn refusal(&mut self, body: &ErrorResponseBody) -> Error {
        match ServerError::read(body.fields()) {
            Ok(error) => {
                let fatal = error.is_fatal();
                let error = error.on(&self.server);
                if fatal {
                    self.give_up(&error);
                }
                error
            }
            Err(error) => self.fail(error),
        }
    }

    /// The last message is none that can come here.
    pub(super) fn unexpected(&mut self) -> Error {
        let tag = self.wire.last_tag().escape_default();
        self.fail(protocol(format!("a message `{tag}`, which cannot come at this point")))
    }

    /// The connection cannot be used any more.
    pub(super) fn fail(&mut self, error: io::Error) -> Error {
        let error = lost(&self.server, error);
        self.give_up(&error);
        error
    }

    /// The connection cannot be used any more because of `error`.
    pub(super) fn give_up(&mut self, error: &Error) {
        self.broken.get_or_insert_with(|| error.to_string());
    }

    /// An error that is not of the connection.
    pub(super) fn error(&self, kind: ErrorKind, what: impl Into<String>) -> Error {
        Error::new(kind, what).on(&self.server)
    }

    /// Whether the connection can be used.
    pub(super) fn check(&self) -> Result<()> {
        match &self.broken {
            None => Ok(()),
            Some(why) => {
                let what = format!("this connection cannot be used any more, since it failed before: {why}");
                Err(Error::new(ErrorKind::Source, what).remedy("connect again"))
            }
        }
    }

    /// Nothing can be sent. A server that ends a connection says why before it does; what it said may still be here.
    fn last_words(&mut self, error: io::Error) -> Error {
        let deadline = Instant::now().checked_add(FAREWELL);
        loop {
            match self.wire.receive(deadline) {
                Ok(Some(Incoming::Other(Message::ErrorResponse(body)))) => {
                    let error = self.refusal(&body);
                    self.give_up(&error);
                    return error;
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return self.fail(error),
            }
        }
    }

    fn notice(&mut self, body: &NoticeResponseBody) -> Result<()> {
        let notice = ServerError::read(body.fields()).map_err(|error| self.fail(error))?;
        match notice.severity() {
            "WARNING" => tracing::warn!(server = %self.server, "{notice}"),
            "NOTICE" | "INFO" => tracing::info!(server = %self.server, "{notice}"),
            _ => tracing::debug!(server = %self.server, "{notice}"),
        }
        Ok(())
    }

    fn remember(&mut self, body: &ParameterStatusBody) -> io::Result<()> {
        let (name, value) = (body.name()?.to_owned(), body.value()?.to_owned());
        let key = name.len() + 64;
        self.parameters_size += key + value.len();
        if let Some(old) = self.parameters.insert(name, value) {
            self.parameters_size -= key + old.len();
        }
        if self.parameters_size > PARAMETERS_LIMIT {
            return Err(protocol("the server reports more parameters than any server has"));
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.broken.is_none() {
            let mut message = BytesMut::new();
            frontend::terminate(&mut message);
            // The server finds out by itself when the message does not arrive.
            let _gone_either_way = self.wire.send(&message, Instant::now().checked_add(FAREWELL));
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.server)
            .field("process_id", &self.process_id())
            .field("encrypted", &self.is_encrypted())
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
