//! What the documents say of the house is true: links lead somewhere, and features name tests that exist.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<(PathBuf, String)> {
    let below = |directory: &str| fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let files = below(".").chain(below("docs")).chain(below("docs/decisions")).chain(below("docs/guides"));
    let written = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    written.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The places that a Markdown text links to.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// Pairs of a file and a function in a cell such as `` `a.rs`: `f`, `g`; `b.rs`: `h` ``.
fn named_tests(cell: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in cell.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (file, functions) = part.split_once(':').unwrap_or((part, ""));
        let word = |text: &str| text.trim().trim_matches('`').to_owned();
        let functions: Vec<String> = functions.split(',').map(word).collect();
        found.extend(functions.into_iter().map(|function| (word(file), function)));
    }
    found
}

/// What is wrong with a row of the table of features; `read` gives the text of a file or a folder.
fn faults(row: &[String], read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let (name, tests, state) = (&row[0], named_tests(&row[row.len() - 2]), &row[row.len() - 1]);
    let mut wrong = Vec::new();
    if !["done", "part", "not yet"].iter().any(|known| state.starts_with(known)) {
        wrong.push(format!("{name}: state {state:?} is none that is known"));
    }
    if state.starts_with("not yet") != tests.is_empty() {
        wrong.push(format!("{name}: {state}, with {} tests", tests.len()));
    }
    for (file, function) in tests {
        match read(&file) {
            None => wrong.push(format!("{name}: there is no {file}")),
            Some(text) if !function.is_empty() && !text.contains(&format!("fn {function}(")) => {
                wrong.push(format!("{name}: {file} has no test {function}"));
            }
            Some(_) => {}
        }
    }
    wrong
}

fn rows(text: &str) -> Vec<Vec<String>> {
    let table =
        text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---") && !line.starts_with("| id |"));
    let cells = |line: &str| {
        line.strip_prefix('|')
            .and_then(|line| line.strip_suffix('|'))
            .unwrap()
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    table.filter(|line| !line.starts_with("| feature |")).map(cells).collect()
}

fn text_of(path: &str) -> Option<String> {
    let path = root().join(path);
    if !path.is_dir() {
        return fs::read_to_string(path).ok();
    }
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    Some(files.filter_map(|file| fs::read_to_string(file).ok()).collect())
}

#[test]
fn links_lead_somewhere() {
    for (path, text) in documents() {
        for link in links(&text).into_iter().filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let target = path.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{}: {link} leads nowhere", path.display());
        }
    }
}

#[test]
fn features_name_tests_that_exist() {
    let text = fs::read_to_string(root().join("docs/FEATURES.md")).unwrap();
    let rows = rows(&text);
    let wrong: Vec<String> = rows.iter().flat_map(|row| faults(row, &text_of)).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    let named: BTreeSet<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    let wanted = (1..=26).map(|number| format!("DM{number}")).chain((1..=19).map(|number| format!("KB{number}")));
    wanted.for_each(|id| assert!(named.contains(id.as_str()), "{id} has no row"));
}

#[test]
fn faults_in_documents_are_seen() {
    assert_eq!(links("see [a](b.md) and [c](d.md#e)"), ["b.md", "d.md#e"]);
    let read = |file: &str| (file == "tests/a.rs").then(|| "fn works() {}".to_owned());
    let row = |tests: &str, state: &str| rows(&format!("| DM1 | x | y | {tests} | {state} |")).remove(0);
    assert!(faults(&row("`tests/a.rs`: `works`", "done"), &read).is_empty());
    assert!(faults(&row("", "not yet"), &read).is_empty());
    let bad = [("", "done"), ("`tests/a.rs`: `works`", "not yet"), ("`tests/a.rs`: `works`", "soon")];
    let missing = [("`tests/b.rs`: `works`", "done"), ("`tests/a.rs`: `works`, `fails`", "part: x")];
    for (tests, state) in bad.into_iter().chain(missing) {
        assert_eq!(faults(&row(tests, state), &read).len(), 1, "{tests} {state}");
    }
}
