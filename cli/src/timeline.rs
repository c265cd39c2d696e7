//! The time line as a small picture: one row for each branch, `=` where recovery is possible.
//!
//! Pure: what is drawn is passed in, and so is the width.

use setpiece::model::window::Window;
use setpiece::model::{BranchId, Level, Scope, SetSummary, Timestamp};

/// Columns of the picture.
pub(crate) const WIDTH: usize = 64;

/// Draws the sets and windows of one source. Empty when there is nothing to draw.
pub(crate) fn draw(sets: &[&SetSummary], windows: &[Window], width: usize) -> Vec<String> {
    let sets: Vec<&SetSummary> = sets.iter().copied().filter(|set| set.scope != Scope::Log).collect();
    let Some(scale) = Scale::over(&sets, windows, width) else { return Vec::new() };
    let mut branches: Vec<BranchId> = Vec::new();
    let of_windows = windows.iter().map(|window| window.branch);
    for branch in of_windows.chain(sets.iter().map(|set| set.branch.current)) {
        if !branches.contains(&branch) {
            branches.push(branch);
        }
    }
    let label = branches.iter().map(|branch| branch.to_string().len()).max().unwrap_or(0);
    let mut lines = vec![scale.axis(label + 8)];
    for branch in branches {
        let row = row(&scale, branch, &sets, windows);
        lines.push(format!("branch {:<label$} {row}", branch.to_string()).trim_end().to_owned());
    }
    lines.push(
        "F full  D differential  C cumulative  = recoverable  - the same, on the branch it came from  . not".into(),
    );
    lines
}

/// One row: recoverable stretches first, sets on top of them.
fn row(scale: &Scale, branch: BranchId, sets: &[&SetSummary], windows: &[Window]) -> String {
    let mut cells = vec![' '; scale.width];
    let own: Vec<&SetSummary> = sets.iter().copied().filter(|set| set.branch.current == branch).collect();
    let windows: Vec<&Window> = windows.iter().filter(|window| window.branch == branch).collect();
    let begin = windows.iter().map(|w| w.from_time).chain(own.iter().map(|set| set.ended)).min();
    let end = windows.iter().map(|w| w.to_time.unwrap_or(w.from_time)).chain(own.iter().map(|set| set.ended)).max();
    if let (Some(begin), Some(end)) = (begin, end) {
        cells[scale.column(begin)..=scale.column(end)].fill('.');
    }
    let fork = own.iter().find_map(|set| set.branch.points.last()).and_then(|point| point.made);
    for window in windows {
        let (from, to) = (scale.column(window.from_time), scale.column(window.to_time.unwrap_or(window.from_time)));
        cells[from..=to].fill('=');
        let before_fork = fork.map_or(from, |fork| scale.column(fork).clamp(from, to + 1));
        cells[from..before_fork].fill('-');
    }
    // The mark that says more wins where two fall on one column.
    let weight = |level: Level| ['D', 'C', 'F'].iter().position(|have| *have == mark(level));
    let mut marked = own;
    marked.sort_by_key(|set| weight(set.level));
    for set in marked {
        cells[scale.column(set.ended)] = mark(set.level);
    }
    cells.into_iter().collect()
}

fn mark(level: Level) -> char {
    match level {
        Level::Full => 'F',
        Level::Differential => 'D',
        Level::Cumulative => 'C',
    }
}

/// Where on the picture a moment is.
struct Scale {
    first: Timestamp,
    last: Timestamp,
    width: usize,
}

impl Scale {
    fn over(sets: &[&SetSummary], windows: &[Window], width: usize) -> Option<Self> {
        let ends = windows.iter().flat_map(|window| [Some(window.from_time), window.to_time]).flatten();
        let times: Vec<Timestamp> = sets.iter().map(|set| set.ended).chain(ends).collect();
        let (first, last) = (*times.iter().min()?, *times.iter().max()?);
        Some(Scale { first, last, width: width.max(2) })
    }

    fn column(&self, time: Timestamp) -> usize {
        let span = i128::from(self.last.0) - i128::from(self.first.0);
        let at = i128::from(time.0.clamp(self.first.0, self.last.0)) - i128::from(self.first.0);
        let column = at * (self.width as i128 - 1) / span.max(1);
        usize::try_from(column).unwrap_or(0).min(self.width - 1)
    }

    /// Begin and end above the two ends of the rows.
    fn axis(&self, indent: usize) -> String {
        let (first, last) = (crate::text::moment(self.first), crate::text::moment(self.last));
        let room = self.width.saturating_sub(first.len() + last.len()).max(1);
        format!("{:indent$}{first}{:room$}{last}", "", "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::set as plain;
    use setpiece::model::{BranchHistory, Lsn};

    fn at(mut set: SetSummary, seconds: i64) -> SetSummary {
        set.ended = Timestamp(seconds * 1_000_000);
        set
    }

    fn window(branch: u64, from: i64, to: i64) -> Window {
        Window {
            branch: BranchId(branch),
            from: Lsn(0),
            to: Lsn(0),
            from_time: Timestamp(from * 1_000_000),
            to_time: Some(Timestamp(to * 1_000_000)),
            sets: Vec::new(),
            gap: None,
        }
    }

    #[test]
    fn sets_windows_and_gaps_have_their_columns() {
        let sets = [
            at(plain(1, Level::Full, None), 0),
            at(plain(2, Level::Differential, Some(1)), 4),
            at(plain(3, Level::Cumulative, Some(1)), 8),
            at(plain(4, Level::Full, None), 8),
        ];
        let sets: Vec<&SetSummary> = sets.iter().collect();
        let lines = draw(&sets, &[window(1, 0, 5), window(1, 8, 10)], 11);
        assert_eq!(lines[1], "branch 1 F===D=..F==", "{lines:#?}");
    }

    #[test]
    fn what_lies_before_the_fork_is_told_apart() {
        let mut child = at(plain(2, Level::Full, None), 8);
        child.branch = BranchHistory::first(BranchId(1)).fork(BranchId(7), Lsn(5), Some(Timestamp(5_000_000)));
        let root = at(plain(1, Level::Full, None), 0);
        let lines = draw(&[&root, &child], &[window(1, 0, 10), window(7, 0, 9)], 11);
        assert_eq!(lines[1], "branch 1 F==========");
        assert_eq!(lines[2], "branch 7 -----===F=");
    }

    #[test]
    fn a_single_moment_and_nothing_at_all_can_be_drawn() {
        assert!(draw(&[], &[], 10).is_empty());
        let only = at(plain(1, Level::Full, None), 3);
        assert_eq!(draw(&[&only], &[], 10)[1], "branch 1 F");
    }
}
