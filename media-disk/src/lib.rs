//! Objects as files below a directory: the disk medium.
//!
//! Parameters: the directory as location or as `path=/dir`; `create=yes` makes it when it is missing; `tmpfile=no`
//! writes under hidden names instead of nameless files, for file systems that only claim to have them.
//!
//! An object is written to a file without a name, made durable, and then linked under its name, which fails when the
//! name is taken. So there is never a half-written object, whatever crashes, and nothing is ever overwritten. Names
//! beginning with a dot are the medium's own: `.locks/` for locks, `.tmp-*` for writers on file systems without
//! nameless files. Symbolic links below the directory are never followed.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod list;
mod lock;
mod reader;
mod root;
mod scratch;
mod session;
mod writer;

use setpiece_sbt_abi::Table;
use setpiece_sbt_abi::plugin::{Medium, Request, Result, table_with_locks};

use session::DiskSession;

/// The table of this plugin.
pub static PLUGIN: Table = table_with_locks::<Disk>();

/// The disk medium.
#[derive(Debug)]
pub enum Disk {}

impl Medium for Disk {
    const NAME: &'static str = "disk";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &'static str = "objects as files below a directory";
    type Session = DiskSession;

    fn open(request: Request) -> Result<DiskSession> {
        DiskSession::open(request)
    }
}
