//! What both sides of the ABI talk about, as Rust types: capabilities, what is known of an object, names, lock modes.

use crate::raw;

/// The longest name of an object, in bytes.
pub const NAME_MAX: usize = raw::SBT_NAME_MAX as usize;

/// Whether `name` may name an object: parts of `[A-Za-z0-9._-]`, not beginning with a dot, joined by `/`, at most
/// [`NAME_MAX`] bytes in all.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_name_byte);
    name.len() <= NAME_MAX && name.split('/').all(part)
}

/// Whether `prefix` may be listed: empty, or the beginning of something that [`is_name`] accepts.
#[must_use]
pub fn is_prefix(prefix: &str) -> bool {
    prefix.is_empty() || is_name(prefix) || (prefix.len() < NAME_MAX && prefix.strip_suffix('/').is_some_and(is_name))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// What a session can do, as bits `SBT_CAP_*`. Bits that this version does not know are kept and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Objects can be listed.
    pub const LIST: Capabilities = Capabilities(raw::SBT_CAP_LIST);
    /// Reading may begin at any offset at little cost.
    pub const RANGED_READ: Capabilities = Capabilities(raw::SBT_CAP_RANGED_READ);
    /// One object at a time, best read in the order written.
    pub const SEQUENTIAL_ONLY: Capabilities = Capabilities(raw::SBT_CAP_SEQUENTIAL_ONLY);
    /// An object appears at once and whole, also after a crash.
    pub const ATOMIC_PUBLISH: Capabilities = Capabilities(raw::SBT_CAP_ATOMIC_PUBLISH);
    /// An existing object is never replaced, also when two sessions race.
    pub const CONDITIONAL_CREATE: Capabilities = Capabilities(raw::SBT_CAP_CONDITIONAL_CREATE);
    /// Objects can be protected against removal.
    pub const RETENTION_LOCK: Capabilities = Capabilities(raw::SBT_CAP_RETENTION_LOCK);
    /// Locks work in this session.
    pub const LOCKS: Capabilities = Capabilities(raw::SBT_CAP_LOCKS);

    /// These and those.
    #[must_use]
    pub const fn with(self, more: Capabilities) -> Capabilities {
        Capabilities(self.0 | more.0)
    }

    /// Whether all of `wanted` are there.
    #[must_use]
    pub const fn has(self, wanted: Capabilities) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

/// What a session tells about itself when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// What it can do.
    pub capabilities: Capabilities,
    /// The longest object in bytes, if there is a limit.
    pub max_object: Option<u64>,
    /// The size of a write that suits it best in bytes, if it cares.
    pub best_write: Option<u64>,
}

/// What is known of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Bytes in it.
    pub len: u64,
    /// When it was finished, in microseconds since 1970-01-01T00:00:00Z, if the medium knows.
    pub created_us: Option<i64>,
}

impl Info {
    /// As the ABI has it.
    #[must_use]
    pub fn to_raw(self) -> raw::sbt_info {
        raw::sbt_info {
            size: size_u32::<raw::sbt_info>(),
            flags: if self.created_us.is_some() { raw::SBT_INFO_CREATED } else { 0 },
            len: self.len,
            created_us: self.created_us.unwrap_or(0),
        }
    }

    /// From what the ABI has.
    #[must_use]
    pub fn from_raw(info: &raw::sbt_info) -> Self {
        let known = info.flags & raw::SBT_INFO_CREATED != 0;
        Info { len: info.len, created_us: known.then_some(info.created_us) }
    }
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// With others that share it.
    Shared,
    /// Alone.
    Exclusive,
}

impl LockMode {
    /// The number in the ABI.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            LockMode::Shared => raw::SBT_LOCK_SHARED,
            LockMode::Exclusive => raw::SBT_LOCK_EXCLUSIVE,
        }
    }

    /// The mode of a number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<LockMode> {
        match number {
            raw::SBT_LOCK_SHARED => Some(LockMode::Shared),
            raw::SBT_LOCK_EXCLUSIVE => Some(LockMode::Exclusive),
            _ => None,
        }
    }
}

/// The size of a type as the tables state it.
pub(crate) const fn size_u32<T>() -> u32 {
    // The types of the ABI have at most a few hundred bytes.
    std::mem::size_of::<T>() as u32
}

/// A plugin's table that is known to keep the contract: the pointers in it are valid for the life of the process and
/// the functions behave as the header says. Made by the glue in [`crate::plugin`], or by someone who vouches for it.
#[repr(transparent)]
#[derive(Debug)]
pub struct Table(raw::sbt_plugin);

impl Table {
    /// Vouches for a table.
    ///
    /// # Safety
    /// The strings point to UTF-8 that lives as long as the process, and every function keeps the contract of
    /// `setpiece_sbt.h`.
    #[must_use]
    pub const unsafe fn new(table: raw::sbt_plugin) -> Self {
        Table(table)
    }

    /// The table itself.
    #[must_use]
    pub const fn raw(&self) -> &raw::sbt_plugin {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_prefixes() {
        let long = "a".repeat(NAME_MAX);
        for good in ["a", "a/b", "A-b_c.d/0.9", long.as_str()] {
            assert!(is_name(good) && is_prefix(good), "{good}");
        }
        let longer = "a".repeat(NAME_MAX + 1);
        for bad in ["", "/", "a/", "/a", "a//b", ".", "..", "a/../b", ".a", "a/.b", "a b", "a\0", "ä", longer.as_str()]
        {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_prefix("") && is_prefix("a/") && !is_prefix("a//") && !is_prefix("/") && !is_prefix("../"));
        assert!(!is_prefix(&longer));
    }
}
