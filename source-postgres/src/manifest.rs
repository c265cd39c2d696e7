//! The backup manifest of a restored cluster, by which the server's own `pg_verifybackup` proves it.
//!
//! Format from PostgreSQL's documentation, "Backup Manifest Format": version 1, and from PostgreSQL 17 on version 2, which
//! names the cluster. The checksums are those of what was to be written, taken on the way to the disk, so that the check
//! tells what the disk made of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use setpiece_core::model::{Lsn, Timestamp};
use setpiece_core::source::{RecoverRequest, UNFINISHED};
use setpiece_core::{Error, Result};
use sha2::{Digest, Sha256};

use crate::control::Control;
use crate::dialect::Dialect;
use crate::wal::{Reader, lsn_text};

/// The file's name.
const FILE: &str = "backup_manifest";
/// The first major version that knows manifests, and the first whose manifests name the cluster.
const FIRST: u32 = 13;
const NAMED: u32 = 17;
/// What is not in it: the manifest itself, what recovery changes, which the server's tool passes over too, and what is gone
/// when the restore is done.
const UNCHECKED: [&str; 4] = [FILE, "recovery.signal", "standby.signal", UNFINISHED];
/// Written by the recovery after the files were, so its checksum is taken from the file.
const CHANGED: &str = "postgresql.auto.conf";

/// The redo that a set needs, for the server's tool to read through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalRange {
    pub timeline: u64,
    pub start: Lsn,
    pub end: Lsn,
}

/// Writes the manifest of a restored directory, as the last thing that is written to it.
pub(crate) fn write(
    dialect: Dialect,
    request: &RecoverRequest<'_>,
    range: Option<WalRange>,
    now: SystemTime,
) -> Result<()> {
    let directory = request.directory;
    let version = directory.join(dialect.version_file());
    let version = fs::read_to_string(&version).map_err(|error| Error::io(version.display().to_string(), error))?;
    let major = version.trim().split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
    if dialect != Dialect::Postgresql || major < FIRST {
        return Ok(());
    }
    let mut files = written(dialect, request)?;
    add_others(directory, directory, &dialect.name("wal"), &mut files)?;
    // The control file may not be in its place yet.
    for carried in request.carried {
        let sum = (carried.bytes.len() as u64, crc32c::crc32c(&carried.bytes));
        files.entry(carried.path.as_str().to_owned()).or_insert(sum);
    }
    let system = if major >= NAMED { Some(system_identifier(dialect, request)?) } else { None };
    let text = text(&files, system, range, now.into());
    let path = directory.join(FILE);
    fs::write(&path, text).map_err(|error| Error::io(path.display().to_string(), error))
}

fn system_identifier(dialect: Dialect, request: &RecoverRequest<'_>) -> Result<u64> {
    let path = dialect.control_file();
    let control = request.carried.iter().find(|carried| carried.path.as_str() == path);
    let control = control.ok_or_else(|| Error::damaged(path.clone(), "the set does not hold it"))?;
    Ok(Control::decode(&control.bytes).map_err(|error| error.on(path))?.system_identifier)
}

/// Length and checksum of each file, by its path as the server sees it.
type Listed = BTreeMap<String, (u64, u32)>;

/// The files that were restored. One of a tablespace is listed where the server finds it, and where it lies if that is in
/// the directory as well: the tool comes by there too.
fn written(dialect: Dialect, request: &RecoverRequest<'_>) -> Result<Listed> {
    let mut files = Listed::new();
    for (entry, written) in request.files.iter().zip(request.written) {
        let Some(sum) = written.crc32c else { continue };
        let outside = request.tablespaces.iter().any(|(tablespace, _)| tablespace.id == entry.tablespace);
        if outside {
            let seen = format!("{}/{}/{}", dialect.name("tblspc"), entry.tablespace.0, entry.path);
            files.insert(seen, (entry.len, sum));
        }
        if let Ok(below) = written.path.strip_prefix(request.directory)
            && below != Path::new(CHANGED)
        {
            files.insert(text_of(below)?, (entry.len, sum));
        }
    }
    Ok(files)
}

/// Adds what lies in the directory besides, and reads it: the few files that the server or the recovery handed over.
fn add_others(root: &Path, directory: &Path, log: &str, files: &mut Listed) -> Result<()> {
    let failed = |error| Error::io(directory.display().to_string(), error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        let below = text_of(path.strip_prefix(root).unwrap_or(&path))?;
        if kind.is_dir() && below != log {
            add_others(root, &path, log, files)?;
        } else if kind.is_file() && !files.contains_key(&below) && !UNCHECKED.contains(&below.as_str()) {
            let sum = read_sum(&path).map_err(|error| Error::io(path.display().to_string(), error))?;
            files.insert(below, sum);
        }
    }
    Ok(())
}

fn read_sum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let (len, mut sum) = (file.metadata()?.size(), 0);
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((len, sum)),
            count => sum = crc32c::crc32c_append(sum, &chunk[..count]),
        }
    }
}

fn text_of(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::damaged(path.display().to_string(), "is no name that a manifest can hold"))
}

fn text(files: &Listed, system: Option<u64>, range: Option<WalRange>, made: Timestamp) -> String {
    let made = Timestamp(made.0.div_euclid(1_000_000) * 1_000_000).to_string().replace('T', " ").replace('Z', " GMT");
    let version = if system.is_some() { 2 } else { 1 };
    let mut text = format!("{{ \"PostgreSQL-Backup-Manifest-Version\": {version},\n");
    if let Some(system) = system {
        text += &format!("\"System-Identifier\": {system},\n");
    }
    let file = |(path, (len, sum)): (&String, &(u64, u32))| {
        // The server writes the number's bytes in the order of the memory, the lowest first.
        let sum: String = sum.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "{{ \"Path\": {}, \"Size\": {len}, \"Last-Modified\": \"{made}\", \"Checksum-Algorithm\": \"CRC32C\", \
             \"Checksum\": \"{sum}\" }}",
            quoted(path)
        )
    };
    let files: Vec<String> = files.iter().map(file).collect();
    text += &format!("\"Files\": [\n{}\n],\n\"WAL-Ranges\": [\n", files.join(",\n"));
    if let Some(WalRange { timeline, start, end }) = range {
        let (start, end) = (lsn_text(start), lsn_text(end));
        text += &format!("{{ \"Timeline\": {timeline}, \"Start-LSN\": \"{start}\", \"End-LSN\": \"{end}\" }}\n");
    }
    text += "],\n";
    let sum: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    text + &format!("\"Manifest-Checksum\": \"{sum}\"}}\n")
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Where the record ends that begins at `lsn` in a segment.
pub(crate) fn record_end(segment: &[u8], lsn: Lsn) -> Option<Lsn> {
    let mut reader = Reader::new();
    let mut records = reader.push(segment).ok()?;
    while let Ok(Some(record)) = records.next_record() {
        if record.start == lsn {
            return Some(record.end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_json_wants_it() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#);
    }

    #[test]
    fn a_manifest_ends_with_the_sum_of_its_other_lines() {
        let files = Listed::from([("base/1".to_owned(), (3, 0x0102_0304))]);
        let text = text(&files, Some(7), None, Timestamp(1_500_000));
        let (lines, last) = text.split_at(text.trim_end().rfind('\n').unwrap() + 1);
        let sum: String = Sha256::digest(lines).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(last, format!("\"Manifest-Checksum\": \"{sum}\"}}\n"));
        assert!(lines.contains("\"Checksum\": \"04030201\"") && lines.contains("1970-01-01 00:00:01 GMT"), "{lines}");
    }
}
