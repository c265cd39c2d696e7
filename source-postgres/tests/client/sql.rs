//! Statements and their answers, and what ends a connection.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use setpiece_core::ErrorKind;
use setpiece_source_postgres::client::{
    Client, CopyOutItem, Mode, quote_identifier, quote_literal, server_error, sqlstate,
};

use crate::server::{Server, info, pid, until, value};

const LATE: Duration = Duration::from_secs(20);

fn number(client: &Client) -> u32 {
    client.process_id().unwrap().try_into().unwrap()
}

#[test]
fn statements_and_their_answers() {
    let server = Server::start("", "");
    let mut client = server.admin();
    assert!(client.parameter("server_version").is_some_and(|version| version.contains('.')), "{client:?}");
    assert_eq!((client.parameter("client_encoding"), client.parameter("no_such")), (Some("UTF8"), None));

    let rows =
        client.query("SELECT i AS number, NULL AS nothing, 'ä' || i AS text FROM generate_series(1, 3) i").unwrap();
    let texts: Vec<_> = rows.iter().map(|row| (row.get("number").unwrap(), row.get(2).unwrap())).collect();
    assert_eq!(texts, [("1", "ä1"), ("2", "ä2"), ("3", "ä3")]);
    assert!(rows.iter().all(|row| row.optional("nothing").unwrap().is_none()));

    // Of several statements the last with rows counts, of none there are none.
    assert_eq!(value(&mut client, "SELECT 1; SELECT 2; SET work_mem = '1MB'"), "2");
    assert!(client.query("").unwrap().is_empty());
    assert!(client.query("SELECT 1; SELECT 2 WHERE false").unwrap().is_empty());

    // Names of schemas are needed, so that nobody can put his own functions in the way.
    client.execute("CREATE SCHEMA trap; CREATE FUNCTION public.trap() RETURNS int LANGUAGE sql AS 'SELECT 1'").unwrap();
    assert_eq!(sqlstate(&client.query("SELECT trap()").unwrap_err()), Some("42883"));

    let odd = "a'b\\c\"d";
    let sql = format!("SELECT {} AS {}", quote_literal(odd), quote_identifier(odd));
    assert_eq!(client.query(&sql).unwrap()[0].get(odd).unwrap(), odd);
    let large = value(&mut client, "SELECT repeat('x', 20000000)");
    assert_eq!(large.len(), 20_000_000);
}

#[test]
fn errors_of_the_server() {
    let server = Server::start("", "");
    let mut client = server.admin();
    let raise =
        "DO $$ BEGIN RAISE EXCEPTION 'broken' USING DETAIL = 'to pieces', HINT = 'glue', ERRCODE = 'ZZ123'; END $$";
    let error = client.execute(raise).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("ERROR ZZ123: broken; detail: to pieces; hint: glue"), "{text}");
    assert!(text.contains(".s.PGSQL"), "{text}");
    assert_eq!((error.kind(), error.is_retryable(), sqlstate(&error)), (ErrorKind::Source, false, Some("ZZ123")));
    assert_eq!(server_error(&error).unwrap().severity(), "ERROR");

    // One bad statement of several, and the connection is as good as before.
    assert_eq!(sqlstate(&client.query("SELECT 1; SELECT 1/0; SELECT 2").unwrap_err()), Some("22012"));
    assert_eq!(client.query("SELECT \0").unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(value(&mut client, "SELECT 'fine'"), "fine");

    // A copy is no answer to a query.
    assert!(client.query("COPY (SELECT 1) TO STDOUT").is_err());
    assert!(client.query("SELECT 1").unwrap_err().to_string().contains("cannot be used any more"));
    let mut client = server.admin();
    assert!(client.query("COPY pg_catalog.pg_class FROM STDIN").is_err());
    assert!(client.query("SELECT 1").is_err());
}

#[test]
fn copies_out() {
    let server = Server::start("", "");
    let copy = "SELECT 1 AS a; COPY (SELECT i FROM generate_series(1, 5) i) TO STDOUT; SELECT 2 AS b";
    let mut out = server.admin().copy_out(copy).unwrap();
    let mut seen = Vec::new();
    while let Some(item) = out.next().unwrap() {
        seen.push(match item {
            CopyOutItem::Rows(rows) => format!("{}={}", rows[0].columns()[0], rows[0].get(0).unwrap()),
            CopyOutItem::Begin => "begin".into(),
            CopyOutItem::Data(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            CopyOutItem::End => "end".into(),
        });
    }
    assert_eq!(seen, ["a=1", "begin", "1\n", "2\n", "3\n", "4\n", "5\n", "end", "b=2"]);
    assert!(out.next().unwrap().is_none());
    assert_eq!(value(&mut out.finish().unwrap(), "SELECT 3"), "3");

    for command in ["COPY (SELECT 1/(i - 3) FROM generate_series(1, 5) i) TO STDOUT", "SELECT 1; SELECT 1/0"] {
        let mut out = server.admin().copy_out(command).unwrap();
        let error = loop {
            match out.next() {
                Ok(item) => assert!(item.is_some()),
                Err(error) => break error,
            }
        };
        assert_eq!(sqlstate(&error), Some("22012"));
        assert!(out.next().is_err());
        assert!(out.finish().is_err());
    }
    let unread = server.admin().copy_out("COPY (SELECT 1) TO STDOUT").unwrap();
    assert_eq!(unread.finish().unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn a_server_that_is_killed_is_noticed() {
    let server = Server::start("", "");
    for signal in [Signal::KILL, Signal::TERM] {
        let mut client = server.admin();
        let victim = number(&client);
        let began = Instant::now();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            kill_process(pid(victim), signal).unwrap();
        });
        let error = client.query("SELECT pg_sleep(60)").unwrap_err();
        killer.join().unwrap();
        assert!(began.elapsed() < LATE);
        // Whoever is killed by -9 says nothing; whoever is asked to go says so.
        assert_eq!(sqlstate(&error), (signal == Signal::TERM).then_some("57P01"), "{error}");
        assert!(error.is_retryable(), "{error}");
        let again = client.query("SELECT 1").unwrap_err();
        assert!(again.to_string().contains("cannot be used any more"), "{again}");
        until_up(&server);
    }
    // Between two statements: what the server said last is still found.
    let mut client = server.admin();
    let victim = number(&client);
    kill_process(pid(victim), Signal::TERM).unwrap();
    until(&mut server.admin(), &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {victim}"));
    assert_eq!(sqlstate(&client.query("SELECT 1").unwrap_err()), Some("57P01"));
}

fn until_up(server: &Server) {
    let began = Instant::now();
    while let Err(error) = Client::connect(&server.unix("postgres", ""), Mode::Sql) {
        assert!(error.is_retryable() && began.elapsed() < LATE, "{error}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_that_stops_answering_is_noticed() {
    let server = Server::start("", "");
    let mut client = server.admin();
    let victim = pid(number(&client));
    client.set_patience(Some(Duration::from_millis(500)));
    let began = Instant::now();
    kill_process(victim, Signal::STOP).unwrap();
    let error = client.query("SELECT 1").unwrap_err();
    kill_process(victim, Signal::CONT).unwrap();
    assert!(began.elapsed() < LATE);
    assert!(error.to_string().contains("does not answer"), "{error}");
    // The answer that comes after all must not be taken for that to another question.
    assert!(client.query("SELECT 2").is_err());
    client = server.admin();
    client.set_patience(None);
    assert_eq!(value(&mut client, "SELECT 'patient' FROM pg_sleep(0.1)"), "patient");
}

#[test]
fn a_statement_is_interrupted_from_elsewhere() {
    let server = Server::start("host all postgres 127.0.0.1/32 trust", "");
    for way in [server.unix("postgres", ""), server.tcp("postgres", "")] {
        let mut client = Client::connect(&way, Mode::Sql).unwrap();
        let handle = client.cancel_handle();
        assert!(!format!("{handle:?}").contains("encryption: Always"));
        let began = Instant::now();
        let canceller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            handle.cancel().unwrap();
        });
        let error = client.query("SELECT pg_sleep(60)").unwrap_err();
        canceller.join().unwrap();
        assert!(began.elapsed() < LATE);
        assert_eq!(sqlstate(&error), Some("57014"));
        assert_eq!(value(&mut client, "SELECT 'on'"), "on");
    }
}

#[test]
fn the_first_server_that_answers_is_taken() {
    let server = Server::start("host all postgres 127.0.0.1/32 trust", "");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = server.port;
    let list = format!("postgres://postgres@127.0.0.1:{closed},[::1]:{closed},%2Fnowhere,127.0.0.1:{port}/postgres");
    Client::connect(&info(&list), Mode::Sql).unwrap();
    let none = format!("postgres://postgres@127.0.0.1:{closed},%2Fnowhere/postgres");
    let error = Client::connect(&info(&none), Mode::Sql).unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("/nowhere/.s.PGSQL.5432"), "{error}");
    // A refusal is an answer.
    let refusing = format!("postgres://stranger@127.0.0.1:{port},127.0.0.1:{closed}/postgres");
    assert_eq!(sqlstate(&Client::connect(&info(&refusing), Mode::Sql).unwrap_err()), Some("28000"));
    // Its relative's scheme finds it on a socket by the older name.
    let directory = server.path("").display().to_string();
    let kingbase = format!("kingbase://postgres@:{port}/postgres?host={}", directory.trim_end_matches('/'));
    Client::connect(&info(&kingbase), Mode::Sql).unwrap();
    let unnamed = Client::connect(&info("postgres://127.0.0.1/postgres"), Mode::Sql).unwrap_err();
    assert_eq!(unnamed.kind(), ErrorKind::Usage);
}

/// Takes down what is reported to the log.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Listener {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = event.metadata().level().to_string();
        event.record(&mut |_: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            text.push_str(&format!(" {value:?}"))
        });
        self.0.lock().unwrap().push(text);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn notices_go_to_the_log() {
    let server = Server::start("", "");
    let mut client = server.admin();
    let listener = Listener::default();
    tracing::subscriber::with_default(listener.clone(), || {
        client.execute("DO $$ BEGIN RAISE WARNING 'beware'; RAISE NOTICE 'by the way'; END $$").unwrap();
    });
    let heard = listener.0.lock().unwrap().join("\n");
    assert!(heard.contains("WARN") && heard.contains("WARNING 01000: beware"), "{heard}");
    assert!(heard.contains("INFO") && heard.contains("NOTICE 00000: by the way"), "{heard}");
}
