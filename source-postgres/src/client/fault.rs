//! What can go wrong between us and a server, as errors of Setpiece.

use std::fmt;
use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;
use setpiece_core::{Error, ErrorKind};

/// The longest text taken over from a server.
const LONGEST_TEXT: usize = 8 * 1024;

/// An error that the server has sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    severity: String,
    code: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl ServerError {
    /// How bad it is, not translated: `ERROR`, `FATAL`, `PANIC`, or of a notice `WARNING`, `NOTICE`, `LOG` and so on.
    #[must_use]
    pub fn severity(&self) -> &str {
        &self.severity
    }

    /// The SQLSTATE: five characters, see PostgreSQL's manual, "Error Codes".
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What happened, in the server's language.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the server ends the connection because of it.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    /// Reads the fields of an error or a notice. The letters are from the manual, "Error and Notice Message Fields".
    pub(super) fn read(mut fields: ErrorFields<'_>) -> io::Result<Self> {
        let mut error = ServerError::default();
        let mut untranslated = false;
        while let Some(field) = fields.next().map_err(malformed)? {
            let text = shortened(&String::from_utf8_lossy(field.value_bytes()));
            match field.type_() {
                b'V' => (error.severity, untranslated) = (text, true),
                b'S' if !untranslated => error.severity = text,
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                _ => {}
            }
        }
        Ok(error)
    }

    /// As an error of the server called `server`.
    pub(super) fn on(self, server: &str) -> Error {
        let error = Error::new(ErrorKind::Source, self.to_string()).on(server).retryable(passes(&self.code));
        let error = match remedy(&self.code) {
            Some(text) => error.remedy(text),
            None => error,
        };
        error.because(self)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.code, self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, "; detail: {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

/// The error of the server that `error` reports, if it reports one.
#[must_use]
pub fn server_error(error: &Error) -> Option<&ServerError> {
    std::error::Error::source(error)?.downcast_ref()
}

/// The SQLSTATE of the error of the server that `error` reports, if it reports one.
#[must_use]
pub fn sqlstate(error: &Error) -> Option<&str> {
    server_error(error).map(ServerError::code)
}

/// Whether the same may work a little later: no room for now, chosen as victim, starting up or shutting down.
fn passes(code: &str) -> bool {
    matches!(code.get(..2), Some("40" | "53")) || matches!(code, "55006" | "57P01" | "57P02" | "57P03")
}

fn remedy(code: &str) -> Option<&'static str> {
    Some(match code {
        "28P01" => "check the user and the password",
        "28000" => "check the user, and what pg_hba.conf of the server says of it",
        "42501" => "give the user the right, or connect as one who has it",
        "53300" => "close connections or raise max_connections, for replication max_wal_senders",
        _ => return None,
    })
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The connection failed, or what came over it is not of the protocol. Only the first may be better another time.
pub(super) fn lost(server: &str, error: io::Error) -> Error {
    let of_system = error.raw_os_error().is_some();
    let strange = !of_system && matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
    let (what, remedy) = match error.kind() {
        _ if strange => (
            format!("the server sent what is not of the protocol: {error}"),
            "check that a PostgreSQL server listens there and that nothing in between changes what it sends",
        ),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => (
            "the server does not answer".to_owned(),
            "see whether the server and the way to it are overloaded or stopped",
        ),
        io::ErrorKind::UnexpectedEof => {
            ("the server closed the connection".to_owned(), "the log of the server says why")
        }
        _ => (format!("the connection failed: {error}"), "see whether the server runs and can be reached"),
    };
    Error::new(ErrorKind::Source, what).on(server).remedy(remedy).retryable(!strange).because(error)
}

/// A message that cannot be taken apart, for whatever reason.
pub(super) fn malformed(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The server did something that the protocol does not allow at this point.
pub(super) fn protocol(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use postgres_protocol::message::backend::Message;

    use super::*;

    fn read(fields: &[(u8, &[u8])]) -> io::Result<ServerError> {
        let mut body: Vec<u8> = Vec::new();
        for (letter, text) in fields {
            body.push(*letter);
            body.extend(*text);
            body.push(0);
        }
        body.push(0);
        let mut message = BytesMut::from(&b"E"[..]);
        message.put_u32(u32::try_from(body.len() + 4).unwrap());
        message.extend(body);
        match Message::parse(&mut message).unwrap().unwrap() {
            Message::ErrorResponse(body) => ServerError::read(body.fields()),
            _ => panic!("no error"),
        }
    }

    #[test]
    fn an_error_says_all_that_the_server_said() {
        let fields: &[(u8, &[u8])] = &[
            (b'S', b"FEHLER"),
            (b'V', b"ERROR"),
            (b'C', b"55006"),
            (b'M', b"in use"),
            (b'D', b"by whom"),
            (b'H', b"wait"),
            (b'F', b"slot.c"),
        ];
        let error = read(fields).unwrap().on("h:1");
        assert_eq!(error.to_string(), "h:1: ERROR 55006: in use; detail: by whom; hint: wait");
        assert_eq!((sqlstate(&error), error.is_retryable()), (Some("55006"), true));
        assert_eq!(server_error(&error).map(ServerError::severity), Some("ERROR"));
        let other = read(&[(b'V', b"FATAL"), (b'S', b"FATAL!"), (b'C', b"28P01")]).unwrap();
        assert!(other.is_fatal());
        assert!(!other.on("h").is_retryable());
        assert_eq!(sqlstate(&lost("h", io::Error::other("x"))), None);
    }

    #[test]
    fn text_of_any_size_and_encoding_is_bearable() {
        let long = vec![0xe4; 100_000];
        let error = read(&[(b'S', b"ERROR"), (b'M', &long)]).unwrap();
        assert_eq!(error.message().chars().count(), LONGEST_TEXT + 3);
    }
}
