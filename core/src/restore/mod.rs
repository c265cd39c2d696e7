//! Bringing a database back: plan, write into a temporary place, recover, publish.
//!
//! The plan is complete before anything is written, so a target that cannot be reached is refused while nothing has
//! happened yet. Files are written into a hidden directory beside the target, which takes the target's name when
//! everything is there, recovered and durable; a restore that fails leaves the target as it was.

mod batch;
mod doubts;
mod durable;
pub mod feed;
mod fetch;
mod gather;
mod locate;
mod output;
mod page;
mod places;
pub mod plan;
mod read;
mod request;
mod reuse;
mod sum;
mod target;

use std::path::{Path, PathBuf};

use crate::catalog::{Surroundings, check_channels};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::events::Event;
use crate::media::repository::Repository;
use crate::model::{BranchId, Consistency, Lsn, RecoveryTarget, SetSummary, Until};
use crate::source::{RecoverRequest, Recovered, Recovery};

pub use doubts::taken_ahead;
pub use fetch::fetch;
pub use page::{PageImage, PageRequest, page};
pub use plan::{RestorePlan, Share, Totals, plan};
pub use request::RestoreRequest;
pub use target::check_target;

use feed::{Feed, Noted};
use places::Places;
use reuse::Survey;
use target::Workplace;

/// What was restored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The set it began with.
    pub start: SetSummary,
    /// What was read, written and applied: of the redo, the units that the recovery took and that begin before the state
    /// it reached.
    pub totals: Totals,
    /// Whether of the last of those units only the begin was applied.
    pub last_unit_in_part: bool,
    /// How the recovery ended; `None` when the engine's part was not run because a tablespace alone was restored.
    pub recovered: Option<Recovered>,
}

/// Restores into `to`, which must not exist or be an empty directory, or, with [`RestoreRequest::delta`], holds the same
/// database already.
///
/// # Errors
/// [`ErrorKind::Unreachable`] and [`ErrorKind::ChainBroken`] before anything is written, [`ErrorKind::Target`] for a
/// target in use, [`ErrorKind::Damaged`] for stored data that is not what was written.
///
/// # Crash safety
/// The target appears whole, by a rename. A crash leaves a hidden directory beside it, named after it. A directory that is
/// rewritten is marked ([`UNFINISHED`](crate::source::UNFINISHED)) and cannot be opened by its engine until the restore is
/// done; after a failure or a crash the same restore, run again, goes on.
pub fn restore(
    repository: &Repository,
    recoveries: &[&dyn Recovery],
    request: &RestoreRequest,
    to: &Path,
    around: Surroundings<'_>,
) -> Result<RestoreReport> {
    check_channels(request.channels)?;
    around.step("plan")?;
    let plan = plan::plan(repository, recoveries, request, around)?;
    let engine = recovery_for(recoveries, &plan)?;
    around.step("target")?;
    let workplace = match survey(engine, &plan, request, to)? {
        Some(survey) => Workplace::over(survey.begin()?),
        None => Workplace::make(to)?,
    };
    let restored = run(repository, engine, &plan, request, &workplace, around)
        .doing(|| format!("restoring {} into {}", plan.start.source_name, to.display()));
    let (recovered, applied, kept) = match restored {
        Ok(done) => done,
        Err(error) => {
            workplace.throw_away();
            return Err(error);
        }
    };
    around.step("publish")?;
    let outside = workplace.tablespaces(&plan.tablespaces, &Places { map: &request.map })?;
    let outside: Vec<PathBuf> = outside.into_iter().map(|(_, place)| place).filter(|place| place.exists()).collect();
    workplace.publish(&outside)?;
    around.observer.event(&Event::Step { name: "published" });
    let write_bytes = plan.totals.write_bytes.saturating_sub(kept);
    let totals = Totals { log_units: applied.units, log_bytes: applied.bytes, write_bytes, ..plan.totals };
    Ok(RestoreReport { start: plan.start, totals, last_unit_in_part: applied.in_part, recovered })
}

/// What a restore over a directory that is there begins with; `None` for one that does not exist or is empty.
fn survey(
    engine: Option<&dyn Recovery>,
    plan: &RestorePlan,
    request: &RestoreRequest,
    to: &Path,
) -> Result<Option<Survey>> {
    if !request.delta || check_target(to).is_ok() {
        return Ok(None);
    }
    let root = std::fs::canonicalize(to).map_err(|error| Error::io(to.display().to_string(), error))?;
    let engine =
        engine.ok_or_else(|| Error::new(ErrorKind::Usage, "nothing here knows the engine of this database"))?;
    Survey::of(&root, engine, plan, &Places { map: &request.map }).map(Some)
}

/// Refuses a target as [`restore`] would, and writes nothing.
///
/// # Errors
/// As [`restore`] fails before anything is written.
pub fn check_target_of(
    recoveries: &[&dyn Recovery],
    plan: &RestorePlan,
    request: &RestoreRequest,
    to: &Path,
) -> Result<()> {
    match survey(recovery_for(recoveries, plan)?, plan, request, to)? {
        Some(_) => Ok(()),
        None => check_target(to),
    }
}

/// The redo that a recovery applied.
#[derive(Default)]
struct Applied {
    units: u64,
    bytes: u64,
    in_part: bool,
}

impl Applied {
    /// What `log` gave towards the state at `lsn`.
    fn of(log: &Noted<'_>, lsn: Lsn) -> Self {
        log.before(lsn).fold(Applied::default(), |sum, unit| Applied {
            units: sum.units + 1,
            bytes: sum.bytes + unit.len,
            in_part: sum.in_part || unit.span.upto > lsn,
        })
    }
}

fn run(
    repository: &Repository,
    engine: Option<&dyn Recovery>,
    plan: &RestorePlan,
    request: &RestoreRequest,
    workplace: &Workplace,
    around: Surroundings<'_>,
) -> Result<(Option<Recovered>, Applied, u64)> {
    around.observer.event(&Event::Started { operation: "restore", total_bytes: plan.totals.write_bytes });
    around.step("pages")?;
    let sums = engine.is_some_and(|engine| engine.wants_checksums());
    let (written, kept) = read::pages(repository, plan, request, (workplace, sums), around)?;
    let mut now = plan.key_files.iter().filter(|copy| workplace.keystone() != Some(&copy.path));
    now.try_for_each(|copy| workplace.key_file(copy))?;
    let Some(engine) = engine else { return Ok((None, Applied::default(), kept)) };
    around.step("recover")?;
    let mut feed = Feed::new(repository, plan.start.source, &plan.log, around.cancel);
    let mut feed = Noted::new(&mut feed);
    let target = bounded(&request.target, plan);
    let tablespaces = workplace.tablespaces(&plan.tablespaces, &Places { map: &request.map })?;
    let recovery = RecoverRequest {
        directory: workplace.path(),
        published: workplace.target(),
        files: &plan.files,
        written: &written,
        carried: &plan.key_files,
        from: &plan.start.nodes,
        consistent_from: plan.start.bak_end_lsn,
        complete_upto: if request.ends_with_set() { plan.start.bak_end_lsn } else { plan.reaches },
        branch: &plan.history,
        target: &target,
        new_branch: new_branch(plan)?,
        source: plan.start.source,
        tablespaces: &tablespaces,
        histories: &plan.histories,
        highest: plan.highest,
        marks: plan.start.marks.as_deref(),
    };
    let recovered = engine.recover(&recovery, &mut feed).doing(|| "recovering to the target".into())?;
    let goes_on = recovered.branch.map_or_else(
        || "goes on as a new branch when it is opened".to_owned(),
        |branch| format!("goes on as branch {branch}"),
    );
    around.decision(&format!("recovered to LSN {}; {goes_on}", recovered.lsn));
    let applied = Applied::of(&feed, recovered.lsn);
    Ok((Some(recovered), applied, kept))
}

/// The target as the engine gets it. Several nodes' redo does not end at the same LSN, so the latest state is the one up
/// to which the redo of every node is complete. Behind the last redo nothing was written, so a target there is the state
/// at its end.
fn bounded(target: &RecoveryTarget, plan: &RestorePlan) -> RecoveryTarget {
    let mut target = target.clone();
    if target.until == Until::Latest {
        target.until = Until::Lsn(plan.reaches);
    }
    let last = plan.log.iter().map(|(_, unit)| unit.span.upto).max().unwrap_or_default().max(plan.start.bak_end_lsn);
    match target.until {
        Until::Lsn(lsn) if lsn > last => RecoveryTarget { until: Until::Lsn(last), exclusive: false, ..target },
        _ => target,
    }
}

/// The recovery of the plan's engine; none for a tablespace alone, whose database has to recover it.
fn recovery_for<'r>(recoveries: &[&'r dyn Recovery], plan: &RestorePlan) -> Result<Option<&'r dyn Recovery>> {
    let found = recoveries.iter().find(|recovery| recovery.engine() == plan.start.engine).copied();
    if let Some(name) = &plan.tablespace {
        return match found.map(Recovery::tablespace_alone) {
            Some(Err(error)) => Err(error.on(name.clone())),
            _ => Ok(None),
        };
    }
    let unable = found.filter(|recovery| !recovery.stops_at(&plan.target.until));
    if let Some(recovery) = unable {
        let text = format!("{} has no named points and numbers no transactions", recovery.engine());
        return Err(Error::new(ErrorKind::Usage, text).remedy("recover to an LSN or a moment"));
    }
    let needless = plan.log.is_empty() && plan.start.consistency == Consistency::NoLogNeeded;
    if found.is_none() && !needless {
        return Err(Error::new(ErrorKind::Unsupported, format!("nothing here can recover {}", plan.start.engine))
            .on(format!("set {}", plan.start.name))
            .remedy("use a build that has support for this engine"));
    }
    Ok(found)
}

/// A branch number that no branch of the source has.
fn new_branch(plan: &RestorePlan) -> Result<BranchId> {
    loop {
        let random = getrandom::u32()
            .map_err(|error| Error::new(ErrorKind::Io, "the system gives no random bytes").because(error))?;
        let branch = BranchId(u64::from(random));
        if random != 0 && plan.histories.iter().all(|history| history.current != branch) {
            return Ok(branch);
        }
    }
}
