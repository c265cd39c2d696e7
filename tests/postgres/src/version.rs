//! The versions of PostgreSQL to test with, and where their programs are.

use std::fmt;
use std::path::{Path, PathBuf};

/// A major version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// The distribution's own: log summaries and incremental base backups are not there yet.
    V15,
    /// The first with log summaries and incremental base backups.
    V17,
    /// The first with checksums by default and asynchronous reads.
    V18,
}

impl Version {
    /// All of them, the oldest first.
    pub const ALL: [Version; 3] = [Version::V15, Version::V17, Version::V18];

    /// The number that PostgreSQL calls it by.
    #[must_use]
    pub fn major(self) -> u32 {
        match self {
            Version::V15 => 15,
            Version::V17 => 17,
            Version::V18 => 18,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.major())
    }
}

/// The programs of a version on this machine.
#[derive(Clone, Debug)]
pub struct Installation {
    version: Version,
    programs: PathBuf,
}

impl Installation {
    /// The distribution's package, or what `scripts/postgres-versions` made.
    ///
    /// # Panics
    /// When the version is not there: a test that is skipped proves nothing.
    #[must_use]
    pub fn find(version: Version) -> Self {
        let below = format!("lib/postgresql/{version}/bin");
        let (programs, remedy) = match version {
            Version::V15 => (Path::new("/usr").join(below), "scripts/test, or install the package postgresql"),
            Version::V17 | Version::V18 => (
                unpacked().join(format!("{version}/usr")).join(below),
                "scripts/postgres-versions, or name another place in SETPIECE_TEST_POSTGRESQL",
            ),
        };
        // Without links: what a link leads to may be open to the server's user where the link is not.
        let programs = programs.canonicalize().unwrap_or(programs);
        assert!(
            programs.join("postgres").is_file(),
            "PostgreSQL {version} is not in {}: run {remedy}",
            programs.display()
        );
        Installation { version, programs }
    }

    /// Which version it is.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The path of one of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}

/// Where versions are that the distribution does not have.
fn unpacked() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/postgresql");
    std::env::var_os("SETPIECE_TEST_POSTGRESQL").map_or_else(default, PathBuf::from)
}
