//! Which files of a data directory hold relations.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::page::pages;
use crate::process::entries;

/// One of the files that hold a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fork {
    Main,
    FreeSpace,
    Visibility,
    Init,
}

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Pages of a relation that has this number.
    Relation(u32, Fork),
    /// Read as a whole: the map of catalogs, the version.
    Plain,
    /// Of no meaning for another server: temporary, or made anew by each one.
    Passing,
}

/// `16384`, `16384_fsm`, `16384.1`, `16384_vm.2`; a temporary relation's begins with `t`.
pub(crate) fn kind_of(name: &str) -> Kind {
    if matches!(name, "PG_VERSION" | "pg_filenode.map") {
        return Kind::Plain;
    }
    let whole = match name.split_once('.') {
        Some((whole, segment)) if segment.parse::<u32>().is_ok() => whole,
        Some(_) => return Kind::Passing,
        None => name,
    };
    let (number, fork) = match whole.split_once('_') {
        None => (whole, Some(Fork::Main)),
        Some((number, "fsm")) => (number, Some(Fork::FreeSpace)),
        Some((number, "vm")) => (number, Some(Fork::Visibility)),
        Some((number, "init")) => (number, Some(Fork::Init)),
        Some((number, _)) => (number, None),
    };
    match (number.parse(), fork) {
        (Ok(number), Some(fork)) => Kind::Relation(number, fork),
        _ => Kind::Passing,
    }
}

/// A file below a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// With `/` between names; a tablespace's link counts as its directory.
    pub(crate) relative: String,
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    /// Of an unlogged relation, and not what it is made anew from after a crash.
    pub(crate) is_unlogged: bool,
}

/// The files that hold relations, and those that say which file holds which catalog.
pub(crate) fn relation_files(data: &Path) -> Vec<Found> {
    let mut directories = vec!["global".to_owned()];
    directories.extend(below(data, "base"));
    for space in below(data, "pg_tblspc") {
        directories.extend(below(data, &space).iter().flat_map(|version| below(data, version)));
    }
    directories.iter().flat_map(|directory| files_in(data, directory)).collect()
}

fn below(data: &Path, relative: &str) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().expect("it was listed").to_string_lossy().into_owned();
    let directories = entries(&data.join(relative)).into_iter().filter(|path| path.is_dir());
    let kept = directories.map(|path| name(&path)).filter(|name| !name.starts_with("pgsql_tmp"));
    kept.map(|name| format!("{relative}/{name}")).collect()
}

fn files_in(data: &Path, directory: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for path in entries(&data.join(directory)).into_iter().filter(|path| path.is_file()) {
        let name = path.file_name().expect("it was listed").to_string_lossy().into_owned();
        let kind = kind_of(&name);
        found.push(Found { relative: format!("{directory}/{name}"), path, kind, is_unlogged: false });
    }
    let number = |file: &Found| if let Kind::Relation(number, Fork::Init) = file.kind { Some(number) } else { None };
    let unlogged: BTreeSet<u32> = found.iter().filter_map(number).collect();
    for file in &mut found {
        file.is_unlogged = matches!(file.kind, Kind::Relation(number, fork)
            if fork != Fork::Init && unlogged.contains(&number));
    }
    found
}

/// The pages of a stopped cluster that has checksums whose checksum does not fit: file and block.
#[must_use]
pub fn damaged_pages(data: &Path) -> Vec<(String, u32)> {
    let mut damaged = Vec::new();
    for file in relation_files(data).into_iter().filter(|file| matches!(file.kind, Kind::Relation(..))) {
        let wrong = pages(&file.path).into_iter().filter(|page| !page.is_sound());
        damaged.extend(wrong.map(|page| (file.relative.clone(), page.block)));
    }
    damaged
}

#[cfg(test)]
mod tests {
    use super::{Fork, Kind, kind_of};

    #[test]
    fn names_say_what_a_file_is() {
        assert_eq!(kind_of("16384"), Kind::Relation(16384, Fork::Main));
        assert_eq!(kind_of("16384.12"), Kind::Relation(16384, Fork::Main));
        assert_eq!(kind_of("16384_fsm"), Kind::Relation(16384, Fork::FreeSpace));
        assert_eq!(kind_of("16384_vm.1"), Kind::Relation(16384, Fork::Visibility));
        assert_eq!(kind_of("16384_init"), Kind::Relation(16384, Fork::Init));
        assert_eq!((kind_of("PG_VERSION"), kind_of("pg_filenode.map")), (Kind::Plain, Kind::Plain));
        for passing in ["t3_16384", "pg_internal.init", "pg_internal.init.77", "pg_control", "16384_x", "x", "1.x"] {
            assert_eq!(kind_of(passing), Kind::Passing, "{passing}");
        }
    }
}
