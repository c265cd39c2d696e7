//! The stage of the demo: commands run as processes, shown and timed; and the processes in the background.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use setpiece::{Error, ErrorKind, Result};

use crate::console::Console;
use crate::{output, text};

/// Columns for what a step did, before its time.
const LINE: usize = 72;
/// How long a process in the background may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A step that was shown.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    command: String,
    result: String,
    seconds: f64,
}

/// Where the demo plays.
pub(super) struct Scene<'c> {
    pub(super) dir: PathBuf,
    pub(super) console: &'c Console,
    program: PathBuf,
    steps: Vec<Step>,
}

impl<'c> Scene<'c> {
    pub(super) fn set(dir: &Path, console: &'c Console) -> Result<Self> {
        let program = std::env::current_exe().map_err(|error| Error::io("the program itself", error))?;
        Ok(Scene { dir: dir.to_owned(), console, program, steps: Vec::new() })
    }

    pub(super) fn database(&self) -> PathBuf {
        self.dir.join("app.db")
    }

    pub(super) fn database_text(&self) -> String {
        self.database().display().to_string()
    }

    pub(super) fn source(&self) -> String {
        format!("sqlite:{}", self.database_text())
    }

    pub(super) fn repository(&self) -> String {
        format!("disk:{}", self.dir.join("repo").display())
    }

    pub(super) fn key_text(&self) -> String {
        self.dir.join("demo.key").display().to_string()
    }

    pub(super) fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    /// Tells people what comes.
    pub(super) fn say(&self, line: &str) {
        if !self.console.json {
            let heading = if line.starts_with(' ') { "" } else { "\n" };
            // The answer at the end fails as well when nothing can be written.
            drop(output::text(&format!("{heading}{line}\n")));
        }
    }

    /// Shows what all commands have in their environment.
    pub(super) fn introduce(&self) {
        self.say(&format!("  $ export SETPIECE_REPO={} SETPIECE_KEY_FILE={}", self.repository(), self.key_text()));
    }

    pub(super) fn wait(&self, time: Duration) -> Result<()> {
        super::pause(time, self.console)
    }

    /// Runs a command to its end and shows what it did, in the words of `told`.
    pub(super) fn command(&mut self, args: &[&str], told: impl Fn(&Value) -> String) -> Result<Value> {
        self.console.cancel.check()?;
        let command = format!("setpiece {}", args.join(" "));
        self.say(&format!("  $ {command}"));
        let began = Instant::now();
        let output = self.process(args).arg("--json").output().map_err(|error| Error::io(command.clone(), error))?;
        let took = began.elapsed();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if !output.status.success() {
            self.console.cancel.check()?;
            let why = document.pointer("/error/message").and_then(Value::as_str).map(str::to_owned);
            let why = why.unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned());
            return Err(failed(&command, &why));
        }
        let result = told(&document);
        self.say(&format!("    {result:<LINE$} {}", text::seconds(took)));
        self.steps.push(Step { command, result, seconds: took.as_secs_f64() });
        Ok(document)
    }

    /// Runs a command to its end and shows what it prints.
    pub(super) fn show(&mut self, args: &[&str]) -> Result<()> {
        let command = format!("setpiece {}", args.join(" "));
        self.say(&format!("  $ {command}"));
        let began = Instant::now();
        let output = self.process(args).output().map_err(|error| Error::io(command.clone(), error))?;
        if !output.status.success() {
            return Err(failed(&command, &String::from_utf8_lossy(&output.stderr)));
        }
        let result = String::from_utf8_lossy(&output.stdout).into_owned();
        result.lines().for_each(|line| self.say(&format!("    {line}")));
        self.steps.push(Step { command, result, seconds: began.elapsed().as_secs_f64() });
        Ok(())
    }

    /// Starts a command and waits until it says `ready` on standard error.
    pub(super) fn background(&mut self, args: &[&str], ready: &str) -> Result<Background> {
        self.console.cancel.check()?;
        let shown = args.first().is_some_and(|verb| *verb != "demo-writer");
        let command = format!("setpiece {}", args.join(" "));
        if shown {
            self.say(&format!("  $ {command} &"));
        }
        let began = Instant::now();
        let mut child = self
            .process(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::io(command.clone(), error))?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let background = Background { child, command: command.clone(), _stdin: stdin };
        let mut lines = BufReader::new(stderr.ok_or_else(|| failed(&command, "it has no standard error"))?).lines();
        let mut said = String::new();
        loop {
            let Some(Ok(line)) = lines.next() else { return Err(failed(&command, &said)) };
            if line.contains(ready) {
                break;
            }
            said = line;
        }
        // Somebody has to read what else it says, or it would wait for ever.
        let drain = thread::Builder::new().name("drain".into()).spawn(move || lines.for_each(drop));
        drain.map(drop).map_err(|error| Error::io("a thread", error))?;
        if shown {
            let result = "started".to_owned();
            self.steps.push(Step { command, result, seconds: began.elapsed().as_secs_f64() });
        }
        Ok(background)
    }

    fn process(&self, args: &[&str]) -> Command {
        let mut process = Command::new(&self.program);
        process
            .args(args)
            .env("SETPIECE_REPO", self.repository())
            .env("SETPIECE_KEY_FILE", self.key_text())
            .env("XDG_CACHE_HOME", self.dir.join("cache"))
            .env_remove("SETPIECE_PASSPHRASE_FILE")
            .stdin(Stdio::null());
        process
    }
}

fn failed(command: &str, why: &str) -> Error {
    Error::new(ErrorKind::Internal, "a step of the demo failed").on(command).because(why.trim().to_owned())
}

/// A process in the background; killed when it is dropped.
pub(super) struct Background {
    child: Child,
    command: String,
    /// The writer ends when this closes, so that it cannot outlive the demo.
    _stdin: Option<ChildStdin>,
}

impl Background {
    /// Ends it as a crash would.
    pub(super) fn kill(mut self) -> Result<()> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(|error| Error::io(self.command.clone(), error))
    }

    /// Asks it to end, as Ctrl-C does, and waits until it has ended well.
    pub(super) fn stop(mut self) -> Result<()> {
        let gone = |error| Error::io(self.command.clone(), error);
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(&self.command, "it has no process id"))?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT).map_err(|errno| gone(errno.into()))?;
        let until = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(failed(&self.command, &status.to_string())),
                Ok(None) if Instant::now() > until => return Err(failed(&self.command, "it does not stop")),
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Err(error) => return Err(Error::io(self.command.clone(), error)),
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}
