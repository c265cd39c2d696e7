//! The jobs, each run in a process of its own: prepare, say `go`, work, report cpu seconds and the peak of memory.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use setpiece::backup::{BackupOptions, Surroundings, backup, new_repository_id};
use setpiece::events::Silent;
use setpiece::format::Compression;
use setpiece::media::repository::Repository;
use setpiece::model::Level;
use setpiece::pipeline::Cancel;
use setpiece::restore::{RestoreRequest, restore};
use setpiece::transform::{KeyFile, Secret, SlotRequest, new_descriptor, plain_descriptor};
use setpiece::verify::{Depth, check};

use crate::data::{Random, make_page};
use crate::pages::{NoLog, PAGE, PageFiles};

/// Increments in the chain.
const INCREMENTS: u64 = 20;

pub fn run(job: &str, dir: &Path) {
    let prepared = prepare(job, dir);
    println!("go");
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    prepared();
    let children = if job.starts_with("peer") { "children" } else { "self" };
    println!("{:.3} {:.1}", cpu_seconds(children), peak_mib());
}

type Work = Box<dyn FnOnce()>;

fn prepare(job: &str, dir: &Path) -> Work {
    let dir = dir.to_owned();
    let data = dir.join("data");
    let repo = dir.join("repo");
    match job {
        "peer-zstd" => {
            fresh(&dir.join("zst"));
            Box::new(move || two_zstd(&data, &dir.join("zst")))
        }
        "peer-cp" => {
            gone(&dir.join("copy"));
            Box::new(move || shell(&format!("cp -r {0}/data {0}/copy && sync {0}/copy/*", dir.display())))
        }
        "full" => full(&dir, 2, Compression::Zstd(1), true),
        "full-1" => full(&dir, 1, Compression::Zstd(1), true),
        "full-fast" => full(&dir, 2, Compression::Fast, true),
        "full-plain" => full(&dir, 2, Compression::Zstd(1), false),
        "check-frames" => Box::new(move || checked(&repo, Depth::Frames, 1)),
        "check-pages" => Box::new(move || checked(&repo, Depth::Pages, 1)),
        "check-pages-2" => Box::new(move || checked(&repo, Depth::Pages, 2)),
        "restore" => {
            gone(&dir.join("restored"));
            Box::new(move || restored(&dir))
        }
        "chain" => Box::new(move || {
            for _ in 0..INCREMENTS {
                change(&dir, 100);
                increment(&dir);
            }
        }),
        "increment" => {
            change(&dir, 100);
            Box::new(move || increment(&dir))
        }
        "increment-none" => Box::new(move || increment(&dir)),
        _ => panic!("no job {job}"),
    }
}

fn gone(dir: &Path) {
    if dir.exists() {
        fs::remove_dir_all(dir).unwrap();
    }
    // What was removed must not be written back while something else is measured.
    shell("sync");
}

fn fresh(dir: &Path) {
    gone(dir);
    fs::create_dir_all(dir).unwrap();
}

fn shell(command: &str) {
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
}

fn two_zstd(data: &Path, out: &Path) {
    let mut files: Vec<_> = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (even, odd): (Vec<_>, Vec<_>) = files.iter().enumerate().partition(|(at, _)| at % 2 == 0);
    let start = |files: Vec<(usize, &std::path::PathBuf)>| {
        let paths = files.into_iter().map(|(_, path)| path);
        Command::new("zstd").args(["-1", "-q", "-f", "--output-dir-flat"]).arg(out).args(paths).spawn().unwrap()
    };
    let (mut one, mut two) = (start(even), start(odd));
    assert!(one.wait().unwrap().success() && two.wait().unwrap().success());
}

const KEY: &str = "bench";

fn open(repo: &Path) -> Repository {
    let medium = setpiece::media::open(&format!("disk:{}", repo.display())).unwrap();
    let secrets = match fs::read_to_string(repo.with_extension(KEY)) {
        Ok(text) => vec![Secret::KeyFile(KeyFile::from_text(&text).unwrap())],
        Err(_) => Vec::new(),
    };
    Repository::open(medium, &secrets).unwrap()
}

fn full(dir: &Path, channels: u16, compression: Compression, encrypted: bool) -> Work {
    let repo = dir.join("repo");
    fresh(&repo);
    let key_path = repo.with_extension(KEY);
    if key_path.exists() {
        fs::remove_file(&key_path).unwrap();
    }
    let id = new_repository_id().unwrap();
    let (descriptor, vault) = if encrypted {
        let key = KeyFile::generate().unwrap();
        fs::write(&key_path, key.to_text().as_str()).unwrap();
        new_descriptor(id, &[SlotRequest::KeyFile { label: "bench".into(), key }]).unwrap()
    } else {
        plain_descriptor(id)
    };
    let medium = setpiece::media::open(&format!("disk:{}", repo.display())).unwrap();
    let repository = Repository::init(medium, descriptor, vault).unwrap();
    let source = PageFiles::open(&dir.join("data"), lsn(dir));
    let dir = dir.to_owned();
    Box::new(move || {
        let mut options = BackupOptions::default();
        options.channels = channels;
        options.compression = compression;
        let report = backup(&repository, &source, &options, silent(&Cancel::new())).unwrap();
        note(&dir, &format!("{compression}: {} raw bytes became {}", report.raw_bytes, report.stored_bytes));
    })
}

fn silent(cancel: &Cancel) -> Surroundings<'_> {
    Surroundings { observer: &Silent, cancel, cache: None }
}

fn increment(dir: &Path) {
    let source = PageFiles::open(&dir.join("data"), lsn(dir));
    let mut options = BackupOptions::default();
    options.level = Level::Differential;
    let report = backup(&open(&dir.join("repo")), &source, &options, silent(&Cancel::new())).unwrap();
    note(dir, &format!("increment: {} raw bytes became {}", report.raw_bytes, report.stored_bytes));
}

fn checked(repo: &Path, depth: Depth, channels: u16) {
    let report = check(&open(repo), &[&NoLog], &[], depth, channels, silent(&Cancel::new())).unwrap();
    assert!(report.findings.is_empty());
}

fn restored(dir: &Path) {
    let report = restore(
        &open(&dir.join("repo")),
        &[&NoLog],
        &RestoreRequest::default(),
        &dir.join("restored"),
        silent(&Cancel::new()),
    )
    .unwrap();
    note(
        dir,
        &format!(
            "restore read {} frames, {} bytes; {} frames not read",
            report.totals.frames, report.totals.read_bytes, report.totals.dead_frames
        ),
    );
}

fn note(dir: &Path, text: &str) {
    let path = dir.join("notes");
    let notes = fs::read_to_string(&path).unwrap_or_default();
    if !notes.lines().any(|line| line == text) {
        fs::write(path, format!("{notes}{text}\n")).unwrap();
    }
}

fn lsn(dir: &Path) -> u64 {
    fs::read_to_string(dir.join("lsn")).map_or(1, |text| text.parse().unwrap())
}

/// Rewrites one page in `every` with new content and the next LSN.
fn change(dir: &Path, every: u64) {
    let next = lsn(dir) + 1;
    fs::write(dir.join("lsn"), next.to_string()).unwrap();
    let mut random = Random(next << 32);
    let ratio = if dir.ends_with("3-1") { 3 } else { 20 };
    for entry in fs::read_dir(dir.join("data")).unwrap() {
        let file = OpenOptions::new().write(true).open(entry.unwrap().path()).unwrap();
        let pages = file.metadata().unwrap().len() / PAGE as u64;
        for _ in 0..pages / every {
            let page = random.next() % pages;
            file.write_all_at(&make_page(page, next, ratio, &mut random), page * PAGE as u64).unwrap();
        }
    }
}

/// User and system time of this process or of its children, from the kernel's own count.
fn cpu_seconds(whose: &str) -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    let sum = if whose == "children" { ticks(13) + ticks(14) } else { ticks(11) + ticks(12) };
    sum / 100.0
}

fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
