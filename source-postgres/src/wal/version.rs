//! The versions of PostgreSQL whose WAL is understood.

use std::fmt;

/// The first two bytes of every WAL page, by major version (`XLOG_PAGE_MAGIC` in PostgreSQL's xlog_internal.h).
const MAGICS: [(u16, u16); 7] =
    [(12, 0xD101), (13, 0xD106), (14, 0xD10D), (15, 0xD110), (16, 0xD113), (17, 0xD116), (18, 0xD118)];

/// A major version of PostgreSQL, 12 to 18: it says how WAL records are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u16);

impl Version {
    /// The version that writes pages with this magic number; `None` when it is not one of those that are understood.
    #[must_use]
    pub fn from_magic(magic: u16) -> Option<Self> {
        MAGICS.iter().find(|(_, known)| *known == magic).map(|(major, _)| Version(*major))
    }

    /// The version with this major number, if it is understood.
    #[must_use]
    pub fn from_major(major: u16) -> Option<Self> {
        MAGICS.iter().find(|(known, _)| *known == major).map(|(major, _)| Version(*major))
    }

    /// The major number, such as 15.
    #[must_use]
    pub fn major(self) -> u16 {
        self.0
    }

    /// The magic number of its WAL pages.
    #[must_use]
    pub fn magic(self) -> u16 {
        MAGICS.iter().find(|(major, _)| *major == self.0).map_or(0, |(_, magic)| *magic)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_and_major_name_the_same_version() {
        for major in 12..=18 {
            let version = Version::from_major(major).unwrap();
            assert_eq!(Version::from_magic(version.magic()), Some(version));
            assert_eq!(version.major(), major);
        }
        assert_eq!(Version::from_magic(0xD10F), None);
        assert_eq!(Version::from_major(11), None);
        assert_eq!(Version::from_major(19), None);
    }
}
