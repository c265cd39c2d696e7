//! The files of a data directory that belong into a backup.
//!
//! What is left out is what PostgreSQL's documentation of the backup protocol says may be: files of the running server,
//! temporary files, statistics, and everything of unlogged relations but their init forks.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use setpiece_core::model::{FileEntry, FileId, FileKind, RelPath, Tablespace, TablespaceId, TablespaceKind, Tracking};
use setpiece_core::{Error, ErrorKind, Result};

use crate::changes::Place;
use crate::control::Control;
use crate::dialect::Dialect;
use crate::identity::file_id;
use crate::wal::{DEFAULT_TABLESPACE, DatabaseDir, Fork, GLOBAL_TABLESPACE, RelFork};

/// A file that will be stored.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Where it is.
    pub path: PathBuf,
    /// How it is recorded.
    pub entry: FileEntry,
    /// Which part of which relation's fork it is; `None` when it is none.
    pub place: Option<Place>,
    /// When the directory of its database was made, as far as the file system knows.
    pub made: Option<SystemTime>,
}

/// The files of a cluster and its tablespaces.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Ascending by number.
    pub members: Vec<Member>,
    pub tablespaces: Vec<Tablespace>,
}

/// A tablespace as the server or the directory knows it.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    pub oid: u32,
    pub name: String,
}

/// Walks a data directory. `names` are the names of tablespaces, as far as known.
pub(crate) fn walk(directory: &Path, dialect: Dialect, control: &Control, names: &[Space]) -> Result<Tree> {
    let links = directory.join(dialect.name("tblspc"));
    let spaces = list(&links)?;
    // A tablespace may lie in the data directory, as one does that was restored: it is walked by its link alone.
    let linked = spaces.iter().filter(|(name, kind)| kind.is_symlink() && name.parse::<u32>().is_ok());
    let apart = linked.filter_map(|(name, _)| fs::metadata(links.join(name)).ok()).map(|at| (at.dev(), at.ino()));
    let roots = spaces.iter().map(|(name, _)| links.join(name)).chain([directory.to_owned()]);
    let roots = roots.filter_map(|root| fs::canonicalize(root).ok()).collect();
    let mut walk = Walk { dialect, control, apart: apart.collect(), roots, members: BTreeMap::new() };
    let mut tablespaces = vec![Tablespace {
        id: TablespaceId(DEFAULT_TABLESPACE),
        name: dialect.name("default"),
        kind: TablespaceKind::System,
        location: None,
    }];
    walk.directory(directory, "", &Root::top())?;
    for (name, kind) in spaces {
        let Ok(oid) = name.parse::<u32>() else { continue };
        let link = links.join(&name);
        let called =
            names.iter().find(|space| space.oid == oid).map_or_else(|| name.clone(), |space| space.name.clone());
        let location = if kind.is_symlink() {
            let location = fs::read_link(&link).map_err(failed(&link))?;
            let text = location.to_str().ok_or_else(|| not_text(&location))?.to_owned();
            Some(text)
        } else {
            None
        };
        walk.directory(&link, "", &Root::of(dialect, oid, location.is_some()))?;
        tablespaces.push(Tablespace { id: TablespaceId(oid), name: called, kind: TablespaceKind::Data, location });
    }
    Ok(Tree { members: walk.members.into_values().collect(), tablespaces })
}

struct Walk<'a> {
    dialect: Dialect,
    control: &'a Control,
    /// The directories of tablespaces, by device and number.
    apart: HashSet<(u64, u64)>,
    /// All directories that are walked.
    roots: Vec<PathBuf>,
    members: BTreeMap<FileId, Member>,
}

/// A directory that is walked by itself.
pub(crate) struct Root {
    tablespace: u32,
    /// What comes before a path in it when it is recorded.
    stored_below: String,
    /// What comes before a path in it when it is numbered.
    known_as: String,
}

impl Root {
    /// The data directory.
    pub(crate) fn top() -> Self {
        Root { tablespace: DEFAULT_TABLESPACE, stored_below: String::new(), known_as: String::new() }
    }

    /// A tablespace's directory; `outside` of the data directory or in it.
    pub(crate) fn of(dialect: Dialect, oid: u32, outside: bool) -> Self {
        let known_as = format!("{}/{oid}/", dialect.name("tblspc"));
        Root { tablespace: oid, stored_below: if outside { String::new() } else { known_as.clone() }, known_as }
    }
}

impl Walk<'_> {
    fn directory(&mut self, at: &Path, below: &str, root: &Root) -> Result<()> {
        let entries = list(at)?;
        let is_version = |name: &str| name == self.dialect.version_file();
        let version = entries.iter().find(|(name, _)| is_version(name)).map(|(_, metadata)| metadata);
        // Written once, when the directory is made.
        let made = version.and_then(|metadata| metadata.modified().ok());
        let unlogged: HashSet<&str> = entries.iter().filter_map(|(name, _)| name.strip_suffix("_init")).collect();
        for (name, metadata) in &entries {
            let inner = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            let path = at.join(name);
            if metadata.is_dir() {
                let apart = self.apart.contains(&(metadata.dev(), metadata.ino()));
                if !apart && keeps_directory(self.dialect, name, below, root) {
                    self.directory(&path, &inner, root)?;
                }
            } else if metadata.is_symlink() && keeps_directory(self.dialect, name, below, root) {
                if let Some(file) =
                    self.linked_file(&path)?.filter(|_| keeps_file(self.dialect, name, below, &unlogged))
                {
                    self.add(path, &inner, &file, made, root)?;
                }
            } else if metadata.is_file() && keeps_file(self.dialect, name, below, &unlogged) {
                self.add(path, &inner, metadata, made, root)?;
            }
        }
        Ok(())
    }

    /// The file that a symbolic link leads to, which is stored as if it lay there; `None` when it leads nowhere, or to what
    /// is walked anyway. A directory elsewhere is one that the server knows nothing of, and a restore would not bring the
    /// link back.
    fn linked_file(&self, link: &Path) -> Result<Option<Metadata>> {
        let real = match fs::canonicalize(link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            real => real.map_err(failed(link))?,
        };
        if self.roots.iter().any(|root| real.starts_with(root)) {
            return Ok(None);
        }
        let metadata = fs::metadata(&real).map_err(failed(link))?;
        if metadata.is_dir() {
            return Err(Error::new(ErrorKind::Unsupported, "is a symbolic link to a directory, and no tablespace")
                .on(link.display().to_string())
                .remedy("move the directory back to where the link is, or make it a tablespace"));
        }
        Ok(metadata.is_file().then_some(metadata))
    }

    fn add(
        &mut self,
        path: PathBuf,
        inner: &str,
        metadata: &Metadata,
        made: Option<SystemTime>,
        root: &Root,
    ) -> Result<()> {
        let built = (self.control.checksums, self.control.block_size, self.control.blocks_per_segment);
        let added = member(path.clone(), inner, (metadata.len(), metadata.mode()), root, built)?;
        let other = self.members.insert(added.entry.id, Member { made, ..added });
        other.map_or(Ok(()), |other| {
            let text = format!("{} and {} have the same number", other.path.display(), path.display());
            Err(Error::new(ErrorKind::Unsupported, text).remedy("rewrite one of the two, by VACUUM FULL for instance"))
        })
    }
}

/// How a file is recorded that lies at `inner` below a root. `built` is how the cluster is built: the version of its
/// checksums, bytes in a block, blocks in a segment of a relation.
pub(crate) fn member(
    path: PathBuf,
    inner: &str,
    (len, mode): (u64, u32),
    root: &Root,
    (checksums, page_size, blocks_per_segment): (u32, u32, u32),
) -> Result<Member> {
    let stored = RelPath::new(format!("{}{inner}", root.stored_below))
        .map_err(|error| Error::new(ErrorKind::Source, error.to_string()).on(path.display().to_string()))?;
    let place = place(inner, root, blocks_per_segment);
    let by_lsn = place.is_some_and(|place| matches!(place.fork.fork, Fork::Main | Fork::Init));
    let entry = FileEntry {
        id: file_id(&format!("{}{inner}", root.known_as)),
        // A base with other checksums has pages that would not do: whoever switches them on rewrites every page and
        // leaves its LSN alone.
        generation: u64::from(checksums),
        tablespace: TablespaceId(root.tablespace),
        path: stored,
        kind: if place.is_some() { FileKind::Paged } else { FileKind::Plain },
        page_size,
        len,
        tracking: if by_lsn { Tracking::PageLsn } else { Tracking::Always },
        mode: Some(mode & 0o777),
    };
    Ok(Member { path, entry, place, made: None })
}

/// Whether a file that the server sends belongs into a backup. It leaves out unlogged relations and directories that are
/// emptied itself, but not everything that is left out here.
pub(crate) fn keeps_streamed(dialect: Dialect, inner: &str, root: &Root) -> bool {
    let mut below = String::new();
    let (directories, name) = inner.rsplit_once('/').unwrap_or(("", inner));
    for part in directories.split('/').filter(|part| !part.is_empty()) {
        if !keeps_directory(dialect, part, &below, root) {
            return false;
        }
        below = if below.is_empty() { part.to_owned() } else { format!("{below}/{part}") };
    }
    keeps_file(dialect, name, directories, &HashSet::new())
}

fn keeps_directory(dialect: Dialect, name: &str, below: &str, root: &Root) -> bool {
    let emptied = ["wal", "replslot", "dynshmem", "notify", "serial", "snapshots", "stat_tmp", "subtrans", "tblspc"];
    let at_top = below.is_empty() && root.known_as.is_empty();
    let is_emptied = at_top && emptied.iter().any(|part| dialect.name(part) == name);
    !is_emptied && !name.starts_with("pgsql_tmp") && name != "lost+found"
}

fn keeps_file(dialect: Dialect, name: &str, below: &str, unlogged: &HashSet<&str>) -> bool {
    let of_the_server = [
        "postmaster.pid",
        "postmaster.opts",
        "backup_label",
        "backup_label.old",
        "tablespace_map",
        "tablespace_map.old",
        "backup_manifest",
        "current_logfiles",
        "current_logfiles.tmp",
        "postgresql.auto.conf.tmp",
        "kingbase.auto.conf.tmp",
        "recovery.signal",
        "standby.signal",
        "kingbase.pid",
        "kingbase.opts",
    ];
    let control = format!("{below}/{name}") == dialect.control_file();
    let caches = name.starts_with(&dialect.name("internal.init"));
    if control || caches || name.starts_with("pgsql_tmp") || (below.is_empty() && of_the_server.contains(&name)) {
        return false;
    }
    match Relation::of(name) {
        Some(relation) => !relation.temporary && (relation.fork == "init" || !unlogged.contains(relation.number)),
        None => true,
    }
}

/// Which part of which relation's fork a file is; `None` when it is none.
fn place(inner: &str, root: &Root, blocks_per_segment: u32) -> Option<Place> {
    let (DatabaseDir { tablespace, database }, name) = in_database(inner, root)?;
    let relation = Relation::of(name).filter(|relation| !relation.temporary)?;
    let first_block = relation.segment * u64::from(blocks_per_segment);
    let fork = Fork::ALL.into_iter().find(|fork| fork.name() == relation.fork)?;
    Some(Place { fork: RelFork { tablespace, database, relation: number(relation.number)?, fork }, first_block })
}

/// The directory of a database that a file lies in, and the file's name; `None` when it lies elsewhere.
fn in_database<'p>(inner: &'p str, root: &Root) -> Option<(DatabaseDir, &'p str)> {
    let parts: Vec<&str> = inner.split('/').collect();
    let (tablespace, database, name) = match (parts.as_slice(), root.known_as.is_empty()) {
        (["global", name], true) => (GLOBAL_TABLESPACE, 0, name),
        (["base", database, name], true) => (DEFAULT_TABLESPACE, number(database)?, name),
        ([_, database, name], false) => (root.tablespace, number(database)?, name),
        _ => return None,
    };
    Some((DatabaseDir { tablespace, database }, name))
}

/// A number as the server writes it.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok())?
}

/// What a relation's file is called: `16385`, `16385.2`, `16385_vm`, `t3_16385`.
struct Relation<'n> {
    number: &'n str,
    fork: &'n str,
    segment: u64,
    temporary: bool,
}

impl<'n> Relation<'n> {
    fn of(name: &'n str) -> Option<Self> {
        let (stem, segment) = match name.split_once('.') {
            Some((stem, segment)) => (stem, u64::from(number(segment)?)),
            None => (name, 0),
        };
        let numeric = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (temporary, stem) = match stem.strip_prefix('t').and_then(|rest| rest.split_once('_')) {
            Some((backend, rest)) if numeric(backend) => (true, rest),
            _ => (false, stem),
        };
        let (number, fork) = match stem.split_once('_') {
            Some((number, fork)) if ["fsm", "vm", "init"].contains(&fork) => (number, fork),
            Some(_) => return None,
            None => (stem, "main"),
        };
        numeric(number).then_some(Relation { number, fork, segment, temporary })
    }
}

/// The names in a directory with what is known of them, sorted. What vanishes meanwhile is left out.
fn list(directory: &Path) -> Result<Vec<(String, Metadata)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed(directory))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed(directory))?;
        let name = entry.file_name().into_string().map_err(|name| not_text(Path::new(&name)))?;
        match entry.metadata() {
            Ok(metadata) => found.push((name, metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&entry.path())(error)),
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |error| Error::io(path.display().to_string(), error)
}

fn not_text(path: &Path) -> Error {
    Error::new(ErrorKind::Unsupported, "a name that is not UTF-8 cannot be recorded")
        .on(path.display().to_string())
        .remedy("rename it")
}
