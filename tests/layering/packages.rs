//! Which package of the workspace may depend on which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Crates that bring an asynchronous runtime or a network with them: not for core, nor for a medium that has no need of one.
const RUNTIMES_AND_NETWORKS: [&str; 15] = [
    "tokio",
    "async-std",
    "smol",
    "async-executor",
    "mio",
    "socket2",
    "hyper",
    "reqwest",
    "ureq",
    "object_store",
    "rustls",
    "native-tls",
    "openssl",
    "openssl-sys",
    "h2",
];

/// A package of the workspace: the packages of the workspace that it uses outside of tests, with the features it asks
/// for, and all crates that come with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    uses: BTreeMap<String, BTreeSet<String>>,
    all: BTreeSet<String>,
}

type Packages = BTreeMap<String, Package>;

/// What is wrong with the arrows between packages.
pub(crate) fn check(packages: &Packages) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, package) in packages {
        let Some(allowed) = may_use(name) else {
            wrong.push(format!("{name}: no rule says what it may use"));
            continue;
        };
        let fits = |used: &&String| !allowed.iter().any(|pattern| matches_pattern(pattern, used));
        wrong.extend(package.uses.keys().filter(fits).map(|used| format!("{name} may not use {used}")));
        wrong.extend(wrong_side(name, package));
        if name == "setpiece-core" || name == "setpiece-media-disk" || name == "setpiece-sbt-abi" {
            let heavy = package.all.iter().filter(|used| RUNTIMES_AND_NETWORKS.contains(&used.as_str()));
            wrong.extend(heavy.map(|used| format!("{name} may not bring in {used}")));
        }
        if name.starts_with("setpiece-media-") && package.all.contains("setpiece-core") {
            wrong.push(format!("{name} may not bring in setpiece-core"));
        }
    }
    wrong
}

/// The packages of the workspace that a package may use outside of tests; `*` stands for the rest of a name.
fn may_use(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "setpiece-sbt-abi" | "setpiece-test-postgres" => &[],
        "setpiece-core" => &["setpiece-sbt-abi"],
        "setpiece" => &["setpiece-core", "setpiece-sbt-abi", "setpiece-media-*", "setpiece-source-*"],
        "setpiece-cli" | "setpiece-ffi" => {
            &["setpiece", "setpiece-core", "setpiece-sbt-abi", "setpiece-media-*", "setpiece-source-*"]
        }
        "setpiece-model-engine" => &["setpiece-core"],
        _ if name.starts_with("setpiece-media-") && name.ends_with("-cdylib") => {
            &["setpiece-sbt-abi", "setpiece-media-*"]
        }
        _ if name.starts_with("setpiece-media-") => &["setpiece-sbt-abi"],
        _ if name.starts_with("setpiece-source-") => &["setpiece-core"],
        _ => return None,
    })
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |begin| name.starts_with(begin))
}

/// Core is a host of plugins and media are plugins: neither sees the other side of the ABI.
fn wrong_side(name: &str, package: &Package) -> Option<String> {
    let features = package.uses.get("setpiece-sbt-abi")?;
    let other = match name {
        "setpiece-core" => "plugin",
        _ if name.starts_with("setpiece-media-") => "host",
        _ => return None,
    };
    features.contains(other).then(|| format!("{name} may not use the {other} side of setpiece-sbt-abi"))
}

/// The packages as cargo sees them on this machine, with all features.
pub(crate) fn metadata(root: &Path) -> Packages {
    let host = run(root, "rustc", &["-vV"]);
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--all-features", "--locked", "--filter-platform", host];
    let text = run(root, &cargo, &arguments);
    read(&serde_json::from_str(&text).expect("cargo writes JSON"))
}

fn run(root: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root).output().expect("the program starts");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the output is text")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value[name].as_array().expect("a list").iter()
}

fn read(metadata: &Value) -> Packages {
    let members: BTreeSet<String> = list(metadata, "workspace_members").map(text).collect();
    let names: BTreeMap<String, String> =
        list(metadata, "packages").map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    let mut graph: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"], "nodes") {
        let shipped = |dep: &&Value| list(dep, "dep_kinds").any(|kind| kind["kind"].as_str() != Some("dev"));
        let used = list(node, "deps").filter(shipped).map(|dep| text(&dep["pkg"])).collect();
        graph.insert(text(&node["id"]), used);
    }
    let ours: BTreeSet<&String> = members.iter().map(|id| &names[id]).collect();
    let mut packages = Packages::new();
    for package in list(metadata, "packages").filter(|package| members.contains(&text(&package["id"]))) {
        let mut made = Package { all: all_below(&text(&package["id"]), &graph, &names), ..Package::default() };
        for dep in list(package, "dependencies").filter(|dep| dep["kind"].as_str() != Some("dev")) {
            if ours.contains(&text(&dep["name"])) {
                made.uses.entry(text(&dep["name"])).or_default().extend(list(dep, "features").map(text));
            }
        }
        packages.insert(text(&package["name"]), made);
    }
    packages
}

fn all_below(id: &str, graph: &BTreeMap<String, Vec<String>>, names: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next = vec![id];
    while let Some(id) = next.pop() {
        next.extend(graph[id].iter().filter(|used| seen.insert((*used).clone())).map(String::as_str));
    }
    seen.iter().map(|id| names[id].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Package, check};

    fn found(name: &str, used: &str, features: &[&str], all: &[&str]) -> Vec<String> {
        let mut package = Package { all: all.iter().map(|name| (*name).into()).collect(), ..Package::default() };
        package.uses.insert(used.into(), features.iter().map(|name| (*name).into()).collect());
        check(&[(name.to_owned(), package)].into())
    }

    #[test]
    fn arrows_that_are_not_drawn_are_seen() {
        let none = Vec::<String>::new();
        assert_eq!(found("setpiece-core", "setpiece-sbt-abi", &["host"], &["libloading"]), none);
        assert_eq!(found("setpiece-media-s3", "setpiece-sbt-abi", &["plugin"], &["tokio"]), none);
        assert_eq!(
            found("setpiece-core", "setpiece-media-disk", &[], &[]),
            ["setpiece-core may not use setpiece-media-disk"]
        );
        assert_eq!(
            found("setpiece-sbt-abi", "setpiece-core", &[], &[]),
            ["setpiece-sbt-abi may not use setpiece-core"]
        );
        assert_eq!(
            found("setpiece-source-sqlite", "setpiece", &[], &[]),
            ["setpiece-source-sqlite may not use setpiece"]
        );
        assert_eq!(
            found("setpiece-core", "setpiece-sbt-abi", &[], &["tokio"]),
            ["setpiece-core may not bring in tokio"]
        );
        let back_door = found("setpiece-media-tape", "setpiece-sbt-abi", &["plugin"], &["setpiece-core"]);
        assert_eq!(back_door, ["setpiece-media-tape may not bring in setpiece-core"]);
        let side = found("setpiece-media-disk", "setpiece-sbt-abi", &["plugin", "host"], &[]);
        assert_eq!(side, ["setpiece-media-disk may not use the host side of setpiece-sbt-abi"]);
        assert_eq!(found("setpiece-new", "setpiece-core", &[], &[]), ["setpiece-new: no rule says what it may use"]);
    }
}
