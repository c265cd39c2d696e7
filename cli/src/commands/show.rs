//! `setpiece show`: all that a set's metadata says; or the positions of a running database.

use clap::Args;
use serde::Serialize;
use setpiece::format::{Compression, PieceInfo, PieceKind, SetMeta};
use setpiece::model::{FileEntry, FileKind, RepoId, Scope, SetSummary, SourceId, TablespaceKind, Tracking};
use setpiece::source::{NamedPosition, SourceInfo};
use setpiece::{Error, ErrorKind, Result};

use crate::console::{Answer, Console};
use crate::documents::{SetDocument, Text, UnitDocument, forks};
use crate::keys::OpenKeys;
use crate::options::{CacheOptions, RepoOptions, SourceOption};
use crate::text;

/// Show everything about a set, or the positions of a running database.
#[derive(Debug, Args)]
#[command(
    override_usage = "setpiece show [OPTIONS] --repo <URL> <SET>\n       setpiece show --positions --source <URL>"
)]
pub(crate) struct Options {
    /// The repository, such as disk:/var/backup.
    #[arg(
        long,
        value_name = "URL",
        env = "SETPIECE_REPO",
        hide_env_values = true,
        required_unless_present = "positions"
    )]
    repo: Option<String>,
    #[command(flatten)]
    keys: OpenKeys,
    #[command(flatten)]
    cache: CacheOptions,
    /// The set: a name, an identifier or `latest`.
    #[arg(value_name = "SET", required_unless_present = "positions", conflicts_with = "positions")]
    set: Option<String>,
    /// Show where the log of a running database is instead; with --repo in the numbers of its sets and redo.
    #[arg(long, requires = "source")]
    positions: bool,
    /// The database whose positions to show.
    #[arg(long, value_name = "URL", requires = "positions")]
    source: Option<String>,
}

pub(crate) fn run(options: &Options, console: &Console) -> Result<Answer> {
    let repository =
        options.repo.clone().map(|repo| RepoOptions { repo, keys: options.keys.clone(), cache: options.cache.clone() });
    if let Some(source) = &options.source {
        return positions(&SourceOption { source: source.clone() }, repository.as_ref(), console);
    }
    let (Some(repository), Some(set)) = (repository, &options.set) else {
        return Err(Error::new(ErrorKind::Usage, "name a repository and a set"));
    };
    let setpiece = repository.open(console)?;
    let catalog = setpiece.catalog()?;
    let record = catalog.find(set)?;
    let meta = setpiece.repository().open_set(record.summary.id)?.meta;
    let state = crate::documents::state(record, &catalog);
    let document = Document::of(&meta, state, record.missing.clone());
    Answer::new(&document, in_words(&meta, &document))
}

#[derive(Serialize)]
struct PositionsDocument {
    source: PositionsSource,
    /// The repository by whose record they are numbered.
    repository: Option<Text<RepoId>>,
    positions: Vec<PositionDocument>,
}

#[derive(Serialize)]
struct PositionsSource {
    id: Text<SourceId>,
    name: String,
    engine: String,
    version: String,
}

#[derive(Serialize)]
struct PositionDocument {
    node: u32,
    name: String,
    lsn: u64,
    seq: Option<u64>,
}

fn positions(source: &SourceOption, repository: Option<&RepoOptions>, console: &Console) -> Result<Answer> {
    let source = source.open()?;
    let SourceInfo { id, name, engine, version, .. } = source.info()?;
    let setpiece = repository.map(|options| options.open(console)).transpose()?;
    let positions = match &setpiece {
        Some(setpiece) => setpiece.positions(&*source)?,
        None => source.positions()?,
    };
    // Who cannot read the record cannot number by it.
    let by = setpiece.filter(|setpiece| setpiece.repository().vault().can_read());
    let by = by.map(|setpiece| Text(setpiece.repository().id()));
    let rows: Vec<PositionDocument> = positions.iter().map(PositionDocument::of).collect();
    let text = format!("{name}, {engine} {version}, {id}\n{}", positions_in_words(&rows, by.is_some()));
    let source = PositionsSource { id: Text(id), name, engine, version };
    Answer::new(&PositionsDocument { source, repository: by, positions: rows }, text)
}

impl PositionDocument {
    fn of(position: &NamedPosition) -> Self {
        PositionDocument {
            node: position.node.0,
            name: position.name.clone(),
            lsn: position.lsn.0,
            seq: position.seq.map(|seq| seq.0),
        }
    }
}

fn positions_in_words(rows: &[PositionDocument], by_record: bool) -> String {
    let cells = rows.iter().map(|row| {
        let seq = row.seq.map_or_else(|| "-".into(), |seq| seq.to_string());
        [row.node.to_string(), row.name.clone(), row.lsn.to_string(), seq]
    });
    let table = text::table(&["NODE", "POSITION", "LSN", "SEQ"], cells);
    let numbers = if by_record {
        "numbered as the repository's sets and redo are\n"
    } else {
        "where the log does not number itself, as with SQLite, the numbers are those of this look alone: give --repo and \
         a key to have them as sets and redo have them\n"
    };
    table + numbers
}

#[derive(Serialize)]
struct Document {
    set: SetDocument,
    state: String,
    missing: Vec<String>,
    tool: String,
    captured: bool,
    compression: String,
    cipher: String,
    channels: u16,
    raw_bytes: u64,
    stored_bytes: u64,
    decisions: Vec<String>,
    parameters: Vec<Pair>,
    key_files: Vec<KeyFileDocument>,
    tablespaces: Vec<TablespaceDocument>,
    files: Vec<FileDocument>,
    pieces: Vec<PieceDocument>,
    log: Vec<UnitDocument>,
    bad_pages: Vec<BadPageDocument>,
}

#[derive(Serialize)]
struct Pair {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct KeyFileDocument {
    path: String,
    bytes: u64,
}

#[derive(Serialize)]
struct TablespaceDocument {
    id: u32,
    name: String,
    kind: &'static str,
    location: Option<String>,
}

#[derive(Serialize)]
struct FileDocument {
    id: u64,
    generation: u64,
    tablespace: u32,
    path: String,
    kind: &'static str,
    page_size: u32,
    bytes: u64,
    tracking: &'static str,
}

#[derive(Serialize)]
struct PieceDocument {
    piece: u32,
    channel: u16,
    kind: &'static str,
    stored_bytes: u64,
    raw_bytes: u64,
    frames: u64,
}

#[derive(Serialize)]
struct BadPageDocument {
    file: u64,
    page: u64,
    why: String,
}

impl Document {
    fn of(meta: &SetMeta, state: String, missing: Vec<String>) -> Self {
        Document {
            set: (&meta.summary).into(),
            state,
            missing,
            tool: meta.tool.clone(),
            captured: meta.captured,
            compression: meta.compression.to_string(),
            cipher: meta.cipher.to_string(),
            channels: meta.channels,
            raw_bytes: meta.raw_bytes,
            stored_bytes: meta.stored_bytes,
            decisions: meta.decisions.clone(),
            parameters: meta.parameters.iter().map(|p| Pair { name: p.name.clone(), value: p.value.clone() }).collect(),
            key_files: meta
                .key_files
                .iter()
                .map(|file| KeyFileDocument { path: file.path.to_string(), bytes: file.bytes.len() as u64 })
                .collect(),
            tablespaces: meta
                .tablespaces
                .iter()
                .map(|t| TablespaceDocument {
                    id: t.id.0,
                    name: t.name.clone(),
                    kind: tablespace_word(t.kind),
                    location: t.location.clone(),
                })
                .collect(),
            files: meta.files.iter().map(file).collect(),
            pieces: meta.pieces.iter().map(piece).collect(),
            log: meta.log.iter().map(Into::into).collect(),
            bad_pages: meta
                .bad_pages
                .iter()
                .map(|bad| BadPageDocument { file: bad.file.0, page: bad.page.0, why: bad.why.clone() })
                .collect(),
        }
    }
}

fn file(file: &FileEntry) -> FileDocument {
    FileDocument {
        id: file.id.0,
        generation: file.generation,
        tablespace: file.tablespace.0,
        path: file.path.to_string(),
        kind: match file.kind {
            FileKind::Paged => "paged",
            FileKind::Plain => "plain",
        },
        page_size: file.page_size,
        bytes: file.len,
        tracking: match file.tracking {
            Tracking::PageLsn => "page-lsn",
            Tracking::PageHash => "page-hash",
            Tracking::Always => "always",
        },
    }
}

fn piece(piece: &PieceInfo) -> PieceDocument {
    PieceDocument {
        piece: piece.piece.0,
        channel: piece.channel,
        kind: match piece.kind {
            PieceKind::Data => "data",
            PieceKind::Log => "log",
        },
        stored_bytes: piece.len,
        raw_bytes: piece.raw_bytes,
        frames: piece.frames.into(),
    }
}

fn tablespace_word(kind: TablespaceKind) -> &'static str {
    match kind {
        TablespaceKind::System => "system",
        TablespaceKind::Undo => "undo",
        TablespaceKind::Data => "data",
        TablespaceKind::Temp => "temp",
    }
}

fn in_words(meta: &SetMeta, document: &Document) -> String {
    let mut text = facts(meta, &document.state);
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text += &format!("\n{title}\n");
            lines.iter().for_each(|line| text += &format!("  {line}\n"));
        }
    };
    let lines = |table: String| table.lines().map(str::to_owned).collect::<Vec<_>>();
    section("missing", document.missing.clone());
    section("decisions", document.decisions.clone());
    section("nodes", lines(nodes(&document.set)));
    section("branches", forks(&meta.summary.branch).iter().map(fork_in_words).collect());
    let parameters = document.parameters.iter().map(|pair| format!("{} = {}", pair.name, pair.value));
    section("source parameters", parameters.collect());
    section("key files", document.key_files.iter().map(|f| format!("{}, {}", f.path, text::bytes(f.bytes))).collect());
    section("tablespaces", lines(tablespaces(document)));
    section("files", lines(files(document)));
    section("pieces", lines(pieces(document)));
    section("redo", lines(redo(document)));
    let bad = document.bad_pages.iter().map(|bad| format!("page {} of file {}: {}", bad.page, bad.file, bad.why));
    section("bad pages", bad.collect());
    text
}

fn facts(meta: &SetMeta, state: &str) -> String {
    let set = &meta.summary;
    let mut facts = vec![
        ("set", set.name.clone()),
        ("id", set.id.to_string()),
        ("state", state.to_owned()),
        ("source", format!("{} ({}), {}", set.source_name, set.source, set.engine)),
    ];
    facts.extend(if set.scope == Scope::Log { facts_of_redo(meta) } else { facts_of_pages(set) });
    facts.extend([
        ("branch", set.branch.current.to_string()),
        ("began", set.began.to_string()),
        ("ended", set.ended.to_string()),
        ("compression", compression(meta.compression)),
        ("encryption", meta.cipher.to_string()),
        ("raw", text::bytes(meta.raw_bytes)),
        ("stored", format!("{}, {}", text::bytes(meta.stored_bytes), text::count(meta.channels.into(), "channel"))),
        ("written by", meta.tool.clone()),
    ]);
    facts.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect()
}

fn facts_of_pages(set: &SetSummary) -> Vec<(&'static str, String)> {
    let running = if set.online { "online" } else { "offline" };
    vec![
        ("level", format!("{}, scope {}, {running}", set.level, set.scope)),
        ("base", set.base.map_or_else(|| "none".into(), |base| base.to_string())),
        ("consistency", format!("{}, from LSN {} on", set.consistency, set.bak_end_lsn)),
    ]
}

/// Redo has no level and no base, and is consistent with nothing but the set that it is applied to.
fn facts_of_redo(meta: &SetMeta) -> Vec<(&'static str, String)> {
    let how = if meta.captured { "captured as it was written" } else { "archived" };
    let units = text::count(meta.log.len() as u64, "unit");
    vec![("scope", format!("log, {how}; {units} up to LSN {}", meta.summary.bak_end_lsn))]
}

fn compression(how: Compression) -> String {
    match how {
        Compression::None => "none".into(),
        Compression::Fast => "lz4".into(),
        Compression::Zstd(level) => format!("zstd, level {level}"),
    }
}

fn nodes(set: &SetDocument) -> String {
    let seq = |seq: Option<u64>| seq.map_or_else(|| "-".into(), |seq| seq.to_string());
    let rows = set.nodes.iter().map(|node| {
        [
            node.node.to_string(),
            node.begin_lsn.to_string(),
            seq(node.begin_seq),
            node.end_lsn.to_string(),
            seq(node.end_seq),
        ]
    });
    text::table(&["NODE", "BEGIN LSN", "BEGIN SEQ", "END LSN", "END SEQ"], rows)
}

fn fork_in_words(fork: &crate::documents::ForkDocument) -> String {
    let made = fork.made.as_ref().map_or_else(String::new, |made| format!(", {}", made.0));
    format!("{} left {} at LSN {}{made}", fork.branch, fork.parent, fork.fork_lsn)
}

fn tablespaces(document: &Document) -> String {
    let rows = document
        .tablespaces
        .iter()
        .map(|t| [t.id.to_string(), t.name.clone(), t.kind.into(), t.location.clone().unwrap_or_else(|| "-".into())]);
    if document.tablespaces.is_empty() { String::new() } else { text::table(&["ID", "NAME", "KIND", "PLACE"], rows) }
}

fn files(document: &Document) -> String {
    let rows = document.files.iter().map(|f| {
        [
            f.id.to_string(),
            f.path.clone(),
            f.kind.into(),
            f.page_size.to_string(),
            text::bytes(f.bytes),
            f.tablespace.to_string(),
            f.tracking.into(),
        ]
    });
    let header = ["ID", "PATH", "KIND", "PAGE", "SIZE", "TABLESPACE", "CHANGES BY"];
    if document.files.is_empty() { String::new() } else { text::table(&header, rows) }
}

fn pieces(document: &Document) -> String {
    let rows = document.pieces.iter().map(|p| {
        [
            p.piece.to_string(),
            p.kind.into(),
            p.channel.to_string(),
            p.frames.to_string(),
            text::bytes(p.raw_bytes),
            text::bytes(p.stored_bytes),
        ]
    });
    let header = ["PIECE", "KIND", "CHANNEL", "FRAMES", "RAW", "STORED"];
    if document.pieces.is_empty() { String::new() } else { text::table(&header, rows) }
}

fn redo(document: &Document) -> String {
    let rows = document.log.iter().map(|unit| {
        [
            unit.node.to_string(),
            unit.branch.to_string(),
            unit.seq.to_string(),
            format!("({}, {}]", unit.after_lsn, unit.upto_lsn),
            text::maybe(unit.first_commit.as_ref().map(|time| time.0)),
            text::maybe(unit.last_commit.as_ref().map(|time| time.0)),
            text::bytes(unit.bytes),
        ]
    });
    let header = ["NODE", "BRANCH", "SEQ", "LSN", "FIRST COMMIT", "LAST COMMIT", "SIZE"];
    if document.log.is_empty() { String::new() } else { text::table(&header, rows) }
}
