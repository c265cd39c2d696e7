//! The direction of imports inside core.

use std::collections::{BTreeMap, BTreeSet};

use crate::tokens::{Token, tokens};

/// The parts of core from the ground up. A part may import those on the steps before its own, `error` and `events` by
/// everyone.
const STEPS: [&[&str]; 8] = [
    &["error", "events"],
    &["model"],
    &["format"],
    &["transform"],
    &["media"],
    &["pipeline"],
    &["catalog"],
    &["backup", "restore", "verify", "retain", "copy", "rekey"],
];

/// What a database has to offer, above the model and beside the formats: for these parts only.
const MAY_IMPORT_SOURCE: [&str; 7] = ["pipeline", "catalog", "backup", "restore", "verify", "retain", "copy"];

/// The step of a part; `source` stands beside `format`.
fn step(part: &str) -> Option<usize> {
    let part = if part == "source" { "format" } else { part };
    STEPS.iter().position(|parts| parts.contains(&part))
}

/// A module by its path from the root of the crate.
type Module = Vec<String>;

/// What is wrong with a crate of these files: imports that go up or across, and circles between files.
pub(crate) fn check(files: &[(String, String)]) -> Vec<String> {
    let house = House::new(files);
    let edges = house.edges();
    let mut wrong = house.strangers();
    wrong.extend(edges.iter().filter_map(|(from, to)| upward(from, to)));
    wrong.extend(circles(&edges));
    wrong
}

fn upward(from: &Module, to: &Module) -> Option<String> {
    let (Some(part), Some(used)) = (from.first(), to.first()) else { return None };
    let allowed = if used == "source" { MAY_IMPORT_SOURCE.contains(&part.as_str()) } else { step(used) < step(part) };
    let beside = part == "source" && used == "format";
    let fine = part == used || (allowed && !beside);
    (!fine).then(|| format!("{} imports {}: {part} may not use {used}", from.join("::"), to.join("::")))
}

struct House<'f> {
    texts: BTreeMap<Module, &'f str>,
    /// Names that the root of the crate gives to things of its modules.
    root_names: BTreeMap<String, Module>,
}

impl<'f> House<'f> {
    fn new(files: &'f [(String, String)]) -> Self {
        let mut texts: BTreeMap<Module, &str> =
            files.iter().map(|(path, text)| (module_of(path), text.as_str())).collect();
        let tests: Vec<Module> = texts.iter().flat_map(|(module, text)| scan(module, text).tests).collect();
        texts.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        let mut house = House { texts, root_names: BTreeMap::new() };
        let root = house.texts.get(&Vec::new()).map(|text| scan(&Vec::new(), text).paths).unwrap_or_default();
        for (_, path) in root {
            if let (Some(module), Some(name)) = (house.file_of(&path), path.last()) {
                house.root_names.insert(name.clone(), module);
            }
        }
        house
    }

    /// Parts of the crate that the rules do not know.
    fn strangers(&self) -> Vec<String> {
        let parts: BTreeSet<&String> = self.texts.keys().filter_map(|module| module.first()).collect();
        let strange = |part: &&&String| step(part).is_none();
        parts.iter().filter(strange).map(|part| format!("{part}: no rule says what it may import")).collect()
    }

    /// Which file imports which. The root only names its modules and is left out.
    fn edges(&self) -> BTreeSet<(Module, Module)> {
        let mut edges = BTreeSet::new();
        for (file, text) in self.texts.iter().filter(|(file, _)| !file.is_empty()) {
            let scan = scan(file, text);
            for (inside, path) in &scan.paths {
                let target = self.resolve(inside, path).filter(|target| target != file);
                let handed_on = |target: &Module| target.starts_with(file) && scan.handed_on.contains(path);
                let target = target.filter(|target| !handed_on(target));
                edges.extend(target.map(|target| (file.clone(), target)));
            }
        }
        edges
    }

    /// The file that a path leads to, seen from a module; `None` for what lies outside of the crate.
    fn resolve(&self, inside: &Module, path: &[String]) -> Option<Module> {
        let first = path.first()?;
        let absolute = match first.as_str() {
            "crate" => path[1..].to_vec(),
            "self" => [inside, &path[1..]].concat(),
            "super" => {
                let up = path.iter().take_while(|name| *name == "super").count();
                [&inside[..inside.len().checked_sub(up)?], &path[up..]].concat()
            }
            _ => {
                let child = [inside.as_slice(), std::slice::from_ref(first)].concat();
                self.texts.contains_key(&child).then(|| [inside, path].concat())?
            }
        };
        let named = absolute.first().and_then(|name| self.root_names.get(name));
        self.file_of(&absolute).or_else(|| named.cloned())
    }

    /// The file that holds the longest beginning of an absolute path.
    fn file_of(&self, path: &[String]) -> Option<Module> {
        (1..=path.len()).rev().map(|len| path[..len].to_vec()).find(|module| self.texts.contains_key(module))
    }
}

fn module_of(path: &str) -> Module {
    let mut names: Module = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib")) {
        names.pop();
    }
    names
}

/// What a file says: the paths in it with the module they are in, and the modules that are there for tests only.
#[derive(Default)]
struct Scan {
    paths: Vec<(Module, Vec<String>)>,
    /// Those of the paths that are only made public under this module's name, which is no use of what they lead to.
    handed_on: BTreeSet<Vec<String>>,
    tests: Vec<Module>,
}

fn scan(file: &Module, text: &str) -> Scan {
    let tokens = tokens(text);
    let mut scan = Scan::default();
    // The modules written out in this file, with the depth of braces at which each began.
    let mut inside: Vec<(String, usize)> = Vec::new();
    let (mut depth, mut at) = (0, 0);
    while at < tokens.len() {
        let module: Module = file.iter().cloned().chain(inside.iter().map(|(name, _)| name.clone())).collect();
        match &tokens[at..] {
            [Token::Mark('#'), Token::Mark('['), ..] => {
                let end = block_end(&tokens, at + 1);
                let test = is_test_only(&tokens[at..end]);
                at = if test { skip_item(&tokens, end, &module, &mut scan.tests) } else { end };
            }
            [word, Token::Word(name), Token::Mark('{'), ..] if word.is("mod") => {
                inside.push((name.clone(), depth));
                depth += 1;
                at += 3;
            }
            [word, ..] if word.is("use") => {
                let end = at + tokens[at..].iter().take_while(|token| **token != Token::Mark(';')).count();
                let paths = use_tree(&tokens[at + 1..end]);
                if at > 0 && (tokens[at - 1].is("pub") || tokens[at - 1] == Token::Mark(')')) {
                    let only_here = |path: &&Vec<String>| path.last().is_some_and(|name| times(&tokens, name) <= 1);
                    scan.handed_on.extend(paths.iter().filter(only_here).cloned());
                }
                scan.paths.extend(paths.into_iter().map(|path| (module.clone(), path)));
                at = end;
            }
            [Token::Word(_), Token::Path, ..] => {
                let path: Vec<String> = in_line(&tokens[at..]);
                let visibility = at > 0 && tokens[at - 1].is("in");
                at += 2 * path.len() - 1;
                if !visibility {
                    scan.paths.push((module, path));
                }
            }
            [Token::Path, Token::Word(_), ..] => at += 2,
            [Token::Mark(mark), ..] => {
                match mark {
                    '{' => depth += 1,
                    '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                inside.retain(|(_, began)| *began < depth);
                at += 1;
            }
            _ => at += 1,
        }
    }
    scan
}

fn times(tokens: &[Token], name: &str) -> usize {
    tokens.iter().filter(|token| token.is(name)).count()
}

/// The index behind the bracket or brace that closes the one at `at`.
fn block_end(tokens: &[Token], at: usize) -> usize {
    let mut open = 0_usize;
    for (offset, token) in tokens[at..].iter().enumerate() {
        match token {
            Token::Mark('{' | '[' | '(') => open += 1,
            Token::Mark('}' | ']' | ')') => open = open.saturating_sub(1),
            _ => {}
        }
        if open == 0 {
            return at + offset + 1;
        }
    }
    tokens.len()
}

fn is_test_only(attribute: &[Token]) -> bool {
    let has = |word| attribute.iter().any(|token| token.is(word));
    attribute.get(2).is_some_and(|token| token.is("cfg")) && has("test") && !has("not")
}

/// The index behind the item at `at`; a module without a body is noted.
fn skip_item(tokens: &[Token], at: usize, module: &Module, tests: &mut Vec<Module>) -> usize {
    let mut at = at;
    while at < tokens.len() {
        match &tokens[at..] {
            [Token::Mark(';'), ..] => return at + 1,
            [Token::Mark('{'), ..] => return block_end(tokens, at),
            [Token::Mark('(' | '['), ..] => at = block_end(tokens, at),
            [word, Token::Word(name), Token::Mark(';'), ..] if word.is("mod") => {
                tests.push([module.as_slice(), std::slice::from_ref(name)].concat());
                return at + 3;
            }
            _ => at += 1,
        }
    }
    at
}

/// The path at the begin of `tokens`.
fn in_line(tokens: &[Token]) -> Vec<String> {
    let mut path = Vec::new();
    for pair in tokens.chunks(2) {
        path.extend(pair[0].word().map(str::to_owned));
        let goes_on =
            pair.get(1) == Some(&Token::Path) && tokens.get(2 * path.len()).is_some_and(|next| next.word().is_some());
        if !goes_on {
            break;
        }
    }
    path
}

/// The paths of a `use` declaration, one for each name it brings in.
fn use_tree(tokens: &[Token]) -> Vec<Vec<String>> {
    let mut done = Vec::new();
    let mut prefixes: Vec<Vec<String>> = vec![Vec::new()];
    let mut path: Vec<String> = Vec::new();
    let mut renamed = false;
    for token in tokens {
        match token {
            Token::Word(word) if word == "as" => renamed = true,
            Token::Word(word) if word != "pub" && !renamed => path.push(word.clone()),
            Token::Mark('{') => prefixes.push(std::mem::take(&mut path)),
            Token::Mark(mark @ (',' | '}')) => {
                if !path.is_empty() {
                    done.push([prefixes.concat(), std::mem::take(&mut path)].concat());
                }
                renamed = false;
                if *mark == '}' {
                    prefixes.pop();
                }
            }
            Token::Mark('*') => path.push("*".into()),
            _ => {}
        }
    }
    if !path.is_empty() {
        done.push(path);
    }
    done
}

/// One circle for each group of files that can reach each other.
fn circles(edges: &BTreeSet<(Module, Module)>) -> Vec<String> {
    let mut reach: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for (from, _) in edges {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(file) = next.pop() {
            let used = edges.iter().filter(|(user, _)| user == file).map(|(_, used)| used);
            next.extend(used.filter(|used| seen.insert(*used)));
        }
        reach.insert(from, seen);
    }
    let mutual = |a: &Module, b: &Module| reach.get(a).is_some_and(|seen| seen.contains(b));
    let mut found = BTreeSet::new();
    for file in reach.keys().filter(|file| mutual(file, file)) {
        let circle: Vec<String> = reach
            .keys()
            .filter(|other| mutual(file, other) && mutual(other, file))
            .map(|other| other.join("::"))
            .collect();
        found.insert(format!("circle between files: {}", circle.join(", ")));
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::check;

    fn house(files: &[(&str, &str)]) -> Vec<String> {
        let owned: Vec<(String, String)> = files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
        check(&owned)
    }

    #[test]
    fn a_good_house_passes() {
        let good = [
            ("lib.rs", "pub mod error; pub use error::{Error, Result}; pub mod model; pub mod format;"),
            ("error.rs", "use std::fmt; pub struct Error; // use crate::model::Lsn;"),
            ("model/mod.rs", "pub mod lsn; pub mod set; pub use lsn::Lsn;"),
            ("model/lsn.rs", "use crate::error::Error; pub struct Lsn;"),
            ("model/set.rs", "use super::lsn::{self, Lsn as L}; fn f() -> crate::Result<()> { crate::Error::new() }"),
            (
                "format/mod.rs",
                "use crate::model::{Lsn, set}; #[cfg(test)] mod tests; const A: &str = \"crate::backup::X\";",
            ),
            ("format/tests.rs", "use crate::backup::Job;"),
            ("backup/mod.rs", "#[cfg(test)] mod tests { use crate::restore::Plan; } mod own { fn f(x: super::Y) {} }"),
            ("restore/mod.rs", "pub(in crate::backup) fn f(x: &crate::model::Lsn) {}"),
        ];
        assert_eq!(house(&good), Vec::<String>::new());
    }

    #[test]
    fn imports_that_go_up_are_seen() {
        let uses = [
            ("model/lsn.rs", "use crate::format::Frame;", "model may not use format"),
            ("model/lsn.rs", "use {crate::{error::Error, media::{self, Medium}}};", "model may not use media"),
            ("format/mod.rs", "fn f() { crate::transform::seal() }", "format may not use transform"),
            ("format/mod.rs", "fn f() { let x: super::transform::X; }", "format may not use transform"),
            ("format/mod.rs", "mod a { fn f() { super::super::media::x() } }", "format may not use media"),
            ("media/mod.rs", "use crate::{Error, catalog as c};", "media may not use catalog"),
            ("backup/mod.rs", "pub(crate) use crate::restore::Plan;", "backup may not use restore"),
            ("transform/mod.rs", "use crate::source::Source;", "transform may not use source"),
            ("source.rs", "#[cfg(not(test))] use crate::format::Frame;", "source may not use format"),
            ("error.rs", "use crate::events::Event;", "error may not use events"),
            ("error.rs", "use crate::model::*;", "error may not use model"),
            ("catalog/mod.rs", "use crate::backup::Job;", "catalog may not use backup"),
        ];
        for (file, text, expected) in uses {
            let empty =
                ["lib", "model/mod", "format/frame", "transform/x", "media/x", "catalog/x", "restore/x", "backup/x"];
            let mut files: Vec<(String, &str)> = empty.iter().map(|name| (format!("{name}.rs"), "")).collect();
            for parent in ["format", "transform", "media", "catalog", "restore", "backup"] {
                files.push((format!("{parent}/mod.rs"), ""));
            }
            files.extend(["source.rs", "events.rs", "error.rs"].map(|name| (name.to_owned(), "")));
            files.retain(|(name, _)| name != file);
            files.push((file.to_owned(), text));
            let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
            let found = house(&files);
            assert!(found.len() == 1 && found[0].ends_with(expected), "{file}: {text}: {found:?}");
        }
    }

    #[test]
    fn circles_are_seen() {
        let pair = [
            ("model/a.rs", "use super::b::B;"),
            ("model/b.rs", "fn f(a: crate::model::a::A) {}"),
            ("model/c.rs", "use super::a::A;"),
        ];
        assert_eq!(house(&pair), ["circle between files: model::a, model::b"]);
        let through_parent = [("backup/mod.rs", "mod base; use base::choose;"), ("backup/base.rs", "use super::Job;")];
        assert_eq!(house(&through_parent), ["circle between files: backup, backup::base"]);
        let inline = [("backup/mod.rs", "mod base; fn f() { base::choose() }"), ("backup/base.rs", "use super::*;")];
        assert_eq!(house(&inline), ["circle between files: backup, backup::base"]);
        let contents =
            [("media/mod.rs", "mod plugin; pub use plugin::Plugin;"), ("media/plugin.rs", "use super::Medium;")];
        assert_eq!(house(&contents), Vec::<String>::new());
        let used =
            [("media/mod.rs", "pub use plugin::Plugin; fn f(p: Plugin) {}"), ("media/plugin.rs", "use super::Medium;")];
        assert_eq!(house(&used), ["circle between files: media, media::plugin"]);
        let three = [
            ("model/a.rs", "use super::b::B;"),
            ("model/b.rs", "use super::c::C;"),
            ("model/c.rs", "use super::a::A;"),
        ];
        assert_eq!(house(&three), ["circle between files: model::a, model::b, model::c"]);
    }

    #[test]
    fn a_part_without_a_rule_is_seen() {
        assert_eq!(house(&[("daemon/mod.rs", "")]), ["daemon: no rule says what it may import"]);
    }
}
