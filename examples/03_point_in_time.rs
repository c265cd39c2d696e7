//! Redo captured while a database is written to, and recovery to a moment before a mistake:
//! `cargo run --example 03_point_in_time`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::{Duration, SystemTime};

use setpiece::backup::BackupOptions;
use setpiece::backup::log::StreamOptions;
use setpiece::model::{RecoveryTarget, Timestamp, Until};
use setpiece::pipeline::Cancel;
use setpiece::restore::RestoreRequest;
use setpiece::{Setpiece, source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let app = rusqlite::Connection::open(dir.path().join("app.db"))?;
    app.busy_timeout(Duration::from_secs(10))?;
    app.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE events (x);")?;
    let repository = format!("disk:{}/repo", dir.path().display());
    let database = format!("sqlite:{}/app.db", dir.path().display());
    let setpiece = Setpiece::init_plain(&repository)?;
    let source = source::open(&database)?;
    setpiece.backup(&*source, &BackupOptions::default())?;

    // Redo is captured by another thread (it could be another process) until it is cancelled.
    let cancel = Cancel::new();
    let capture = {
        let (repository, database, cancel) = (repository.clone(), database.clone(), cancel.clone());
        std::thread::spawn(move || -> setpiece::Result<_> {
            let setpiece = Setpiece::open(&repository, &[])?.cancelled_by(&cancel);
            setpiece.log_stream(&*source::open(&database)?, &StreamOptions::default())
        })
    };

    // Ten good rows, a moment, and a mistake.
    for x in 0..10 {
        app.execute("INSERT INTO events VALUES (?1)", [x])?;
    }
    wait_for_units(&setpiece, 1)?;
    std::thread::sleep(Duration::from_millis(500));
    let moment = Timestamp::from(SystemTime::now());
    std::thread::sleep(Duration::from_millis(500));
    app.execute_batch("DELETE FROM events; INSERT INTO events VALUES (-1);")?;
    std::thread::sleep(Duration::from_secs(1));
    cancel.cancel();
    let captured = capture.join().map_err(|_| "the capture panicked")??;
    println!("{} units of redo captured, up to LSN {}", captured.units, captured.upto);

    // The catalog knows to which moments recovery is possible.
    for window in setpiece.catalog()?.windows(source.info()?.id) {
        println!("recovery is possible from LSN {} ({}) to LSN {}", window.from, window.from_time, window.to);
    }
    let mut request = RestoreRequest::default();
    request.target = RecoveryTarget { until: Until::Time(moment), ..RecoveryTarget::default() };
    let report = setpiece.restore(&request, &dir.path().join("before"))?;
    if let Some(recovered) = &report.recovered {
        println!("recovered to {moment}: LSN {}, goes on as branch {:?}", recovered.lsn, recovered.branch);
    }
    assert_eq!(rows(&dir.path().join("before/app.db"))?, 10);

    // And to the end of what was captured, mistake and all.
    setpiece.restore(&RestoreRequest::default(), &dir.path().join("latest"))?;
    assert_eq!(rows(&dir.path().join("latest/app.db"))?, 1);
    Ok(())
}

fn rows(database: &std::path::Path) -> rusqlite::Result<i64> {
    rusqlite::Connection::open(database)?.query_row("SELECT count(*) FROM events", [], |row| row.get(0))
}

fn wait_for_units(setpiece: &Setpiece, count: usize) -> setpiece::Result<()> {
    while setpiece.catalog()?.units().count() < count {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
