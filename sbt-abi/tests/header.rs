//! The header and `raw.rs` are the same: every type, size, offset, number and name, in both directions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::path::{Path, PathBuf};
use std::process::Command;

use setpiece_sbt_abi::raw::*;

const HEADER: &str = include_str!("../include/setpiece_sbt.h");
const RAW: &str = include_str!("../src/raw.rs");

type Facts = BTreeMap<String, i128>;

fn rust_facts() -> Facts {
    let mut facts = Facts::new();
    macro_rules! layout {
        ($($name:ident { $($field:ident)* })*) => {$(
            facts.insert(concat!("sizeof ", stringify!($name)).into(), size_of::<$name>() as i128);
            $(facts.insert(
                concat!("offsetof ", stringify!($name), " ", stringify!($field)).into(),
                offset_of!($name, $field) as i128,
            );)*
        )*};
    }
    layout! {
        sbt_str { ptr len }
        sbt_pair { key value }
        sbt_error { size code retryable native text_cap text_len text }
        sbt_params { size flags location parms pairs pair_count }
        sbt_session_info { size flags capabilities max_object best_write }
        sbt_info { size flags len created_us }
        sbt_head { size abi_major abi_minor }
        sbt_plugin {
            head flags name version description open_session close_session create write finish abort open read
            close_reader info list remove command extension
        }
        sbt_lock_v1 { head lock unlock }
    }
    macro_rules! numbers {
        ($($name:ident)*) => {$( facts.insert(concat!("define ", stringify!($name)).into(), i128::from($name)); )*};
    }
    numbers! {
        SBT_ABI_MAJOR SBT_ABI_MINOR SBT_NAME_MAX SBT_TEXT_MIN SBT_OK SBT_ERR_USAGE SBT_ERR_NOT_FOUND SBT_ERR_EXISTS
        SBT_ERR_FULL SBT_ERR_IO SBT_ERR_ACCESS SBT_ERR_LOCKED SBT_ERR_UNSUPPORTED SBT_ERR_RETENTION SBT_ERR_DAMAGED
        SBT_ERR_UNREACHABLE SBT_ERR_OPERATOR SBT_ERR_STOPPED SBT_ERR_POISONED SBT_ERR_PANIC SBT_ERR_ABI
        SBT_ERR_INTERNAL SBT_CAP_LIST SBT_CAP_RANGED_READ SBT_CAP_SEQUENTIAL_ONLY SBT_CAP_ATOMIC_PUBLISH
        SBT_CAP_CONDITIONAL_CREATE SBT_CAP_RETENTION_LOCK SBT_CAP_LOCKS SBT_INFO_CREATED SBT_LOCK_SHARED
        SBT_LOCK_EXCLUSIVE
    }
    facts
}

/// Structs with their fields, as the header's text has them.
fn header_structs() -> BTreeMap<String, Vec<String>> {
    let text = without_comments(HEADER);
    let mut structs = BTreeMap::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("typedef struct ") {
        rest = &rest[at + "typedef struct ".len()..];
        let end = rest.find([';', '{']).unwrap();
        if rest.as_bytes()[end] == b'{' {
            let name = rest[..end].trim().to_owned();
            let close = rest.find(&format!("}} {name};")).unwrap();
            let fields = rest[end + 1..close].split(';').filter(|field| !field.trim().is_empty()).map(field_name);
            structs.insert(name, fields.collect());
        }
    }
    structs
}

fn field_name(declaration: &str) -> String {
    if let Some((_, pointer)) = declaration.split_once("(*") {
        return pointer.split(')').next().unwrap().to_owned();
    }
    declaration.trim().rsplit([' ', '*']).next().unwrap().to_owned()
}

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        out.push_str(before);
        rest = after.split_once("*/").unwrap().1;
    }
    out + rest
}

/// Names of `#define`s with a number as value.
fn header_numbers() -> BTreeSet<String> {
    let lines = HEADER.lines().filter_map(|line| line.strip_prefix("#define SBT_"));
    let numbers = lines.filter(|line| !line.contains('"') && !line.starts_with("ASSERT"));
    numbers.map(|line| format!("SBT_{}", line.split_whitespace().next().unwrap())).collect()
}

fn raw_numbers() -> BTreeSet<String> {
    let lines = RAW.lines().filter_map(|line| line.strip_prefix("pub const SBT_"));
    lines.filter(|line| !line.contains("&str")).map(|line| format!("SBT_{}", line.split(':').next().unwrap())).collect()
}

fn compile(compiler: &str, args: &[&str], source: &Path, out: &Path) {
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
    let done = Command::new(compiler)
        .args(args)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-I", include, "-o"])
        .arg(out)
        .arg(source)
        .output()
        .unwrap_or_else(|error| panic!("{compiler} is needed for this test: {error}"));
    assert!(done.status.success(), "{compiler} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn header_compiles_as_c11_and_as_cpp17() {
    let dir = tempfile::tempdir().unwrap();
    let text = "#include \"setpiece_sbt.h\"\n#include \"setpiece_sbt.h\"\nint nothing(void);\nint nothing(void) { return SBT_OK; }\n";
    let (c, cpp) = (write(dir.path(), "a.c", text), write(dir.path(), "a.cpp", text));
    compile("cc", &["-std=c11", "-c"], &c, &dir.path().join("c.o"));
    compile("c++", &["-std=c++17", "-c"], &cpp, &dir.path().join("cpp.o"));
}

#[test]
fn compiled_header_has_the_numbers_of_raw_rs() {
    let expected = rust_facts();
    let mut program = String::from("#include \"setpiece_sbt.h\"\n#include <stdio.h>\nint main(void) {\n");
    for fact in expected.keys() {
        let parts: Vec<&str> = fact.split(' ').collect();
        let value = match parts.as_slice() {
            ["sizeof", name] => format!("sizeof({name})"),
            ["offsetof", name, field] => format!("offsetof({name}, {field})"),
            ["define", name] => (*name).to_owned(),
            other => panic!("{other:?}"),
        };
        writeln!(program, "    printf(\"{fact}=%lld\\n\", (long long)({value}));").unwrap();
    }
    program.push_str("    printf(\"%s %s\\n\", SBT_QUERY_SYMBOL, SBT_LOCK_V1);\n    return 0;\n}\n");
    let dir = tempfile::tempdir().unwrap();
    let (source, binary) = (write(dir.path(), "facts.c", &program), dir.path().join("facts"));
    compile("cc", &["-std=c11"], &source, &binary);
    let printed = String::from_utf8(Command::new(&binary).output().unwrap().stdout).unwrap();

    let found: Facts = printed
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(fact, value)| (fact.to_owned(), value.parse().unwrap()))
        .collect();
    assert_eq!(found, expected);
    assert!(printed.ends_with(&format!("{SBT_QUERY_SYMBOL} {SBT_LOCK_V1}\n")));
}

#[test]
fn neither_side_has_what_the_other_lacks() {
    let mut mine: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let facts = rust_facts();
    for fact in facts.keys() {
        let parts: Vec<&str> = fact.split(' ').collect();
        if let ["offsetof", name, field] = parts.as_slice() {
            mine.entry((*name).to_owned()).or_default().insert((*field).to_owned());
        }
    }
    let theirs: BTreeMap<String, BTreeSet<String>> =
        header_structs().into_iter().map(|(name, fields)| (name, fields.into_iter().collect())).collect();
    assert_eq!(theirs, mine);

    let listed: BTreeSet<String> =
        facts.keys().filter_map(|fact| fact.strip_prefix("define ")).map(str::to_owned).collect();
    assert_eq!(header_numbers(), listed);
    assert_eq!(raw_numbers(), listed);
}
