//! What the redo from one LSN to another changes, from the summaries that servers from 17 on keep of their log when
//! `summarize_wal` is on.
//!
//! A summary covers the records of one timeline that begin from its first LSN on and before its last. It names blocks,
//! and for a fork that was made, cut or dropped the block from which on nothing is as it was; a relation of number 0
//! stands for all relations of a database in a tablespace. (Functions and meaning from PostgreSQL's documentation of
//! `pg_available_wal_summaries`, `pg_wal_summary_contents` and `pg_get_wal_summarizer_state`.)
//!
//! Servers before 17.11 and 18.6 leave visibility maps out that a flag of a record cleared. Those are taken whole anyway.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use setpiece_core::model::log::FileChanges;
use setpiece_core::model::{BranchHistory, BranchId, FileId, Lsn, PageRun, PageSet};
use setpiece_core::{Error, ErrorKind, Result};

use super::number;
use super::translate::from;
use crate::client::Row;
use crate::session::{Session, lsn, number as parsed};
use crate::wal::{DatabaseDir, Fork, RelFork, lsn_text};

/// The first version that has them.
const OLDEST: u32 = 170_000;
/// How long the server may take to summarize its log up to the begin of the backup.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// A stretch of one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    timeline: u64,
    from: Lsn,
    upto: Lsn,
}

/// What the records change that begin from `since` on and before `upto`, along a history; or why that is not known.
///
/// # Errors
/// When the server cannot be asked.
pub(crate) fn changes(
    session: &mut Session,
    history: &BranchHistory,
    since: Lsn,
    upto: Lsn,
) -> Result<Result<Vec<FileChanges>, String>> {
    if session.version < OLDEST {
        return Ok(Err("the server keeps no summaries of it".into()));
    }
    let wanted = stretches(history, since, upto);
    let begun = Instant::now();
    let summaries = loop {
        let have = available(session)?;
        let missing = match cover(&wanted, &have) {
            Ok(summaries) => break summaries,
            Err(missing) => missing,
        };
        let done = summarized(session)?;
        // What is missing before the place where the summarizer is now never comes.
        let comes = done.is_some_and(|done| done <= missing) && missing > since;
        if !comes || begun.elapsed() > PATIENCE {
            let off = if done.is_none() { " (summarize_wal is off)" } else { "" };
            return Ok(Err(format!("its summaries lack what was written from {} on{off}", lsn_text(missing))));
        }
        thread::sleep(PAUSE);
    };
    let mut named: BTreeMap<FileId, PageSet> = BTreeMap::new();
    for summary in summaries {
        for row in contents(session, summary)? {
            let (file, run) = block(&row)?;
            named.entry(file).or_default().insert(run);
        }
    }
    Ok(Ok(named.into_iter().map(|(file, pages)| FileChanges { file, pages }).collect()))
}

/// The part of each timeline that belongs to a history, from `since` up to `upto`.
fn stretches(history: &BranchHistory, since: Lsn, upto: Lsn) -> Vec<Stretch> {
    let mut begin = Lsn(0);
    let mut stretches = Vec::new();
    let mut add = |branch: BranchId, end: Lsn| {
        let stretch = Stretch { timeline: branch.0, from: begin.max(since), upto: end.min(upto) };
        begin = end;
        if stretch.from < stretch.upto {
            stretches.push(stretch);
        }
    };
    history.points.iter().for_each(|point| add(point.parent, point.fork));
    add(history.current, Lsn(u64::MAX));
    stretches
}

/// The summaries that cover all of `wanted` without a gap.
///
/// # Errors
/// The first LSN that none of them covers.
fn cover(wanted: &[Stretch], have: &[Stretch]) -> Result<Vec<Stretch>, Lsn> {
    let mut chosen = Vec::new();
    for stretch in wanted {
        let mut reached = stretch.from;
        while reached < stretch.upto {
            let fits = |one: &&Stretch| one.timeline == stretch.timeline && one.from <= reached && one.upto > reached;
            let next = have.iter().filter(fits).max_by_key(|one| one.upto).ok_or(reached)?;
            reached = next.upto;
            chosen.push(*next);
        }
    }
    Ok(chosen)
}

fn available(session: &mut Session) -> Result<Vec<Stretch>> {
    let rows = session.query("SELECT tli, start_lsn, end_lsn FROM pg_available_wal_summaries()")?;
    let stretch = |row: &Row| {
        Ok(Stretch {
            timeline: parsed(row.get("tli")?)?,
            from: lsn(row.get("start_lsn")?)?,
            upto: lsn(row.get("end_lsn")?)?,
        })
    };
    rows.iter().map(stretch).collect()
}

/// How far the summarizer has come; `None` when there is none.
fn summarized(session: &mut Session) -> Result<Option<Lsn>> {
    let sql = "SELECT summarized_lsn FROM pg_get_wal_summarizer_state() WHERE summarizer_pid IS NOT NULL";
    session.query(sql)?.first().map(|row| lsn(row.get("summarized_lsn")?)).transpose()
}

/// The blocks of a summary, neighbours together.
fn contents(session: &mut Session, summary: Stretch) -> Result<Vec<Row>> {
    let fork = "reltablespace, reldatabase, relfilenode, relforknumber, is_limit_block";
    session.query(&format!(
        "SELECT {fork}, min(relblocknumber) AS first, count(*) AS blocks FROM (SELECT {fork}, relblocknumber, \
         relblocknumber - row_number() OVER (PARTITION BY {fork} ORDER BY relblocknumber) AS run FROM \
         pg_wal_summary_contents({}, '{}', '{}')) AS c GROUP BY {fork}, run",
        summary.timeline,
        lsn_text(summary.from),
        lsn_text(summary.upto)
    ))
}

fn block(row: &Row) -> Result<(FileId, PageRun)> {
    let directory =
        DatabaseDir { tablespace: parsed(row.get("reltablespace")?)?, database: parsed(row.get("reldatabase")?)? };
    let relation: u32 = parsed(row.get("relfilenode")?)?;
    if relation == 0 {
        return Ok((number::directory(directory), from(0)));
    }
    let DatabaseDir { tablespace, database } = directory;
    let fork = Fork::from_number(parsed(row.get("relforknumber")?)?)
        .ok_or_else(|| Error::new(ErrorKind::Source, "a summary of the log names a fork that is not known"))?;
    let first: u32 = parsed(row.get("first")?)?;
    let run = match row.get("is_limit_block")? {
        "t" => from(first),
        _ => PageRun::new(first.into(), parsed(row.get("blocks")?)?),
    };
    Ok((number::fork(RelFork { tablespace, database, relation, fork }), run))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(timeline: u64, from: u64, upto: u64) -> Stretch {
        Stretch { timeline, from: Lsn(from), upto: Lsn(upto) }
    }

    #[test]
    fn only_the_part_of_a_timeline_that_was_not_left_counts() {
        let history = BranchHistory::first(BranchId(1)).fork(BranchId(2), Lsn(100), None);
        let history = history.fork(BranchId(4), Lsn(150), None);
        let all = [stretch(1, 10, 100), stretch(2, 100, 150), stretch(4, 150, 300)];
        assert_eq!(stretches(&history, Lsn(10), Lsn(300)), all);
        assert_eq!(stretches(&history, Lsn(100), Lsn(140)), [stretch(2, 100, 140)]);
        assert_eq!(stretches(&history, Lsn(150), Lsn(150)), []);
        assert_eq!(cover(&all, &[stretch(1, 0, 120), stretch(2, 90, 150), stretch(4, 150, 400)]).unwrap().len(), 3);
        // What the first timeline wrote behind the fork is another history.
        assert_eq!(cover(&all, &[stretch(1, 0, 400)]), Err(Lsn(100)));
    }

    #[test]
    fn a_gap_between_summaries_is_seen() {
        let wanted = [stretch(1, 10, 100)];
        assert_eq!(cover(&wanted, &[]), Err(Lsn(10)));
        assert_eq!(cover(&wanted, &[stretch(1, 11, 100)]), Err(Lsn(10)));
        assert_eq!(cover(&wanted, &[stretch(1, 0, 50), stretch(1, 51, 100)]), Err(Lsn(50)));
        assert_eq!(cover(&wanted, &[stretch(1, 0, 50), stretch(1, 50, 99)]), Err(Lsn(99)));
        assert_eq!(cover(&wanted, &[stretch(1, 0, 50), stretch(1, 50, 70), stretch(1, 40, 100)]).unwrap().len(), 2);
    }
}
