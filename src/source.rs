//! Databases: the traits that one implements, and how a URL becomes one.
//!
//! | URL | what |
//! |---|---|
//! | `sqlite:/path/app.db` | a SQLite database, feature `sqlite` |

pub use setpiece_core::source::*;

#[cfg(feature = "sqlite")]
pub use setpiece_source_sqlite::{SqliteOptions, SqliteRecovery, SqliteSource, attached_sources};

use setpiece_core::Result;
use setpiece_core::model::SourceId;

use crate::url;

/// The schemes of sources that this build knows.
pub const SCHEMES: &[&str] = &[
    #[cfg(feature = "sqlite")]
    "sqlite:",
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
    use crate::ErrorKind;

    #[test]
    fn schemes_of_other_builds_are_refused_by_name() {
        let error = open("postgres:///db").map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("not in this build"), "{error}");
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_relative_path_is_refused() {
        assert_eq!(open("sqlite:app.db").map(|_| ()).unwrap_err().kind(), ErrorKind::Usage);
    }
}
