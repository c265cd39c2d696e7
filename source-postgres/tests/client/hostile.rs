//! Servers that break the protocol, by mistake or in malice: each is an error, soon, and nothing worse.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use setpiece_core::{Error, ErrorKind, Result};
use setpiece_source_postgres::client::{Client, ConnectInfo, Mode, server_error, sqlstate};

use crate::server::info;

/// More than any of these may take, and less than a test that hangs.
const LATE: Duration = Duration::from_secs(20);

type Script = Box<dyn Fn(&mut TcpStream) + Send>;
/// Messages made from a nonce.
type Answers = fn(&str) -> Vec<Vec<u8>>;

/// A server whose connections are handled by `script`, one after the other, `connections` of them.
struct Fake {
    port: u16,
    thread: JoinHandle<()>,
}

impl Fake {
    fn start(connections: usize, script: impl Fn(usize, &mut TcpStream) + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            for number in 0..connections {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(LATE)).unwrap();
                stream.set_write_timeout(Some(LATE)).unwrap();
                script(number, &mut stream);
                // What we said must arrive, also when there is something that we did not listen to.
                let _gone_either_way = stream.shutdown(Shutdown::Write);
                let _gone_either_way = stream.read_to_end(&mut Vec::new());
            }
        });
        Fake { port, thread }
    }

    fn info(&self, more: &str) -> ConnectInfo {
        info(&format!("postgres://u:sesame@127.0.0.1:{}/d?connect_timeout=5{more}", self.port))
    }

    /// The error of connecting to one that does `script`.
    fn refused(more: &str, script: impl Fn(&mut TcpStream) + Send + 'static) -> Error {
        let fake = Fake::start(1, move |_, stream| script(stream));
        let began = Instant::now();
        let error = Client::connect(&fake.info(more), Mode::Sql).unwrap_err();
        assert!(began.elapsed() < LATE, "{error}");
        fake.thread.join().unwrap();
        error
    }

    /// What `act` does with a connection to one that does `script` when it is asked something.
    fn asked<T>(script: impl Fn(&mut TcpStream) + Send + 'static, act: impl FnOnce(Client) -> Result<T>) -> Result<T> {
        let fake = Fake::start(1, move |_, stream| {
            greet(stream);
            frame(stream);
            script(stream);
        });
        let began = Instant::now();
        let mut client = Client::connect(&fake.info("&sslmode=disable"), Mode::Sql).unwrap();
        client.set_patience(Some(Duration::from_secs(2)));
        let result = act(client);
        assert!(began.elapsed() < LATE);
        fake.thread.join().unwrap();
        result
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).unwrap();
    let len = [len >> 24, len >> 16, len >> 8, len].map(|part| (part & 0xff) as u8);
    [&[tag], &len[..], body].concat()
}

fn say(stream: &mut TcpStream, bytes: &[u8]) {
    // The client may have left already.
    let _heard_or_not = stream.write_all(bytes);
}

/// Reads what begins a connection: a length and what follows.
fn startup(stream: &mut TcpStream) -> Vec<u8> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).unwrap();
    let len = len.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let mut body = vec![0; len - 4];
    stream.read_exact(&mut body).unwrap();
    body
}

/// Reads a message of the client, unless it leaves.
fn frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut tag = [0];
    stream.read_exact(&mut tag).ok()?;
    Some((tag[0], startup(stream)))
}

const READY: &[u8] = b"Z\0\0\0\x05I";
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0";

/// Lets anybody in.
fn greet(stream: &mut TcpStream) {
    startup(stream);
    say(stream, &[WELCOME, &message(b'K', &[0, 0, 0, 7, 0, 0, 0, 9]), READY].concat());
}

#[test]
fn those_who_do_not_speak_the_protocol() {
    let huge = [b'R', 0x7f, 0xff, 0xff, 0xff];
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "not of the protocol"),
        (b"".to_vec(), "closed the connection"),
        (b"R\0\0".to_vec(), "closed the connection"),
        (b"R\0\0\0\x08\0\0".to_vec(), "closed the connection"),
        (b"R\0\0\0\x03".to_vec(), "not of the protocol"),
        (b"R\xff\xff\xff\xff".to_vec(), "not of the protocol"),
        (huge.to_vec(), "at most 67108864 are taken"),
        (message(b'R', &[0, 0, 0]), "not of the protocol"),
        (message(b'R', &[0, 0, 0, 99]), "not of the protocol"),
        (message(b'R', &[0, 0, 0, 5, 1]), "not of the protocol"),
        (message(b'!', b"?"), "not of the protocol"),
        (message(b'E', b"no end"), "not of the protocol"),
        (message(b'E', b""), "not of the protocol"),
        (message(b'd', b"data"), "cannot come"),
        (message(b'W', b"\0\0\0"), "cannot come"),
        (READY.to_vec(), "cannot come"),
        ([WELCOME, WELCOME].concat(), "cannot come"),
        ([WELCOME, &message(b'K', &[0; 7])].concat(), "not of the protocol"),
        ([WELCOME, &message(b'S', b"name without value")].concat(), "not of the protocol"),
        ([WELCOME, &message(b'N', b"\xff")].concat(), "not of the protocol"),
        ([WELCOME, &message(b'T', &[0, 0])].concat(), "cannot come"),
    ];
    for (bytes, part) in cases {
        let shown = bytes.escape_ascii().to_string();
        let error = Fake::refused("&sslmode=disable", move |stream| {
            startup(stream);
            say(stream, &bytes);
        });
        assert!(error.to_string().contains(part), "{shown}: {error}");
        assert!(sqlstate(&error).is_none());
    }
}

#[test]
fn errors_before_the_login_are_reported() {
    let error = Fake::refused("&sslmode=disable", |stream| {
        startup(stream);
        say(stream, &message(b'E', b"SFATAL\0VFATAL\0C57P03\0Mstarting \xff up\0\0"));
    });
    assert_eq!((sqlstate(&error), error.is_retryable()), (Some("57P03"), true));
    assert!(error.to_string().contains("starting \u{fffd} up"), "{error}");
    // Not even an error that says nothing at all makes a difference.
    let error = Fake::refused("&sslmode=disable", |stream| {
        startup(stream);
        say(stream, &message(b'E', b"\0"));
    });
    assert_eq!(server_error(&error).map(|error| error.severity().len()), Some(0));
}

#[test]
fn those_who_never_come_to_an_end() {
    let notice = message(b'N', b"SNOTICE\0C00000\0Mon and on\0\0").repeat(1000);
    let parameter = |number: usize| message(b'S', format!("name{number}\0value\0").as_bytes());
    let parameters: Vec<u8> = (0..100_000).flat_map(parameter).collect();
    let scripts: [(&str, Script, &str); 5] = [
        ("1", Box::new(|stream| drop(startup(stream))), "does not answer"),
        ("1", Box::new(move |stream| while stream.write_all(&notice).is_ok() {}), "does not answer"),
        ("5", Box::new(move |stream| say(stream, &[WELCOME, &parameters].concat())), "more parameters"),
        (
            "1",
            Box::new(|stream| {
                let slowly = message(b'N', &[0; 1000]);
                for byte in slowly {
                    if stream.write_all(&[byte]).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }),
            "does not answer",
        ),
        (
            "5",
            Box::new(|stream| {
                startup(stream);
                say(stream, &[message(b'R', b"\0\0\0\x05salt"), message(b'R', b"\0\0\0\x05salt")].concat());
            }),
            "cannot come",
        ),
    ];
    for (number, (seconds, script, part)) in scripts.into_iter().enumerate() {
        let hold = seconds == "1";
        let fake = Fake::start(1, move |_, stream| {
            script(stream);
            if hold {
                let _until_it_leaves = stream.read(&mut [0; 4096]);
                let _until_it_leaves = stream.read(&mut [0; 4096]);
            }
        });
        let began = Instant::now();
        let way = format!("postgres://u:p@127.0.0.1:{}/d?sslmode=disable&connect_timeout={seconds}", fake.port);
        let error = Client::connect(&info(&way), Mode::Sql).unwrap_err();
        assert!(began.elapsed() < LATE, "{number}: {error}");
        assert!(error.to_string().contains(part), "{number}: {error}");
        fake.thread.join().unwrap();
    }
}

#[test]
fn those_who_want_the_password_in_clear_do_not_get_it() {
    let (tell, told) = std::sync::mpsc::channel();
    let error = Fake::refused("&sslmode=prefer", move |stream| {
        assert_eq!(startup(stream).len(), 4);
        say(stream, b"N");
        let mut heard = startup(stream);
        say(stream, b"R\0\0\0\x08\0\0\0\x03");
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut heard).unwrap();
        tell.send(heard).unwrap();
    });
    assert!(error.to_string().contains("in clear over the network"), "{error}");
    let heard = told.recv().unwrap();
    assert!(heard.starts_with(b"\0\x03\0\0user\0u\0"));
    assert!(!heard.windows(6).any(|window| window == b"sesame"));
}

#[test]
fn those_who_do_not_know_the_password_are_found_out() {
    let offer = |names: &[u8]| message(b'R', &[b"\0\0\0\x0a", names, b"\0"].concat());
    // What the server says to the first message of the client, in which its nonce is.
    let cases: [(Answers, &str); 6] = [
        (|_| vec![WELCOME.to_vec(), READY.to_vec()], "cannot come"),
        (|nonce| vec![challenge(&format!("r={nonce}x,s=c2FsdA==,i=4096")), WELCOME.to_vec()], "cannot come"),
        (
            |nonce| vec![challenge(&format!("r={nonce}x,s=c2FsdA==,i=4096")), verdict("v=AAAA")],
            "does not prove that it knows the password",
        ),
        (|nonce| vec![challenge(&format!("r={nonce}x,s=c2FsdA==,i=4000000000"))], "iteration count"),
        (|_| vec![challenge("r=other,s=c2FsdA==,i=4096")], "nonce"),
        (|nonce| vec![challenge(&format!("r={nonce}x,s=!,i=1,=\u{fffd}"))], "does not prove"),
    ];
    for (answers, part) in cases {
        let offer = offer(b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0");
        let error = Fake::refused("&sslmode=disable", move |stream| {
            startup(stream);
            say(stream, &offer);
            let (_, initial) = frame(stream).unwrap();
            let initial = String::from_utf8_lossy(&initial).into_owned();
            // Without encryption there is nothing to bind to.
            assert!(initial.starts_with("SCRAM-SHA-256\0") && initial.contains("n,,n=,r="), "{initial:?}");
            let nonce = initial.split("r=").nth(1).unwrap().to_owned();
            for answer in answers(&nonce) {
                say(stream, &answer);
                if frame(stream).is_none() {
                    break;
                }
            }
        });
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    for (names, part) in [(&b"SCRAM-SM3\0"[..], "SCRAM-SM3"), (b"", "by "), (b"SCRAM-SHA-256-PLUS\0", "PLUS")] {
        let offer = offer(names);
        let error = Fake::refused("&sslmode=disable", move |stream| {
            startup(stream);
            say(stream, &offer);
        });
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(part) && error.to_string().contains("scram-sha-256"), "{error}");
    }
}

fn challenge(text: &str) -> Vec<u8> {
    message(b'R', &[b"\0\0\0\x0b", text.as_bytes()].concat())
}

fn verdict(text: &str) -> Vec<u8> {
    message(b'R', &[b"\0\0\0\x0c", text.as_bytes()].concat())
}

#[test]
fn those_who_are_strange_about_encryption() {
    let cases: [(&[u8], &str); 5] = [
        (b"S", "TLS failed"),
        (b"SHTTP/1.1 400 Bad Request\r\n\r\n", "TLS failed"),
        (b"E", "no answer to the request for encryption"),
        (b"", "TLS failed"),
        (b"N", "does not offer encryption"),
    ];
    for (answer, part) in cases {
        let error = Fake::refused("&sslmode=require", move |stream| {
            startup(stream);
            say(stream, answer);
        });
        assert!(error.to_string().contains(part), "{error}");
    }
    // Silence in the middle of it costs what was allowed for everything.
    let error = Fake::refused("&sslmode=require&connect_timeout=1", |stream| {
        startup(stream);
        say(stream, b"S");
        while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
    });
    assert!(error.to_string().contains("no answer"), "{error}");
    // Whoever only prefers encryption tries without, and is not misled by what came before.
    let fake = Fake::start(2, |number, stream| match number {
        0 => {
            startup(stream);
            say(stream, &[b"S", WELCOME, READY].concat());
        }
        _ => greet(stream),
    });
    let client = Client::connect(&fake.info("&sslmode=prefer"), Mode::Sql).unwrap();
    assert!(!client.is_encrypted());
    drop(client);
    fake.thread.join().unwrap();
}

#[test]
fn those_who_only_start_up_are_passed_over() {
    let busy = Fake::start(1, |_, stream| {
        startup(stream);
        say(stream, &message(b'E', b"SFATAL\0VFATAL\0C57P03\0Mstarting up\0\0"));
    });
    let ready = Fake::start(1, |_, stream| greet(stream));
    let (busy_port, ready_port) = (busy.port, ready.port);
    let list = format!("postgres://u@127.0.0.1:{busy_port},127.0.0.1:{ready_port}/d?sslmode=disable");
    let client = Client::connect(&info(&list), Mode::Sql).unwrap();
    assert_eq!(client.process_id(), Some(7));
    drop(client);
    for fake in [busy, ready] {
        fake.thread.join().unwrap();
    }
}

#[test]
fn a_client_that_leaves_says_so() {
    let (tell, told) = std::sync::mpsc::channel();
    let fake = Fake::start(1, move |_, stream| {
        greet(stream);
        tell.send(frame(stream)).unwrap();
    });
    drop(Client::connect(&fake.info("&sslmode=disable"), Mode::Sql).unwrap());
    assert_eq!(told.recv().unwrap(), Some((b'X', Vec::new())));
    fake.thread.join().unwrap();
}

#[test]
fn answers_that_make_no_sense() {
    let description = message(b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
    let row = message(b'D', b"\0\x01\0\0\0\x01x");
    let done = message(b'C', b"SELECT 1\0");
    let fine = [&description[..], &row, &done, READY].concat();
    let rows = Fake::asked(move |stream| say(stream, &fine), |mut client| client.query("SELECT")).unwrap();
    assert_eq!(rows[0].get("a").unwrap(), "x");

    let cases: Vec<(Vec<u8>, &str)> = vec![
        (row.clone(), "cannot come"),
        ([&description[..], &message(b'D', b"\0\x02\0\0\0\x01x\xff\xff\xff\xff")].concat(), "2 values for 1 columns"),
        ([&description[..], &message(b'D', b"\0\x01\0\0\0\x09x")].concat(), "not of the protocol"),
        ([&description[..], &message(b'D', b"\0\x01\0\0\0\x01xy")].concat(), "not of the protocol"),
        (message(b'T', b"\xff\xff"), "not of the protocol"),
        (message(b'T', b"\0\x01a\0\0"), "not of the protocol"),
        (message(b'G', b"\0\0\0"), "cannot come"),
        (message(b'H', b"\0\0\0"), "cannot come"),
        (message(b'W', b"\0\0\0"), "cannot come"),
        (message(b'd', b"x"), "cannot come"),
        (WELCOME.to_vec(), "cannot come"),
        (b"d\x40\x00\x04\x05".to_vec(), "are taken"),
        (b"d\x40\x00\x04\x00".to_vec(), "closed the connection"),
        (message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0"), "FATAL 57P01: bye"),
    ];
    for (bytes, part) in cases {
        let shown = bytes.escape_ascii().to_string();
        let again = std::cell::Cell::new(String::new());
        let result = Fake::asked(
            move |stream| say(stream, &bytes),
            |mut client| {
                let result = client.query("SELECT");
                again.set(client.query("SELECT").unwrap_err().to_string());
                result
            },
        );
        let error = result.unwrap_err();
        assert!(error.to_string().contains(part), "{shown}: {error}");
        let again = again.take();
        assert!(again.contains("cannot be used any more") && again.contains(part), "{shown}: {again}");
    }
    // An answer without an end.
    let endless = |stream: &mut TcpStream| {
        let done = message(b'C', b"SELECT 1\0").repeat(1000);
        while stream.write_all(&done).is_ok() {}
    };
    let error = Fake::asked(endless, |mut client| client.query("SELECT")).unwrap_err();
    assert!(error.to_string().contains("does not answer"), "{error}");
}

#[test]
fn streams_that_make_no_sense() {
    let both = message(b'W', b"\0\0\0");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (message(b'd', b"w too short"), "neither redo nor"),
        (message(b'd', b""), "neither redo nor"),
        (message(b'd', b"k too long to be one"), "neither redo nor"),
        (both.clone(), "cannot come"),
        (message(b'T', b"\0\0"), "cannot come"),
        (READY.to_vec(), "cannot come"),
        ([message(b'c', b""), message(b'd', b"")].concat(), "cannot come"),
        ([message(b'c', b""), message(b'T', b"\0\0"), message(b'D', b"\0\0"), READY.to_vec()].concat(), "no timeline"),
        (message(b'c', b""), "closed the connection"),
    ];
    for (bytes, part) in cases {
        let shown = bytes.escape_ascii().to_string();
        let bytes = [&both[..], &bytes].concat();
        let error = Fake::asked(
            move |stream| say(stream, &bytes),
            |client| {
                let mut stream = client.copy_both("START_REPLICATION 0/0")?;
                let error = stream.next(Duration::from_secs(5)).unwrap_err();
                assert!(stream.next(Duration::from_secs(5)).is_err());
                assert!(stream.finish().is_err());
                Err::<(), _>(error)
            },
        );
        let error = error.unwrap_err();
        assert!(error.to_string().contains(part), "{shown}: {error}");
    }
}

/// A message with a letter that exists and a body that may be anything.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let letters = proptest::sample::select(b"123ACDEGHIKNRSTVWZcdnstv".to_vec());
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(b'S'), Just(b'w'), Just(0xff)], 0..30),
    ];
    let whole = (letters, body).prop_map(|(letter, body)| message(letter, &body));
    let known = proptest::sample::select(vec![
        message(b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"),
        message(b'D', b"\0\x01\0\0\0\x01x"),
        message(b'C', b"x\0"),
        message(b'W', b"\0\0\0"),
        message(b'H', b"\0\0\0"),
        message(b'd', b"data"),
        message(b'c', b""),
        message(b'E', b"SERROR\0CXX000\0Mno\0\0"),
        READY.to_vec(),
    ]);
    prop_oneof![2 => known, 1 => whole, 1 => proptest::collection::vec(any::<u8>(), 0..20)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever a server says, all that can happen is an error.
    #[test]
    fn whatever_it_says(messages in proptest::collection::vec(anything(), 0..12), way in 0..4) {
        let said = messages.concat();
        let script = move |stream: &mut TcpStream| say(stream, &said);
        let _either = Fake::asked(script, |mut client| {
            client.set_patience(Some(Duration::from_millis(500)));
            match way {
                0 => client.query("SELECT").map(drop),
                1 => {
                    let mut out = client.copy_out("BASE_BACKUP")?;
                    while out.next()?.is_some() {}
                    out.finish().map(drop)
                }
                2 => {
                    let mut both = client.copy_both("START_REPLICATION 0/0")?;
                    for _ in 0..20 {
                        both.next(Duration::from_millis(10))?;
                    }
                    both.finish().map(drop)
                }
                _ => client.copy_both("START_REPLICATION 0/0")?.finish().map(drop),
            }
        });
    }

    /// The same before and during the login.
    #[test]
    fn whatever_it_says_at_the_door(messages in proptest::collection::vec(anything(), 0..6), welcome: bool) {
        let said = [if welcome { WELCOME } else { b"" }, &messages.concat()].concat();
        let fake = Fake::start(1, move |_, stream| {
            startup(stream);
            say(stream, &said);
        });
        let _either = Client::connect(&fake.info("&sslmode=disable&connect_timeout=1"), Mode::Sql).map(drop);
        fake.thread.join().unwrap();
    }
}
