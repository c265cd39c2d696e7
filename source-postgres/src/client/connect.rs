//! Making a connection: which servers are tried, encrypted or not, and logging in.

use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use setpiece_core::{Error, ErrorKind, Result};

use super::auth::{Account, authenticate};
use super::fault::sqlstate;
use super::info::{ConnectInfo, SslMode};
use super::passfile::{self, Door};
use super::session::Client;
use super::socket::Endpoint;
use super::stream::{Encryption, OpenError, Stream};
use super::tls::TlsSetup;
use super::wire::Incoming;
use crate::dialect::Dialect;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// SQL. The search path is empty: names need their schema, except those of the system's catalogue. So nobody who may
    /// create objects in a schema can put something of his in the place of a system function.
    Sql,
    /// The commands of physical replication, such as BASE_BACKUP and START_REPLICATION.
    PhysicalReplication,
}

/// SQLSTATE of a login that pg_hba.conf does not provide for.
const NOT_PROVIDED_FOR: &str = "28000";

impl Client {
    /// Connects to the first server of `info` that can be reached. A server that answers with a refusal ends the
    /// search, unless it is only starting up or has no room.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when `info` makes no sense, [`ErrorKind::Unsupported`] when the server wants a way of logging
    /// in that is not known here, otherwise [`ErrorKind::Source`].
    pub fn connect(info: &ConnectInfo, mode: Mode) -> Result<Client> {
        let plan = Plan::new(info, mode)?;
        let mut last = None;
        for (host, port) in info.servers() {
            match plan.server(host, port) {
                Ok(client) => return Ok(client),
                Err(Failure { error, next: Next::Server }) => {
                    tracing::debug!("{error}");
                    last = Some(error);
                }
                Err(Failure { error, .. }) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Usage, "no server to connect to is named")))
    }
}

/// A failed try.
struct Failure {
    error: Error,
    next: Next,
}

/// What may help after a failed try.
enum Next {
    Nothing,
    /// Connecting to the same server with, or without, encryption.
    Encryption,
    Server,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let next = match sqlstate(&error) {
            Some(NOT_PROVIDED_FOR) => Next::Encryption,
            _ if error.is_retryable() => Next::Server,
            _ => Next::Nothing,
        };
        Failure { error, next }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Unreachable(error) => Failure { error, next: Next::Server },
            OpenError::Encryption(error) => Failure { error, next: Next::Encryption },
        }
    }
}

/// What is the same for all tries.
struct Plan<'a> {
    info: &'a ConnectInfo,
    mode: Mode,
    user: &'a str,
    tls: Option<TlsSetup>,
}

impl<'a> Plan<'a> {
    fn new(info: &'a ConnectInfo, mode: Mode) -> Result<Self> {
        let user = info.user().ok_or_else(|| {
            Error::new(ErrorKind::Usage, "the connection URI names no user")
                .remedy("write postgresql://user@host/database")
        })?;
        let over_network = info.servers().any(|(host, _)| !host.starts_with('/'));
        let tls = (over_network && info.ssl_mode() != SslMode::Disable).then(|| TlsSetup::new(info)).transpose()?;
        Ok(Plan { info, mode, user, tls })
    }

    /// Tries all addresses of a server.
    fn server(&self, host: &str, port: u16) -> Result<Client, Failure> {
        let password = self.password(host, port)?;
        let account = Account { user: self.user, password: password.as_deref() };
        let mut last = None;
        for endpoint in self.endpoints(host, port)? {
            match self.endpoint(&endpoint, account) {
                Err(failure @ Failure { next: Next::Server, .. }) => last = Some(failure),
                done => return done,
            }
        }
        let nowhere = || Failure {
            error: Error::new(ErrorKind::Source, "the name of the server has no address").on(host).retryable(true),
            next: Next::Server,
        };
        Err(last.unwrap_or_else(nowhere))
    }

    fn endpoints(&self, host: &str, port: u16) -> Result<Vec<Endpoint>, Failure> {
        if host.starts_with('/') {
            return Ok(vec![Endpoint::Unix(self.socket(Path::new(host), port))]);
        }
        let addresses = (host, port).to_socket_addrs().map_err(|error| Failure {
            error: Error::new(ErrorKind::Source, format!("the name of the server has no address: {error}"))
                .on(host)
                .retryable(true)
                .because(error),
            next: Next::Server,
        })?;
        Ok(addresses.map(|address| Endpoint::Tcp { host: host.to_owned(), address }).collect())
    }

    /// KingbaseES calls its sockets by its own name; a server that goes by the older one is found as well.
    fn socket(&self, directory: &Path, port: u16) -> PathBuf {
        let usual = directory.join(format!(".s.PGSQL.{port}"));
        let own = directory.join(format!(".s.KINGBASE.{port}"));
        if self.info.dialect() == Dialect::Kingbase && (own.exists() || !usual.exists()) { own } else { usual }
    }

    /// Tries an address, if need be encrypted and in clear, in the order that the mode says.
    fn endpoint(&self, endpoint: &Endpoint, account: Account<'_>) -> Result<Client, Failure> {
        let deadline = self.info.connect_patience().and_then(|patience| Instant::now().checked_add(patience));
        let (first, second) = self.encryptions(endpoint);
        let failure = match (self.attempt(endpoint, first, account, deadline), &second) {
            (Err(failure @ Failure { next: Next::Encryption, .. }), Some(_)) => failure,
            (done, _) => return done,
        };
        let Some(second) = second else { return Err(failure) };
        let before = match second {
            Encryption::Never => "encrypted",
            Encryption::Offered(_) | Encryption::Always(_) => "in clear",
        };
        tracing::debug!("{}", failure.error);
        self.attempt(endpoint, second, account, deadline).map_err(|second| {
            let error = second.error.doing(format!("after a try {before} that failed ({})", failure.error));
            Failure { error, ..second }
        })
    }

    fn encryptions(&self, endpoint: &Endpoint) -> (Encryption, Option<Encryption>) {
        let Some(tls) = self.tls.clone().filter(|_| !endpoint.is_unix()) else { return (Encryption::Never, None) };
        match self.info.ssl_mode() {
            SslMode::Disable => (Encryption::Never, None),
            SslMode::Allow => (Encryption::Never, Some(Encryption::Always(tls))),
            SslMode::Prefer => (Encryption::Offered(tls), Some(Encryption::Never)),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Encryption::Always(tls), None),
        }
    }

    fn attempt(
        &self,
        endpoint: &Endpoint,
        encryption: Encryption,
        account: Account<'_>,
        deadline: Option<Instant>,
    ) -> Result<Client, Failure> {
        let stream = Stream::open(endpoint, &encryption, deadline)?;
        // Another connection, to cancel what this one does, is to be as this one is.
        let (in_vain, encryption) = match encryption {
            Encryption::Offered(tls) if stream.is_encrypted() => (false, Encryption::Always(tls)),
            Encryption::Offered(_) => (true, Encryption::Never),
            other => (false, other),
        };
        let mut client = Client::new(stream, endpoint.clone(), encryption);
        self.log_in(&mut client, account, deadline).map_err(|error| match Failure::from(error) {
            // The server has no encryption: to try in clear would be to try the same.
            Failure { error, next: Next::Encryption } if in_vain => Failure { error, next: Next::Nothing },
            failure => failure,
        })?;
        Ok(client)
    }

    fn log_in(&self, client: &mut Client, account: Account<'_>, deadline: Option<Instant>) -> Result<()> {
        let mut parameters = vec![
            ("user", account.user),
            ("application_name", self.info.application_name()),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, YMD"),
        ];
        match self.mode {
            Mode::Sql => {
                parameters.push(("search_path", ""));
                parameters.extend(self.info.database().map(|database| ("database", database)));
            }
            Mode::PhysicalReplication => parameters.push(("replication", "true")),
        }
        let mut message = BytesMut::new();
        frontend::startup_message(parameters, &mut message)
            .map_err(|error| Error::new(ErrorKind::Usage, "the connection parameters cannot be sent").because(error))?;
        client.send(&message, deadline)?;
        authenticate(client, account, deadline)?;
        loop {
            match client.answer(deadline)? {
                Incoming::Other(Message::BackendKeyData(body)) => {
                    client.key = Some((body.process_id(), body.secret_key()));
                }
                Incoming::Other(Message::ReadyForQuery(_)) => return Ok(()),
                Incoming::Other(Message::ErrorResponse(body)) => return Err(client.refusal(&body)),
                _ => return Err(client.unexpected()),
            }
        }
    }

    fn password(&self, host: &str, port: u16) -> Result<Option<String>> {
        let database = match self.mode {
            Mode::Sql => self.info.database().unwrap_or(self.user),
            // The word for it in password files.
            Mode::PhysicalReplication => "replication",
        };
        match (self.info.password(), self.info.passfile()) {
            (Some(password), _) => Ok(Some(password.to_owned())),
            (None, Some(path)) => passfile::look_up(path, Door { host, port, database, user: self.user }),
            (None, None) => Ok(None),
        }
    }
}
