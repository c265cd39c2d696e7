//! Interrupting what a connection does, from elsewhere.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use setpiece_core::Result;

use super::fault::lost;
use super::session::Client;
use super::socket::Endpoint;
use super::stream::{Encryption, OpenError, Stream};

/// How long the request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Interrupts the statement that a connection is running. May be used from any thread and at any time.
#[derive(Clone, Debug)]
pub struct CancelHandle {
    endpoint: Endpoint,
    encryption: Encryption,
    key: Option<Key>,
}

/// Who has it can interrupt the connection.
#[derive(Clone, Copy)]
struct Key(i32, i32);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.0).finish_non_exhaustive()
    }
}

impl Client {
    /// What interrupts this connection's statements from another thread.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle {
            endpoint: self.endpoint.clone(),
            encryption: self.encryption.clone(),
            key: self.key.map(|(process, secret)| Key(process, secret)),
        }
    }
}

impl CancelHandle {
    /// Asks the server to interrupt the statement that is running, which then fails with SQLSTATE 57014. Where none is
    /// running nothing happens; the server does not say which. Encrypted if the connection is.
    ///
    /// # Errors
    /// When the request could not be sent.
    pub fn cancel(&self) -> Result<()> {
        // A server that gives no key has nothing that could be interrupted.
        let Some(Key(process, secret)) = self.key else { return Ok(()) };
        let deadline = Instant::now().checked_add(PATIENCE);
        let stream = Stream::open(&self.endpoint, &self.encryption, deadline);
        let mut stream = stream.map_err(|(OpenError::Unreachable(error) | OpenError::Encryption(error))| error)?;
        let mut message = BytesMut::new();
        frontend::cancel_request(process, secret, &mut message);
        send(&mut stream, &message).map_err(|error| lost(&self.endpoint.to_string(), error))
    }
}

/// Sends the request and waits for the server to close: then it has passed the request on.
fn send(stream: &mut Stream, message: &[u8]) -> io::Result<()> {
    stream.write_all(message)?;
    stream.flush()?;
    match stream.read(&mut [0]) {
        Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => Err(error),
        // Whichever way it closes.
        Ok(_) | Err(_) => Ok(()),
    }
}
