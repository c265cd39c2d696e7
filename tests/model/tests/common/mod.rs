//! A naive backup and restore, so that the engine is proven without the code it is there to prove.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::Duration;

use setpiece_core::Result;
use setpiece_core::model::{
    BranchHistory, BranchId, FileEntry, Level, LogUnit, Lsn, NodeRange, PageSet, RecoveryTarget, Scope, SourceId, Until,
};
use setpiece_core::source::{
    BackupRun, BeginRequest, CapturedPoint, ChangeMap, EndInfo, LogFeed, PageState, RecoverRequest, Recovered,
    Recovery, Source,
};
use setpiece_model_engine::{Model, ModelRecovery};

/// Redo for a recovery, from memory.
pub struct Feed(pub VecDeque<(LogUnit, Vec<u8>)>);

impl LogFeed for Feed {
    fn next(&mut self) -> Result<Option<(LogUnit, Vec<u8>)>> {
        Ok(self.0.pop_front())
    }
}

/// A backup in memory: the restored files are in a directory already.
#[derive(Clone)]
pub struct Backup {
    pub files: Vec<FileEntry>,
    pub nodes: Vec<NodeRange>,
    pub end: Lsn,
    pub needs_log: bool,
    pub online: bool,
    pub branch: BranchHistory,
    pub redo: Vec<(LogUnit, Vec<u8>)>,
    pub source: SourceId,
    pub cookie: Vec<u8>,
    /// Pages that were taken from the source.
    pub stored: u64,
}

/// Which pages an increment takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    All,
    /// Those with an LSN behind this one, and those without.
    Behind(Lsn),
    /// Those of the change map since this LSN; all when there is none.
    Named(Lsn),
}

/// Reads a page as core must: again while it looks torn.
pub fn read_page(run: &dyn BackupRun, entry: &FileEntry, page: u64) -> (Vec<u8>, PageState) {
    let mut bytes = Vec::new();
    for _ in 0..10 {
        run.read(entry.id, page, 1, &mut bytes).unwrap();
        let state = run.inspect(entry.id, page, &bytes);
        if state != PageState::Torn {
            return (bytes, state);
        }
    }
    panic!("page {page} of {} stays torn", entry.path);
}

/// Takes a backup on top of the files that are in `target`, which are those of `base`.
pub fn backup_onto(
    model: &Model,
    scope: &Scope,
    target: &Path,
    base: Option<&Backup>,
    choice: Choice,
) -> Result<Backup> {
    let source = model.source();
    let level = if choice == Choice::All { Level::Full } else { Level::Differential };
    let mut run = source.begin(&BeginRequest { scope, level, without_log: false, cookie: None })?;
    let files = run.files().to_vec();
    let map = match choice {
        Choice::Named(since) => match run.change_map(since, None)? {
            ChangeMap::Complete { changes, .. } => Some(changes),
            ChangeMap::Unknown(_) => None,
        },
        _ => None,
    };
    for gone in base.iter().flat_map(|base| &base.files).filter(|old| !files.iter().any(|new| new.path == old.path)) {
        fs::remove_file(gone.path.below(target)).unwrap();
    }
    let mut stored = 0;
    for entry in &files {
        let in_base = base.and_then(|base| {
            base.files
                .iter()
                .find(|old| (old.id, old.generation, &old.path) == (entry.id, entry.generation, &entry.path))
        });
        let path = entry.path.below(target);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut content = if in_base.is_some() { fs::read(&path).unwrap() } else { Vec::new() };
        content.resize(entry.len as usize, 0);
        let valid = run.valid_pages(entry.id)?;
        let named: Option<PageSet> = map.as_ref().filter(|_| entry.id.0 != 0).map(|map| {
            map.iter().find(|changes| changes.file == entry.id).map(|changes| changes.pages.clone()).unwrap_or_default()
        });
        for page in 0..entry.pages() {
            let at = entry.offset(page) as usize;
            let end = (at + entry.page_size as usize).min(content.len());
            if valid.as_ref().is_some_and(|valid| !valid.contains(page)) {
                content[at..end].fill(0);
                continue;
            }
            if in_base.is_some() && named.as_ref().is_some_and(|named| !named.contains(page)) {
                continue;
            }
            let (bytes, state) = read_page(run.as_ref(), entry, page);
            assert!(!matches!(state, PageState::Bad(_)), "{state:?}");
            if let (Choice::Behind(since), PageState::At(lsn), true) = (choice, state, in_base.is_some())
                && lsn <= since
            {
                continue;
            }
            stored += 1;
            content[at..end].copy_from_slice(&bytes);
        }
        fs::write(&path, content).unwrap();
    }
    let branch = run.branch().clone();
    let online = run.online();
    let EndInfo { nodes, bak_end_lsn, needs_log, cookie, .. } = run.end()?;
    let mut redo = Vec::new();
    run.log(&mut |unit, bytes| {
        redo.push((unit, bytes));
        Ok(())
    })?;
    let source = source.info()?.id;
    Ok(Backup { files, nodes, end: bak_end_lsn, needs_log, online, branch, redo, source, cookie, stored })
}

/// A full backup into `target`.
pub fn backup(model: &Model, target: &Path) -> Backup {
    backup_onto(model, &Scope::Database, target, None, Choice::All).unwrap()
}

/// Everything that a log stream hands over after `last`.
pub fn capture(model: &Model, last: Option<&CapturedPoint>) -> (Vec<(LogUnit, Vec<u8>)>, Option<CapturedPoint>) {
    let source = model.source();
    let mut stream = source.log_stream(last).unwrap();
    let (mut units, mut point) = (Vec::new(), last.cloned());
    while let Some(captured) = stream.next(Duration::ZERO).unwrap() {
        point = Some(CapturedPoint { unit: captured.unit.clone(), cookie: captured.cookie });
        units.push((captured.unit, captured.bytes));
    }
    (units, point)
}

/// How a recovery of `backup` is asked for.
pub struct Ask<'a> {
    pub backup: &'a Backup,
    pub redo: Vec<(LogUnit, Vec<u8>)>,
    pub until: Until,
    pub exclusive: bool,
    pub branch: BranchHistory,
    pub new_branch: BranchId,
    pub highest: Lsn,
}

impl<'a> Ask<'a> {
    pub fn new(backup: &'a Backup, until: Until) -> Self {
        Ask {
            backup,
            redo: backup.redo.clone(),
            until,
            exclusive: false,
            branch: backup.branch.clone(),
            new_branch: BranchId(99),
            highest: backup.end,
        }
    }

    pub fn redo(mut self, redo: &[(LogUnit, Vec<u8>)]) -> Self {
        self.redo = redo.to_vec();
        self
    }

    pub fn recover(self, directory: &Path) -> Result<Recovered> {
        let target = RecoveryTarget { until: self.until, exclusive: self.exclusive, branch: None };
        let request = RecoverRequest {
            tablespaces: &[],
            histories: &[],
            directory,
            published: directory,
            files: &self.backup.files,
            written: &[],
            carried: &[],
            from: &self.backup.nodes,
            consistent_from: self.backup.end,
            complete_upto: self.backup.end,
            branch: &self.branch,
            target: &target,
            new_branch: self.new_branch,
            source: self.backup.source,
            highest: self.highest,
            marks: None,
        };
        let mut redo = self.redo;
        redo.sort_by_key(|(unit, _)| (unit.span.after, unit.span.upto));
        ModelRecovery.recover(&request, &mut Feed(redo.into()))
    }
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_dir(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}
