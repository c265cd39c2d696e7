//! A host that can write backups and not read them: `cargo run --example 05_encrypted_write_only`.
//!
//! The repository is encrypted to a public key. The host knows that one only; whoever breaks into it finds nothing that
//! opens a set. The private key stays elsewhere and is needed for restores.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use setpiece::backup::BackupOptions;
use setpiece::restore::RestoreRequest;
use setpiece::transform::{Identity, Secret, SlotRequest};
use setpiece::{ErrorKind, Setpiece, source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let app = rusqlite::Connection::open(dir.path().join("app.db"))?;
    app.execute_batch(
        "PRAGMA journal_mode = wal; CREATE TABLE secrets (x); INSERT INTO secrets VALUES ('swordfish');",
    )?;
    let repository = format!("disk:{}/repo", dir.path().display());

    // In a safe place: a pair of keys. The public one makes the repository.
    let identity = Identity::generate()?;
    let recipient = identity.recipient();
    println!("public key: {recipient}");
    Setpiece::init(&repository, &[SlotRequest::Recipient { label: "safe".into(), recipient }])?;

    // On the host: no secret at all. It insists on the public key that it was given, since without a secret it cannot
    // prove that nobody put another one there.
    let host = Setpiece::open(&repository, &[])?.trusting(&[recipient])?;
    let source = source::open(&format!("sqlite:{}/app.db", dir.path().display()))?;
    host.backup(&*source, &BackupOptions::default())?;
    let refused = host.restore(&RestoreRequest::default(), &dir.path().join("stolen"));
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Key));
    assert!(!dir.path().join("stolen").exists());

    // Somebody with another key gets nowhere either.
    let stranger = Setpiece::open(&repository, &[Secret::Identity(Identity::generate()?)]);
    assert_eq!(stranger.err().map(|error| error.kind()), Some(ErrorKind::Key));

    // In the safe place again: the private key brings the database back.
    let safe = Setpiece::open(&repository, &[Secret::Identity(identity)])?;
    safe.restore(&RestoreRequest::default(), &dir.path().join("back"))?;
    let back = rusqlite::Connection::open(dir.path().join("back/app.db"))?;
    let word: String = back.query_row("SELECT x FROM secrets", [], |row| row.get(0))?;
    assert_eq!(word, "swordfish");
    println!("the private key read it: {word}");
    Ok(())
}
