//! What a restore is asked for.

use std::path::PathBuf;

use crate::model::{RecoveryTarget, Until};

/// What is to be restored, and to where in its history.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RestoreRequest {
    /// The source, by name, identifier or the beginning of one; may be left out when the repository has one only.
    pub source: Option<String>,
    /// Start from this set instead of the nearest before the target.
    pub set: Option<String>,
    /// Where to stop.
    pub target: RecoveryTarget,
    /// Only this tablespace.
    pub tablespace: Option<String>,
    /// Streams in parallel, 1 to 255.
    pub channels: u16,
    /// Rewrite only what differs in a directory that holds the same database already.
    pub delta: bool,
    /// New places for tablespaces that lay outside of the source's directory: old location and new.
    pub map: Vec<(String, PathBuf)>,
}

impl Default for RestoreRequest {
    fn default() -> Self {
        RestoreRequest {
            source: None,
            set: None,
            target: RecoveryTarget::default(),
            tablespace: None,
            channels: 2,
            delta: false,
            map: Vec::new(),
        }
    }
}

impl RestoreRequest {
    /// Whether nothing behind the set's own end is asked for.
    pub(super) fn ends_with_set(&self) -> bool {
        self.target.until == Until::SetEnd
    }
}
