//! Progress, decisions and warnings while a backup runs, and stopping one: `cargo run --example 02_progress_and_cancel`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use setpiece::backup::BackupOptions;
use setpiece::events::{Event, Observer};
use setpiece::pipeline::Cancel;
use setpiece::{ErrorKind, Setpiece, source};

/// Counts bytes; cancels once there are enough of them. Called from the worker threads, so it has to be quick.
struct Counter {
    seen: AtomicU64,
    enough: u64,
    cancel: Cancel,
}

impl Observer for Counter {
    fn event(&self, event: &Event) {
        match event {
            Event::Started { operation, total_bytes } => println!("{operation} of {total_bytes} bytes begins"),
            Event::Decision { text } | Event::Warning { text } => println!("  {text}"),
            Event::Progress { bytes } => {
                let seen = self.seen.fetch_add(*bytes, Ordering::Relaxed) + bytes;
                if seen >= self.enough {
                    self.cancel.cancel();
                }
            }
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let app = rusqlite::Connection::open(dir.path().join("app.db"))?;
    app.execute_batch(
        "PRAGMA journal_mode = wal; CREATE TABLE blobs (x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 16)
           INSERT INTO blobs SELECT randomblob(1 << 20) FROM n;",
    )?;
    let repository = format!("disk:{}/repo", dir.path().display());
    let source = source::open(&format!("sqlite:{}/app.db", dir.path().display()))?;
    // Without slots the sets are not encrypted: that has to be meant.
    Setpiece::init_plain(&repository)?;

    // The first backup is cancelled after 4 MiB.
    let cancel = Cancel::new();
    let counter = Arc::new(Counter { seen: AtomicU64::new(0), enough: 4 << 20, cancel: cancel.clone() });
    let setpiece = Setpiece::open(&repository, &[])?.observed_by(counter).cancelled_by(&cancel);
    let Err(error) = setpiece.backup(&*source, &BackupOptions::default()) else { return Err("not cancelled".into()) };
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    // Nothing of it is left: a set exists whole, or it does not exist.
    let catalog = setpiece.catalog()?;
    assert_eq!((catalog.records().count(), catalog.orphans().len()), (0, 0));
    println!("cancelled: {error}");

    // The second one runs to its end.
    let counter = Arc::new(Counter { seen: AtomicU64::new(0), enough: u64::MAX, cancel: Cancel::new() });
    let setpiece = Setpiece::open(&repository, &[])?.observed_by(counter.clone());
    let report = setpiece.backup(&*source, &BackupOptions::default())?;
    assert!(counter.seen.load(Ordering::Relaxed) >= 16 << 20);
    println!("{} pages in {}", report.pages, report.summary.name);
    Ok(())
}
