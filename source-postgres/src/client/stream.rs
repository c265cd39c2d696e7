//! A connection to a server as a stream of bytes, in clear or encrypted.

use std::io::{self, Read, Write};
use std::time::Instant;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use setpiece_core::{Error, ErrorKind};

use super::fault::{lost, protocol};
use super::socket::{Endpoint, Socket};
use super::tls::{self, TlsSetup, TlsStream};

/// Whether a connection is to be encrypted.
#[derive(Clone, Debug)]
pub(super) enum Encryption {
    Never,
    /// If the server can.
    Offered(TlsSetup),
    Always(TlsSetup),
}

/// A connected stream.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

/// Why no stream came about.
#[derive(Debug)]
pub(super) enum OpenError {
    /// Nobody answered.
    Unreachable(Error),
    /// Somebody answered, and there is no agreement on encryption.
    Encryption(Error),
}

impl Stream {
    /// Connects to `endpoint` before `deadline`, which stays in force.
    pub(super) fn open(
        endpoint: &Endpoint,
        encryption: &Encryption,
        deadline: Option<Instant>,
    ) -> Result<Self, OpenError> {
        let server = endpoint.to_string();
        let connected = Socket::connect(endpoint, deadline);
        let mut socket = connected.map_err(|error| OpenError::Unreachable(lost(&server, error)))?;
        let (setup, required) = match encryption {
            Encryption::Never => return Ok(Stream::Plain(socket)),
            Encryption::Offered(setup) => (setup, false),
            Encryption::Always(setup) => (setup, true),
        };
        // What only this machine sees is not encrypted, as with libpq.
        let Endpoint::Tcp { host, address } = endpoint else { return Ok(Stream::Plain(socket)) };
        let refused = |error| OpenError::Encryption(tls::refused(&server, error));
        if ask(&mut socket).map_err(refused)? {
            let secure = setup.secure(socket, host, address.ip()).map_err(refused)?;
            return Ok(Stream::Tls(Box::new(secure)));
        }
        if required {
            let error = Error::new(ErrorKind::Source, "the server does not offer encryption").on(server);
            let remedy = "set ssl = on in postgresql.conf of the server, or another sslmode";
            return Err(OpenError::Encryption(error.remedy(remedy)));
        }
        Ok(Stream::Plain(socket))
    }

    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// What binds a login to this stream, if it is encrypted and the server's certificate is of a kind that can.
    pub(super) fn channel_binding(&self) -> Option<Vec<u8>> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => tls::channel_binding(stream),
        }
    }

    /// What follows must be done by then; `None` is never.
    pub(super) fn set_deadline(&mut self, deadline: Option<Instant>) {
        match self {
            Stream::Plain(socket) => socket.set_deadline(deadline),
            Stream::Tls(stream) => stream.sock.set_deadline(deadline),
        }
    }
}

/// Asks whether the server encrypts. Just the one byte is read: what somebody in between adds behind it must not be
/// taken for the beginning of what the server says under encryption.
fn ask(socket: &mut Socket) -> io::Result<bool> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request)?;
    let mut answer = [0];
    socket.read_exact(&mut answer)?;
    match answer {
        [b'S'] => Ok(true),
        [b'N'] => Ok(false),
        [other] => Err(protocol(format!("byte {other:#04x} is no answer to the request for encryption"))),
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(buffer),
            Stream::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
