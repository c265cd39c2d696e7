//! The recovery settings of a restored cluster.

use std::fs;
use std::path::Path;

use setpiece_core::model::{Lsn, Timestamp, Until};
use setpiece_core::source::RecoverRequest;
use setpiece_core::{Error, Result};

use crate::dialect::Dialect;

/// Settings that an earlier recovery of the same cluster may have left.
const OURS: [&str; 4] = ["recovery_target", "restore_command", "recovery_end_command", "archive_cleanup_command"];

/// Each of them says where recovery stops; a server takes one at most.
const TARGETS: [&str; 5] =
    ["recovery_target", "recovery_target_lsn", "recovery_target_time", "recovery_target_name", "recovery_target_xid"];

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
    let stop = stop(&target.until, request.consistent_from, redo_ends, at_rest);
    // What an earlier recovery left in the cluster's own settings must not decide on this one. The server takes an empty
    // one for a second target behind the one that counts.
    let others = TARGETS.iter().filter(|name| stop.as_ref().is_none_or(|(chosen, _)| chosen != *name));
    lines.extend(others.map(|name| (*name, String::new())));
    lines.extend(stop);
    lines.push(("recovery_target_inclusive", if target.exclusive { "off" } else { "on" }.into()));
    lines
}

/// The setting that says where to stop; none where the server goes on to the end of the redo.
fn stop(until: &Until, consistent_from: Lsn, redo_ends: Lsn, at_rest: bool) -> Option<(&'static str, String)> {
    match until {
        // A server stops at the first record behind the consistent state. Where the redo ends with that state there is none,
        // as in a set of a standby: the end of the redo is the target.
        Until::SetEnd if at_rest || redo_ends <= consistent_from => None,
        Until::SetEnd => Some(("recovery_target", "immediate".into())),
        Until::Lsn(lsn) if *lsn >= redo_ends => None,
        Until::Lsn(lsn) => Some(("recovery_target_lsn", format!("{:X}/{:X}", lsn.0 >> 32, lsn.0 & 0xFFFF_FFFF))),
        Until::Time(time) => Some(("recovery_target_time", moment(*time))),
        Until::Name(name) => Some(("recovery_target_name", name.clone())),
        Until::Transaction(xid) => Some(("recovery_target_xid", xid.to_string())),
        _ => None,
    }
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
