//! Pages that compress by a known ratio, in files of 256 MiB.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::pages::{PAGE, seal_page};

/// Bytes in a file, like a segment of a database.
const FILE: u64 = 256 << 20;

/// What was made.
pub struct Shape {
    pub files: u64,
}

/// A small generator of numbers; the same seed gives the same data.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Writes `size` bytes of pages whose LSN is 1.
pub fn make(dir: &Path, size: u64, ratio: u64) -> Shape {
    fs::create_dir_all(dir).unwrap();
    let files = size.div_ceil(FILE);
    for number in 0..files {
        let path = dir.join(format!("{number:03}"));
        let len = FILE.min(size - number * FILE);
        if fs::metadata(&path).is_ok_and(|have| have.len() == len) {
            continue;
        }
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
        let mut random = Random(number + 1);
        for page in 0..len / PAGE as u64 {
            out.write_all(&make_page(page, 1, ratio, &mut random)).unwrap();
        }
        out.into_inner().unwrap().sync_all().unwrap();
    }
    Shape { files }
}

/// Rows of a table: a counter, a few random digits, and filling that repeats. How many digits are random decides how
/// well it compresses.
pub fn make_page(number: u64, lsn: u64, ratio: u64, random: &mut Random) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE);
    page.resize(24, 0);
    let mut row = number * 64;
    while page.len() < PAGE {
        row += 1;
        let line = if ratio > 10 {
            let noise = random.next() & if row.is_multiple_of(4) { 0xFFF } else { 0xFF };
            format!("{row:08} {noise:04x} account of a customer, balance in euro, branch office north    ")
        } else {
            let [a, b, c] = [random.next(), random.next(), random.next()];
            format!("{row:08} {a:016x}{b:016x}{c:016x} balance in euro, filler  ")
        };
        page.extend_from_slice(line.as_bytes());
    }
    page.truncate(PAGE);
    seal_page(&mut page, lsn);
    page
}
