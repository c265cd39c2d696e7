//! How fast the road is: full backup, check, restore and a chain of increments, each beside what the machine can do at
//! most, in one run.
//!
//! `cargo bench -p setpiece --bench road` measures 2 GiB that compress about 3:1 and 2 GiB that compress about 20:1 and
//! prints a table. `SETPIECE_BENCH_MIB` sets another size, `SETPIECE_BENCH_DIR` another place, `SETPIECE_BENCH_RUNS`
//! another number of runs (3). Each job runs in a process of its own, so that its peak of memory is its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark"
)]

#[path = "road/data.rs"]
mod data;
#[path = "road/jobs.rs"]
mod jobs;
#[path = "road/pages.rs"]
mod pages;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// One run of one job.
#[derive(Clone, Copy, Debug)]
struct Figures {
    wall: f64,
    cpu: f64,
    peak_mib: f64,
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    if let Some(job) = args.next().filter(|arg| arg == "job").and_then(|_| args.next()) {
        let dir = PathBuf::from(args.next().expect("a directory"));
        return jobs::run(&job, &dir);
    }
    let setting = |name: &str| std::env::var(name).ok();
    let size = setting("SETPIECE_BENCH_MIB").map_or(2048, |text| text.parse().expect("a number of MiB")) << 20;
    let runs = setting("SETPIECE_BENCH_RUNS").map_or(3, |text| text.parse().expect("a number of runs"));
    let root = setting("SETPIECE_BENCH_DIR").map_or_else(|| PathBuf::from("target/bench-road"), PathBuf::from);
    let root = std::path::absolute(root).unwrap();
    for (name, ratio) in [("3:1", 3), ("20:1", 20)] {
        let dir = root.join(name.replace(':', "-"));
        std::fs::create_dir_all(&dir).unwrap();
        let shape = data::make(&dir.join("data"), size, ratio);
        println!(
            "\n## {name} data: {} MiB in {} files, measured ratio by zstd -1 see below\n",
            size >> 20,
            shape.files
        );
        table(&dir, size, runs);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

fn table(dir: &Path, size: u64, runs: usize) {
    println!("| job | wall s (median) | cpu s | peak MiB | GB/s raw | beside | ratio |");
    println!("|---|---|---|---|---|---|---|");
    let gigabytes = size as f64 / 1e9;
    let row = |name: &str, figures: Figures, raw: f64, beside: Option<(&str, f64)>| {
        let (word, ratio) = beside.map_or((String::new(), String::new()), |(word, other)| {
            (word.to_owned(), format!("{:.2}", figures.wall / other))
        });
        println!(
            "| {name} | {:.2} | {:.2} | {:.0} | {:.2} | {word} | {ratio} |",
            figures.wall,
            figures.cpu,
            figures.peak_mib,
            raw / figures.wall
        );
        figures.wall
    };
    let median = |job: &str| median((0..runs).map(|_| measure(dir, job)).collect());
    let zstd = row("two `zstd -1` side by side", median("peer-zstd"), gigabytes, None);
    let cp = row("`cp -r` and sync", median("peer-cp"), gigabytes, None);
    let full =
        row("full, 2 channels, zstd 1, encrypted, pages checked", median("full"), gigabytes, Some(("zstd", zstd)));
    row("full, 1 channel, the same", median("full-1"), gigabytes, None);
    row("full, 2 channels, lz4, encrypted", median("full-fast"), gigabytes, Some(("zstd", zstd)));
    row("full, 2 channels, zstd 1, not encrypted", median("full-plain"), gigabytes, Some(("zstd", zstd)));
    measure(dir, "full");
    row("check, frames, 1 channel", median("check-frames"), gigabytes, None);
    row("check, pages, 1 channel", median("check-pages"), gigabytes, None);
    row("check, pages, 2 channels", median("check-pages-2"), gigabytes, None);
    let restore = row("restore, 2 channels", median("restore"), gigabytes, Some(("cp -r", cp)));
    measure(dir, "chain");
    row("restore of 1 full + 20 increments of 1 %", median("restore"), gigabytes, Some(("full alone", restore)));
    row("increment, 1 % at random, by page LSN", median("increment"), gigabytes, Some(("full", full)));
    row("increment, nothing changed, by page LSN", median("increment-none"), gigabytes, Some(("full", full)));
    println!();
    std::fs::read_to_string(dir.join("notes")).into_iter().for_each(|notes| println!("{notes}"));
}

fn median(mut runs: Vec<Figures>) -> Figures {
    runs.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    let peak_mib = runs.iter().map(|run| run.peak_mib).fold(0.0, f64::max);
    Figures { peak_mib, ..runs[runs.len() / 2] }
}

/// Runs a job in a child. What it prepares before it prints `go` is not measured.
fn measure(dir: &Path, job: &str) -> Figures {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["job", job])
        .arg(dir)
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().expect("the job begins").unwrap(), "go");
    let begin = Instant::now();
    drop(child.stdin.take());
    let report = lines.next().expect("the job ends").unwrap();
    let wall = begin.elapsed().as_secs_f64();
    assert!(child.wait().unwrap().success(), "{job} failed");
    let numbers: Vec<f64> = report.split(' ').map(|number| number.parse().unwrap()).collect();
    Figures { wall, cpu: numbers[0], peak_mib: numbers[1] }
}
