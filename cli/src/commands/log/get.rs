//! `setpiece log get`: archived redo as files, in the order of the log.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use setpiece::catalog::Catalog;
use setpiece::model::{LogUnit, SetId, SourceId, Timestamp};
use setpiece::restore::feed::Feed;
use setpiece::source::LogFeed;
use setpiece::{Error, ErrorKind, Result};

use super::GetOptions;
use crate::console::{Answer, Console};
use crate::documents::{GapDocument, UnitDocument};
use crate::options::{Moment, SourceWord};
use crate::text;

#[derive(Serialize)]
struct Document {
    to: std::path::PathBuf,
    units: Vec<FileDocument>,
    gaps: Vec<GapDocument>,
    bytes: u64,
}

#[derive(Serialize)]
struct FileDocument {
    file: String,
    #[serde(flatten)]
    unit: UnitDocument,
}

pub(super) fn run(options: &GetOptions, to: &Path, console: &Console) -> Result<Answer> {
    let setpiece = options.repo.open(console)?;
    setpiece.refuse_inside(to)?;
    let catalog = setpiece.catalog()?;
    let said = SourceWord::of(options.source.as_deref())?;
    let source = catalog.find_source(said.as_ref().map(|said| said.word.as_str()));
    let source = source.map_err(|error| SourceWord::told(said.as_ref(), error))?;
    let chosen = choose(&catalog, source, &Filter::of(options, console));
    if chosen.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "there is no redo in that range")
            .on(setpiece.repository().medium().label())
            .remedy("`setpiece sets --all` lists the redo on record"));
    }
    let gaps: Vec<GapDocument> = gaps(&chosen);
    let failed = |error| Error::io(to.display().to_string(), error);
    fs::create_dir_all(to).map_err(failed)?;
    let mut feed = Feed::new(setpiece.repository(), source, &chosen, &console.cancel);
    let mut units = Vec::new();
    while let Some((unit, bytes)) = feed.next()? {
        let file = file_name(&unit);
        write(to, &file, &bytes)?;
        units.push(FileDocument { file, unit: (&unit).into() });
    }
    File::open(to).and_then(|directory| directory.sync_all()).map_err(failed)?;
    let bytes = units.iter().map(|file| file.unit.bytes).sum();
    let mut text = format!(
        "{} of redo, {}, written to {}\n",
        text::count(units.len() as u64, "unit"),
        text::bytes(bytes),
        to.display()
    );
    for gap in &gaps {
        text += &format!("gap: redo ({}, {}] of branch {} is missing\n", gap.after_lsn, gap.upto_lsn, gap.branch);
    }
    Answer::new(&Document { to: to.to_owned(), units, gaps, bytes }, text)
}

/// Which units are wanted.
struct Filter {
    branch: Option<u64>,
    from_lsn: Option<u64>,
    until_lsn: Option<u64>,
    from_time: Option<Timestamp>,
    until_time: Option<Timestamp>,
}

impl Filter {
    fn of(options: &GetOptions, console: &Console) -> Self {
        let time = |moment: &Option<Moment>| moment.as_ref().map(|moment| moment.said(console));
        Filter {
            branch: options.branch,
            from_lsn: options.from_lsn,
            until_lsn: options.until_lsn,
            from_time: time(&options.from_time),
            until_time: time(&options.until_time),
        }
    }

    /// A unit that has some of the wanted range is wanted whole. One whose times are not known is taken for wanted.
    fn wants(&self, unit: &LogUnit) -> bool {
        self.branch.is_none_or(|branch| unit.branch.0 == branch)
            && self.from_lsn.is_none_or(|lsn| unit.span.upto.0 > lsn)
            && self.until_lsn.is_none_or(|lsn| unit.span.after.0 < lsn)
            && self.from_time.is_none_or(|time| unit.last_commit.is_none_or(|last| last >= time))
            && self.until_time.is_none_or(|time| unit.first_commit.is_none_or(|first| first <= time))
    }
}

/// The wanted units in the order of the log, each once, with a set that holds it.
fn choose(catalog: &Catalog, source: SourceId, filter: &Filter) -> Vec<(SetId, LogUnit)> {
    let whole = catalog.of_source(source).filter(|record| record.missing.is_empty());
    let units = whole.flat_map(|record| record.log.iter().map(|unit| (record.summary.id, unit)));
    let mut seen = BTreeSet::new();
    let mut chosen: Vec<(SetId, LogUnit)> = units
        .filter(|(_, unit)| filter.wants(unit))
        .filter(|(_, unit)| seen.insert((unit.node, unit.branch, unit.seq, unit.span.after, unit.span.upto)))
        .map(|(set, unit)| (set, unit.clone()))
        .collect();
    // Of units that begin alike the one that reaches farther holds the other.
    let place = |unit: &LogUnit| (unit.node, unit.branch, unit.seq, unit.span.after);
    chosen.sort_by_key(|(_, unit)| (place(unit), Reverse(unit.span.upto)));
    chosen.dedup_by_key(|(_, unit)| place(unit));
    chosen
}

/// What is missing between units of one node and branch.
fn gaps(chosen: &[(SetId, LogUnit)]) -> Vec<GapDocument> {
    let pairs = chosen.windows(2).map(|pair| (&pair[0].1, &pair[1].1));
    let same = pairs.filter(|(last, next)| last.node == next.node && last.branch == next.branch);
    same.filter_map(|(last, next)| next.follows(last).err()).map(Into::into).collect()
}

/// The engine's own name where that is a plain file name, otherwise one that sorts in the order of the log.
fn file_name(unit: &LogUnit) -> String {
    let plain = |name: &&String| {
        let byte = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && name.bytes().all(byte)
    };
    match unit.name.as_ref().filter(plain) {
        Some(name) => name.clone(),
        None => format!("{}-{:04}-{:020}.redo", unit.branch, unit.node.0, unit.seq.0),
    }
}

/// Writes a file that must not be there yet; what cannot be finished is removed.
fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = directory.join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(ErrorKind::Exists, "is there already and is not overwritten")
            .on(path.display().to_string())
            .remedy("choose an empty directory"),
        _ => Error::io(path.display().to_string(), error),
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
        // Half a unit would look like a whole one; the error tells what happened.
        drop(fs::remove_file(&path));
        Error::io(path.display().to_string(), error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use setpiece::model::lsn::LsnSpan;
    use setpiece::model::{BranchId, Lsn, NodeId, Seq};

    fn unit(seq: u64) -> LogUnit {
        LogUnit {
            node: NodeId(0),
            branch: BranchId(1),
            seq: Seq(seq),
            span: LsnSpan { after: Lsn(seq * 10), upto: Lsn(seq * 10 + 10) },
            first_commit: Some(Timestamp(seq as i64 * 100)),
            last_commit: Some(Timestamp(seq as i64 * 100 + 50)),
            len: 1,
            changes: None,
            name: None,
            links: None,
            timing: None,
            points: None,
        }
    }

    #[test]
    fn a_unit_with_any_of_the_range_is_wanted() {
        let all = || Filter { branch: None, from_lsn: None, until_lsn: None, from_time: None, until_time: None };
        let wanted = |filter: Filter| (0..5).filter(|seq| filter.wants(&unit(*seq))).collect::<Vec<_>>();
        assert_eq!(wanted(all()), [0, 1, 2, 3, 4]);
        assert_eq!(wanted(Filter { branch: Some(2), ..all() }), [0; 0]);
        assert_eq!(wanted(Filter { from_lsn: Some(20), until_lsn: Some(31), ..all() }), [2, 3]);
        let (from, until) = (Some(Timestamp(120)), Some(Timestamp(300)));
        assert_eq!(wanted(Filter { from_time: from, until_time: until, ..all() }), [1, 2, 3]);
    }

    #[test]
    fn names_from_the_medium_cannot_leave_the_directory() {
        let named = |name: &str| file_name(&LogUnit { name: Some(name.into()), ..unit(7) });
        assert_eq!(named("000000010000000000000007"), "000000010000000000000007");
        for hostile in ["../x", "a/b", ".hidden", "", "a\0"] {
            assert_eq!(named(hostile), "1-0000-00000000000000000007.redo");
        }
    }

    #[test]
    fn gaps_are_told() {
        let at = |seq| (SetId::default(), unit(seq));
        assert!(gaps(&[at(1), at(2)]).is_empty());
        let gaps = gaps(&[at(1), at(3)]);
        assert_eq!((gaps[0].after_lsn, gaps[0].upto_lsn), (20, 30));
    }
}
