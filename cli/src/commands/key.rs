//! `setpiece key`: make keys, and change which of them open a repository.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use setpiece::transform::{Identity, KeyFile, Recipient};
use setpiece::{Error, ErrorKind, Result, Setpiece};
use zeroize::Zeroizing;

use crate::console::{Answer, Console};
use crate::documents::{RepositoryDocument, Text};
use crate::keys::NewKeys;
use crate::options::RepoOptions;
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
    /// List the keys that open a repository.
    List(RepoOptions),
    Add(AddOptions),
    Remove(RemoveOptions),
    /// Give the repository a new key that only the keys named here and its recipients open, and wrap the keys of all
    /// sets anew.
    Rotate(AddOptions),
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
}

pub(crate) fn run(options: Options, console: &Console) -> Result<Answer> {
    match options.verb {
        Verb::New(new) => make(new),
        Verb::List(repo) => changed(&repo.open(console)?, 0, ""),
        Verb::Add(add) => {
            let slots = add.new.slots(console)?;
            let mut setpiece = add.repo.open(console)?;
            slots.iter().try_for_each(|slot| setpiece.add_key(slot))?;
            changed(&setpiece, 0, "added\n")
        }
        Verb::Remove(remove) => {
            let mut setpiece = remove.repo.open(console)?;
            setpiece.remove_key(remove.slot)?;
            changed(&setpiece, 0, "removed; `setpiece key rotate` shuts out whoever kept what it opened\n")
        }
        Verb::Rotate(rotate) => {
            let slots = rotate.new.slots(console)?;
            let mut setpiece = rotate.repo.open(console)?;
            let sets = setpiece.rotate_keys(&slots)?;
            let done = format!("the keys of {} were wrapped anew\n", text::count(sets as u64, "set"));
            changed(&setpiece, sets, &done)
        }
    }
}

fn changed(setpiece: &Setpiece, sets: usize, done: &str) -> Result<Answer> {
    let repository = setpiece.repository();
    let repository = RepositoryDocument::of(repository.descriptor(), repository.medium().label());
    let text = format!("{done}{}", repository.text());
    Answer::new(&RepositoryChange { repository, sets }, text)
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
