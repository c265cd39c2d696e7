//! What a database must offer so that it can be backed up and recovered: the implementer's manual.
//!
//! A source is described by three traits. [`Source`] is the database as such. [`BackupRun`] is one backup of it, from
//! its begin to its end: the positions, the files and the pages. [`Recovery`] is the other direction: it is handed a
//! directory of restored files and the redo, and brings the database to the target.
//!
//! Core knows no engine. What an engine wants to find again in a later backup (where its log stood, how it numbers
//! things) goes into opaque bytes, the *cookie*, which are stored in the metadata and handed back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::model::log::FileChanges;
use crate::model::{
    BranchHistory, BranchId, CarriedFile, Consistency, FileEntry, FileId, Level, LogUnit, Lsn, NodeId, NodeRange,
    PageSet, RecoveryTarget, RelPath, Scope, Seq, SourceId, StateMark, Tablespace, Timestamp, Until,
};

/// Who a source is. Two descriptions with the same `id` are the same database, on whatever branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// Stable over the life of the database, and on all its branches.
    pub id: SourceId,
    /// For people; also selects the source on the command line.
    pub name: String,
    /// The engine, such as `sqlite`; names the [`Recovery`] that a restore needs.
    pub engine: String,
    /// The engine's version, for people.
    pub version: String,
    /// Which scopes can be backed up, besides the whole database.
    pub tablespace_scope: bool,
}

/// One node's place in its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodePosition {
    /// The log stream.
    pub node: NodeId,
    /// Everything up to here is included.
    pub lsn: Lsn,
    /// The number of the unit that holds `lsn`, where units are numbered when they are written.
    pub seq: Option<Seq>,
}

/// A named position of the running source, such as DM's CUR, FLUSH, FILE and CKPT LSN. For display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPosition {
    /// The log stream.
    pub node: NodeId,
    /// The engine's name for it.
    pub name: String,
    /// The LSN.
    pub lsn: Lsn,
    /// The number of the log unit, if the position has one.
    pub seq: Option<Seq>,
}

/// When the pages of an increment are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncrementRule {
    /// DM's rule: the increment must begin at or after the end of its base; until it does, core asks for checkpoints.
    CheckpointUntilBaseEnd,
    /// The increment may begin anywhere at or after the begin of its base.
    KeepFromBaseBegin,
}

/// What a backup is to hold.
#[derive(Clone, Debug)]
pub struct BeginRequest<'a> {
    /// What part of the source.
    pub scope: &'a Scope,
    /// The level that will be written.
    pub level: Level,
    /// Leave the redo out.
    pub without_log: bool,
    /// What is on record of the source's memory, as [`Source::join_memories`] made it of the newest sets and log units.
    /// Empty bytes where the record may not be read here, which is something else than that there is none.
    pub cookie: Option<&'a [u8]>,
}

/// A database that can be backed up.
///
/// Calls come from one thread at a time. Nothing is left behind in the database when a run is dropped.
pub trait Source: Send + Sync {
    /// Who it is. Cheap, may be called often.
    ///
    /// # Errors
    /// When the database cannot be reached or is none.
    fn info(&self) -> Result<SourceInfo>;

    /// When the pages of an increment are complete for this engine.
    fn increment_rule(&self) -> IncrementRule;

    /// The positions that the engine shows to its users.
    ///
    /// # Errors
    /// When the database cannot be reached.
    fn positions(&self) -> Result<Vec<NamedPosition>>;

    /// As [`Source::positions`], told besides the cookie of the newest set or log unit on record, so that the numbers are
    /// those of the record. Engines whose log numbers itself need not implement it.
    ///
    /// # Errors
    /// As [`Source::positions`].
    fn positions_behind(&self, newest: Option<&[u8]>) -> Result<Vec<NamedPosition>> {
        let _unused_by_most = newest;
        self.positions()
    }

    /// Asks for a checkpoint and returns, for each node, the LSN from which a restart would need redo.
    ///
    /// Must make progress when it is called again: a fully flushed database reports its newest LSN.
    ///
    /// # Errors
    /// When the engine refuses.
    fn checkpoint(&self) -> Result<Vec<NodePosition>>;

    /// Begins a backup.
    ///
    /// # Errors
    /// When the state of the database does not allow one; the message says what to change.
    fn begin(&self, request: &BeginRequest<'_>) -> Result<Box<dyn BackupRun + '_>>;

    /// Begins to capture redo, going on behind `last`, the newest captured unit on record, if that is still possible.
    /// Where it isn't, the first unit shows the gap by its `after`.
    ///
    /// # Errors
    /// When the engine has no redo that can be captured.
    fn log_stream(&self, last: Option<&CapturedPoint>) -> Result<Box<dyn LogStream + '_>>;

    /// One cookie that knows what each of `cookies` knows: those of the newest records of every branch, that of the
    /// branch worked on last at the end, where it is taken from when the source knows no better.
    ///
    /// # Errors
    /// When one cannot be read. It is not passed over where positions would be counted anew without it.
    fn join_memories(&self, cookies: &[&[u8]]) -> Result<Option<Vec<u8>>> {
        Ok(cookies.last().map(|cookie| cookie.to_vec()))
    }

    /// As [`Source::log_stream`], told besides what is on record of the source's memory, as a backup is by
    /// [`BeginRequest::cookie`]. This is what callers call. Engines whose log numbers itself need not implement it.
    ///
    /// # Errors
    /// As [`Source::log_stream`].
    fn log_stream_behind(
        &self,
        last: Option<&CapturedPoint>,
        newest: Option<&[u8]>,
    ) -> Result<Box<dyn LogStream + '_>> {
        let _unused_by_most = newest;
        self.log_stream(last)
    }
}

/// What a page is, judged by its bytes and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageState {
    /// In order, last changed at this LSN.
    At(Lsn),
    /// In order, or nothing is known against it; carries no LSN.
    Unversioned,
    /// Looks as if it was read while it was being written. It is read again a bounded number of times.
    Torn,
    /// Damaged: says how.
    Bad(String),
}

/// Pages changed since some LSN, if the engine can tell completely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeMap {
    /// Every page of every file that changed; files that are not named did not change.
    Complete {
        /// The pages, by numbers of files or of whatever [`BackupRun::changed_pages`] understands.
        changes: Vec<FileChanges>,
        /// Where the engine knows them from: reads as what follows "from", such as "the server's own log".
        how: String,
    },
    /// The engine cannot tell, and why: reads as what follows "because".
    Unknown(String),
}

/// What several units of redo and a [`ChangeMap`] name, joined: the pages by [`FileChanges::file`].
pub type JoinedChanges = BTreeMap<FileId, PageSet>;

/// Where a backup ended.
#[derive(Clone, Debug)]
pub struct EndInfo {
    /// For each node the redo that the set needs.
    pub nodes: Vec<NodeRange>,
    /// What is restored is consistent from here on.
    pub bak_end_lsn: Lsn,
    /// Whether redo is needed to open what is restored.
    pub needs_log: bool,
    /// Bytes that a later backup or log stream of this source wants to see again.
    pub cookie: Vec<u8>,
    /// Marks of the state at `bak_end_lsn`, by which redo and increments prove that they go on from it. `None` for an
    /// engine whose log numbers itself; an empty list says that nothing can be proven to go on from this state.
    pub marks: Option<Vec<StateMark>>,
    /// Parameters the database was made with, and its settings: name and value.
    pub parameters: Vec<(String, String)>,
    /// Small files that are known at the end only, such as PostgreSQL's backup label. They are stored in the metadata
    /// and restored behind everything else.
    pub carried: Vec<CarriedFile>,
}

impl EndInfo {
    /// The consistency of the set that ends like this.
    #[must_use]
    pub fn consistency(&self, without_log: bool) -> Consistency {
        match (self.needs_log, without_log) {
            (false, _) => Consistency::NoLogNeeded,
            (true, false) => Consistency::WithLog,
            (true, true) => Consistency::WithoutLog,
        }
    }
}

/// One backup of a source between its begin and its end. Dropping it ends the backup and leaves nothing behind.
///
/// `read` and `inspect` are called from several threads at once, for different pages; everything else from one.
pub trait BackupRun: Send + Sync {
    /// Whether the source is running.
    fn online(&self) -> bool;

    /// For each node the last LSN that is surely in the data files.
    fn begin(&self) -> &[NodePosition];

    /// The branch the source is on.
    fn branch(&self) -> &BranchHistory;

    /// All tablespaces, temporary ones too (which are recorded and not stored).
    fn tablespaces(&self) -> &[Tablespace];

    /// The files to store, ascending by number, none of a temporary tablespace. The lengths are those to be restored. A
    /// sequential source has none here.
    fn files(&self) -> &[FileEntry];

    /// Whether the source hands its files over one after the other, in an order of its own, so that what files there are is
    /// known at the end only. Everything is then called from one thread.
    fn sequential(&self) -> bool {
        false
    }

    /// The next file of a sequential source; `None` at the end. [`BackupRun::read`] reads it from its begin to its end,
    /// each page once, before the next is asked for; [`BackupRun::inspect`] is asked about its pages only, and never says
    /// [`PageState::Torn`].
    ///
    /// # Errors
    /// When the source fails or vanishes.
    fn next_file(&self) -> Result<Option<FileEntry>> {
        Ok(None)
    }

    /// The pages of `file` that are in use; `None` when all are. Pages outside of it are recorded, not stored, and are
    /// restored as zeros.
    ///
    /// # Errors
    /// When the allocation of the file cannot be read.
    fn valid_pages(&self, file: FileId) -> Result<Option<crate::model::PageSet>>;

    /// Reads `count` pages from `first` on into `into`, which is cleared first. The last page of a file may be short;
    /// what lies behind the end that [`BackupRun::files`] gives is not asked for. A file that has become shorter since
    /// then yields zeros there if redo will put that right, otherwise an error.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn read(&self, file: FileId, first: u64, count: u64, into: &mut Vec<u8>) -> Result<()>;

    /// Judges a page by its bytes.
    fn inspect(&self, file: FileId, page: u64, bytes: &[u8]) -> PageState;

    /// The pages changed after `since`, up to the begin of this backup and, for engines whose pages change meanwhile,
    /// at least up to there. `marks` are those of the very state that the increment stands on; where the engine has
    /// marks, numbers that fit prove nothing without them.
    ///
    /// `since` is the begin of the base, or where units on record end whose `changes` are complete from there on. So an
    /// engine whose records lie across the border of two units names what such a record changes with one of them, and
    /// asked for the changes since that border leaves it out or names it, always in the same way.
    ///
    /// # Errors
    /// When the engine fails; not being able to tell is not a failure.
    fn change_map(&self, since: Lsn, marks: Option<&[StateMark]>) -> Result<ChangeMap>;

    /// The pages of `file` that joined changes name; those behind its end do no harm.
    ///
    /// An engine that cannot always say in its redo which files are concerned (one that is cut from some page on, the
    /// directory that is copied) records numbers that are no file's, and finds here what they mean for a file: the
    /// pages that any of the numbers concerning it name. When in doubt, more. What such a number means is part of what
    /// is on record, and never changes.
    fn changed_pages(&self, file: &FileEntry, changes: &JoinedChanges) -> PageSet {
        changes.get(&file.id).cloned().unwrap_or_default()
    }

    /// Whether an LSN in a page of `file` tells if the page was changed since a base that was begun at `base_began`.
    ///
    /// It does not where the file may have taken the place of another one since then, with pages whose LSNs are older:
    /// a copy of a template, for instance. When in doubt, `false`; the file is then taken whole. Asked where there is no
    /// change map.
    fn lsns_tell(&self, file: FileId, base_began: Timestamp) -> bool {
        let _unused_by_most = (file, base_began);
        true
    }

    /// The bytes of a unit of redo as the source itself has them, where it still does. By them redo on record is told from
    /// that of another database which calls its branch the same.
    ///
    /// # Errors
    /// When they are there and cannot be read.
    fn own_redo(&self, unit: &LogUnit) -> Result<Option<Vec<u8>>> {
        let _unused_by_most = unit;
        Ok(None)
    }

    /// Ends the backup: after this no page is read.
    ///
    /// # Errors
    /// When the engine fails, or says that what was read is of no use.
    fn end(&mut self) -> Result<EndInfo>;

    /// Hands over the redo of the ranges that [`BackupRun::end`] gave: each unit whole and in the order of its node.
    ///
    /// # Errors
    /// When redo that is needed is gone, and what `sink` fails with.
    fn log(&mut self, sink: &mut dyn FnMut(LogUnit, Vec<u8>) -> Result<()>) -> Result<()>;
}

/// How far capture has come: stored with each captured unit, handed back when capture goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedPoint {
    /// The last captured unit.
    pub unit: LogUnit,
    /// What the source wanted to remember with it.
    pub cookie: Vec<u8>,
}

/// Redo that was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedUnit {
    /// What it is.
    pub unit: LogUnit,
    /// The redo.
    pub bytes: Vec<u8>,
    /// What the source wants to find again when capture goes on behind this unit.
    pub cookie: Vec<u8>,
    /// The branch history at the time.
    pub branch: BranchHistory,
}

/// Where a capture begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureBegin {
    /// The history of the branch that is captured.
    pub branch: BranchHistory,
    /// For each node the LSN behind which its first unit begins, unless redo gets lost before that unit is captured.
    pub nodes: Vec<NodePosition>,
    /// Why redo before that is gone, where the source knows that some is: reads as what follows "because".
    pub lost: Option<String>,
}

/// Redo as it is written. Dropping it ends the capture; the engine may then reuse its log.
pub trait LogStream: Send {
    /// Where the capture begins, so that redo which no set can be brought up to is told of before the first unit. Asked
    /// once, before `next`. Sources that do not know until then need not implement it: the first unit shows it.
    fn begins(&self) -> Option<CaptureBegin> {
        None
    }

    /// The next unit; `None` when nothing was written for `wait`. A unit has 1 GiB at most and lies in memory as a
    /// whole. It holds whole transactions, or a part of one that is too large: the recovery of the same engine joins
    /// such parts, and applies nothing of a transaction whose commit it was not given.
    ///
    /// A unit whose name ends in [`BEGINNING`](crate::model::log::BEGINNING) holds what there is by now of the unit with
    /// the name before that. It may be handed over again when there is more of it.
    ///
    /// # Errors
    /// When the source fails or vanishes.
    fn next(&mut self, wait: Duration) -> Result<Option<CapturedUnit>>;

    /// Says that everything up to `lsn` is durable on a medium, so that the engine may reuse its log up to there.
    ///
    /// # Errors
    /// When the source fails or vanishes.
    fn durable(&mut self, lsn: Lsn) -> Result<()>;

    /// What keeps the stream from its source at the moment, if it tries on by itself.
    fn trouble(&self) -> Option<Error> {
        None
    }

    /// What came from the source and was not handed over, because more of the unit was waited for. Asked for before the
    /// capture ends, until there is nothing left.
    ///
    /// # Errors
    /// As [`LogStream::next`].
    fn rest(&mut self) -> Result<Option<CapturedUnit>> {
        Ok(None)
    }
}

/// A file in a directory of archived redo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShelfFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub what: OnShelf,
}

/// What a file in a directory of archived redo is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnShelf {
    /// A unit of redo.
    Unit,
    /// Something else that a recovery may need, and that stays where it is.
    History,
    /// Nothing that could be stored, and why: reads as what follows the file's name.
    Passed(String),
}

/// A directory in which an engine, or a command of its, has put redo.
pub trait LogShelf {
    /// Whose redo it is.
    fn info(&self) -> &SourceInfo;

    /// The files, in the order of the redo.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn files(&self) -> Result<Vec<ShelfFile>>;

    /// Reads a file as a unit.
    ///
    /// # Errors
    /// When it is of another source, is not whole, or not what its name says.
    fn read(&self, path: &Path) -> Result<CapturedUnit>;

    /// Whether the engine itself works in the directory, so that nobody else may remove anything.
    fn is_live(&self) -> bool;
}

/// A file that a restore has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// Where it lies now: below the directory that is recovered, or in the new place of its tablespace.
    pub path: PathBuf,
    /// CRC-32C of what was written, taken before it was; present when [`Recovery::wants_checksums`] says so.
    pub crc32c: Option<u32>,
}

/// The name of the file that marks a directory whose restore is not finished. It lies at the top of the directory.
pub const UNFINISHED: &str = "setpiece-unfinished";

/// What an engine says of a directory that a restore may rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// A file that every set carries (see [`EndInfo::carried`]) and without which the engine does not open the directory:
    /// it is taken away first and put in last.
    pub keystone: RelPath,
    /// Symbolic links in the directory that are the engine's own and lead to tablespaces.
    pub links: Vec<RelPath>,
}

/// What a recovery is to do.
#[derive(Clone, Debug)]
pub struct RecoverRequest<'a> {
    /// The directory with the restored files.
    pub directory: &'a Path,
    /// The files as the set records them.
    pub files: &'a [FileEntry],
    /// Where each of them lies now, in the same order.
    pub written: &'a [WrittenFile],
    /// Small files that the set carries. They are in the directory, except for [`Reuse::keystone`] where one is rewritten.
    pub carried: &'a [CarriedFile],
    /// For each node, the redo already contained.
    pub from: &'a [NodeRange],
    /// What is restored is consistent from here on.
    pub consistent_from: Lsn,
    /// The redo that is handed over is all that any node wrote up to here: a node without redo there was idle.
    pub complete_upto: Lsn,
    /// The history of the branch that the set and the log belong to.
    pub branch: &'a BranchHistory,
    /// Where to stop. A target without a branch and with `Until::SetEnd` means `consistent_from`.
    pub target: &'a RecoveryTarget,
    /// The branch that the database is to go on as.
    pub new_branch: BranchId,
    /// The source that the database was.
    pub source: SourceId,
    /// Where `directory` will be once the restore is published.
    pub published: &'a Path,
    /// The tablespaces that lay outside of the source's directory, each with the directory it will be in once the
    /// restore is published; one below `published` is below `directory` until then.
    pub tablespaces: &'a [(Tablespace, PathBuf)],
    /// The history of every branch of the source on record. Another new branch must not take one of their numbers.
    pub histories: &'a [BranchHistory],
    /// The largest LSN on record for this source on any branch; LSNs of the new branch should be larger.
    pub highest: Lsn,
    /// Marks of the state that is restored, at `consistent_from`; redo must be proven to go on from it where both have
    /// marks.
    pub marks: Option<&'a [StateMark]>,
}

/// How a restored database is started.
#[derive(Clone, Copy, Debug)]
pub struct OpenRequest<'a> {
    /// Directories in which the engine's programs are looked for, before its usual ones.
    pub programs: &'a [PathBuf],
    /// How long the server may take to recover and open.
    pub wait: Duration,
}

/// How a recovery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The state reached, and the fork of the new branch.
    pub lsn: Lsn,
    /// The moment of the last transaction that is in it, if known.
    pub time: Option<Timestamp>,
    /// The branch the database goes on as; `None` when the engine chooses it when the database is opened.
    pub branch: Option<BranchId>,
}

/// Redo for a recovery, unit by unit, ascending within each node.
pub trait LogFeed {
    /// The next unit and its bytes; `None` at the end of the log that was chosen for the target.
    ///
    /// # Errors
    /// When the log cannot be read or is damaged.
    fn next(&mut self) -> Result<Option<(LogUnit, Vec<u8>)>>;
}

/// Brings restored files to a target. One for each engine.
pub trait Recovery: Send + Sync {
    /// The engine, as in [`SourceInfo::engine`].
    fn engine(&self) -> &str;

    /// Whether [`RecoverRequest::written`] is to have checksums, for an engine with a list of its own to put them in.
    fn wants_checksums(&self) -> bool {
        false
    }

    /// Whether a restore may rewrite a directory that is there already: it has to be `source`'s, and not in use. With
    /// `unfinished` a restore of that source was interrupted in it, and the keystone may be missing.
    ///
    /// # Errors
    /// [`ErrorKind::Target`] when it may not; [`ErrorKind::Usage`] for engines that have no use for it.
    fn reuse(&self, directory: &Path, source: SourceId, unfinished: bool) -> Result<Reuse> {
        let _unused_by_most = (source, unfinished);
        Err(Error::new(ErrorKind::Usage, format!("{} is not restored over what is there", self.engine()))
            .on(directory.display().to_string())
            .remedy("restore into a new directory"))
    }

    /// Applies redo to the files in `request.directory` until the target and makes the database a branch of its own.
    ///
    /// Runs in a directory that nobody else sees; when it fails the directory is thrown away.
    ///
    /// # Errors
    /// When the log does not fit the files, or the target lies behind the end of the log.
    fn recover(&self, request: &RecoverRequest<'_>, log: &mut dyn LogFeed) -> Result<Recovered>;

    /// Whether files of one tablespace are of use without the others.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when they are not, with what to do instead.
    fn tablespace_alone(&self) -> Result<()> {
        Ok(())
    }

    /// Whether the engine can stop at a target of this kind.
    fn stops_at(&self, until: &Until) -> bool {
        !matches!(until, Until::Name(_) | Until::Transaction(_))
    }

    /// Finds where recovery along `log` would stop at `until`, a name or a transaction: for each place the branch of the unit
    /// and the LSN behind the record, in the order of the redo. The redo has no gap and may begin within a record; what
    /// cannot be read ends it. Asked before anything is restored, and only for targets that [`Recovery::stops_at`] takes.
    ///
    /// # Errors
    /// What `log` fails with.
    fn locate(&self, until: &Until, log: &mut dyn LogFeed) -> Result<Vec<(BranchId, Lsn)>> {
        let _unused_by_most = (until, log);
        Err(Error::new(ErrorKind::Unsupported, format!("{} cannot be searched for such a target", self.engine()))
            .remedy("recover to an LSN or a moment"))
    }

    /// Starts the restored database and waits until it is open to its users. `directory` is where it was published.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for engines that are no servers; when the server does not start, with what it said.
    fn open(&self, directory: &Path, how: &OpenRequest<'_>) -> Result<()> {
        let _unused_by_most = how;
        Err(Error::new(ErrorKind::Unsupported, format!("{} is no server that could be started", self.engine()))
            .on(directory.display().to_string())
            .remedy("open the restored database"))
    }

    /// Judges a page of a stored file for `check --depth pages`, as [`BackupRun::inspect`] does for a live one.
    fn inspect(&self, file: &FileEntry, page: u64, bytes: &[u8]) -> PageState;
}
