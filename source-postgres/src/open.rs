//! Starting a restored cluster and waiting until it is open to its users.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use setpiece_core::source::OpenRequest;
use setpiece_core::{Error, ErrorKind, Result};

use crate::control::{Control, State};
use crate::dialect::Dialect;

/// How often is looked whether the server is open.
const LOOK: Duration = Duration::from_millis(100);
/// Where the server's messages go until it takes its own way.
const LOG: &str = "setpiece-start.log";
/// Where Debian and its descendants keep configurations: by version, then by name.
const KEPT_APART: &str = "/etc/postgresql";
/// Bytes of its messages that an error shows.
const SHOWN: usize = 2000;

/// Starts the server and waits until it has recovered.
pub(crate) fn open(directory: &Path, dialect: Dialect, how: &OpenRequest<'_>) -> Result<()> {
    let began = Instant::now();
    let log = directory.join(LOG);
    let program = find_program(directory, dialect, how.programs)?;
    let mut command = Command::new(&program);
    if let Some(config) = configuration(directory, dialect, Path::new(KEPT_APART))? {
        // The programs of the server take this apart as a shell would.
        command.arg("-o").arg(format!("-c config_file='{}'", config.display().to_string().replace('\'', "'\\''")));
    }
    command.arg("-D").arg(directory).arg("-l").arg(&log).arg("-w").arg("-t").arg(how.wait.as_secs().max(1).to_string());
    let command = command.arg("start").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let done = command.output().map_err(|error| Error::io(program.display().to_string(), error))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        return Err(failed(directory, &format!("the server did not start: {said}"), &log));
    }
    loop {
        let (control, _) = Control::read(directory, dialect)?;
        match control.state {
            State::Other(IN_PRODUCTION) => return Ok(()),
            State::ShutDown | State::ShutDownInRecovery => {
                return Err(failed(directory, "the server ended before it was open", &log));
            }
            _ if began.elapsed() > how.wait => {
                return Err(failed(directory, "the server recovers still", &log));
            }
            _ if !runs(directory) => {
                return Err(failed(directory, "the server ended before it was open", &log));
            }
            _ => thread::sleep(LOOK),
        }
    }
}

/// The state of a server that is open, from `pg_control.h`.
const IN_PRODUCTION: u32 = 6;

fn runs(directory: &Path) -> bool {
    ["postmaster.pid", "kingbase.pid"].iter().any(|name| directory.join(name).exists())
}

fn failed(directory: &Path, text: &str, log: &Path) -> Error {
    let said = fs::read_to_string(log).unwrap_or_default();
    let from = said.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
    Error::new(ErrorKind::Target, text.to_owned())
        .on(directory.display().to_string())
        .remedy(format!("the database is restored; look at what its server said: {}", said[from..].trim()))
}

/// The configuration of a cluster whose directory has none: the one of which the distribution says that it belongs to this
/// directory; `None` when it lies in the directory.
fn configuration(directory: &Path, dialect: Dialect, apart: &Path) -> Result<Option<PathBuf>> {
    let name = dialect.settings_file();
    if directory.join(name).exists() {
        return Ok(None);
    }
    let below = |place: &Path| fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found =
        below(apart).flat_map(|version| below(&version).map(|cluster| cluster.join(name)).collect::<Vec<_>>());
    found.find(|config| belongs(config, directory)).map(Some).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "the cluster's configuration is not in its directory, and so not in the backup")
            .on(directory.display().to_string())
            .remedy("the database is restored: start the server with its configuration, as by pg_ctlcluster VERSION NAME start")
    })
}

/// Whether a configuration names a data directory as its own.
fn belongs(config: &Path, directory: &Path) -> bool {
    let text = fs::read_to_string(config).unwrap_or_default();
    let named = text.lines().rev().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "data_directory").then(|| value.trim().split('\'').nth(1).unwrap_or_default().to_owned())
    });
    named.is_some_and(|named| !named.is_empty() && Path::new(&named) == directory)
}

/// The program that starts servers: where the caller says, or where distributions put it.
fn find_program(directory: &Path, dialect: Dialect, programs: &[PathBuf]) -> Result<PathBuf> {
    let name = dialect.name("ctl");
    let version = fs::read_to_string(directory.join(dialect.version_file())).unwrap_or_default();
    let version = version.trim();
    let usual = dialect.usual_programs(version);
    let found = programs.iter().chain(&usual).map(|place| place.join(&name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("{name} of version {version} was not found"))
            .on(directory.display().to_string())
            .remedy("say where the server's programs are (--programs DIR), or start the server yourself: the database is restored")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_kept_apart_is_found_by_the_directory_it_names() {
        let place = tempfile::tempdir().unwrap();
        let apart = place.path().join("etc");
        for (name, of) in [("one", "/srv/one"), ("main", "/srv/main")] {
            let dir = apart.join("15").join(name);
            fs::create_dir_all(&dir).unwrap();
            let text = format!("port = 5432\ndata_directory = '{of}'\t# use data in another directory\n");
            fs::write(dir.join("postgresql.conf"), text).unwrap();
        }
        let found = configuration(Path::new("/srv/main"), Dialect::Postgresql, &apart).unwrap();
        assert_eq!(found, Some(apart.join("15/main/postgresql.conf")));
        let none = configuration(Path::new("/srv/other"), Dialect::Postgresql, &apart).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NotFound);
        fs::write(place.path().join("postgresql.conf"), "").unwrap();
        assert_eq!(configuration(place.path(), Dialect::Postgresql, &apart).unwrap(), None);
    }
}
