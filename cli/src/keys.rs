//! Keys on the command line and in the environment. Nothing is guessed: a half-given key is an error.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use setpiece::format::Argon2Cost;
use setpiece::transform::{Identity, KeyFile, Passphrase, Recipient, Secret, SlotRequest};
use setpiece::{Error, ErrorKind, Result, Setpiece};
use zeroize::Zeroizing;

use crate::console::Console;

/// The longest file that is taken for a key, in bytes.
const MAX_KEY_FILE: u64 = 64 << 10;
const KEY_FILE: &str = "SETPIECE_KEY_FILE";
const PASSPHRASE_FILE: &str = "SETPIECE_PASSPHRASE_FILE";

/// What opens a repository. Said on the command line it replaces what the environment says.
#[derive(Clone, Debug, Args)]
pub(crate) struct OpenKeys {
    /// A key file, or a file with a private key [env: SETPIECE_KEY_FILE].
    #[arg(long, help_heading = "Keys", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// A file with a passphrase [env: SETPIECE_PASSPHRASE_FILE].
    #[arg(long, help_heading = "Keys", value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// A file with a private key (sps1...).
    #[arg(long, help_heading = "Keys", value_name = "FILE")]
    pub identity_file: Option<PathBuf>,
    /// Write to this public key (spk1...) and no other: refuse a repository that names more.
    #[arg(long, help_heading = "Keys", value_name = "PUBKEY")]
    pub recipient: Vec<Recipient>,
    /// Insist that the repository is not encrypted.
    #[arg(long, help_heading = "Keys", conflicts_with_all = ["key_file", "passphrase_file", "identity_file", "recipient"])]
    pub no_encryption: bool,
}

impl OpenKeys {
    /// The secrets that were given.
    pub(crate) fn secrets(&self, console: &Console) -> Result<Vec<Secret>> {
        let mut secrets = Vec::new();
        if self.no_encryption {
            return Ok(secrets);
        }
        let said = self.key_file.is_some() || self.passphrase_file.is_some() || self.identity_file.is_some();
        let from_environment = if said { FromEnvironment::default() } else { FromEnvironment::read()? };
        if let Some(path) = self.key_file.as_ref().or(from_environment.key_file.as_ref()) {
            secrets.push(Secret::from_key_text(&read(path, console)?).map_err(|error| at(error, path))?);
        }
        if let Some(path) = self.passphrase_file.as_ref().or(from_environment.passphrase_file.as_ref()) {
            secrets.push(Secret::Passphrase(passphrase(path, console)?));
        }
        if let Some(path) = &self.identity_file {
            let identity: Identity = read(path, console)?.trim().parse().map_err(|error| at(error, path))?;
            secrets.push(Secret::Identity(identity));
        }
        Ok(secrets)
    }

    /// Refuses a repository that is not what the options say.
    pub(crate) fn insist(&self, opened: Setpiece) -> Result<Setpiece> {
        if self.no_encryption && opened.repository().vault().is_encrypted() {
            return Err(Error::new(ErrorKind::Key, "the repository is encrypted")
                .on(opened.repository().medium().label())
                .remedy("leave out --no-encryption and give a key"));
        }
        if self.recipient.is_empty() { Ok(opened) } else { opened.trusting(&self.recipient) }
    }
}

/// Keys that are to open a repository from now on.
#[derive(Debug, Args)]
pub(crate) struct InitKeys {
    /// Encrypt; opened by this key file, as `setpiece key new` makes it [env: SETPIECE_KEY_FILE].
    #[arg(long, help_heading = "Keys", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Encrypt; opened by the passphrase in this file [env: SETPIECE_PASSPHRASE_FILE].
    #[arg(long, help_heading = "Keys", value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Encrypt; opened by the private half of this public key (spk1...). Hosts without a secret can write.
    #[arg(long, help_heading = "Keys", value_name = "PUBKEY")]
    pub recipient: Vec<Recipient>,
    /// Do not encrypt. For ever: a repository keeps its choice.
    #[arg(long, help_heading = "Keys", conflicts_with_all = ["key_file", "passphrase_file", "recipient"])]
    pub no_encryption: bool,
}

impl InitKeys {
    /// The slots of a new repository; `None` only when that was said aloud.
    pub(crate) fn slots(&self, console: &Console) -> Result<Option<Vec<SlotRequest>>> {
        if self.no_encryption {
            return Ok(None);
        }
        let said = self.key_file.is_some() || self.passphrase_file.is_some() || !self.recipient.is_empty();
        let from_environment = if said { FromEnvironment::default() } else { FromEnvironment::read()? };
        if !said && from_environment.key_file.is_none() && from_environment.passphrase_file.is_none() {
            return Err(Error::new(ErrorKind::Usage, "say whether the repository is to be encrypted")
                .remedy("give --key-file, --passphrase-file or --recipient, or say --no-encryption"));
        }
        let new = NewKeys {
            new_key_file: self.key_file.clone().or(from_environment.key_file),
            new_passphrase_file: self.passphrase_file.clone().or(from_environment.passphrase_file),
            new_recipient: self.recipient.clone(),
            label: None,
        };
        new.slots(console).map(Some)
    }
}

/// Keys that are added to a repository.
#[derive(Debug, Args)]
pub(crate) struct NewKeys {
    /// A key file that shall open the repository.
    #[arg(long, help_heading = "New keys", value_name = "FILE")]
    pub new_key_file: Option<PathBuf>,
    /// A file with a passphrase that shall open the repository.
    #[arg(long, help_heading = "New keys", value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,
    /// A public key (spk1...) whose private half shall open the repository.
    #[arg(long, help_heading = "New keys", value_name = "PUBKEY")]
    pub new_recipient: Vec<Recipient>,
    /// What to call the key in lists [default: the name of its file].
    #[arg(long, help_heading = "New keys", value_name = "TEXT")]
    pub label: Option<String>,
}

impl NewKeys {
    /// The slots asked for, at least one.
    pub(crate) fn slots(&self, console: &Console) -> Result<Vec<SlotRequest>> {
        let mut slots = Vec::new();
        let label = |path: &Path| self.label.clone().unwrap_or_else(|| name_of(path));
        if let Some(path) = &self.new_key_file {
            slots.push(SlotRequest::KeyFile { label: label(path), key: key_file(path, console)? });
        }
        if let Some(path) = &self.new_passphrase_file {
            let passphrase = passphrase(path, console)?;
            slots.push(SlotRequest::Passphrase { label: label(path), passphrase, cost: Argon2Cost::default() });
        }
        for recipient in &self.new_recipient {
            let label = self.label.clone().unwrap_or_else(|| "recipient".into());
            slots.push(SlotRequest::Recipient { label, recipient: *recipient });
        }
        if slots.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "no key was named")
                .remedy("name a key file, a passphrase file or a public key; see --help"));
        }
        Ok(slots)
    }
}

/// Key options in the environment.
#[derive(Default)]
struct FromEnvironment {
    key_file: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
}

impl FromEnvironment {
    fn read() -> Result<Self> {
        FromEnvironment::of(|name| std::env::var_os(name))
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let path = |name: &str| match variable(name) {
            Some(value) if value.is_empty() => Err(Error::new(ErrorKind::Usage, "is set and names no file")
                .on(name)
                .remedy("unset it, or let it name a file")),
            value => Ok(value.map(PathBuf::from)),
        };
        let found = FromEnvironment { key_file: path(KEY_FILE)?, passphrase_file: path(PASSPHRASE_FILE)? };
        if found.key_file.is_some() && found.passphrase_file.is_some() {
            return Err(Error::new(ErrorKind::Usage, format!("{KEY_FILE} and {PASSPHRASE_FILE} are both set"))
                .remedy("unset one of them, or say on the command line which key to use"));
        }
        Ok(found)
    }
}

fn key_file(path: &Path, console: &Console) -> Result<KeyFile> {
    match Secret::from_key_text(&read(path, console)?).map_err(|error| at(error, path))? {
        Secret::KeyFile(key) => Ok(key),
        _ => Err(Error::new(ErrorKind::Key, "is a private key, not a key file")
            .on(path.display().to_string())
            .remedy("give its public key by --recipient")),
    }
}

fn passphrase(path: &Path, console: &Console) -> Result<Passphrase> {
    Passphrase::new(&read(path, console)?).map_err(|error| at(error, path))
}

fn at(error: Error, path: &Path) -> Error {
    error.on(path.display().to_string())
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| "key".into(), |name| name.to_string_lossy().into_owned())
}

/// Reads a small file of text; warns when others may read it too.
fn read(path: &Path, console: &Console) -> Result<Zeroizing<String>> {
    let failed = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let error = Error::new(ErrorKind::Key, "the key cannot be read").on(path.display().to_string()).because(error);
        if missing { error.remedy("`setpiece key new --out FILE` makes a key file") } else { error }
    };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_file() && meta.permissions().mode() & 0o077 != 0 {
        console.warn(&format!("{}: others than its owner can get at the key; chmod 600 it", path.display()));
    }
    let mut text = Zeroizing::new(String::new());
    let got = file.take(MAX_KEY_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if got as u64 > MAX_KEY_FILE {
        return Err(Error::new(ErrorKind::Key, "is too long for a key").on(path.display().to_string()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_must_be_clear() {
        let with = |key: Option<&str>, passphrase: Option<&str>| {
            FromEnvironment::of(|name| if name == KEY_FILE { key.map(Into::into) } else { passphrase.map(Into::into) })
        };
        assert!(with(None, None).unwrap().key_file.is_none());
        assert_eq!(with(Some("/k"), None).unwrap().key_file.unwrap(), Path::new("/k"));
        assert_eq!(with(None, Some("/p")).unwrap().passphrase_file.unwrap(), Path::new("/p"));
        for (key, passphrase) in [(Some("/k"), Some("/p")), (Some(""), None), (None, Some(""))] {
            assert_eq!(with(key, passphrase).map(|_| ()).unwrap_err().kind(), ErrorKind::Usage);
        }
    }
}
