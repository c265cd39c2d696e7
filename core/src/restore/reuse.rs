//! Restoring into a directory that holds the same database already: what is looked at before anything is touched, and
//! what is done first and last, so that a restore that was interrupted never looks like a whole database.
//!
//! ```text
//! mark it unfinished -> remove the keystone -> remove what does not belong -> pages, redo -> sync -> keystone -> mark off
//! ```
//!
//! The keystone is the file without which the engine does not open the directory. The mark says which source the directory
//! belongs to while the keystone is away, and where its tablespaces lie, so that the restore can be run again.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::durable::{failed, sync_directory};
use super::places::Places;
use super::plan::RestorePlan;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{CarriedFile, RelPath, SourceId};
use crate::source::{Recovery, Reuse, UNFINISHED};

/// A directory that may be rewritten.
pub(super) struct Survey {
    root: PathBuf,
    source: SourceId,
    reuse: Reuse,
    keystone: CarriedFile,
    /// Files of the plan, wherever they lie.
    wanted: BTreeSet<PathBuf>,
    /// Directories outside of the root that tablespaces lie in.
    outside: Vec<PathBuf>,
}

/// A directory that is being rewritten.
pub(super) struct Rewrite {
    root: PathBuf,
    keystone: CarriedFile,
    /// Locked as long as this lives.
    mark: File,
}

/// What an unfinished restore noted.
struct Mark {
    source: String,
    places: Vec<PathBuf>,
}

impl Survey {
    /// Looks at a directory; writes nothing.
    pub(super) fn of(root: &Path, engine: &dyn Recovery, plan: &RestorePlan, places: &Places<'_>) -> Result<Self> {
        if plan.tablespace.is_some() {
            return Err(Error::new(ErrorKind::Usage, "a tablespace alone is not restored over what is there")
                .remedy("restore it into a new directory"));
        }
        let mark = Mark::read(root)?;
        let source = plan.start.source;
        if let Some(mark) = mark.as_ref().filter(|mark| mark.source != source.to_string()) {
            let text = format!("holds an unfinished restore of source {}", mark.source);
            return Err(refused(root, text, "restore that source, or restore into a new directory"));
        }
        let reuse = engine.reuse(root, source, mark.is_some())?;
        let keystone = plan.key_files.iter().find(|file| file.path == reuse.keystone).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("the set does not carry {}", reuse.keystone))
                .remedy("restore into a new directory")
        })?;
        let mut survey =
            Survey { root: root.to_owned(), source, reuse, keystone, wanted: BTreeSet::new(), outside: Vec::new() };
        survey.refuse_links(root)?;
        for file in &plan.files {
            let tablespace = plan.tablespaces.iter().find(|tablespace| tablespace.id == file.tablespace);
            survey.wanted.insert(places.place(root, file, tablespace)?);
        }
        for tablespace in &plan.tablespaces {
            let place = places.directory(root, tablespace)?.filter(|place| !place.starts_with(root));
            if let Some(place) = place {
                survey.outside(place, mark.as_ref())?;
            }
        }
        Ok(survey)
    }

    /// A link in the directory could lead the restore astray. Those that the engine makes itself are made anew.
    fn refuse_links(&self, directory: &Path) -> Result<()> {
        for (path, kind) in entries(directory)? {
            let known = || self.reuse.links.iter().any(|link| link.below(&self.root) == path);
            if kind.is_symlink() && !known() {
                return Err(refused(&path, "is a symbolic link", "put a directory in its place, or restore elsewhere"));
            }
            if kind.is_dir() {
                self.refuse_links(&path)?;
            }
        }
        Ok(())
    }

    /// A tablespace's directory outside of the root is taken when it is empty, or when it is proven to be this
    /// database's: by the database's own link, or because a restore of it was interrupted.
    fn outside(&mut self, place: PathBuf, mark: Option<&Mark>) -> Result<()> {
        let real = |path: &Path| fs::canonicalize(path).ok();
        let here = real(&place);
        let linked = || self.reuse.links.iter().any(|link| real(&link.below(&self.root)) == here);
        let noted = || mark.is_some_and(|mark| mark.places.contains(&place));
        let used = here.is_some() && !entries(&place)?.is_empty();
        if used && !linked() && !noted() {
            let remedy = "map the tablespace to an empty directory";
            return Err(refused(&place, "holds something, and is no tablespace of this database", remedy));
        }
        if used {
            self.refuse_links(&place)?;
        }
        self.outside.push(place);
        Ok(())
    }

    /// Begins: from here on the directory is no database until [`Rewrite::finish`].
    pub(super) fn begin(self) -> Result<Rewrite> {
        let mark = Mark::write(&self.root, self.source, &self.outside)?;
        let keystone = self.keystone.path.below(&self.root);
        remove_file(&keystone)?;
        sync_directory(keystone.parent().unwrap_or(&self.root))?;
        self.clear(&self.root)?;
        for place in &self.outside {
            self.clear_tablespace(place)?;
        }
        Ok(Rewrite { root: self.root, keystone: self.keystone, mark })
    }

    /// Others may have put something beside the tablespace's own directories, which is left alone.
    fn clear_tablespace(&self, place: &Path) -> Result<()> {
        let below = |path: &Path| path.strip_prefix(place).ok()?.components().next().map(|top| place.join(top));
        let tops: BTreeSet<PathBuf> = self.wanted.iter().filter_map(|path| below(path)).collect();
        tops.iter().filter(|top| top.is_dir()).try_for_each(|top| self.clear(top).map(drop))
    }

    /// Removes what is not wanted; says whether something stays.
    fn clear(&self, directory: &Path) -> Result<bool> {
        let mut stays = false;
        for (path, kind) in entries(directory)? {
            if kind.is_dir() {
                // A directory on a file system of its own cannot be removed.
                let kept = self.clear(&path)? || fs::remove_dir(&path).is_err();
                stays |= kept;
            } else if self.wanted.contains(&path) || path == self.root.join(UNFINISHED) {
                stays = true;
            } else {
                remove_file(&path)?;
            }
        }
        Ok(stays)
    }
}

impl Rewrite {
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn keystone(&self) -> &RelPath {
        &self.keystone.path
    }

    /// Puts the keystone in and takes the mark off, when everything else is durable.
    pub(super) fn finish(&self) -> Result<()> {
        let path = self.keystone.path.below(&self.root);
        let made = path.with_extension("setpiece-new");
        let directory = path.parent().unwrap_or(&self.root);
        remove_file(&made)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made).map_err(failed(&made))?;
        (&file).write_all(&self.keystone.bytes).and_then(|()| file.sync_all()).map_err(failed(&made))?;
        fs::rename(&made, &path).map_err(failed(&path))?;
        sync_directory(directory)?;
        remove_file(&self.root.join(UNFINISHED))?;
        sync_directory(&self.root)?;
        flock(&self.mark, FlockOperation::Unlock).map_err(|error| failed(&self.root)(error.into()))
    }
}

impl Mark {
    fn read(root: &Path) -> Result<Option<Self>> {
        let path = root.join(UNFINISHED);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(failed(&path))?,
        };
        let mut lines = text.lines();
        // An empty one was made just before a crash; nothing was touched then.
        let source = lines.next().map(str::to_owned);
        Ok(source.map(|source| Mark { source, places: lines.map(PathBuf::from).collect() }))
    }

    /// Writes the mark and holds it, so that no second restore begins. What a restore before this one noted stays.
    fn write(root: &Path, source: SourceId, outside: &[PathBuf]) -> Result<File> {
        let path = root.join(UNFINISHED);
        let options = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let mut file = options.map_err(failed(&path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            Error::new(ErrorKind::Locked, "another restore writes to this directory")
                .on(root.display().to_string())
                .because(io::Error::from(error))
        })?;
        let noted = Mark::read(root)?;
        let mut text = if noted.is_none() { format!("{source}\n") } else { String::new() };
        let known = noted.map(|mark| mark.places).unwrap_or_default();
        let new = outside.iter().filter(|place| !known.contains(place));
        new.for_each(|place| text += &format!("{}\n", place.display()));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed(&path))?;
        sync_directory(root)?;
        Ok(file)
    }
}

fn refused(at: &Path, what: impl Into<String>, remedy: &str) -> Error {
    Error::new(ErrorKind::Target, what).on(at.display().to_string()).remedy(remedy)
}

fn entries(directory: &Path) -> Result<Vec<(PathBuf, fs::FileType)>> {
    let entries = fs::read_dir(directory).map_err(failed(directory))?;
    let entry = |entry: io::Result<fs::DirEntry>| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)));
    entries.map(entry).collect::<io::Result<_>>().map_err(failed(directory))
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}
