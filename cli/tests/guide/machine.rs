//! A machine that a guide may do with as it likes: directories below a temporary one, and somebody who plays systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Directories of the machine that the guides name, and that are moved.
const MOVED: [&str; 5] = ["/etc/", "/srv/", "/backup/", "/usr/local/", "/var/"];

/// The blocks of a guide that are to be run.
pub fn blocks(guide: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut inside = false;
    for line in guide.lines() {
        match line.trim_end() {
            "```sh run" => {
                inside = true;
                blocks.push(String::new());
            }
            "```" => inside = false,
            line if inside => blocks.last_mut().unwrap().extend([line, "\n"]),
            _ => {}
        }
    }
    blocks
}

/// Where a guide is run.
pub struct Machine {
    root: PathBuf,
    /// Makes a shell's command, as the user that works here.
    shell: Box<dyn Fn() -> Command>,
    /// What to do at the end, however the guide ended.
    pub at_end: &'static str,
    _dir: Option<tempfile::TempDir>,
}

impl Machine {
    /// A machine of ours.
    pub fn new(systemctl: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let machine = Machine { root, shell: Box::new(|| Command::new("sh")), at_end: "", _dir: Some(dir) };
        machine.furnish(systemctl);
        machine
    }

    /// A machine below a directory of somebody else, whose shell is made by `shell`.
    pub fn of(root: PathBuf, systemctl: &str, shell: impl Fn() -> Command + 'static) -> Self {
        let machine = Machine { root, shell: Box::new(shell), at_end: "", _dir: None };
        machine.furnish(systemctl);
        machine
    }

    fn furnish(&self, systemctl: &str) {
        let made = self.sh("mkdir -p etc/systemd/system etc/cron.d srv/app backup usr/local/bin home var").status();
        assert!(made.unwrap().success());
        let bin = self.path("usr/local/bin");
        fs::copy(env!("CARGO_BIN_EXE_setpiece"), bin.join("setpiece")).unwrap();
        fs::write(bin.join("systemctl"), systemctl).unwrap();
        fs::set_permissions(bin.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A place on it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A shell with a script, as whoever works here.
    pub fn sh(&self, script: &str) -> Command {
        let mut command = (self.shell)();
        command.args(["-euc", script]).current_dir(&self.root).stdin(Stdio::null());
        let path = std::env::var("PATH").unwrap();
        let programs = command.get_envs().find(|(name, _)| *name == "PROGRAMS").and_then(|(_, value)| value);
        let programs = programs.map(|value| format!("{}:", value.display())).unwrap_or_default();
        command.env("PATH", format!("{}:{programs}{path}", self.path("usr/local/bin").display()));
        for variable in ["SETPIECE_REPO", "SETPIECE_KEY_FILE", "SETPIECE_PASSPHRASE_FILE", "XDG_CACHE_HOME"] {
            command.env_remove(variable);
        }
        command.env("PLACE", &self.root).env("HOME", self.path("home"));
        command
    }

    /// Runs a guide to its end, or says what it was about and what was printed when a command failed.
    pub fn run(&self, guide: &str) -> Result<String, String> {
        let mut script = String::new();
        for (number, block) in blocks(guide).iter().enumerate() {
            script += &format!("echo '--- block {}'\n{block}", number + 1);
        }
        // In two steps, for the temporary directory may lie below one of them.
        for place in MOVED {
            script = script.replace(place, &format!("\0{place}"));
        }
        let script = script.replace('\0', &self.root.display().to_string());
        let output = self.sh(&format!("exec 2>&1\n{script}echo '--- the end'\n")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let ended = output.status.success() && said.ends_with("--- the end\n");
        if ended { Ok(said) } else { Err(format!("{}: {said}", output.status)) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !self.at_end.is_empty() {
            let _ended = self.sh(self.at_end).output();
        }
    }
}

/// The text of a guide.
pub fn guide(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides").join(name)).unwrap()
}
