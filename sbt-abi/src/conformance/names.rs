//! Names: all that are allowed come back exactly, and no other is accepted.

use super::bench::{Bench, exists, expect, must_fail, must_refuse, names, put};
use super::{CheckFn, Verdict, ensure};
use crate::{Capabilities, Code, NAME_MAX};

pub(super) const CHECKS: &[(&str, CheckFn)] = &[
    ("names may have every allowed character", every_character),
    ("names that differ in capitals are different", capitals),
    ("names may be as long as the contract says", longest),
    ("names that are not allowed are refused", refused),
];

fn there_and_back(bench: &Bench<'_>, name: &str) -> Verdict {
    let mut session = expect(put(bench.session()?, name, 33)?, name, 33)?;
    if session.capabilities().has(Capabilities::LIST) {
        let found = names(&mut session, name)?;
        ensure(found == [(name.to_owned(), 33)], || format!("list does not give {name} back: {found:?}"))?;
    }
    session.remove(name)?;
    Ok(())
}

fn every_character(bench: &Bench<'_>) -> Verdict {
    let tail =
        "abcdefghijklmnopqrstuvwxyz/ABCDEFGHIJKLMNOPQRSTUVWXYZ/0123456789/a.b_c-d/-/_/..".trim_end_matches("/..");
    there_and_back(bench, &bench.name(tail))?;
    for part in ["a.", "a..b", "-", "_", "0", "a--b", "CON", "nul.txt", "meta.tmp"] {
        there_and_back(bench, &bench.name(&format!("chars/{part}")))?;
    }
    Ok(())
}

fn capitals(bench: &Bench<'_>) -> Verdict {
    let (lower, upper) = (bench.name("capitals/piece"), bench.name("capitals/Piece"));
    let session = put(put(bench.session()?, &lower, 10)?, &upper, 20)?;
    expect(expect(session, &lower, 10)?, &upper, 20)?;
    Ok(())
}

fn longest(bench: &Bench<'_>) -> Verdict {
    let flat = format!("{:x<NAME_MAX$}", format!("{}-", bench.word()));
    let mut deep = format!("{}/deep", bench.word());
    while deep.len() + 2 <= NAME_MAX {
        deep.push_str("/d");
    }
    let deep = format!("{deep:d<NAME_MAX$}");
    for name in [flat, deep] {
        bench.note(&name);
        there_and_back(bench, &name)?;
    }
    Ok(())
}

fn refused(bench: &Bench<'_>) -> Verdict {
    let mut session = bench.session()?;
    session.check_names = false;
    let long = format!("{:x<1$}", bench.word(), NAME_MAX + 1);
    let word = bench.word().to_owned();
    let up = format!("{word}/../{word}-up");
    for name in [
        "",
        "/",
        "..",
        ".",
        "/etc/hostname",
        "../../etc/hostname",
        ".hidden",
        "a//b",
        "a/",
        "a b",
        "a\0b",
        "ä",
        &up,
        &long,
    ] {
        let what = format!("creating {name:?}");
        session = must_refuse(&what, session.create(name), &[Code::Usage])?;
        session = must_refuse(&format!("opening {name:?}"), session.open_at(name, 0), &[Code::Usage])?;
        must_fail(&format!("info of {name:?}"), session.info(name), &[Code::Usage])?;
        must_fail(&format!("removing {name:?}"), session.remove(name), &[Code::Usage])?;
    }
    let there = exists(&mut bench.session()?, &format!("{word}-up"))?;
    ensure(!there, || "a name with .. in it led to another object".to_owned())
}
