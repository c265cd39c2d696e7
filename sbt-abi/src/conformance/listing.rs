//! List and remove.

use super::bench::{Bench, exists, must_fail, must_refuse, names, put};
use super::{CheckFn, Verdict, ensure};
use crate::{Capabilities, Code};

pub(super) const CHECKS: &[(&str, CheckFn)] = &[
    ("list gives exactly the names with the prefix", prefixes),
    ("list gives every one of many objects once, with its length", many),
    ("list stops when it is told to", stops),
    ("an object that was removed is gone for every verb", removed_is_gone),
    ("removing what is not there works", remove_twice),
    ("what is not there is not found", not_found),
];

fn prefixes(bench: &Bench<'_>) -> Verdict {
    bench.need(Capabilities::LIST, "list")?;
    let mut session = bench.session()?;
    let tails = ["l/a", "l/ab", "l/abc", "l/b/a", "l/b/ab", "l/b-a", "l/B/a", "lm", "m/l/a"];
    for tail in tails {
        session = put(session, &bench.name(&format!("prefix/{tail}")), 1)?;
    }
    let word = format!("{}/prefix", bench.word());
    for prefix in
        ["l", "l/", "l/a", "l/ab", "l/abc", "l/abcd", "l/b", "l/b/", "l/b/a", "l/b-", "l/B", "m", "m/", "n", "n/x"]
    {
        let mut wanted: Vec<(String, u64)> =
            tails.iter().filter(|t| t.starts_with(prefix)).map(|t| (format!("{word}/{t}"), 1)).collect();
        wanted.sort();
        let found = names(&mut session, &format!("{word}/{prefix}"))?;
        ensure(found == wanted, || format!("prefix {prefix:?} gives {found:?} and not {wanted:?}"))?;
    }
    let all = names(&mut session, "")?;
    let missing = tails.iter().map(|tail| format!("{word}/{tail}")).find(|name| !all.iter().any(|(n, _)| n == name));
    ensure(missing.is_none(), || format!("the empty prefix leaves {missing:?} out"))
}

fn many(bench: &Bench<'_>) -> Verdict {
    bench.need(Capabilities::LIST, "list")?;
    let mut session = bench.session()?;
    let mut wanted = Vec::new();
    for number in 0..300_usize {
        let name = bench.name(&format!("many/{}/{number}", number % 7));
        session = put(session, &name, number)?;
        wanted.push((name, number as u64));
    }
    wanted.sort();
    let found = names(&mut session, &format!("{}/many/", bench.word()))?;
    let odd = wanted.iter().find(|object| !found.contains(object));
    ensure(found == wanted, || format!("{} of {} objects are listed; for example {odd:?}", found.len(), wanted.len()))
}

fn stops(bench: &Bench<'_>) -> Verdict {
    bench.need(Capabilities::LIST, "list")?;
    let mut session = bench.session()?;
    for number in 0..5 {
        session = put(session, &bench.name(&format!("stop/{number}")), 1)?;
    }
    let mut seen = 0;
    session.list(&format!("{}/stop/", bench.word()), &mut |_, _| {
        seen += 1;
        seen < 2
    })?;
    ensure(seen == 2, || format!("{seen} objects came where the second had to be the last"))
}

fn removed_is_gone(bench: &Bench<'_>) -> Verdict {
    let (name, beside) = (bench.name("gone/a"), bench.name("gone/ab"));
    let mut session = put(put(bench.session()?, &name, 10)?, &beside, 10)?;
    session.remove(&name)?;
    ensure(!exists(&mut session, &name)?, || "info still shows it".to_owned())?;
    ensure(exists(&mut session, &beside)?, || "the object beside it is gone too".to_owned())?;
    if session.capabilities().has(Capabilities::LIST) {
        let found = names(&mut session, &name)?;
        ensure(found == [(beside, 10)], || format!("list gives {found:?}"))?;
    }
    must_refuse("opening it", session.open_at(&name, 0), &[Code::NotFound])?;
    Ok(())
}

fn remove_twice(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("twice");
    let mut session = put(bench.session()?, &name, 10)?;
    session.remove(&name)?;
    session.remove(&name)?;
    session.remove(&bench.name("never/was/there"))?;
    Ok(())
}

fn not_found(bench: &Bench<'_>) -> Verdict {
    let mut session = bench.session()?;
    for tail in ["missing", "missing/deep/er"] {
        let name = bench.name(tail);
        must_fail("info of what is not there", session.info(&name), &[Code::NotFound])?;
        session = must_refuse("opening what is not there", session.open_at(&name, 0), &[Code::NotFound])?;
    }
    Ok(())
}
