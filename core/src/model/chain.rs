//! Chains: a set and the bases below it, and which set an increment is built on.
//!
//! Pure: whether a set is whole on its medium is asked of the caller.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fmt;

use super::branch::BranchHistory;
use super::id::{BranchId, NodeId, SetId, SourceId};
use super::lineage;
use super::lsn::Lsn;
use super::set::{Consistency, Level, NodeRange, Scope, SetSummary};
use crate::error::{Error, ErrorKind};

/// The longest chain that is followed, in sets.
pub const MAX_CHAIN: usize = 10_000;

/// Tells whether a set is whole on its medium, or why it is not. Says nothing of its bases.
pub type Usable<'a> = dyn Fn(SetId) -> Result<(), String> + 'a;

/// What the base of a backup is chosen for.
#[derive(Clone, Copy)]
pub struct BaseRequest<'a> {
    /// The source.
    pub source: SourceId,
    /// What is to be backed up.
    pub scope: &'a Scope,
    /// The level asked for.
    pub level: Level,
    /// The branch the source is on.
    pub branch: &'a BranchHistory,
    /// The base that the user insists on.
    pub forced: Option<SetId>,
    /// Whether the redo that a set left out is archived.
    pub log_archived: &'a dyn Fn(&SetSummary) -> bool,
}

/// What is to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChoice {
    /// The level: the one asked for, or `Full` where there is no base.
    pub level: Level,
    /// The base; `None` exactly when `level` is `Full`.
    pub base: Option<SetId>,
    /// Why.
    pub reason: BaseReason,
}

/// A set that was looked at and cannot be the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The set.
    pub set: SetId,
    /// Its name.
    pub name: String,
    /// Why it cannot.
    pub why: Misfit,
}

/// Why a base was chosen, or none. Its text is meant for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaseReason {
    /// A full was asked for.
    FullAsked,
    /// The user named the base.
    Named {
        /// The base's name.
        name: String,
    },
    /// The nearest set that fits.
    Nearest {
        /// The level that is taken.
        level: Level,
        /// The base's name.
        name: String,
        /// The base's level.
        base_level: Level,
        /// The newest set that would have been nearer.
        passed: Option<PassedOver>,
    },
    /// A full is taken although an increment was asked for.
    NoBase {
        /// The level asked for.
        asked: Level,
        /// The nearest set and why it does not fit; `None` when the source has no set of such a scope and level.
        nearest: Option<PassedOver>,
    },
}

impl fmt::Display for BaseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BaseReason::FullAsked => f.write_str("full, as asked"),
            BaseReason::Named { name } => write!(f, "on set {name}, as asked"),
            BaseReason::Nearest { level, name, base_level, passed } => {
                write!(f, "{level} on {base_level} set {name}, the nearest that can be its base")?;
                match passed {
                    Some(over) => write!(f, "; set {} is newer but {}", over.name, over.why),
                    None => Ok(()),
                }
            }
            BaseReason::NoBase { asked, nearest: None } => {
                let what = if *asked == Level::Cumulative { "no full set" } else { "no set" };
                write!(f, "full instead of {asked}: there is {what} of this source and scope yet")
            }
            BaseReason::NoBase { asked, nearest: Some(over) } => {
                write!(f, "full instead of {asked}: no set can be its base; the nearest, {}, {}", over.name, over.why)
            }
        }
    }
}

/// Why a set cannot be the base of an increment. Reads as what follows "the set".
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misfit {
    /// Another database.
    OtherSource,
    /// It does not hold what the increment is about.
    OtherScope(Scope),
    /// A cumulative increment needs a full set.
    NotFull(Level),
    /// It is on a branch that the source did not come from.
    OtherBranch(BranchId),
    /// It is on an ancestor of the source's branch but behind the fork.
    BehindFork {
        /// The branch of the set.
        branch: BranchId,
        /// The last LSN of that branch which the source still has.
        fork: Lsn,
    },
    /// It, or a set below it, holds damaged pages.
    BadPages(SetId),
    /// It left out its redo, and that is not archived.
    NoLog,
    /// It, or a set below it, is gone or not whole.
    Broken(Box<ChainError>),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::OtherSource => f.write_str("is of another source"),
            Misfit::OtherScope(scope) => write!(f, "is about {scope}"),
            Misfit::NotFull(level) => write!(f, "is {level}, not full"),
            Misfit::OtherBranch(branch) => write!(f, "is on branch {branch}, which this source did not come from"),
            Misfit::BehindFork { branch, fork } => {
                write!(f, "is on branch {branch} behind LSN {fork}, at which this source left that branch")
            }
            Misfit::BadPages(set) => write!(f, "has damaged pages in its chain (set {set})"),
            Misfit::NoLog => f.write_str("was taken without its log, which is not archived"),
            Misfit::Broken(error) => write!(f, "cannot be restored: {error}"),
        }
    }
}

/// Why there is no chain or no base.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No such set.
    #[error("set {0} is not in the repository")]
    Unknown(SetId),
    /// A base is gone.
    #[error("set {base}, the base of {name}, is missing")]
    Missing {
        /// The base.
        base: SetId,
        /// The name of the set that needs it.
        name: String,
    },
    /// A set is there but not whole.
    #[error("set {name} is not whole: {why}")]
    NotWhole {
        /// The set's name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The chain leads back to a set that is in it.
    #[error("set {0} is its own base")]
    Cycle(SetId),
    /// More than [`MAX_CHAIN`] sets.
    #[error("the chain has more than {MAX_CHAIN} sets")]
    TooLong,
    /// A base that never was one: another source, another scope, or a level that does not fit.
    #[error("set {name} cannot stand on its base {base}: {why}")]
    Impossible {
        /// The set's name.
        name: String,
        /// The base.
        base: SetId,
        /// What does not fit.
        why: &'static str,
    },
    /// An increment that names no base.
    #[error("set {name} is {level} but names no base")]
    NoBase {
        /// The set's name.
        name: String,
        /// Its level.
        level: Level,
    },
    /// Increments of this scope do not exist.
    #[error("there is no {level} backup of {scope}; only a full one can be taken")]
    NeverIncremental {
        /// The scope.
        scope: Scope,
        /// The level asked for.
        level: Level,
    },
    /// A base was named for a full backup.
    #[error("a full backup has no base, but {0} was named")]
    FullHasNoBase(SetId),
    /// The base that the user named does not fit.
    #[error("set {} cannot be the base: it {}", .0.name, .0.why)]
    Refused(Box<PassedOver>),
}

impl From<ChainError> for Error {
    fn from(error: ChainError) -> Self {
        let (kind, remedy) = match &error {
            ChainError::Unknown(_) => (ErrorKind::NotFound, "`setpiece sets` lists what there is"),
            ChainError::NeverIncremental { .. } => (ErrorKind::Usage, "ask for a full backup"),
            ChainError::FullHasNoBase(_) => (ErrorKind::Usage, "leave out the base, or ask for an increment"),
            ChainError::Refused(_) => (ErrorKind::Usage, "name another base, or none and the nearest is taken"),
            _ => (ErrorKind::ChainBroken, "use a set whose chain is whole; take a full backup soon"),
        };
        Error::new(kind, error.to_string()).remedy(remedy)
    }
}

/// The sets of a repository by their ids.
pub(super) struct ById<'s>(HashMap<SetId, &'s SetSummary>);

impl<'s> ById<'s> {
    pub(super) fn new(sets: &'s [SetSummary]) -> Self {
        ById(sets.iter().map(|set| (set.id, set)).collect())
    }

    pub(super) fn get(&self, id: SetId) -> Result<&'s SetSummary, ChainError> {
        self.0.get(&id).copied().ok_or(ChainError::Unknown(id))
    }

    /// The chain of `target`: itself first, the full set last.
    pub(super) fn chain(&self, target: SetId) -> Result<Vec<&'s SetSummary>, ChainError> {
        let mut set = self.get(target)?;
        let mut seen = HashSet::from([set.id]);
        let mut chain = vec![set];
        while let Some(base) = below(set)? {
            let next =
                self.0.get(&base).copied().ok_or_else(|| ChainError::Missing { base, name: set.name.clone() })?;
            stands_on(set, next)?;
            if !seen.insert(base) {
                return Err(ChainError::Cycle(base));
            }
            if chain.len() == MAX_CHAIN {
                return Err(ChainError::TooLong);
            }
            chain.push(next);
            set = next;
        }
        Ok(chain)
    }

    /// The chain of `target`, every set of which is whole.
    pub(super) fn whole_chain(&self, target: SetId, usable: &Usable<'_>) -> Result<Vec<&'s SetSummary>, ChainError> {
        let chain = self.chain(target)?;
        for set in &chain {
            usable(set.id).map_err(|why| ChainError::NotWhole { name: set.name.clone(), why })?;
        }
        Ok(chain)
    }
}

/// The base that a set names, if its level has one.
fn below(set: &SetSummary) -> Result<Option<SetId>, ChainError> {
    match (set.level, set.base) {
        (Level::Full, None) => Ok(None),
        (Level::Full, Some(base)) => {
            Err(ChainError::Impossible { name: set.name.clone(), base, why: "a full set has no base" })
        }
        (level, None) => Err(ChainError::NoBase { name: set.name.clone(), level }),
        (_, base) => Ok(base),
    }
}

/// Checks what is true of every pair of an increment and its base, whatever the branch.
fn stands_on(set: &SetSummary, base: &SetSummary) -> Result<(), ChainError> {
    let why = if set.source != base.source {
        "it is of another source"
    } else if !serves(&base.scope, &set.scope) {
        "it is about something else"
    } else if set.level == Level::Cumulative && base.level != Level::Full {
        "it is not a full set"
    } else {
        return Ok(());
    };
    Err(ChainError::Impossible { name: set.name.clone(), base: base.id, why })
}

/// Whether a set about `have` holds all pages that one about `wanted` does.
pub(super) fn serves(have: &Scope, wanted: &Scope) -> bool {
    match wanted {
        Scope::Database => *have == Scope::Database,
        Scope::Tablespace(_) => have == wanted || *have == Scope::Database,
        Scope::Table(_) | Scope::Log => false,
    }
}

/// The order in which sets are near: the nearest is the largest.
pub(super) fn nearness(set: &SetSummary) -> impl Ord + use<> {
    (set.bak_end_lsn, set.began, set.id)
}

/// The sets that a restore of `target` needs: itself first, then base by base, the full set last.
///
/// # Errors
/// When the set or a base is not among `sets`, or what the sets say of their bases cannot be true.
pub fn chain_of(target: SetId, sets: &[SetSummary]) -> Result<Vec<SetId>, ChainError> {
    Ok(ById::new(sets).chain(target)?.iter().map(|set| set.id).collect())
}

/// The sets that cannot be restored without `set`, nearest first: every dependent comes after what it stands on.
#[must_use]
pub fn dependents(set: SetId, sets: &[SetSummary]) -> Vec<SetId> {
    let mut above: HashMap<SetId, Vec<SetId>> = HashMap::new();
    for other in sets {
        if let Some(base) = other.base {
            above.entry(base).or_default().push(other.id);
        }
    }
    let mut found = Vec::new();
    let mut seen = HashSet::from([set]);
    let mut next = vec![set];
    while !next.is_empty() {
        next = next.iter().flat_map(|id| above.remove(id).unwrap_or_default()).filter(|id| seen.insert(*id)).collect();
        next.sort_unstable();
        found.extend(&next);
    }
    found
}

/// Chooses what a backup is built on: the nearest set of any level for a differential one, the nearest full set for a
/// cumulative one, among those of the same source that hold the scope, lie in the history of the branch and are whole
/// down to their full set. Where there is none, a full is to be taken.
///
/// `usable` is asked from the nearest set on, only as far as needed.
///
/// # Errors
/// When the scope knows no increments, or when the base that the user insists on does not fit.
pub fn choose_base(
    request: &BaseRequest<'_>,
    sets: &[SetSummary],
    usable: &Usable<'_>,
) -> Result<BaseChoice, ChainError> {
    if request.level == Level::Full {
        return match request.forced {
            None => Ok(BaseChoice { level: Level::Full, base: None, reason: BaseReason::FullAsked }),
            Some(base) => Err(ChainError::FullHasNoBase(base)),
        };
    }
    if !matches!(request.scope, Scope::Database | Scope::Tablespace(_)) {
        return Err(ChainError::NeverIncremental { scope: request.scope.clone(), level: request.level });
    }
    let index = ById::new(sets);
    match request.forced {
        Some(forced) => named_base(request, index.get(forced)?, &index, usable),
        None => Ok(nearest_base(request, sets, &index, usable)),
    }
}

fn named_base(
    request: &BaseRequest<'_>,
    set: &SetSummary,
    index: &ById<'_>,
    usable: &Usable<'_>,
) -> Result<BaseChoice, ChainError> {
    let refused = |why| ChainError::Refused(Box::new(PassedOver { set: set.id, name: set.name.clone(), why }));
    kin(request, set).and_then(|()| fits(request, set, index, usable)).map_err(refused)?;
    let reason = BaseReason::Named { name: set.name.clone() };
    Ok(BaseChoice { level: request.level, base: Some(set.id), reason })
}

fn nearest_base(request: &BaseRequest<'_>, sets: &[SetSummary], index: &ById<'_>, usable: &Usable<'_>) -> BaseChoice {
    let mut candidates: Vec<&SetSummary> = sets.iter().filter(|set| kin(request, set).is_ok()).collect();
    candidates.sort_by_key(|set| Reverse(nearness(set)));
    let mut passed = None;
    for set in candidates {
        match fits(request, set, index, usable) {
            Ok(()) => {
                let (level, name, base_level) = (request.level, set.name.clone(), set.level);
                let reason = BaseReason::Nearest { level, name, base_level, passed };
                return BaseChoice { level, base: Some(set.id), reason };
            }
            Err(why) => {
                passed.get_or_insert(PassedOver { set: set.id, name: set.name.clone(), why });
            }
        }
    }
    BaseChoice { level: Level::Full, base: None, reason: BaseReason::NoBase { asked: request.level, nearest: passed } }
}

/// Whether a set is of the kind that is asked for, whatever its state.
fn kin(request: &BaseRequest<'_>, set: &SetSummary) -> Result<(), Misfit> {
    if set.source != request.source {
        Err(Misfit::OtherSource)
    } else if !serves(&set.scope, request.scope) {
        Err(Misfit::OtherScope(set.scope.clone()))
    } else if request.level == Level::Cumulative && set.level != Level::Full {
        Err(Misfit::NotFull(set.level))
    } else {
        Ok(())
    }
}

/// Whether a set of the right kind can be the base, as it is.
fn fits(request: &BaseRequest<'_>, set: &SetSummary, index: &ById<'_>, usable: &Usable<'_>) -> Result<(), Misfit> {
    let branch = set.branch.current;
    match request.branch.reach(branch) {
        None => return Err(Misfit::OtherBranch(branch)),
        Some(_) if !set.branch.agrees_with(request.branch) => return Err(Misfit::OtherBranch(branch)),
        Some(fork) if !lineage::contains(request.branch, branch, set.bak_end_lsn) => {
            return Err(Misfit::BehindFork { branch, fork });
        }
        Some(_) => {}
    }
    if set.consistency == Consistency::WithoutLog && !(request.log_archived)(set) {
        return Err(Misfit::NoLog);
    }
    let broken = |error| Misfit::Broken(Box::new(error));
    let chain = index.chain(set.id).map_err(broken)?;
    if let Some(bad) = chain.iter().find(|set| set.bad_pages > 0) {
        return Err(Misfit::BadPages(bad.id));
    }
    index.whole_chain(set.id, usable).map(|_| ()).map_err(broken)
}

/// DM's rule for increments: the node for which a checkpoint is still needed because the increment would begin before
/// its base ended there; `None` when the backup may go on.
///
/// `begin` is what the source is sure to have on disk, for each node. A node of the base that has left the source is
/// held to the smallest of them, for its changes were taken over by the others.
#[must_use]
pub fn checkpoint_needed(begin: &[(NodeId, Lsn)], base: &[NodeRange]) -> Option<NodeId> {
    let least = begin.iter().map(|&(_, lsn)| lsn).min().unwrap_or_default();
    let on_disk = |node| begin.iter().find(|&&(have, _)| have == node).map_or(least, |&(_, lsn)| lsn);
    base.iter().find(|range| on_disk(range.node) < range.end_lsn).map(|range| range.node)
}
