//! The names of the objects of a repository.
//!
//! ```text
//! repo/<generation>.repo          who the repository is and how it is keyed; the highest generation counts
//! sets/<set>/<piece>.bak          pieces
//! sets/<set>/set.meta             written last: without it the set does not exist
//! sets/<set>/keys.<generation>    keys of the set wrapped anew; the highest generation counts
//! locks/...                       names for writers' locks; nothing is stored there
//! ```

use super::ObjectName;
use crate::error::Result;
use crate::model::{PieceNo, SetId};

/// Where the descriptors are.
pub const REPO_PREFIX: &str = "repo/";
/// Where the sets are.
pub const SETS_PREFIX: &str = "sets/";

/// What an object below a set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetObject {
    /// A piece.
    Piece(PieceNo),
    /// The metadata.
    Meta,
    /// Keys wrapped anew, with their generation.
    Keys(u32),
}

/// The name of a descriptor.
///
/// # Errors
/// Never for a number; the type is that of every name.
pub fn descriptor(generation: u32) -> Result<ObjectName> {
    ObjectName::new(format!("{REPO_PREFIX}{generation:08}.repo"))
}

/// The generation in the name of a descriptor.
#[must_use]
pub fn parse_descriptor(name: &ObjectName) -> Option<u32> {
    let digits = name.as_str().strip_prefix(REPO_PREFIX)?.strip_suffix(".repo")?;
    parse_digits(digits, 8)
}

/// What all names of a set begin with.
#[must_use]
pub fn set_prefix(set: SetId) -> String {
    format!("{SETS_PREFIX}{set}/")
}

/// The name of an object of a set.
///
/// # Errors
/// Never for the parts given; the type is that of every name.
pub fn object(set: SetId, object: SetObject) -> Result<ObjectName> {
    let prefix = set_prefix(set);
    match object {
        SetObject::Piece(piece) => ObjectName::new(format!("{prefix}{:06}.bak", piece.0)),
        SetObject::Meta => ObjectName::new(format!("{prefix}set.meta")),
        SetObject::Keys(generation) => ObjectName::new(format!("{prefix}keys.{generation:08}")),
    }
}

/// Which set and which of its objects a name means; `None` for names that are not ours.
#[must_use]
pub fn parse_object(name: &ObjectName) -> Option<(SetId, SetObject)> {
    let (set, file) = name.as_str().strip_prefix(SETS_PREFIX)?.split_once('/')?;
    let set = set.parse().ok()?;
    let object = match file.split_once('.')? {
        ("set", "meta") => SetObject::Meta,
        ("keys", digits) => SetObject::Keys(parse_digits(digits, 8)?),
        (digits, "bak") => SetObject::Piece(PieceNo(parse_digits(digits, 6)?)),
        _ => return None,
    };
    Some((set, object))
}

/// The lock that writers share and that removal takes alone.
///
/// # Errors
/// Never; the type is that of every name.
pub fn repository_lock() -> Result<ObjectName> {
    ObjectName::new("locks/repository")
}

/// The lock that one writer of a source takes alone; `what` is `backup` or `log`.
///
/// # Errors
/// Never for the words given; the type is that of every name.
pub fn source_lock(source: crate::model::SourceId, what: &str) -> Result<ObjectName> {
    ObjectName::new(format!("locks/{what}-{source}"))
}

fn parse_digits(digits: &str, width: usize) -> Option<u32> {
    (digits.len() == width && digits.bytes().all(|c| c.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Uuid;

    #[test]
    fn names_go_both_ways() {
        let set = SetId(Uuid::from_time(1_700_000_000_000, [7; 10]));
        for what in
            [SetObject::Piece(PieceNo(1)), SetObject::Piece(PieceNo(123_456)), SetObject::Meta, SetObject::Keys(3)]
        {
            let name = object(set, what).unwrap();
            assert_eq!(parse_object(&name), Some((set, what)), "{name}");
        }
        assert_eq!(parse_descriptor(&descriptor(12).unwrap()), Some(12));
    }

    #[test]
    fn strange_names_mean_nothing() {
        for name in ["sets/x/set.meta", "sets/00000000-0000-0000-0000-000000000000/1.bak", "repo/1.repo", "other"] {
            let name = ObjectName::new(name).unwrap();
            assert_eq!((parse_object(&name), parse_descriptor(&name)), (None, None));
        }
    }
}
