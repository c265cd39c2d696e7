//! Finding the Rust files of a tree.

use std::fs;
use std::path::Path;

/// Directories in which nothing of ours is, or nothing that is shipped.
const SKIPPED: [&str; 5] = ["target", ".git", "tests", "examples", "benches"];

/// The files below `directory`, by their path relative to it with `/` between names, and their text.
pub(crate) fn below(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(directory, directory, &mut found);
    found.sort();
    found
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !SKIPPED.contains(&name) {
            collect(root, &path, found);
        } else if name.ends_with(".rs") {
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            found.push((relative, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The files that do not begin with a line of module documentation.
pub(crate) fn without_a_job(root: &Path) -> Vec<String> {
    let silent = |(_, text): &&(String, String)| !says_its_job(text);
    let report = |(path, _): &(String, String)| format!("{path}: does not begin with a `//!` line that says its job");
    below(root).iter().filter(silent).map(report).collect()
}

fn says_its_job(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    let job = first.strip_prefix("//! ").unwrap_or_default();
    job.len() > 10 && !job.to_lowercase().contains("placeholder")
}

#[test]
fn a_file_without_a_job_is_seen() {
    assert!(says_its_job("//! Finding the Rust files of a tree.\n"));
    for silent in
        ["", "use std::fs;\n", "// A comment.\n", "\n//! Too late.\n", "//!\n", "//! Placeholder until later.\n"]
    {
        assert!(!says_its_job(silent), "{silent:?}");
    }
}
