//! The ways to log in, without encryption.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use setpiece_core::{ErrorKind, Result};
use setpiece_source_postgres::client::{Client, ConnectInfo, Mode, sqlstate};

use crate::server::{Server, value};

const HBA: &str = "
host all trusted 127.0.0.1/32 trust
host all hashed 127.0.0.1/32 md5
host all salted 127.0.0.1/32 scram-sha-256
host replication salted 127.0.0.1/32 scram-sha-256
host all clear 127.0.0.1/32 password
local all clear password
host all ident 127.0.0.1/32 ident
";

fn log_in(info: &ConnectInfo) -> Result<String> {
    let mut client = Client::connect(info, Mode::Sql)?;
    let user = value(&mut client, "SELECT current_user || ' ' || current_setting('application_name')");
    assert!(!client.is_encrypted());
    Ok(user)
}

fn with(mut info: ConnectInfo, name: &str, value: &str) -> ConnectInfo {
    info.set(name, value).unwrap();
    info
}

#[test]
fn every_method() {
    let server = Server::start(HBA, "");
    let mut admin = server.admin();
    admin.execute("CREATE ROLE trusted LOGIN").unwrap();
    admin.execute("SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD 'sésame'").unwrap();
    admin.execute("SET password_encryption = 'scram-sha-256'").unwrap();
    admin
        .execute("CREATE ROLE salted LOGIN REPLICATION PASSWORD 'sésame'; CREATE ROLE clear LOGIN PASSWORD 'sésame'")
        .unwrap();
    admin.execute("CREATE ROLE ident LOGIN").unwrap();

    assert_eq!(log_in(&server.tcp("trusted", "&application_name=mine")).unwrap(), "trusted mine");
    assert_eq!(log_in(&server.unix("postgres", "")).unwrap(), "postgres setpiece");
    for user in ["hashed", "salted"] {
        let right = with(server.tcp(user, ""), "password", "sésame");
        assert_eq!(log_in(&right).unwrap(), format!("{user} setpiece"));
        let error = log_in(&with(server.tcp(user, ""), "password", "Sésame")).unwrap_err();
        assert_eq!((sqlstate(&error), error.is_retryable()), (Some("28P01"), false), "{error}");
        assert!(!format!("{error} {error:?}").contains("Sésame"));
        let error = log_in(&server.tcp(user, "")).unwrap_err();
        assert!(error.to_string().contains("wants a password"), "{error}");
    }
    // In clear only where nobody listens.
    assert_eq!(log_in(&with(server.unix("clear", ""), "password", "sésame")).unwrap(), "clear setpiece");
    let error = log_in(&with(server.tcp("clear", ""), "password", "sésame")).unwrap_err();
    assert!(error.to_string().contains("in clear over the network"), "{error}");
    // Rules of the server that refuse.
    for user in ["stranger", "ident"] {
        assert_eq!(sqlstate(&log_in(&server.tcp(user, "")).unwrap_err()), Some("28000"));
    }
    let error = Client::connect(&with(server.unix("postgres", ""), "dbname", "none"), Mode::Sql).unwrap_err();
    assert_eq!(sqlstate(&error), Some("3D000"));
    // Nobody to encrypt with.
    let error = log_in(&server.tcp("trusted", "&sslmode=require")).unwrap_err();
    assert!(error.to_string().contains("does not offer encryption"), "{error}");
    log_in(&server.unix("postgres", "&sslmode=verify-full")).unwrap();

    passwords_from_a_file(&server);
}

fn passwords_from_a_file(server: &Server) {
    let file = server.path("passwords");
    let port = server.port;
    let lines = format!(
        "127.0.0.1:1:postgres:salted:wrong\n127.0.0.1:{port}:replication:salted:sésame\n127.0.0.1:*:postgres:salted:sésame\n"
    );
    fs::write(&file, lines).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let path = file.display().to_string();
    let info = with(server.tcp("salted", ""), "passfile", &path);
    log_in(&info).unwrap();
    let mut walsender = Client::connect(&with(info.clone(), "dbname", "template1"), Mode::PhysicalReplication).unwrap();
    assert!(value(&mut walsender, "IDENTIFY_SYSTEM").parse::<u64>().is_ok());
    let error = Client::connect(&with(info.clone(), "dbname", "template1"), Mode::Sql).unwrap_err();
    assert!(error.to_string().contains("none is given"), "{error}");
    // A password in the URI comes before the file.
    assert_eq!(sqlstate(&log_in(&with(info.clone(), "password", "x")).unwrap_err()), Some("28P01"));
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let error = log_in(&info).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(&path), "{error}");
}
