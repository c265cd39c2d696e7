//! Errors, parameters and commands.

use super::bench::{Bench, must_fail, must_refuse, put};
use super::{CheckFn, Verdict, ensure};
use crate::Code;
use crate::host::OpenParams;

pub(super) const CHECKS: &[(&str, CheckFn)] = &[
    ("errors have words", words),
    ("an error buffer that is small or empty is respected", small_buffer),
    ("an unknown key in PARMS is refused, by name", unknown_parms),
    ("an unknown key among the pairs is refused, by name", unknown_pair),
    ("an unknown command is not supported", unknown_command),
    ("a session works on after an ordinary error", works_on),
];

/// A key that no plugin has.
const KEY: &str = "sp-conformance-unknown-key";

fn words(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("words");
    let error = must_fail("info of what is not there", bench.session()?.info(&name), &[Code::NotFound])?;
    ensure(!error.text().trim().is_empty(), || "the error of a missing object has no text".to_owned())?;
    ensure(error.text().contains("words"), || format!("the text does not name the object: {:?}", error.text()))
}

fn small_buffer(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("small");
    for room in [0, 1, 2, 8, 63] {
        let mut session = bench.session()?;
        session.text_room = room;
        let error = must_fail("info of what is not there", session.info(&name), &[Code::NotFound])?;
        ensure(error.text().len() <= room as usize, || format!("{} bytes of text in {room}", error.text().len()))?;
    }
    Ok(())
}

fn must_name_key(bench: &Bench<'_>, params: &OpenParams<'_>) -> Verdict {
    let error = must_fail("opening with an unknown key", bench.plugin.open(params), &[Code::Usage])?;
    ensure(error.text().contains(KEY), || format!("the text does not name the key: {:?}", error.text()))
}

fn unknown_parms(bench: &Bench<'_>) -> Verdict {
    let comma = if bench.params.parms.is_empty() { "" } else { "," };
    let parms = format!("{}{comma}{KEY}=1", bench.params.parms);
    must_name_key(bench, &OpenParams { parms: &parms, ..bench.params })
}

fn unknown_pair(bench: &Bench<'_>) -> Verdict {
    let mut pairs = bench.params.pairs.to_vec();
    pairs.push((KEY, "1"));
    must_name_key(bench, &OpenParams { pairs: &pairs, ..bench.params })
}

fn unknown_command(bench: &Bench<'_>) -> Verdict {
    let answer = bench.session()?.command("sp-conformance-unknown-command", "");
    must_fail("an unknown command", answer, &[Code::Unsupported])?;
    Ok(())
}

fn works_on(bench: &Bench<'_>) -> Verdict {
    let (missing, name) = (bench.name("on/missing"), bench.name("on/there"));
    let mut session = bench.session()?;
    for _ in 0..3 {
        must_fail("info of what is not there", session.info(&missing), &[Code::NotFound])?;
        session = must_refuse("opening what is not there", session.open_at(&missing, 0), &[Code::NotFound])?;
    }
    put(session, &name, 10)?.close()?;
    Ok(())
}
