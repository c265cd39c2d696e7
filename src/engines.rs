//! The engines whose restored files can be recovered here.

use setpiece_core::source::Recovery;

/// The recoveries of all engines in this build. A restore takes the one that the set names.
#[must_use]
pub fn recoveries() -> Vec<&'static dyn Recovery> {
    vec![
        #[cfg(feature = "sqlite")]
        &setpiece_source_sqlite::SqliteRecovery,
        #[cfg(feature = "postgres")]
        &setpiece_source_postgres::PostgresRecovery(setpiece_source_postgres::Dialect::Postgresql),
        #[cfg(feature = "postgres")]
        &setpiece_source_postgres::PostgresRecovery(setpiece_source_postgres::Dialect::Kingbase),
    ]
}
