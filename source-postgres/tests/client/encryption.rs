//! Encryption: when there is some, what certificates prove, and logins that are bound to them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use setpiece_core::{Error, ErrorKind, Result};
use setpiece_source_postgres::client::{Client, CopyData, Mode, sqlstate};

use crate::server::{Server, info, value};

const HBA: &str = "
host all anyone 127.0.0.1/32 trust
hostssl all secure 127.0.0.1/32 trust
hostssl replication secure 127.0.0.1/32 trust
hostnossl all plain 127.0.0.1/32 trust
hostssl all salted 127.0.0.1/32 scram-sha-256
hostssl all clear 127.0.0.1/32 password
hostssl all certified 127.0.0.1/32 cert
";
const SETTINGS: &str = "
ssl = on
ssl_cert_file = '../server.crt'
ssl_key_file = '../server.key'
ssl_ca_file = '../ca.crt'
password_encryption = 'scram-sha-256'
";

/// A server that encrypts, and in its directory the certificates of `ca`, `other` (an authority that it does not know),
/// `server` (for `localhost`, signed by `ca`) and `certified` (a client's, signed by `ca`).
fn start() -> Server {
    let files = tempfile::tempdir().unwrap();
    let at = |name: &str| files.path().join(name);
    authority(&at("ca"), "CN=ca", &["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    authority(&at("other"), "CN=other", &["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    signed(&at("server"), &at("ca"), "CN=server", "subjectAltName=DNS:localhost");
    signed(&at("certified"), &at("ca"), "CN=certified", "extendedKeyUsage=clientAuth");
    // The server starts without encryption: only then there is a place for its files.
    let mut server = Server::start(HBA, "");
    for name in ["ca.crt", "other.crt", "server.crt", "server.key", "certified.crt", "certified.key"] {
        server.write(name, &std::fs::read_to_string(at(name)).unwrap());
    }
    private(&server, "server.key");
    private(&server, "certified.key");
    let mut settings = std::fs::read_to_string(server.path("data/postgresql.auto.conf")).unwrap();
    settings.push_str(SETTINGS);
    server.write("data/postgresql.auto.conf", &settings);
    server.stop(rustix::process::Signal::INT);
    server.run();
    let mut admin = server.admin();
    for role in ["anyone", "secure", "plain", "certified", "salted", "clear"] {
        admin.execute(&format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'sesame'")).unwrap();
    }
    server
}

fn private(server: &Server, name: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(server.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn openssl(arguments: &[&str]) {
    let made = Command::new("openssl").args(arguments).output().expect("openssl is needed: apt-get install openssl");
    assert!(made.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
}

/// A certificate that signs itself, as `name.crt` with `name.key`.
fn authority(name: &Path, subject: &str, key: &[&str]) {
    let (certificate, secret) = (name.with_extension("crt"), name.with_extension("key"));
    let paths = ["-keyout", secret.to_str().unwrap(), "-out", certificate.to_str().unwrap()];
    let subject = format!("/{subject}");
    let named = "subjectAltName=DNS:localhost";
    let request = ["req", "-x509", "-nodes", "-days", "2", "-subj", &subject, "-addext", named, "-newkey"];
    openssl(&[&request, key, &paths].concat());
}

/// A certificate that `ca` signs, of X.509 version 3 if it has an extension, otherwise of version 1.
fn signed(name: &Path, ca: &Path, subject: &str, extension: &str) {
    let path = |of: &Path, kind: &str| of.with_extension(kind).to_str().unwrap().to_owned();
    let (key, request, certificate) = (path(name, "key"), path(name, "csr"), path(name, "crt"));
    let subject = format!("/{subject}");
    let made = ["req", "-nodes", "-newkey", "rsa:2048", "-subj", &subject, "-keyout", &key, "-out", &request];
    openssl(&made);
    let (ca_certificate, ca_key, extensions) = (path(ca, "crt"), path(ca, "key"), path(name, "ext"));
    std::fs::write(&extensions, extension).unwrap();
    let by = ["-CA", &ca_certificate, "-CAkey", &ca_key, "-CAcreateserial", "-out", &certificate, "-in", &request];
    let with: &[&str] = if extension.is_empty() { &[] } else { &["-extfile", &extensions] };
    openssl(&[&["x509", "-req", "-days", "2"][..], &by, with].concat());
}

/// How the user connects, as the server sees it: encrypted or not, and by which certificate.
fn see(server: &Server, user: &str, host: &str, parameters: &str) -> Result<(bool, Option<String>)> {
    let files = server.path("").display().to_string();
    let text = format!("postgres://{user}@{host}:{}/postgres?{}", server.port, parameters.replace("DIR/", &files));
    let mut client = Client::connect(&info(&text), Mode::Sql)?;
    let row = &client.query("SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()")?[0];
    let encrypted = row.get("ssl")? == "t";
    assert_eq!(encrypted, client.is_encrypted());
    Ok((encrypted, row.optional("client_dn")?.map(str::to_owned)))
}

#[test]
fn every_mode() {
    let server = start();
    let encrypted =
        |user: &str, host: &str, parameters: &str| see(&server, user, host, parameters).map(|(encrypted, _)| encrypted);
    let cases = [
        ("anyone", "disable", Ok(false)),
        ("anyone", "allow", Ok(false)),
        ("anyone", "prefer", Ok(true)),
        ("anyone", "require", Ok(true)),
        ("secure", "disable", Err(Some("28000"))),
        ("secure", "allow", Ok(true)),
        ("secure", "prefer", Ok(true)),
        ("plain", "allow", Ok(false)),
        ("plain", "prefer", Ok(false)),
        ("plain", "require", Err(Some("28000"))),
        ("nobody", "prefer", Err(Some("28000"))),
    ];
    for (user, mode, expected) in cases {
        let seen = encrypted(user, "127.0.0.1", &format!("sslmode={mode}"));
        assert_eq!(seen.as_ref().copied().map_err(sqlstate), expected, "{user} {mode}: {seen:?}");
    }
    let refused = |user: &str, host: &str, parameters: &str, part: &str| {
        let error: Error = encrypted(user, host, parameters).unwrap_err();
        assert!(error.to_string().contains(part), "{user} {host} {parameters}: {error}");
    };
    assert!(encrypted("anyone", "127.0.0.1", "sslmode=verify-ca&sslrootcert=DIR/ca.crt").unwrap());
    assert!(encrypted("anyone", "localhost", "sslmode=verify-full&sslrootcert=DIR/ca.crt").unwrap());
    refused("anyone", "127.0.0.1", "sslmode=verify-full&sslrootcert=DIR/ca.crt", "subjectAltName");
    for mode in ["require", "verify-ca", "verify-full"] {
        refused("anyone", "localhost", &format!("sslmode={mode}&sslrootcert=DIR/other.crt"), "signed the server's");
    }
    // What only prefers encryption goes on without.
    assert!(!encrypted("anyone", "127.0.0.1", "sslmode=prefer&sslrootcert=DIR/other.crt").unwrap());
    refused("secure", "127.0.0.1", "sslmode=prefer&sslrootcert=DIR/other.crt", "after a try encrypted that failed");
    refused("secure", "127.0.0.1", "sslmode=prefer&sslrootcert=DIR/other.crt", "no pg_hba.conf entry");
}

#[test]
fn certificates_of_all_kinds() {
    let server = start();
    let mut admin = server.admin();
    let mut use_certificate = |make: &dyn Fn(&Path)| {
        let files = tempfile::tempdir().unwrap();
        make(&files.path().join("server"));
        for name in ["server.crt", "server.key"] {
            server.write(name, &std::fs::read_to_string(files.path().join(name)).unwrap());
        }
        private(&server, "server.key");
        admin.execute("SELECT pg_reload_conf()").unwrap();
        // Until new connections get it.
        std::thread::sleep(Duration::from_millis(500));
    };
    let salted = "password=sesame&sslmode=verify-full&sslrootcert=DIR/server.crt";
    let keys: [&[&str]; 4] = [
        &["rsa:2048", "-sha512"],
        &["ec", "-pkeyopt", "ec_paramgen_curve:secp384r1", "-sha384"],
        // Logins cannot be bound to these two.
        &["ed25519"],
        &["rsa:2048", "-sigopt", "rsa_padding_mode:pss"],
    ];
    for key in keys {
        use_certificate(&|name| authority(name, "CN=server", key));
        // Such a certificate says that it is no server's, and is trusted all the same where it is named itself.
        assert!(see(&server, "salted", "localhost", salted).unwrap().0, "{key:?}");
        let error = see(&server, "salted", "127.0.0.1", salted).unwrap_err();
        assert!(error.to_string().contains("subjectAltName"), "{error}");
    }
    assert_eq!(see(&server, "clear", "127.0.0.1", "password=sesame&sslmode=require").unwrap(), (true, None));
    // One that no library of today takes.
    use_certificate(&|name| {
        authority(&name.with_file_name("old"), "CN=old", &["rsa:2048"]);
        signed(name, &name.with_file_name("old"), "CN=localhost", "");
    });
    let error = see(&server, "anyone", "localhost", "sslmode=require").unwrap_err();
    assert!(error.to_string().contains("X.509 version 3"), "{error}");
}

#[test]
fn a_client_with_a_certificate() {
    let server = start();
    let own = "sslmode=verify-full&sslrootcert=DIR/ca.crt&sslcert=DIR/certified.crt&sslkey=DIR/certified.key";
    assert_eq!(see(&server, "certified", "localhost", own).unwrap(), (true, Some("/CN=certified".into())));
    assert_eq!(sqlstate(&see(&server, "certified", "localhost", "sslmode=require").unwrap_err()), Some("28000"));
    let swapped = own.replace("certified.key", "server.key");
    assert_eq!(see(&server, "certified", "localhost", &swapped).unwrap_err().kind(), ErrorKind::Usage);
    std::os::unix::fs::symlink(server.path("ca.crt"), server.path("open.key")).unwrap();
    let open = own.replace("certified.key", "open.key");
    let error = see(&server, "certified", "localhost", &open).unwrap_err();
    assert!(error.to_string().contains("read by others"), "{error}");
}

#[test]
fn everything_works_encrypted() {
    let server = start();
    let way = server.tcp("secure", "&sslmode=require");
    let mut client = Client::connect(&way, Mode::Sql).unwrap();
    assert_eq!(value(&mut client, "SELECT repeat('x', 5000000)").len(), 5_000_000);
    let long = format!("SELECT length('{}')", "y".repeat(3_000_000));
    assert_eq!(value(&mut client, &long), "3000000");

    let handle = client.cancel_handle();
    assert!(format!("{handle:?}").contains("Always"));
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        handle.cancel().unwrap();
    });
    assert_eq!(sqlstate(&client.query("SELECT pg_sleep(60)").unwrap_err()), Some("57014"));
    canceller.join().unwrap();

    let mut walsender = Client::connect(&way, Mode::PhysicalReplication).unwrap();
    let position = walsender.query("IDENTIFY_SYSTEM").unwrap()[0].get("xlogpos").unwrap().to_owned();
    let mut stream = walsender.copy_both(&format!("START_REPLICATION {position}")).unwrap();
    server.admin().execute("CREATE TABLE public.t AS SELECT generate_series(1, 100000)").unwrap();
    let (began, mut bytes) = (Instant::now(), 0);
    while bytes < 5_000_000 {
        assert!(began.elapsed() < Duration::from_secs(30));
        if let Some(CopyData::XLogData { bytes: more, .. }) = stream.next(Duration::from_millis(50)).unwrap() {
            bytes += more.len();
        }
    }
    assert!(stream.finish().unwrap().is_encrypted());
}

/// Somebody in between, with a certificate of his own, who passes on what both sides say.
struct Between {
    port: u16,
    thread: std::thread::JoinHandle<()>,
}

impl Between {
    /// Passes one connection on to `server`. What the server says goes through `change`.
    fn start(server: &Server, change: fn(&mut Vec<u8>)) -> Between {
        let files = tempfile::tempdir().unwrap();
        let own = files.path().join("own");
        authority(&own, "CN=between", &["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        let certificate = CertificateDer::from_pem_file(own.with_extension("crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(own.with_extension("key")).unwrap();
        let config = ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(server.path("ca.crt")).unwrap()).unwrap();
        let to = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (listener, upstream) = (TcpListener::bind("127.0.0.1:0").unwrap(), server.port);
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", upstream)).unwrap();
            let mut request = [0; 8];
            client.read_exact(&mut request).unwrap();
            server.write_all(&request).unwrap();
            server.read_exact(&mut request[..1]).unwrap();
            client.write_all(&request[..1]).unwrap();
            for socket in [&client, &server] {
                socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            }
            let name = ServerName::try_from("localhost").unwrap();
            let client = StreamOwned::new(ServerConnection::new(config.into()).unwrap(), client);
            let server = StreamOwned::new(ClientConnection::new(Arc::new(to), name).unwrap(), server);
            pass_on(client, server, change);
        });
        Between { port, thread }
    }
}

fn pass_on(mut client: impl Read + Write, mut server: impl Read + Write, change: fn(&mut Vec<u8>)) {
    let began = Instant::now();
    let mut buffer = vec![0; 65536];
    while began.elapsed() < Duration::from_secs(20) {
        match client.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => server.write_all(&buffer[..count]).unwrap(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        match server.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                let mut said = buffer[..count].to_vec();
                change(&mut said);
                client.write_all(&said).unwrap();
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Takes away the offer to bind the login to the certificate.
fn without_binding(said: &mut Vec<u8>) {
    const SHORT: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
    let plus = b"SCRAM-SHA-256-PLUS\0";
    if said.first() == Some(&b'R') && said.windows(plus.len()).any(|window| window == plus) {
        *said = SHORT.to_vec();
    }
}

#[test]
fn somebody_in_between_gets_no_login() {
    let server = start();
    let through = |change, user: &str| {
        let between = Between::start(&server, change);
        let text = format!("postgres://{user}:sesame@127.0.0.1:{}/postgres?sslmode=require", between.port);
        let client = Client::connect(&info(&text), Mode::Sql).map(drop);
        between.thread.join().unwrap();
        client
    };
    // Whoever verifies nothing talks to anybody. A login that is bound to a certificate is worth nothing elsewhere.
    through(|_| {}, "anyone").unwrap();
    let error = through(|_| {}, "salted").unwrap_err();
    assert!(error.to_string().contains("channel binding"), "{error}");
    let error = through(without_binding, "salted").unwrap_err();
    assert!(error.to_string().contains("channel binding"), "{error}");
    // Directly it works.
    assert!(see(&server, "salted", "127.0.0.1", "password=sesame&sslmode=require").unwrap().0);
    assert_eq!(
        sqlstate(&see(&server, "salted", "127.0.0.1", "password=x&sslmode=require").unwrap_err()),
        Some("28P01")
    );
}
