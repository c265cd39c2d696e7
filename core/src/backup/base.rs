//! Choosing what a backup builds on, and how changed pages are found: the cheapest way that is proven complete.

use super::filter::Baseline;
use super::options::BackupOptions;
use crate::catalog::Catalog;
use crate::catalog::index::ChainIndex;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::media::repository::Repository;
use crate::model::chain::{BaseChoice, BaseRequest, checkpoint_needed, choose_base};
use crate::model::log::{FileChanges, LogTrack, continuous};
use crate::model::{BranchHistory, Level, LogUnit, Lsn, NodeRange, SetId, SetSummary, StateMark, Tracking};
use crate::source::{BackupRun, BeginRequest, ChangeMap, IncrementRule, JoinedChanges, Source, SourceInfo};

/// How often the source is asked for a checkpoint before giving up.
const CHECKPOINTS: u32 = 16;

/// What the choice is made from.
pub(super) struct Inputs<'a> {
    pub repository: &'a Repository,
    pub source: &'a dyn Source,
    pub info: SourceInfo,
    pub catalog: Catalog,
    pub options: &'a BackupOptions,
}

/// What is taken and how.
pub(super) struct Plan<'a> {
    pub level: Level,
    pub base: Option<SetId>,
    pub baseline: Option<Baseline<'a>>,
    pub decisions: Vec<String>,
}

/// Begins the backup at the source and decides what it builds on.
///
/// Where the source's rule asks for it, checkpoints are forced and the backup is begun anew until it begins at or
/// after the end of its base.
pub(super) fn choose<'a>(job: &Inputs<'a>, request: &BeginRequest<'_>) -> Result<(Box<dyn BackupRun + 'a>, Plan<'a>)> {
    let mut forced = 0;
    loop {
        let run = job.source.begin(request).doing(|| "beginning the backup at the source".into())?;
        let choice = base_choice(job, run.branch())?;
        let Some(base) = choice.base else {
            let plan =
                Plan { level: choice.level, base: None, baseline: None, decisions: vec![choice.reason.to_string()] };
            return Ok((run, plan));
        };
        let summary = summary_of(job, base)?;
        if must_wait(job, &*run, summary) {
            if forced == CHECKPOINTS {
                return Err(Error::new(ErrorKind::Source, "checkpoints do not get past the end of the base")
                    .on(format!("set {}", summary.name))
                    .remedy("take a full backup, or look why the source does not flush its pages"));
            }
            forced += 1;
            drop(run);
            job.source.checkpoint().doing(|| "asking the source for a checkpoint".into())?;
            continue;
        }
        let plan = increment(job, &*run, &choice, summary, forced)?;
        return Ok((run, plan));
    }
}

fn base_choice(job: &Inputs<'_>, branch: &BranchHistory) -> Result<BaseChoice> {
    let readable = job.repository.vault().can_read();
    let usable = |set: SetId| {
        if !readable {
            return Err("it cannot be read with public keys alone".to_owned());
        }
        job.catalog.whole(set).map_err(|error| error.to_string())
    };
    let request = BaseRequest {
        source: job.info.id,
        scope: &job.options.scope,
        level: job.options.level,
        branch,
        forced: job.options.base,
        log_archived: &|set| job.catalog.log_archived(set),
    };
    Ok(choose_base(&request, &job.catalog.summaries(), &usable)?)
}

fn summary_of<'j>(job: &'j Inputs<'_>, base: SetId) -> Result<&'j SetSummary> {
    let record = job.catalog.get(base);
    record.map(|record| &record.summary).ok_or_else(|| Error::new(ErrorKind::Internal, "the base is not on record"))
}

fn must_wait(job: &Inputs<'_>, run: &dyn BackupRun, base: &SetSummary) -> bool {
    let begin: Vec<_> = run.begin().iter().map(|position| (position.node, position.lsn)).collect();
    job.source.increment_rule() == IncrementRule::CheckpointUntilBaseEnd
        && checkpoint_needed(&begin, &base.nodes).is_some()
}

fn increment<'a>(
    job: &Inputs<'a>,
    run: &dyn BackupRun,
    choice: &BaseChoice,
    base: &SetSummary,
    forced: u32,
) -> Result<Plan<'a>> {
    let mut decisions = vec![choice.reason.to_string()];
    if forced > 0 {
        decisions
            .push(format!("{forced} checkpoints were asked for until the backup began behind the end of its base"));
    }
    // Everything up to the begin of the base was surely in the files when the base read them; nothing later was.
    let since = base.nodes.iter().map(|node| node.begin_lsn).min().unwrap_or_default();
    let (changes, how) = changed_pages(job, run, base, since)?;
    let hashed = changes.is_none() && run.files().iter().any(|file| file.tracking == Tracking::PageHash);
    decisions.push(how);
    let chain = ChainIndex::open(job.repository, &job.catalog.chain(base.id)?, hashed)
        .doing(|| format!("opening the base {}", base.name))?;
    let baseline = Baseline::new(job.repository, chain, (since, base.began), changes);
    Ok(Plan { level: choice.level, base: choice.base, baseline: Some(baseline), decisions })
}

/// A change map, if there is a complete one: from the redo on record as far as that reaches without a gap, and from
/// there on from the source; or from the source alone. Otherwise why not, and what is done instead.
fn changed_pages(
    job: &Inputs<'_>,
    run: &dyn BackupRun,
    base: &SetSummary,
    since: Lsn,
) -> Result<(Option<JoinedChanges>, String)> {
    // The marks are those of the end of the base; only where that is also its begin do they name the state at `since`.
    let marks = base.marks.as_deref().filter(|_| since == base.bak_end_lsn);
    let mut on_record = JoinedChanges::new();
    let (reached, reached_marks) = add_from_record(job, run, base, (since, marks), &mut on_record);
    let mut not_the_rest = None;
    if reached > since {
        match run.change_map(reached, reached_marks.as_deref())? {
            ChangeMap::Complete { changes, how } => {
                add(&mut on_record, &changes);
                let how = format!("changed pages: from the redo on record up to LSN {reached}, then from {how}");
                return Ok((Some(on_record), how));
            }
            ChangeMap::Unknown(why) => not_the_rest = Some(why),
        }
    }
    match run.change_map(since, marks)? {
        ChangeMap::Complete { changes, how } => {
            let mut map = JoinedChanges::new();
            add(&mut map, &changes);
            Ok((Some(map), format!("changed pages: from {how}")))
        }
        ChangeMap::Unknown(why) => {
            let why = not_the_rest.unwrap_or(why);
            Ok((None, format!("changed pages: by looking at every page, because {why}")))
        }
    }
}

/// Adds what units on record say they change, as long as they follow each other and say it; gives the LSN up to which
/// that is complete for every node, and the marks of the state there.
fn add_from_record(
    job: &Inputs<'_>,
    run: &dyn BackupRun,
    base: &SetSummary,
    (since, marks): (Lsn, Option<&[StateMark]>),
    map: &mut JoinedChanges,
) -> (Lsn, Option<Vec<StateMark>>) {
    let units: Vec<&LogUnit> = job
        .catalog
        .of_source(job.info.id)
        .filter(|record| record.summary.branch.agrees_with(run.branch()))
        .flat_map(|record| &record.log)
        .filter(|unit| unit.changes.is_some())
        .collect();
    let (mut reached, mut reached_marks) = (Lsn(u64::MAX), None);
    for node in &base.nodes {
        let track = LogTrack::new(units.iter().copied(), node.node, |branch| run.branch().reach(branch));
        let stretch = track.from_state(since, marks);
        stretch.units.iter().filter_map(|unit| unit.changes.as_ref()).for_each(|changes| add(map, changes));
        let Some(last) = stretch.units.last().filter(|_| !base.nodes.is_empty()) else { return (since, None) };
        // A unit of a branch that was left counts up to where it was left.
        if stretch.reached < reached {
            (reached, reached_marks) = (stretch.reached, last.marks_at(stretch.reached));
        }
    }
    if base.nodes.is_empty() { (since, None) } else { (reached, reached_marks) }
}

fn add(map: &mut JoinedChanges, changes: &[FileChanges]) {
    for change in changes {
        map.entry(change.file).or_default().union(&change.pages);
    }
}

/// Whether the redo that the source handed over covers what it said the set needs.
pub(super) fn check_log(nodes: &[NodeRange], units: &[LogUnit]) -> Result<()> {
    for range in nodes {
        let (chain, gap) = continuous(units, range.node, range.begin_lsn, |_| Some(Lsn(u64::MAX)));
        let reached = chain.last().map_or(range.begin_lsn, |last| last.span.upto);
        if reached < range.end_lsn {
            let missing = gap.map_or_else(
                || format!("redo behind LSN {reached} of node {} is missing", range.node),
                |gap| gap.to_string(),
            );
            return Err(Error::new(ErrorKind::Source, missing)
                .remedy("the set would not be consistent: look at the source's log archive, then back up again"));
        }
    }
    Ok(())
}
