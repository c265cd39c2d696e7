//! Chains as a tree: every set below the one it is built on.

use std::collections::{BTreeMap, BTreeSet};

use setpiece::model::{Scope, SetId, SetSummary};

/// Lines that draw the sets of one source, roots first. A set whose base is gone is a root as well.
pub(crate) fn draw<'s>(sets: impl IntoIterator<Item = &'s SetSummary>) -> Vec<String> {
    let sets: BTreeMap<SetId, &SetSummary> =
        sets.into_iter().filter(|set| set.scope != Scope::Log).map(|set| (set.id, set)).collect();
    let mut above: BTreeMap<Option<SetId>, Vec<&SetSummary>> = BTreeMap::new();
    for set in sets.values() {
        above.entry(set.base.filter(|base| sets.contains_key(base))).or_default().push(set);
    }
    let mut drawing = Drawing { above, lines: Vec::new(), seen: BTreeSet::new() };
    drawing.children(None, "");
    drawing.lines
}

struct Drawing<'s> {
    above: BTreeMap<Option<SetId>, Vec<&'s SetSummary>>,
    lines: Vec<String>,
    seen: BTreeSet<SetId>,
}

impl Drawing<'_> {
    fn children(&mut self, base: Option<SetId>, indent: &str) {
        let sets = self.above.remove(&base).unwrap_or_default();
        for (at, set) in sets.iter().enumerate() {
            if !self.seen.insert(set.id) {
                continue;
            }
            let last = at + 1 == sets.len();
            let (branch, below) = match (base, last) {
                (None, _) => ("", ""),
                (_, true) => ("└─ ", "   "),
                (_, false) => ("├─ ", "│  "),
            };
            let lost = if base.is_none() && set.base.is_some() { ", its base is gone" } else { "" };
            self.lines.push(format!("{indent}{branch}{}  {}{lost}", set.name, set.level));
            self.children(Some(set.id), &format!("{indent}{below}"));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use setpiece::model::{BranchHistory, BranchId, Consistency, Level, Lsn, SourceId, Timestamp, Uuid};

    pub(crate) fn set(number: u64, level: Level, base: Option<u64>) -> SetSummary {
        let id = |number| SetId(Uuid::from_time(number, [0; 10]));
        SetSummary {
            id: id(number),
            name: format!("s{number}"),
            source: SourceId::default(),
            source_name: "app".into(),
            engine: "test".into(),
            level,
            scope: Scope::Database,
            base: base.map(id),
            consistency: Consistency::NoLogNeeded,
            online: true,
            branch: BranchHistory::first(BranchId(1)),
            nodes: Vec::new(),
            bak_end_lsn: Lsn(number),
            began: Timestamp(0),
            ended: Timestamp(0),
            bad_pages: 0,
            marks: None,
        }
    }

    #[test]
    fn increments_hang_below_their_bases() {
        let sets = [
            set(1, Level::Full, None),
            set(2, Level::Differential, Some(1)),
            set(3, Level::Differential, Some(2)),
            set(4, Level::Cumulative, Some(1)),
            set(9, Level::Differential, Some(8)),
        ];
        let lines = draw(&sets);
        let expected = [
            "s1  full",
            "├─ s2  differential",
            "│  └─ s3  differential",
            "└─ s4  cumulative",
            "s9  differential, its base is gone",
        ];
        assert_eq!(lines, expected);
    }
}
