//! The engines whose restored files can be recovered here.

use setpiece_core::source::Recovery;

/// The recoveries of all engines in this build. A restore takes the one that the set names.
#[must_use]
pub fn recoveries() -> Vec<&'static dyn Recovery> {
    vec![
        #[cfg(feature = "sqlite")]
        &setpiece_source_sqlite::SqliteRecovery,
    ]
}
