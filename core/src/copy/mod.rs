//! Copying sets to another repository, byte for byte and without opening their pieces.
//!
//! Pieces stay sealed as they are. What the target adds are the set's keys wrapped for the target, so that whoever can
//! open the target can open the copy. The checksums of each piece are checked on its way. The metadata comes last, as in
//! a backup. What a failed copy has written of the set it was at is removed; what a crash left is used by the next copy.
//!
//! A set that the target has is left alone when it is whole there: the same metadata, and every piece with its length. Of
//! sets that are named every piece in the target is read as well. What is not whole is replaced, the metadata first
//! taken away, so that it is never there for something half done.

mod proof;

use std::collections::BTreeSet;

use crate::catalog::{Catalog, Surroundings};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::events::Event;
use crate::format::SetKeys;
use crate::media::layout::{self, SetObject};
use crate::media::repository::Repository;
use crate::media::turn::among_writers;
use crate::media::{Medium, ObjectInfo, ObjectName};
use crate::model::SetId;
use crate::transform::peek_keys;

/// Bytes that are moved at once.
const PORTION: usize = 1 << 20;

const AS_THEY_ARE: &str = "sets are copied byte for byte";

/// What was copied.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CopyReport {
    /// Sets copied.
    pub copied: Vec<SetId>,
    /// Sets that the target had already.
    pub present: Vec<SetId>,
    /// Bytes written.
    pub bytes: u64,
}

/// Copies sets and the bases they need; every set when `words` is empty. What the target has already is skipped, so a
/// copy that broke off is taken up by running it again. A set that is damaged in the target is replaced: where its
/// metadata or the lengths of its pieces show it, and for sets that are named wherever a checksum shows it. Two places that hold the same repository, because one was
/// copied by other means, are two repositories: what one has and the other has not is copied.
///
/// # Errors
/// [`ErrorKind::Usage`] when both are the same place;
/// [`ErrorKind::Key`] when one repository is encrypted and the other is not, or the secrets do not open both;
/// [`ErrorKind::Damaged`] for a piece that is not what was written: nothing of its set is copied;
/// whatever a medium fails with.
pub fn copy(from: &Repository, to: &Repository, words: &[String], around: Surroundings<'_>) -> Result<CopyReport> {
    check_keys(from, to)?;
    let _writer = among_writers(to, || around.cancel.check())?;
    let catalog = Catalog::load(from, around.cache)?;
    let there = to.sets()?;
    let mut report = CopyReport::default();
    let wanted = wanted(&catalog, words)?;
    let total = wanted.iter().filter_map(|set| catalog.get(*set)).map(|record| record.stored_bytes).sum();
    around.observer.event(&Event::Started { operation: "copy", total_bytes: total });
    for set in wanted {
        if there.get(&set).is_some_and(|objects| objects.meta.is_some()) {
            let state = state_there(from, to, set, !words.is_empty(), around)?;
            if state.whole {
                report.present.push(set);
                continue;
            }
            catalog.whole(set)?;
            from.open_set(set)?;
            let text = format!("set {set} is damaged in {} and is replaced", to.medium().label());
            around.observer.event(&Event::Warning { text });
            to.medium().remove(&layout::object(set, SetObject::Meta)?)?;
            remove_others(to, set, &state.good)?;
        }
        catalog.whole(set)?;
        let mut written = Written::default();
        let copied = copy_set(from, to, set, around, &mut written);
        report.bytes += copied.doing(|| format!("copying set {set}")).inspect_err(|_| written.undo(to, set, around))?;
        report.copied.push(set);
    }
    Ok(report)
}

/// What the target has of a set.
struct There {
    /// All that it should have.
    whole: bool,
    /// The pieces that need not be copied.
    good: Vec<ObjectName>,
}

/// Looks at a set in the target; at every byte of it when `closely`.
fn state_there(
    from: &Repository,
    to: &Repository,
    set: SetId,
    closely: bool,
    around: Surroundings<'_>,
) -> Result<There> {
    let (here, there) = (from.set_objects(set)?, to.set_objects(set)?);
    let mut state = There { whole: to.meta_bytes(set).ok() == Some(from.meta_bytes(set)?), good: Vec::new() };
    for (object, info) in here.objects.iter().filter(|(object, _)| matches!(object, SetObject::Piece(_))) {
        around.cancel.check()?;
        let found = there.objects.iter().any(|(other, found)| other == object && found.len == info.len);
        let medium = &**to.medium();
        if found && (!closely || proof::prove(medium, &info.name, PORTION).is_ok()) {
            state.good.push(info.name.clone());
        } else {
            state.whole = false;
        }
    }
    Ok(state)
}

/// Removes the pieces of a set that are not good.
fn remove_others(to: &Repository, set: SetId, good: &[ObjectName]) -> Result<()> {
    let pieces = to.set_objects(set)?.objects.into_iter().filter(|(object, _)| matches!(object, SetObject::Piece(_)));
    for (_, info) in pieces.filter(|(_, info)| !good.contains(&info.name)) {
        to.medium().remove(&info.name)?;
    }
    Ok(())
}

fn check_keys(from: &Repository, to: &Repository) -> Result<()> {
    if from.id() == to.id() && from.medium().label() == to.medium().label() {
        return Err(Error::new(ErrorKind::Usage, "source and target are the same repository")
            .on(to.medium().label())
            .remedy("name another place to copy to"));
    }
    match (from.vault().is_encrypted(), to.vault().is_encrypted()) {
        (true, true) if from.vault().can_read() => Ok(()),
        (true, true) => Err(Error::new(ErrorKind::Key, "the keys of the sets cannot be opened with public keys alone")
            .on(from.medium().label())
            .remedy("give a secret of the repository that is copied from")),
        (false, false) => Ok(()),
        (true, false) => Err(Error::new(
            ErrorKind::Key,
            format!("{AS_THEY_ARE}, and encrypted ones to encrypted repositories only"),
        )
        .on(to.medium().label())
        .remedy(
            "copy to a repository made with a key, which may be another one; or restore, and back up into this one",
        )),
        (false, true) => Err(Error::new(
            ErrorKind::Key,
            format!("{AS_THEY_ARE}, and ones in the clear to repositories in the clear only"),
        )
        .on(to.medium().label())
        .remedy("copy to a repository made with --no-encryption; or restore, and back up into this one")),
    }
}

/// The sets and their bases, bases first.
fn wanted(catalog: &Catalog, words: &[String]) -> Result<Vec<SetId>> {
    let mut sets = BTreeSet::new();
    if words.is_empty() {
        sets.extend(catalog.records().map(|record| record.summary.id));
    }
    for word in words {
        let set = catalog.find(word)?.summary.id;
        sets.extend(catalog.chain(set)?);
    }
    Ok(sets.into_iter().collect())
}

/// The objects of a set that were written to the target.
#[derive(Default)]
struct Written(Vec<ObjectName>);

impl Written {
    /// Removes them, the metadata first: it may have been published although the medium said that it failed. Failing at
    /// this as well changes nothing: what stays is an orphan, or a set that is whole.
    fn undo(&self, to: &Repository, set: SetId, around: Surroundings<'_>) {
        let meta = layout::object(set, SetObject::Meta);
        let removed = meta.and_then(|meta| to.medium().remove(&meta));
        let all = removed.and_then(|()| self.0.iter().try_for_each(|name| to.medium().remove(name)));
        if let Err(error) = all {
            let text = format!("what the failed copy wrote stays until `expire` removes it: {error}");
            around.observer.event(&Event::Warning { text });
        }
    }
}

fn copy_set(
    from: &Repository,
    to: &Repository,
    set: SetId,
    around: Surroundings<'_>,
    written: &mut Written,
) -> Result<u64> {
    let objects = from.set_objects(set)?;
    let have = to.set_objects(set)?;
    let mut bytes = 0;
    for (object, info) in &objects.objects {
        let done = have.objects.iter().any(|(there, found)| there == object && found.len == info.len);
        if matches!(object, SetObject::Piece(_)) && !done {
            written.0.push(info.name.clone());
            bytes += copy_piece(&**from.medium(), &**to.medium(), info, around)?;
        }
    }
    if let Some(keys) = keys_for(from, to, set, objects.keys())? {
        let name = layout::object(set, SetObject::Keys(keys.generation))?;
        if to.medium().info(&name)?.is_some() {
            to.medium().remove(&name)?;
        }
        written.0.push(name.clone());
        bytes += to.write_object(&name, &keys.encode()?)?.len;
    }
    let meta = from.meta_bytes(set)?;
    let name: ObjectName = layout::object(set, SetObject::Meta)?;
    bytes += to.write_object(&name, &meta)?.len;
    Ok(bytes)
}

/// The keys of a set, wrapped for the target.
fn keys_for(from: &Repository, to: &Repository, set: SetId, newest: Option<u32>) -> Result<Option<SetKeys>> {
    if !to.vault().is_encrypted() {
        return Ok(None);
    }
    let newer = from.newer_keys(set, newest)?;
    let old = match newer {
        Some(keys) => keys,
        None => peek_keys(&from.meta_bytes(set)?)?
            .ok_or_else(|| Error::new(ErrorKind::Key, "the set has no keys in an encrypted repository"))?,
    };
    let key = from.vault().open_set(set, &old)?;
    to.vault().wrap_set(set, &key, old.generation.saturating_add(1)).map(Some)
}

fn copy_piece(from: &dyn Medium, to: &dyn Medium, info: &ObjectInfo, around: Surroundings<'_>) -> Result<u64> {
    let mut reader = from.open(&info.name, 0)?;
    let mut writer = to.create(&info.name)?;
    let mut buffer = vec![0; PORTION];
    let (mut moved, mut proof) = (0, proof::Proof::default());
    loop {
        around.cancel.check()?;
        let got = reader.read(&mut buffer)?;
        if got == 0 {
            break;
        }
        let damaged = |error: Error| error.on(info.name.to_string()).remedy("copy the other sets by their names");
        proof.push(&buffer[..got]).map_err(damaged)?;
        writer.write(&buffer[..got])?;
        moved += got as u64;
        around.observer.event(&Event::Progress { bytes: got as u64 });
    }
    if moved != info.len {
        return Err(Error::damaged(info.name.to_string(), format!("gave {moved} bytes of {}", info.len)));
    }
    proof.finish().map_err(|error| error.on(info.name.to_string()))?;
    writer.finish()?;
    Ok(moved)
}
