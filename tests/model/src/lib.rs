//! A small, honest database engine with every hard property of a real one, and an oracle that knows what each page was
//! at every LSN. It exists to prove the core right.
//!
//! Tablespaces and files come and go, numbers and paths are used again; pages are allocated and freed; transactions over
//! several pages get an LSN that is unique over all nodes; the files on disk are fuzzy, as pages are written in random
//! order after their redo; each node writes its own packages, whose LSNs are out of order within and have gaps between.
//! Crashes lose what is not on disk; recovered databases go on as new branches. [`Config`] says how an engine behaves.
//!
//! | file | job |
//! |---|---|
//! | `model` | the handle for tests |
//! | `engine`, `ddl`, `steps` | transactions, checkpoints, crash and restart; files that come and go; random steps |
//! | `buffer`, `log`, `disk`, `control`, `page`, `redo` | what the engine is built of |
//! | `replay` | redo applied to files, for restart and recovery |
//! | `oracle`, `compare` | what must be there, and the first difference |
//! | `source`, `stream`, `recovery` | the traits of core |
//!
//! ```
//! use setpiece_core::model::{Level, Scope};
//! use setpiece_core::source::{BeginRequest, Source};
//! use setpiece_model_engine::{Config, Model};
//!
//! # fn main() -> setpiece_core::Result<()> {
//! # let dir = std::env::temp_dir().join(format!("model-doc-{}", std::process::id()));
//! let model = Model::new(Config::random(42), 42, &dir.join("db"))?;
//! model.run(200)?;
//!
//! // A backup, by hand here; core does the same with a repository at the other end.
//! model.busy_while_read(3);
//! let source = model.source();
//! let request = BeginRequest { scope: &Scope::Database, level: Level::Full, without_log: false, cookie: None };
//! let mut run = source.begin(&request)?;
//! let files = run.files().to_vec();
//! let mut pages = Vec::new();
//! for entry in &files {
//!     run.read(entry.id, 0, entry.pages(), &mut pages)?;
//! }
//! let end = run.end()?;
//! run.log(&mut |unit, bytes| { assert_eq!(unit.len, bytes.len() as u64); Ok(()) })?;
//! drop(run);
//!
//! // What a recovery to the end of this backup must bring back, page by page:
//! let content = model.oracle().at(model.branch(), end.bak_end_lsn);
//! assert!(content.files.keys().any(|path| path.as_str() == "MAIN.DBF"));
//!
//! // After a restore and recovery into `target`: `content.difference(target)?` is `None`, and the history goes on with
//! // `Model::open(config, seed, target, &model.oracle())?`.
//! model.crash()?;
//! model.restart()?;
//! assert_eq!(model.difference_from_oracle()?, None);
//! # std::fs::remove_dir_all(&dir).map_err(|error| setpiece_core::Error::io("example", error))
//! # }
//! ```
#![forbid(unsafe_code)]

mod buffer;
mod compare;
mod config;
mod control;
mod ddl;
mod disk;
mod engine;
mod log;
mod model;
mod oracle;
mod page;
mod recovery;
mod redo;
mod replay;
mod rng;
mod source;
mod steps;
mod stream;

pub use compare::Difference;
pub use config::{ChangeMapMode, Clock, Config, TrackingMode};
pub use engine::State;
pub use model::Model;
pub use oracle::{Content, FileContent, Oracle};
pub use page::FileKey;
pub use recovery::{ENGINE, ModelRecovery};
pub use redo::{Op, Package, Ptx};
pub use rng::Rng;
pub use source::ModelSource;
pub use steps::Step;
