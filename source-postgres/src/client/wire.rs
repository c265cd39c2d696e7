//! Messages on a stream: put together from the bytes that arrive, with bounds.

use std::io::{self, Read, Write};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::backend::{COPY_DATA_TAG, Header, Message};

use super::fault::{malformed, protocol};
use super::stream::Stream;

/// The longest message that carries copied data, with room for what is around the largest piece that a server makes.
const LONGEST_COPY: usize = 1024 * 1024 * 1024 + 1024;
/// The longest message of any other kind.
const LONGEST: usize = 64 * 1024 * 1024;
/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// The answer to START_REPLICATION, which postgres-protocol does not know.
const COPY_BOTH_TAG: u8 = b'W';

/// A message of the server.
pub(super) enum Incoming {
    /// Data of a copy.
    CopyData(Bytes),
    /// From now on both sides send data.
    CopyBoth,
    /// Any other.
    Other(Message),
}

/// A stream that messages go over.
pub(super) struct Wire {
    stream: Stream,
    /// What has arrived and is not taken yet.
    inbox: BytesMut,
    chunk: Box<[u8]>,
    tag: u8,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Wire { stream, inbox: BytesMut::new(), chunk: vec![0; CHUNK].into(), tag: 0 }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The letter of the last message.
    pub(super) fn last_tag(&self) -> char {
        char::from(self.tag)
    }

    /// Sends whole messages.
    pub(super) fn send(&mut self, messages: &[u8], deadline: Option<Instant>) -> io::Result<()> {
        self.stream.set_deadline(deadline);
        self.stream.write_all(messages)?;
        self.stream.flush()
    }

    /// The next message; `None` when it has not arrived whole by `deadline`. What has arrived of it is kept.
    pub(super) fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Option<Incoming>> {
        self.stream.set_deadline(deadline);
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            match self.stream.read(&mut self.chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.inbox.extend_from_slice(self.chunk.get(..count).unwrap_or_default()),
                Err(error) => match error.kind() {
                    io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => return Ok(None),
                    _ => return Err(error),
                },
            }
        }
    }

    /// The first message of the inbox, if it is there whole. Memory grows with what has arrived, not with what a header
    /// promises.
    fn take(&mut self) -> io::Result<Option<Incoming>> {
        let Some(header) = Header::parse(&self.inbox)? else { return Ok(None) };
        self.tag = header.tag();
        let longest = if self.tag == COPY_DATA_TAG { LONGEST_COPY } else { LONGEST };
        let len = usize::try_from(header.len()).ok().filter(|len| *len <= longest);
        // The length counts itself, but not the letter before it.
        let whole = 1 + len.ok_or_else(|| self.too_long(header.len(), longest))?;
        if self.inbox.len() < whole {
            return Ok(None);
        }
        let mut message = self.inbox.split_to(whole);
        Ok(Some(match self.tag {
            COPY_DATA_TAG => {
                message.advance(5);
                Incoming::CopyData(message.freeze())
            }
            COPY_BOTH_TAG => Incoming::CopyBoth,
            _ => Incoming::Other(parse(&mut message)?),
        }))
    }

    fn too_long(&self, len: i32, longest: usize) -> io::Error {
        protocol(format!(
            "a message `{}` of {len} bytes; at most {longest} are taken",
            self.last_tag().escape_default()
        ))
    }
}

fn parse(message: &mut BytesMut) -> io::Result<Message> {
    Message::parse(message).map_err(malformed)?.ok_or_else(|| protocol("a message is not whole"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::client::socket::{Endpoint, Socket};

    fn pair() -> (Wire, impl Write) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp { host: "localhost".into(), address: listener.local_addr().unwrap() };
        let wire = Wire::new(Stream::Plain(Socket::connect(&endpoint, None).unwrap()));
        (wire, listener.accept().unwrap().0)
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(20))
    }

    #[test]
    fn a_message_that_arrives_in_pieces_is_put_together() {
        let (mut wire, mut server) = pair();
        let messages = b"d\0\0\0\x08dataW\0\0\0\x07\0\0\0Z\0\0\0\x05I";
        let mut seen = String::new();
        for byte in messages {
            server.write_all(&[*byte]).unwrap();
            match wire.receive(soon()).unwrap() {
                None => {}
                Some(Incoming::CopyData(bytes)) => seen.push_str(str::from_utf8(&bytes).unwrap()),
                Some(Incoming::CopyBoth) => seen.push('W'),
                Some(Incoming::Other(_)) => seen.push(wire.last_tag()),
            }
        }
        assert_eq!(seen, "dataWZ");
    }

    #[test]
    fn memory_grows_with_what_arrives() {
        let (mut wire, mut server) = pair();
        server.write_all(b"d\x40\0\0\x04").unwrap();
        server.write_all(&[7; 100_000]).unwrap();
        assert!(wire.receive(soon()).unwrap().is_none());
        assert!(wire.inbox.len() > 50_000 && wire.inbox.capacity() < 1_000_000, "{}", wire.inbox.capacity());
    }

    #[test]
    fn each_kind_has_its_limit() {
        let cases: [(&[u8], bool); 5] = [
            (b"d\x40\x00\x04\x00", true),
            (b"d\x40\x00\x04\x01", false),
            (b"D\x04\x00\x00\x00", true),
            (b"D\x04\x00\x00\x01", false),
            (b"D\x00\x00\x00\x03", false),
        ];
        for (header, fine) in cases {
            let (mut wire, mut server) = pair();
            server.write_all(header).unwrap();
            assert_eq!(wire.receive(soon()).is_ok(), fine, "{header:x?}");
        }
    }
}
