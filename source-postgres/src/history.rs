//! Histories of timelines, as the files in which the server keeps them.

use setpiece_core::model::{BranchHistory, BranchId, BranchPoint, Lsn};
use setpiece_core::{Error, ErrorKind, Result};

pub(crate) fn history_name(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

/// Reads a history file: one line for each timeline that was left, with the LSN at which.
pub(crate) fn history(timeline: u32, text: &str) -> Result<BranchHistory> {
    let mut left: Vec<(u32, Lsn)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let parsed = words.next().and_then(|number| number.parse().ok()).zip(words.next());
        let (number, at) =
            parsed.ok_or_else(|| Error::new(ErrorKind::Damaged, format!("{line:?} is no line of a history")))?;
        left.push((number, crate::session::lsn(at)?));
    }
    let first = left.first().map_or(timeline, |(number, _)| *number);
    let mut history = BranchHistory::first(BranchId(u64::from(first)));
    let later = left.iter().skip(1).map(|(number, _)| *number).chain([timeline]);
    for ((_, fork), next) in left.iter().zip(later) {
        history = history.fork(BranchId(u64::from(next)), *fork, None);
    }
    Ok(history)
}

/// Writes a history as the server reads it; `None` for a first timeline, which has no file.
pub(crate) fn history_text(history: &BranchHistory) -> Option<String> {
    let line = |point: &BranchPoint| {
        format!("{}\t{:X}/{:X}\tleft by a recovery\n", point.parent, point.fork.0 >> 32, point.fork.0 & 0xFFFF_FFFF)
    };
    (!history.points.is_empty()).then(|| history.points.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_reads_back_as_it_was_written() {
        let text = "1\t0/3000000\tno recovery target specified\n\n2\t1/50000A0\tbefore 2026-11-22\n";
        let read = history(3, text).unwrap();
        assert_eq!((read.current, read.points.len()), (BranchId(3), 2));
        assert_eq!(read.reach(BranchId(1)), Some(Lsn(0x300_0000)));
        assert_eq!(read.reach(BranchId(2)), Some(Lsn(0x1_0500_00A0)));
        assert_eq!(history(3, &history_text(&read).unwrap()).unwrap(), read);
        assert!(history(3, "x\t0/1\n").is_err());
        assert_eq!(history_text(&BranchHistory::first(BranchId(1))), None);
    }
}
