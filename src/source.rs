//! Databases: the traits that one implements, and how a URL becomes one.
//!
//! | URL | what |
//! |---|---|
//! | `sqlite:/path/app.db` | a SQLite database, feature `sqlite` |
//! | `postgres://user@host:port/db`, `kingbase://...` | a running server on this machine, feature `postgres` |
//! | `pgdata:/path` | the data directory of a server that stands still, feature `postgres` |

pub use setpiece_core::source::*;

#[cfg(feature = "sqlite")]
pub use setpiece_source_sqlite::{SqliteOptions, SqliteRecovery, SqliteSource, attached_sources};

#[cfg(feature = "postgres")]
pub use setpiece_source_postgres::{
    CaptureOptions, Dialect, Direction, LogFile, LogHome, PostgresDirectory, PostgresRecovery, PostgresSource, Pushed,
    Spool,
};

use setpiece_core::Result;
use setpiece_core::model::SourceId;
#[cfg(feature = "postgres")]
use setpiece_core::{Error, ErrorKind};

use crate::url;

/// The schemes of sources that this build knows.
pub const SCHEMES: &[&str] = &[
    #[cfg(feature = "sqlite")]
    "sqlite:",
    #[cfg(feature = "postgres")]
    "postgres:",
    #[cfg(feature = "postgres")]
    "postgresql:",
    #[cfg(feature = "postgres")]
    "kingbase:",
    #[cfg(feature = "postgres")]
    "pgdata:",
];

/// What other builds may know.
const ELSEWHERE: &[&str] = &["sqlite", "postgres", "postgresql", "pgdata", "kingbase"];

/// Opens the database that a URL names. The path in it must be absolute.
///
/// # Errors
/// [`Usage`](crate::ErrorKind::Usage) when it is no URL, [`Unsupported`](crate::ErrorKind::Unsupported) when this
/// build does not know its scheme, and whatever the engine has to say about the database.
pub fn open(url: &str) -> Result<Box<dyn Source>> {
    match url::split(url)? {
        #[cfg(feature = "sqlite")]
        ("sqlite", path) => Ok(Box::new(SqliteSource::open(url::absolute(url, path)?)?)),
        #[cfg(feature = "postgres")]
        ("postgres" | "postgresql" | "kingbase", _) => Ok(Box::new(PostgresSource::open(url)?)),
        #[cfg(feature = "postgres")]
        ("pgdata", path) => Ok(Box::new(PostgresDirectory::open(url::absolute(url, path)?.as_ref())?)),
        (scheme, _) => Err(url::unknown(scheme, SCHEMES, ELSEWHERE).on(url)),
    }
}

/// As [`open`], to capture the log of a server in a way of one's own.
///
/// # Errors
/// As [`open`], and [`Usage`](crate::ErrorKind::Usage) for a database that is no server.
#[cfg(feature = "postgres")]
pub fn open_capturing(url: &str, how: CaptureOptions) -> Result<Box<dyn Source>> {
    match url::split(url)? {
        ("postgres" | "postgresql" | "kingbase", _) => Ok(Box::new(PostgresSource::open(url)?.capturing(how))),
        (scheme, _) if SCHEMES.iter().any(|known| known.trim_end_matches(':') == scheme) => {
            Err(Error::new(ErrorKind::Usage, "is no running server, whose log is captured by a replication slot")
                .on(url))
        }
        (scheme, _) => Err(url::unknown(scheme, SCHEMES, ELSEWHERE).on(url)),
    }
}

/// The files of a server's log: those that were copied to a directory, or else those in the server's own.
///
/// # Errors
/// [`Usage`](crate::ErrorKind::Usage) for a database that is no server, and what the engine has to say.
#[cfg(feature = "postgres")]
pub fn log_home(url: &str, archive: Option<&std::path::Path>) -> Result<LogHome> {
    match url::split(url)? {
        ("postgres" | "postgresql" | "kingbase", _) => PostgresSource::open(url)?.log_home(archive),
        ("pgdata", path) => {
            let home = LogHome::open(url::absolute(url, path)?.as_ref())?;
            Ok(match archive {
                Some(archive) => home.in_archive(archive),
                None => home,
            })
        }
        (scheme, _) if SCHEMES.iter().any(|known| known.trim_end_matches(':') == scheme) => {
            Err(Error::new(ErrorKind::Usage, "is no server that archives its log").on(url))
        }
        (scheme, _) => Err(url::unknown(scheme, SCHEMES, ELSEWHERE).on(url)),
    }
}

/// Which source a URL means, by where the database is or was: it need not be there any more.
///
/// # Errors
/// As [`open`], except that the database may be missing.
pub fn id(url: &str) -> Result<SourceId> {
    match url::split(url)? {
        #[cfg(feature = "sqlite")]
        ("sqlite", path) => SqliteSource::id_at(url::absolute(url, path)?),
        (scheme, _) => Err(url::unknown(scheme, SCHEMES, ELSEWHERE).on(url)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(feature = "postgres"))]
    use crate::ErrorKind;

    #[test]
    fn schemes_that_nobody_has_are_refused_by_name() {
        let error = open("oracle:///db").map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("not known"), "{error}");
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_relative_path_is_refused() {
        assert_eq!(open("sqlite:app.db").map(|_| ()).unwrap_err().kind(), ErrorKind::Usage);
    }
}
