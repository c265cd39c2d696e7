//! What archive and restore commands leave to a process in the background: the calls that wait for it, and that process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use setpiece::format::Compression;
use setpiece::source::{Direction, LogHome, Pushed, Spool};
use setpiece::{Error, ErrorKind, Result, Setpiece};

use crate::console::Console;
use crate::options::{RepoOptions, url};

/// How often is looked for a note.
const LOOK: Duration = Duration::from_millis(5);
/// After so long without one a process that has ended is begun again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the process in the background waits for more.
const LINGER: Duration = Duration::from_secs(30);

/// Where notes are left.
#[derive(Clone, Debug, Args)]
pub(crate) struct SpoolOptions {
    /// A directory for notes between this command and the process in the background. May be lost at any time.
    #[arg(long, value_name = "DIR")]
    pub spool: Option<PathBuf>,
    /// This is the process in the background.
    #[arg(long, hide = true)]
    pub background: bool,
}

impl SpoolOptions {
    /// Opens the notes for a cluster and a repository.
    pub(crate) fn open(&self, home: &LogHome, repo: &RepoOptions) -> Result<Spool> {
        let directory = self.spool.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Usage, "no directory for notes was named").remedy("give --spool DIR")
        })?;
        let directory = std::path::absolute(directory).map_err(|error| Error::io("the spool", error))?;
        Spool::open(&directory, home, &url(&repo.repo)?)
    }
}

/// Waits until the process in the background has stored a file, and begins it where it is needed.
pub(super) fn wait_for(spool: &Spool, file: &Path, limit: Duration, console: &Console) -> Result<()> {
    let began = Instant::now();
    let mut asked: Option<Instant> = None;
    loop {
        match spool.pushed(file)? {
            Pushed::Durable => return Ok(()),
            Pushed::Failed(error) => return Err(error),
            Pushed::Unknown => {}
        }
        console.cancel.check()?;
        if began.elapsed() >= limit {
            return Err(Error::new(ErrorKind::Medium, format!("is not durable after {} seconds", limit.as_secs()))
                .on(file.display().to_string())
                .remedy("the server tries again; see whether the repository can be reached, or give more --jobs"));
        }
        if asked.is_none_or(|asked| asked.elapsed() >= AGAIN) && !spool.is_busy(Direction::Push) {
            begin()?;
            asked = Some(Instant::now());
        }
        thread::sleep(LOOK);
    }
}

/// Begins a process with the same words as this one, on its own, so that it stays when this one ends.
pub(super) fn begin() -> Result<()> {
    use std::os::unix::process::CommandExt;
    let failed = |error| Error::io("the process in the background", error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).arg("--background");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().map(drop).map_err(failed)
}

/// Stores what the server has marked as ready.
pub(super) fn push(
    spool: &Spool,
    home: &LogHome,
    setpiece: &Setpiece,
    how: (usize, Compression),
    console: &Console,
) -> Result<usize> {
    let store = |info: &_, unit: &_| setpiece.log_push(info, unit, how.1).map(drop);
    spool.push_ahead(home, how.0, LINGER, &store, &console.cancel)
}
