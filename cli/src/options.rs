//! Options that several verbs share, and the words in them: URLs, sizes, times.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use setpiece::model::{Lsn, Timestamp};
use setpiece::source::{CaptureOptions, Source};
use setpiece::{Error, ErrorKind, Result, Setpiece};

use crate::console::Console;
use crate::keys::OpenKeys;

/// Which repository, and what opens it.
#[derive(Debug, Args)]
pub(crate) struct RepoOptions {
    /// The repository, such as disk:/var/backup.
    #[arg(long, value_name = "URL", env = "SETPIECE_REPO", hide_env_values = true)]
    pub repo: String,
    #[command(flatten)]
    pub keys: OpenKeys,
    #[command(flatten)]
    pub cache: CacheOptions,
}

impl RepoOptions {
    /// Opens it, with everything else as the command line says.
    pub(crate) fn open(&self, console: &Console) -> Result<Setpiece> {
        let opened = Setpiece::open(&url(&self.repo)?, &self.keys.secrets(console)?)?;
        let opened = self.keys.insist(opened)?;
        self.cache.apply(opened.observed_by(console.observer()).cancelled_by(&console.cancel), console)
    }
}

/// Where copies of metadata are kept.
#[derive(Clone, Debug, Args)]
pub(crate) struct CacheOptions {
    /// Where copies of metadata are kept [default: $XDG_CACHE_HOME/setpiece or ~/.cache/setpiece]. Made where it is
    /// missing; one that is named here and cannot be made is an error, the default one is done without.
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache", help_heading = "Copies of metadata")]
    pub cache_dir: Option<PathBuf>,
    /// Keep no copies of metadata.
    #[arg(long, help_heading = "Copies of metadata")]
    pub no_cache: bool,
}

impl CacheOptions {
    /// The directory; none when there is no home to put it in.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        if self.no_cache {
            return None;
        }
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let by_default = || {
            let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
            base.filter(|path| path.is_absolute()).map(|path| path.join("setpiece"))
        };
        self.cache_dir.clone().or_else(by_default)
    }

    /// A default directory that cannot be made costs only time; one that was asked for must be there.
    fn apply(&self, setpiece: Setpiece, console: &Console) -> Result<Setpiece> {
        let Some(directory) = self.directory() else { return Ok(setpiece) };
        match std::fs::create_dir_all(&directory) {
            Ok(()) => setpiece.cached_below(&directory),
            Err(error) if self.cache_dir.is_some() => Err(Error::io(directory.display().to_string(), error)),
            Err(error) => {
                console.warn(&format!("no copies of metadata are kept: {}: {error}", directory.display()));
                Ok(setpiece)
            }
        }
    }
}

/// Which database.
#[derive(Debug, Args)]
pub(crate) struct SourceOption {
    /// The database, such as sqlite:/path/app.db.
    #[arg(long, value_name = "URL")]
    pub source: String,
}

impl SourceOption {
    /// Opens it.
    pub(crate) fn open(&self) -> Result<Box<dyn Source>> {
        setpiece::source::open(&url(&self.source)?)
    }

    /// Opens a server whose log is captured in a way of its own.
    pub(crate) fn open_capturing(&self, how: CaptureOptions) -> Result<Box<dyn Source>> {
        setpiece::source::open_capturing(&url(&self.source)?, how)
    }
}

/// A source on record: its name, its identifier, or the URL of the database.
#[derive(Debug)]
pub(crate) struct SourceWord {
    /// The name or the identifier.
    pub word: String,
    said: String,
}

impl SourceWord {
    /// What was said, if anything. A word with the scheme of a database is a URL.
    pub(crate) fn of(said: Option<&str>) -> Result<Option<Self>> {
        let Some(said) = said else { return Ok(None) };
        let is_url = setpiece::source::SCHEMES.iter().any(|scheme| said.starts_with(scheme));
        let word = if is_url { setpiece::source::id(&url(said)?)?.to_string() } else { said.to_owned() };
        Ok(Some(SourceWord { word, said: said.to_owned() }))
    }

    /// An error about the source, with what was said.
    pub(crate) fn told(source: Option<&Self>, error: Error) -> Error {
        match source.filter(|source| source.word != source.said && error.object() == Some(&source.word)) {
            Some(source) => error.doing(format!("looking for what was backed up of {}", source.said)),
            None => error,
        }
    }
}

/// A URL with a relative path made absolute: the library wants it so, people do not.
pub(crate) fn url(text: &str) -> Result<String> {
    let relative = |(scheme, rest): &(&str, &str)| {
        matches!(*scheme, "disk" | "sqlite" | "sbt" | "pgdata") && !rest.is_empty() && !rest.starts_with('/')
    };
    let Some((scheme, rest)) = text.split_once(':').filter(relative) else { return Ok(text.to_owned()) };
    // What follows the path of a medium are parameters, and nothing to be changed.
    let end = rest.find('?').filter(|_| matches!(scheme, "disk" | "sbt")).unwrap_or(rest.len());
    let (rest, parms) = rest.split_at(end);
    let path = std::path::absolute(rest).map_err(|error| Error::io(rest, error))?;
    let path = path.to_str().ok_or_else(|| Error::new(ErrorKind::Usage, "the path is not UTF-8").on(rest))?;
    Ok(format!("{scheme}:{path}{parms}"))
}

/// An LSN: a number, or as PostgreSQL writes it, two hexadecimal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LsnText(pub Lsn);

impl FromStr for LsnText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
        let parsed = match text.split_once('/') {
            Some((high, low)) => part(high).zip(part(low)).map(|(high, low)| high << 32 | low),
            None => text.parse().ok(),
        };
        parsed.map(|lsn| LsnText(Lsn(lsn))).ok_or_else(|| "expected an LSN, such as 50367880 or 0/3008D88".into())
    }
}

/// A number of bytes: `4GiB`, `500MB`, `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let unit: u64 = match unit.trim() {
            "" | "B" => 1,
            "K" | "KiB" => 1 << 10,
            "M" | "MiB" => 1 << 20,
            "G" | "GiB" => 1 << 30,
            "T" | "TiB" => 1 << 40,
            "kB" | "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            other => return Err(format!("{other:?} is no unit of bytes; use KiB, MiB, GiB or TiB")),
        };
        let number: u64 = digits.parse().map_err(|_| "expected a number of bytes, such as 4GiB".to_owned())?;
        number.checked_mul(unit).map(Size).ok_or_else(|| "that is too many bytes".to_owned())
    }
}

/// A moment as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The moment.
    pub at: Timestamp,
    /// Whether no offset was given, so that it was taken for local time.
    pub local: bool,
}

impl FromStr for Moment {
    type Err = String;

    /// RFC 3339; without an offset the time zone of this machine counts. A local time that happened twice, or never, is
    /// refused.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(Moment { at: Timestamp(time.as_microsecond()), local: false });
        }
        let wrong = |_| "expected a time such as 2026-01-31T08:05:00Z or 2026-01-31T08:05:00".to_owned();
        let civil: jiff::civil::DateTime = text.parse().map_err(wrong)?;
        let zoned = jiff::tz::TimeZone::system().to_ambiguous_zoned(civil).unambiguous();
        let zoned = zoned.map_err(|_| "clocks were changed then: add an offset, such as +01:00".to_owned())?;
        Ok(Moment { at: Timestamp(zoned.timestamp().as_microsecond()), local: true })
    }
}

impl Moment {
    /// The moment; says how it was understood where that could surprise.
    pub(crate) fn said(&self, console: &Console) -> Timestamp {
        if self.local {
            console.note(&format!("taken for local time: {}", self.at));
        }
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!("4GiB".parse(), Ok(Size(4 << 30)));
        assert_eq!("17".parse(), Ok(Size(17)));
        assert_eq!("2 MB".parse(), Ok(Size(2_000_000)));
        for wrong in ["", "GiB", "-1", "1.5G", "1X", "99999999999T"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_with_and_without_offset() {
        let utc: Moment = "2026-01-31T08:05:00.25Z".parse().unwrap();
        let offset: Moment = "2026-01-31 09:05:00.25+01:00".parse().unwrap();
        assert_eq!((utc.at, utc.local), (offset.at, false));
        assert_eq!(utc.at.to_string(), "2026-01-31T08:05:00.250000Z");
        assert!("2026-01-31T08:05:00".parse::<Moment>().unwrap().local);
        assert!("2026-01-31".parse::<Moment>().unwrap().local);
        for wrong in ["", "yesterday", "2026-13-01T00:00:00Z", "08:05"] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn relative_paths_become_absolute_and_nothing_else_changes() {
        for same in ["disk:/a/b", "s3://bucket/x", "sqlite:/x.db", "nothing", "disk:"] {
            assert_eq!(url(same).unwrap(), same);
        }
        let made = url("disk:repo").unwrap();
        assert!(made.starts_with("disk:/") && made.ends_with("/repo"), "{made}");
        let with_parms = url("sbt:./lib.so?path=/a//b/./c").unwrap();
        assert!(with_parms.ends_with("/lib.so?path=/a//b/./c"), "{with_parms}");
    }
}
