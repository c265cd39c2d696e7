//! `setpiece key`: make keys, and change which of them open a repository.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use setpiece::format::RepoDescriptor;
use setpiece::rekey::Renewal;
use setpiece::transform::{Identity, KeyFile, Recipient};
use setpiece::{Error, ErrorKind, Result, Setpiece};
use zeroize::Zeroizing;

use crate::console::{Answer, Console};
use crate::documents::{RepositoryDocument, SlotDocument, Text};
use crate::keys::NewKeys;
use crate::options::{RepoOptions, url};
use crate::text;

/// Make keys, and change which of them open a repository.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    New(NewOptions),
    /// List the keys that open a repository. Works without a key; then nothing proves that nobody changed the list.
    List(RepoOptions),
    Add(AddOptions),
    Remove(RemoveOptions),
    Rotate(RotateOptions),
}

/// Make a key in a new file that only its owner can read.
#[derive(Debug, Args)]
struct NewOptions {
    /// The file; never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Make a private key, and print its public half for --recipient.
    #[arg(long)]
    x25519: bool,
}

/// Let one more key open the repository.
#[derive(Debug, Args)]
struct AddOptions {
    #[command(flatten)]
    repo: RepoOptions,
    #[command(flatten)]
    new: NewKeys,
}

/// Give the repository a new key, and wrap the keys of all sets anew. Only the keys named here open it from then on: name
/// again every key that is to stay, public keys too.
#[derive(Debug, Args)]
struct RotateOptions {
    #[command(flatten)]
    repo: RepoOptions,
    #[command(flatten)]
    new: NewKeys,
    /// Leave no public key where there was one: hosts without a secret can no longer write.
    #[arg(long, help_heading = "New keys")]
    drop_recipients: bool,
}

/// Take a key's slot away. Whoever has the key may have kept what it opened: `rotate` shuts them out.
#[derive(Debug, Args)]
struct RemoveOptions {
    #[command(flatten)]
    repo: RepoOptions,
    /// The slot, as `key list` numbers it.
    #[arg(long, value_name = "N")]
    slot: u32,
}

#[derive(Serialize)]
struct NewDocument {
    file: PathBuf,
    kind: &'static str,
    public_key: Option<Text<Recipient>>,
}

#[derive(Serialize)]
struct RepositoryChange {
    repository: RepositoryDocument,
    /// Sets whose keys were wrapped anew.
    sets: usize,
    /// What opened the repository before and does so no more.
    dropped: Vec<SlotDocument>,
    /// Whether a key proved that nobody changed the slots; nothing to prove where nothing is encrypted.
    proven: Option<bool>,
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Answer> {
    match options.verb {
        Verb::New(new) => make(new),
        Verb::List(repo) => list(&repo, console),
        Verb::Add(add) => {
            let slots = add.new.slots(console)?;
            let mut setpiece = add.repo.open(console)?;
            slots.iter().try_for_each(|slot| setpiece.add_key(slot))?;
            changed(&setpiece, Change::default(), "added\n")
        }
        Verb::Remove(remove) => {
            let mut setpiece = remove.repo.open(console)?;
            let before = slots_of(setpiece.repository().descriptor());
            setpiece.remove_key(remove.slot)?;
            let dropped = before.into_iter().filter(|slot| slot.slot == remove.slot).collect();
            let done = "removed; `setpiece key rotate` shuts out whoever kept what it opened\n";
            changed(&setpiece, Change { sets: 0, dropped }, done)
        }
        Verb::Rotate(rotate) => {
            let slots = rotate.new.slots(console)?;
            let mut setpiece = rotate.repo.open(console)?;
            let renewal = Renewal { slots: &slots, drop_recipients: rotate.drop_recipients };
            let renewed = setpiece.rotate_keys(&renewal)?;
            let mut done = format!("the keys of {} were wrapped anew\n", text::count(renewed.sets as u64, "set"));
            let dropped: Vec<SlotDocument> = renewed.dropped.iter().map(Into::into).collect();
            dropped.iter().for_each(|slot| done += &format!("no longer opens it: {}\n", in_words(slot)));
            changed(&setpiece, Change { sets: renewed.sets, dropped }, &done)
        }
    }
}

/// The slots as they are said to be, proven where a key was given that fits.
fn list(options: &RepoOptions, console: &Console) -> Result<Answer> {
    let insists = options.keys.no_encryption || !options.keys.recipient.is_empty();
    let error = match options.open(console) {
        Ok(setpiece) => return changed(&setpiece, Change::default(), ""),
        Err(error) if error.kind() == ErrorKind::Key && !insists => error,
        Err(error) => return Err(error),
    };
    let place = url(&options.repo)?;
    let descriptor = Setpiece::unproven_descriptor(&place)?;
    if !options.keys.secrets(console)?.is_empty() {
        console.warn(&error.to_string());
    }
    answer(RepositoryDocument::of(&descriptor, place), Change::default(), false, "")
}

/// What a verb changed.
#[derive(Default)]
struct Change {
    sets: usize,
    dropped: Vec<SlotDocument>,
}

fn changed(setpiece: &Setpiece, change: Change, done: &str) -> Result<Answer> {
    let repository = setpiece.repository();
    let document = RepositoryDocument::of(repository.descriptor(), repository.medium().label());
    answer(document, change, repository.vault().can_read(), done)
}

fn answer(repository: RepositoryDocument, change: Change, proven: bool, done: &str) -> Result<Answer> {
    let proven = repository.encrypted.then_some(proven);
    let doubt =
        if proven == Some(false) { "not proven: give a key that opens it to be sure of this list\n" } else { "" };
    let text = format!("{done}{}{doubt}", repository.text());
    Answer::new(&RepositoryChange { repository, sets: change.sets, dropped: change.dropped, proven }, text)
}

fn slots_of(descriptor: &RepoDescriptor) -> Vec<SlotDocument> {
    descriptor.current().map(|epoch| epoch.slots.iter().map(Into::into).collect()).unwrap_or_default()
}

fn in_words(slot: &SlotDocument) -> String {
    let public = slot.public_key.as_ref().map_or_else(String::new, |key| format!(" {}", key.0));
    format!("slot {}, {} {:?}{public}", slot.slot, slot.kind, slot.label)
}

fn make(options: NewOptions) -> Result<Answer> {
    let (kind, content, public) = if options.x25519 {
        let identity = Identity::generate()?;
        ("x25519", Zeroizing::new(format!("{}\n", *identity.to_text())), Some(identity.recipient()))
    } else {
        ("key-file", KeyFile::generate()?.to_text(), None)
    };
    write_secret(&options.out, &content)?;
    let mut text = format!("key written to {}; keep it where it outlives this machine\n", options.out.display());
    if let Some(public) = public {
        text += &format!("its public half, for --recipient:\n{public}\n");
    }
    Answer::new(&NewDocument { file: options.out, kind, public_key: public.map(Text) }, text)
}

fn no_directory(path: &Path) -> Error {
    let directory = path.parent().unwrap_or(path).display();
    Error::new(ErrorKind::Io, format!("there is no directory {directory}"))
        .on(path.display().to_string())
        .remedy("make it first, or name a file in another")
}

/// Writes a file that must not be there yet and that only its owner can read, and makes it durable.
fn write_secret(path: &Path, content: &str) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(path.display().to_string(), error);
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = made.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(ErrorKind::Exists, "is there already and is not overwritten")
            .on(path.display().to_string())
            .remedy("name another file"),
        std::io::ErrorKind::NotFound => no_directory(path),
        _ => failed(error),
    })?;
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a key is worse than none; if it cannot be removed either, the first error still says what happened.
        drop(std::fs::remove_file(path));
        failed(error)
    })
}
