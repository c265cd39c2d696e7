//! The recovery settings of a restored cluster.

use std::fs;
use std::path::Path;

use setpiece_core::model::{Lsn, Timestamp, Until};
use setpiece_core::source::RecoverRequest;
use setpiece_core::{Error, Result};

use crate::dialect::Dialect;

/// Settings that an earlier recovery of the same cluster may have left.
const OURS: [&str; 4] = ["recovery_target", "restore_command", "recovery_end_command", "archive_cleanup_command"];

/// Writes where recovery stops, and the file that makes the server recover.
///
/// `redo_ends` is the end of the redo that is at hand: a target there is none, the server stops by itself.
pub(crate) fn write(dialect: Dialect, directory: &Path, request: &RecoverRequest<'_>, redo_ends: Lsn) -> Result<()> {
    let path = directory.join(dialect.last_settings_file());
    let failed = |error| Error::io(path.display().to_string(), error);
    let before = if path.exists() { fs::read_to_string(&path).map_err(failed)? } else { String::new() };
    let kept = before.lines().filter(|line| !OURS.iter().any(|name| line.trim_start().starts_with(name)));
    let mut text: String = kept.flat_map(|line| [line, "\n"]).collect();
    // A set of a server that was shut down is consistent as it is: there is no redo in which to stop.
    let at_rest = !directory.join("backup_label").exists();
    for (name, value) in lines(request, redo_ends, at_rest) {
        text += &format!("{name} = '{}'\n", value.replace('\'', "''"));
    }
    fs::write(&path, text).map_err(failed)?;
    let signal = directory.join("recovery.signal");
    fs::write(&signal, "").map_err(|error| Error::io(signal.display().to_string(), error))
}

fn lines(request: &RecoverRequest<'_>, redo_ends: Lsn, at_rest: bool) -> Vec<(&'static str, String)> {
    let target = request.target;
    // All redo is in the log directory already; the server insists on a command to get more.
    let mut lines = vec![("restore_command", "false".to_owned())];
    lines.push(("recovery_target_timeline", request.branch.current.0.to_string()));
    lines.push(("recovery_target_action", "promote".into()));
    match &target.until {
        // A server stops at the first record behind the consistent state. Where the redo ends with that state there is none,
        // as in a set of a standby: the end of the redo is the target.
        Until::SetEnd if at_rest || redo_ends <= request.consistent_from => return lines,
        Until::SetEnd => lines.push(("recovery_target", "immediate".into())),
        Until::Lsn(lsn) if *lsn >= redo_ends => return lines,
        Until::Latest => return lines,
        Until::Lsn(lsn) => lines.push(("recovery_target_lsn", format!("{:X}/{:X}", lsn.0 >> 32, lsn.0 & 0xFFFF_FFFF))),
        Until::Time(time) => lines.push(("recovery_target_time", moment(*time))),
        Until::Name(name) => lines.push(("recovery_target_name", name.clone())),
        Until::Transaction(xid) => lines.push(("recovery_target_xid", xid.to_string())),
        _ => {}
    }
    lines.push(("recovery_target_inclusive", if target.exclusive { "off" } else { "on" }.into()));
    lines
}

/// A moment as the server reads it.
fn moment(time: Timestamp) -> String {
    time.to_string().replace('T', " ").replace('Z', "+00")
}

/// Whether a name is one of a file in the log directory and nothing else.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'.' || byte.is_ascii_lowercase())
        && !name.starts_with('.')
}
