//! Two data directories, page by page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use crate::files::{Fork, Found, Kind, relation_files};
use crate::lsn::Lsn;
use crate::mask::{mask_hints, says_nothing};
use crate::page::{Page, pages};

/// What may differ. Nothing of it may unless it is said; temporary relations and the files that a server makes anew by
/// itself are never looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MayDiffer {
    /// The maps of free space: the log does not keep them.
    pub free_space: bool,
    /// The maps of visibility: they are made before there is a word in them, and the log of a database that was copied
    /// page by page loses what they say, which is allowed as they may say too little.
    pub visibility: bool,
    /// What is written into a page without a word in the log: whether transactions ended, which entries are dead, how far
    /// a sequence is, what unused room holds, and how much of it there is; the LSN and the checksum, which such changes
    /// may move.
    pub hints: bool,
    /// Unlogged relations, but for their empty originals.
    pub unlogged: bool,
}

/// A file or a page that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The file, relative to the data directory.
    pub file: String,
    /// The page's number within the relation's fork; none when the file as a whole is meant.
    pub block: Option<u32>,
    /// In what way.
    pub what: What,
}

/// In what way something is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Only in the first directory.
    OnlyLeft,
    /// Only in the second one.
    OnlyRight,
    /// Other bytes, from this one on; and the LSNs of both pages.
    Bytes {
        /// The first byte that differs.
        at: usize,
        /// The LSN in the first directory.
        left: Lsn,
        /// The LSN in the second one.
        right: Lsn,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        self.block.map_or(Ok(()), |block| write!(f, " block {block}"))?;
        match &self.what {
            What::OnlyLeft => write!(f, ": only in the first"),
            What::OnlyRight => write!(f, ": only in the second"),
            What::Bytes { at, left, right } => write!(f, ": differs from byte {at} on, LSN {left} and {right}"),
        }
    }
}

/// All that differs between the relations of two data directories, whose servers are stopped or have just made a
/// checkpoint and rest.
///
/// # Panics
/// When a directory cannot be read.
#[must_use]
pub fn compare(left: &Path, right: &Path, may_differ: MayDiffer) -> Vec<Difference> {
    let (mut left, mut right) = (by_name(left, may_differ), by_name(right, may_differ));
    if may_differ.unlogged {
        // Unlogged is what one of them calls so, for the file that says it may be what is missing in the other.
        let unlogged = |file: &&Found| file.is_unlogged;
        let names: BTreeSet<String> = left.values().chain(right.values()).filter(unlogged).map(name_of).collect();
        left.retain(|name, _| !names.contains(name));
        right.retain(|name, _| !names.contains(name));
    }
    let mut differences = Vec::new();
    for (name, found) in &left {
        match right.get(name) {
            None => differences.push(only(found, What::OnlyLeft)),
            Some(other) => differences.extend(compare_files(found, other, may_differ)),
        }
    }
    let missing = right.iter().filter(|(name, _)| !left.contains_key(*name));
    differences.extend(missing.map(|(_, found)| only(found, What::OnlyRight)));
    differences.sort_by(|a, b| (&a.file, a.block).cmp(&(&b.file, b.block)));
    differences
}

/// [`compare`] for a test that wants none.
///
/// # Panics
/// When there is a difference; with the first twenty.
pub fn assert_same_pages(left: &Path, right: &Path, may_differ: MayDiffer) {
    let differences = compare(left, right, may_differ);
    let shown: Vec<String> = differences.iter().take(20).map(ToString::to_string).collect();
    assert!(
        differences.is_empty(),
        "{} and {} differ in {} places:\n{}",
        left.display(),
        right.display(),
        differences.len(),
        shown.join("\n")
    );
}

fn by_name(data: &Path, may_differ: MayDiffer) -> BTreeMap<String, Found> {
    let is_of_interest = |file: &Found| match file.kind {
        Kind::Passing => false,
        Kind::Plain => true,
        Kind::Relation(_, Fork::FreeSpace) if may_differ.free_space => false,
        Kind::Relation(_, Fork::Visibility) if may_differ.visibility => false,
        Kind::Relation(..) => true,
    };
    let files = relation_files(data).into_iter().filter(is_of_interest);
    files.map(|file| (name_of(&file), file)).collect()
}

fn name_of(file: &Found) -> String {
    file.relative.clone()
}

fn only(file: &Found, what: What) -> Difference {
    Difference { file: file.relative.clone(), block: None, what }
}

fn compare_files(left: &Found, right: &Found, may_differ: MayDiffer) -> Vec<Difference> {
    let read = |found: &Found| fs::read(&found.path).unwrap_or_else(|error| panic!("{}: {error}", found.relative));
    let Some(at) = bytes_differ(&read(left), &read(right)) else { return Vec::new() };
    if left.kind == Kind::Plain {
        return vec![difference(left, None, at, Lsn(0), Lsn(0))];
    }
    let (ours, theirs) = (pages(&left.path), pages(&right.path));
    let common = ours.len().min(theirs.len());
    let both = ours.iter().zip(&theirs).filter_map(|(ours, theirs)| {
        let at = pages_differ(left, ours, theirs, may_differ)?;
        Some(difference(left, Some(ours.block), at, ours.lsn(), theirs.lsn()))
    });
    let surplus = |pages: &[Page], what: What| -> Vec<Difference> {
        let counts = |page: &&Page| !(may_differ.hints && says_nothing(&page.bytes));
        let file = &left.relative;
        let one = |page: &Page| Difference { file: file.clone(), block: Some(page.block), what: what.clone() };
        pages.iter().filter(counts).map(one).collect()
    };
    let mut differences: Vec<Difference> = both.collect();
    differences.extend(surplus(&ours[common..], What::OnlyLeft));
    differences.extend(surplus(&theirs[common..], What::OnlyRight));
    differences
}

fn is_map(file: &Found) -> bool {
    matches!(file.kind, Kind::Relation(_, Fork::Visibility))
}

fn difference(file: &Found, block: Option<u32>, at: usize, left: Lsn, right: Lsn) -> Difference {
    Difference { file: file.relative.clone(), block, what: What::Bytes { at, left, right } }
}

fn pages_differ(file: &Found, left: &Page, right: &Page, may_differ: MayDiffer) -> Option<usize> {
    let at = bytes_differ(&left.bytes, &right.bytes)?;
    if !may_differ.hints {
        return Some(at);
    }
    let masked = |page: &Page| {
        let mut bytes = page.bytes.clone();
        mask_hints(&mut bytes, is_map(file));
        bytes
    };
    bytes_differ(&masked(left), &masked(right))
}

/// The first byte that is not the same.
fn bytes_differ(left: &[u8], right: &[u8]) -> Option<usize> {
    if left == right {
        return None;
    }
    let first = left.iter().zip(right).position(|(left, right)| left != right);
    first.or_else(|| (left.len() != right.len()).then(|| left.len().min(right.len())))
}
