//! A thin blocking client for PostgreSQL's protocol, version 3, which KingbaseES speaks as well.
//!
//! It does what a backup needs and no more: statements by the simple protocol with answers as text, and the commands of
//! a replication connection. Everything that comes from a server is checked and bounded in size and time.
//!
//! ```no_run
//! use setpiece_source_postgres::client::{Client, Mode};
//!
//! # fn main() -> setpiece_core::Result<()> {
//! let mut client = Client::connect(&"postgresql://backup@db1/postgres?sslmode=require".parse()?, Mode::Sql)?;
//! for row in client.query("SELECT name, setting FROM pg_settings WHERE name LIKE 'wal%'")? {
//!     let (_name, _setting) = (row.get("name")?, row.optional("setting")?);
//! }
//! # Ok(())
//! # }
//! ```

mod auth;
mod cancel;
mod connect;
mod copy_both;
mod copy_out;
mod fault;
mod info;
mod passfile;
mod quote;
mod row;
mod secret_file;
mod session;
mod socket;
mod stream;
mod tls;
mod uri;
mod verify;
mod wire;
mod x509;

pub use cancel::CancelHandle;
pub use connect::Mode;
pub use copy_both::{CopyBoth, CopyData, StandbyStatus, StreamEnd};
pub use copy_out::{CopyOut, CopyOutItem};
pub use fault::{ServerError, server_error, sqlstate};
pub use info::{ConnectInfo, SslMode};
pub use quote::{quote_identifier, quote_literal};
pub use row::{Column, Row};
pub use session::Client;
