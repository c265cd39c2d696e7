//! A socket to a server, whose every call ends at a deadline.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// How long a connection may be silent before the system asks whether the other side still exists, and how it asks.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;
/// How long what was sent may stay unconfirmed, in milliseconds.
#[cfg(target_os = "linux")]
const UNCONFIRMED: u32 = 120_000;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// The host as the user calls it, and one of its addresses.
    Tcp { host: String, address: SocketAddr },
    /// The socket's path.
    Unix(PathBuf),
}

impl Endpoint {
    /// Whether only this machine sees what is sent.
    pub(super) fn is_unix(&self) -> bool {
        matches!(self, Endpoint::Unix(_))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
            Endpoint::Tcp { host, address } if *host == address.ip().to_string() => write!(f, "{address}"),
            Endpoint::Tcp { host, address } => write!(f, "{host} ({address})"),
        }
    }
}

/// A connected socket. After the deadline each call fails with [`io::ErrorKind::TimedOut`], also one that has already
/// read or written something, so that whoever sends a byte at a time gains no time.
#[derive(Debug)]
pub(super) struct Socket {
    kind: Kind,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects to `endpoint` before `deadline`, which stays in force.
    pub(super) fn connect(endpoint: &Endpoint, deadline: Option<Instant>) -> io::Result<Self> {
        let kind = match endpoint {
            Endpoint::Tcp { address, .. } => Kind::Tcp(tcp(address, deadline)?),
            Endpoint::Unix(path) => Kind::Unix(unix(path, deadline)?),
        };
        Ok(Socket { kind, deadline })
    }

    /// What follows must be done by then; `None` is never.
    pub(super) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }
}

fn tcp(address: &SocketAddr, deadline: Option<Instant>) -> io::Result<TcpStream> {
    let stream = match remaining(deadline)? {
        Some(patience) => TcpStream::connect_timeout(address, patience)?,
        None => TcpStream::connect(address)?,
    };
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_PROBES)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(&stream, UNCONFIRMED)?;
    Ok(stream)
}

/// A server that accepts nobody any more lets those who connect wait. The time to send limits that as well (Linux's
/// `unix(7)`), which the standard library has no call for.
fn unix(path: &PathBuf, deadline: Option<Instant>) -> io::Result<UnixStream> {
    let patience = remaining(deadline)?;
    let address = SocketAddrUnix::new(path)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, patience)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))?;
    Ok(UnixStream::from(socket))
}

/// The time until `deadline`, never zero, which for the system would mean for ever.
fn remaining(deadline: Option<Instant>) -> io::Result<Option<Duration>> {
    let Some(deadline) = deadline else { return Ok(None) };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let deadline = self.deadline;
        uninterrupted(|| {
            let patience = remaining(deadline)?;
            match &mut self.kind {
                Kind::Tcp(stream) => {
                    stream.set_read_timeout(patience)?;
                    stream.read(buffer)
                }
                Kind::Unix(stream) => {
                    stream.set_read_timeout(patience)?;
                    stream.read(buffer)
                }
            }
        })
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let deadline = self.deadline;
        uninterrupted(|| {
            let patience = remaining(deadline)?;
            match &mut self.kind {
                Kind::Tcp(stream) => {
                    stream.set_write_timeout(patience)?;
                    stream.write(buffer)
                }
                Kind::Unix(stream) => {
                    stream.set_write_timeout(patience)?;
                    stream.write(buffer)
                }
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tries again when a signal came in between. On a socket with a time limit the system never does that by itself, and
/// TLS takes an interruption for the end.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    const SOON: Duration = Duration::from_millis(200);
    const LATE: Duration = Duration::from_secs(10);

    fn local(listener: &TcpListener) -> Endpoint {
        Endpoint::Tcp { host: "localhost".into(), address: listener.local_addr().unwrap() }
    }

    fn is_timeout(error: &io::Error) -> bool {
        matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
    }

    #[test]
    fn a_silent_server_costs_no_more_than_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let began = Instant::now();
        let mut socket = Socket::connect(&local(&listener), Some(began + SOON)).unwrap();
        assert!(is_timeout(&socket.read(&mut [0; 8]).unwrap_err()));
        assert!(is_timeout(&socket.read(&mut [0; 8]).unwrap_err()));
        socket.set_deadline(Some(Instant::now() + SOON));
        let mut blocked = Ok(());
        while blocked.is_ok() {
            blocked = socket.write_all(&[0; 65536]);
        }
        assert!(is_timeout(&blocked.unwrap_err()));
        assert!(began.elapsed() < LATE);
    }

    #[test]
    fn a_byte_at_a_time_gains_no_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = local(&listener);
        let server = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            while peer.write_all(b"x").is_ok() {
                std::thread::sleep(SOON / 10);
            }
        });
        let began = Instant::now();
        let mut socket = Socket::connect(&endpoint, Some(began + SOON)).unwrap();
        let read = socket.read_exact(&mut [0; 10_000]);
        drop(socket);
        server.join().unwrap();
        assert!(is_timeout(&read.unwrap_err()));
        assert!(began.elapsed() < LATE);
    }

    #[test]
    fn a_unix_socket_that_accepts_nobody_costs_no_more_than_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let endpoint = Endpoint::Unix(path);
        let began = Instant::now();
        let mut waiting = Vec::new();
        let error = loop {
            match Socket::connect(&endpoint, Some(Instant::now() + SOON)) {
                Ok(socket) if waiting.len() < 8 => waiting.push(socket),
                Ok(_) => panic!("everybody was let in"),
                Err(error) => break error,
            }
        };
        assert!(is_timeout(&error), "{error:?}");
        assert!(began.elapsed() < LATE);
    }

    #[test]
    fn the_system_watches_over_a_silent_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Socket::connect(&local(&listener), None).unwrap();
        let Kind::Tcp(stream) = &socket.kind else { panic!("no TCP") };
        assert!(sockopt::socket_keepalive(stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(stream).unwrap(), KEEPALIVE_IDLE);
        assert!(stream.nodelay().unwrap());
    }
}
