//! A database backed up while it is open, and brought back: `cargo run --example 01_backup_and_restore`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use setpiece::backup::BackupOptions;
use setpiece::restore::RestoreRequest;
use setpiece::transform::{KeyFile, Secret, SlotRequest};
use setpiece::{Setpiece, source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let app = rusqlite::Connection::open(dir.path().join("app.db"))?;
    app.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE notes (text); INSERT INTO notes VALUES ('hello');")?;

    // A repository, encrypted with a key that the program keeps.
    let key = KeyFile::generate()?;
    let slot = SlotRequest::KeyFile { label: "my key".into(), key: key.clone() };
    let repository = format!("disk:{}/repo", dir.path().display());
    let setpiece = Setpiece::init(&repository, &[slot])?;

    // The database stays open, and may be written to.
    let source = source::open(&format!("sqlite:{}/app.db", dir.path().display()))?;
    let report = setpiece.backup(&*source, &BackupOptions::default())?;
    println!("{}: {} bytes stored", report.summary.name, report.stored_bytes);

    // Another process would do the same: open the repository by its URL and the key.
    let setpiece = Setpiece::open(&repository, &[Secret::KeyFile(key)])?;
    setpiece.restore(&RestoreRequest::default(), &dir.path().join("back"))?;

    let back = rusqlite::Connection::open(dir.path().join("back/app.db"))?;
    let text: String = back.query_row("SELECT text FROM notes", [], |row| row.get(0))?;
    assert_eq!(text, "hello");
    println!("came back: {text}");
    Ok(())
}
