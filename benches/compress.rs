//! What compressing alone takes: all files below a directory in frames of 1 MiB, by zstd at level 1, by several threads
//! with a context each. The result goes nowhere.
//!
//! `cargo bench -p setpiece --bench compress -- DIR [THREADS]`; `benches/peers/run` measures it beside the tools.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a benchmark")]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use setpiece_core::format::Compression;
use setpiece_core::transform::codec::Packer;

/// Raw bytes of a frame.
const FRAME: usize = 1 << 20;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let Some(dir) = args.next() else { return };
    let threads = args.next().map_or(2, |text| text.parse().expect("a number of threads"));
    let mut files = Vec::new();
    find(Path::new(&dir), &mut files);
    let files = Mutex::new(files);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| compress(&files));
        }
    });
}

fn find(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && entry.file_name() != "pg_wal" {
            find(&entry.path(), files);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
}

fn compress(files: &Mutex<Vec<PathBuf>>) {
    let mut packer = Packer::new(Compression::Zstd(1)).unwrap();
    let (mut raw, mut packed) = (Vec::with_capacity(FRAME), Vec::new());
    loop {
        let Some(path) = files.lock().unwrap().pop() else { return };
        let mut file = File::open(path).unwrap();
        loop {
            raw.clear();
            if (&mut file).take(FRAME as u64).read_to_end(&mut raw).unwrap() == 0 {
                break;
            }
            packed.clear();
            packer.pack(&raw, &mut packed).unwrap();
        }
    }
}
