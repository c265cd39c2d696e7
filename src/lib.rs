//! Setpiece: backup and recovery of a database, to be built into whatever needs it.
//!
//! Backup sets made of pieces and a metadata file; full, differential and cumulative backups of changed pages; redo
//! captured as it is written; recovery to any transaction; on any storage that has a plugin.
//!
//! ```
//! use setpiece::backup::BackupOptions;
//! use setpiece::restore::RestoreRequest;
//! use setpiece::transform::{KeyFile, Secret, SlotRequest};
//! use setpiece::{Setpiece, source};
//!
//! # fn main() -> setpiece::Result<()> {
//! # let dir = tempfile::tempdir().map_err(|error| setpiece::Error::io("a temporary directory", error))?;
//! # let app = rusqlite::Connection::open(dir.path().join("app.db")).expect("a database");
//! # app.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (x); INSERT INTO t VALUES (42);").expect("a table");
//! # let (repository, database) = (dir.path().join("repo"), dir.path().join("app.db"));
//! # let (repository, database) = (format!("disk:{}", repository.display()), format!("sqlite:{}", database.display()));
//! # let back = dir.path().join("back");
//! // A repository that whoever has the key can open.
//! let key = KeyFile::generate()?;
//! let slot = SlotRequest::KeyFile { label: "the only key".into(), key: key.clone() };
//! Setpiece::init(&repository, &[slot])?;
//!
//! // A backup of a running database. Its users need not stop.
//! let secrets = [Secret::KeyFile(key)];
//! let setpiece = Setpiece::open(&repository, &secrets)?;
//! let source = source::open(&database)?;
//! let report = setpiece.backup(&*source, &BackupOptions::default())?;
//! assert_eq!(report.summary.source_name, "app.db");
//!
//! // And back, into a new directory.
//! setpiece.restore(&RestoreRequest::default(), &back)?;
//! assert!(back.join("app.db").exists());
//! # let restored = rusqlite::Connection::open(back.join("app.db")).expect("a database");
//! # let x: i64 = restored.query_row("SELECT x FROM t", [], |row| row.get(0)).expect("a row");
//! # assert_eq!(x, 42);
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//! [`Setpiece`] is an opened repository with everything that its use cases need: the place to begin. Behind it are the
//! use cases as functions, each in a module of its own: [`backup`] (with [`backup::log`] for redo), [`restore`],
//! [`verify`], [`retain`], [`copy`], [`rekey`] and [`catalog`]. [`media::open`] and [`source::open`] turn URLs into
//! media and databases; whoever writes an engine of their own implements the traits in [`source`].
//!
//! # Features
//! | feature | gives | default |
//! |---|---|---|
//! | `disk` | `disk:/path` | yes |
//! | `sqlite` | `sqlite:/path/app.db`, with the SQLite that the program links anyway, 3.45.3 or newer | yes |
//! | `sqlite-bundled` | the same with a SQLite of its own; not for programs that contain one already | no |
//! | `aws-lc` | fast AES; without it the same bytes come from pure Rust | yes |
//! | `conformance` | the tests that every plugin has to pass | no |
//!
//! Linking that ends with `undefined symbol: sqlite3_set_clientdata` has found an older SQLite, such as Debian 12's. A
//! program that contains no SQLite of its own asks for one: `setpiece = { version = "0.1", features = ["sqlite-bundled"] }`.
//!
//! # What it does not do
//! The library prints nothing, reads no environment variable, installs no signal handler and never ends the process.
//! What it has to say goes to an [`events::Observer`]; a caller who wants it to stop uses a [`pipeline::Cancel`].
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod engines;
mod handle;
pub mod media;
pub mod source;
mod url;

pub use engines::recoveries;
pub use handle::Setpiece;
pub use setpiece_core::{Error, ErrorKind, Result};
pub use setpiece_core::{
    backup, catalog, copy, error, events, format, model, pipeline, rekey, restore, retain, transform, verify,
};
