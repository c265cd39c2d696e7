//! Processes of a server: started as an unprivileged user, found by their directory, ended by their number.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

/// The user `nobody` and its group.
const NOBODY: u32 = 65534;

/// The user that a server runs as: PostgreSQL refuses to be run by root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// The one that runs the test.
    Ours,
    /// Another one, by its numbers; for this we must be root.
    Other { uid: u32, gid: u32 },
}

impl Account {
    /// `nobody` when we are root, ourselves otherwise.
    pub(crate) fn unprivileged() -> Self {
        if is_root() { Account::Other { uid: NOBODY, gid: NOBODY } } else { Account::Ours }
    }

    /// A command that runs a program as this user.
    pub(crate) fn command(self, program: &Path) -> Command {
        match self {
            Account::Ours => plain_command(program),
            Account::Other { .. } => self.setpriv(&[], program),
        }
    }

    /// A command whose process is sent a `SIGQUIT` when this test process ends, however it ends.
    pub(crate) fn command_bound_to_us(self, program: &Path) -> Command {
        self.setpriv(&["--pdeathsig", "QUIT"], program)
    }

    fn setpriv(self, options: &[&str], program: &Path) -> Command {
        let mut command = plain_command(Path::new("setpriv"));
        if let Account::Other { uid, gid } = self {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
        }
        command.args(options).arg("--").arg(program);
        command
    }

    /// Gives this user a file, or a directory and all below it.
    pub(crate) fn own(self, path: &Path) {
        let Account::Other { uid, gid } = self else { return };
        let done = std::os::unix::fs::lchown(path, Some(uid), Some(gid));
        done.unwrap_or_else(|error| panic!("{} cannot be given to user {uid}: {error}", path.display()));
        if path.symlink_metadata().is_ok_and(|about| about.is_dir()) {
            entries(path).iter().for_each(|entry| self.own(entry));
        }
    }
}

/// What is in a directory, in the order of names.
pub(crate) fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    let read = fs::read_dir(dir).unwrap_or_else(|error| panic!("{} cannot be listed: {error}", dir.display()));
    let mut found: Vec<_> = read.map(|entry| entry.expect("the directory can be read on").path()).collect();
    found.sort();
    found
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc is there").uid() == 0
}

/// A command that the caller's settings of libpq have no influence on.
fn plain_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").stdin(Stdio::null()).current_dir("/");
    command
}

/// What a finished program wrote, or all it said when it failed.
pub(crate) fn output_of(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?} does not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{:?} ended with {}\n{text}{said}", command.get_program(), output.status))
}

/// Starts a process from a thread that never ends.
///
/// The kernel sends the signal of [`Account::command_bound_to_us`] when the thread that started the process ends, and
/// the thread of a test ends before others that use its server may.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static STARTER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in jobs {
                answer.send(command.spawn()).ok();
            }
        });
        sender
    });
    let (answer, started) = mpsc::channel();
    starter.send((command, answer)).expect("the starting thread never ends");
    started.recv().expect("the starting thread never ends")
}

/// Sends a signal by its name; that a process is gone already is no fault.
pub(crate) fn signal(name: &str, processes: &[u32]) {
    let numbers = processes.iter().map(ToString::to_string);
    let mut command = plain_command(Path::new("sh"));
    command.args(["-c", r#"kill -s "$@" 2>/dev/null || true"#, "sh", name]).args(numbers);
    command.status().expect("sh starts");
}

/// The processes whose working directory is `dir`: a server's, all its children's, and those of its commands.
pub(crate) fn processes_in(dir: &Path) -> Vec<u32> {
    let number = |path: &Path| path.file_name().and_then(OsStr::to_str)?.parse::<u32>().ok();
    let there = |path: &Path| fs::read_link(path.join("cwd")).is_ok_and(|at| at == dir);
    entries(Path::new("/proc")).iter().filter(|path| there(path)).filter_map(|path| number(path)).collect()
}

/// Ends every process whose working directory is `dir`, at once and without a chance to tidy up.
pub(crate) fn kill_all_in(dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let left: Vec<u32> = processes_in(dir).into_iter().filter(|process| !is_dead(*process)).collect();
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        signal("KILL", &left);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ended, and waiting to be reaped.
fn is_dead(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Asks until `done` says yes.
pub(crate) fn poll<T>(limit: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = done() {
            return Some(value);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
