//! An object exists from `finish` on, whole, or not at all; and nothing is ever overwritten.

use super::bench::{Bench, content, exists, expect, must_refuse, names, put, put_bytes};
use super::{CheckFn, Verdict, ensure, failed};
use crate::host::Session;
use crate::{Capabilities, Code};

pub(super) const CHECKS: &[(&str, CheckFn)] = &[
    ("nothing is visible before finish", not_before_finish),
    ("nothing remains after abort", nothing_after_abort),
    ("nothing remains when writer and session are dropped", nothing_after_drop),
    ("a session goes on after an abort", goes_on_after_abort),
    ("creating an existing object fails, and it stays as it is", never_overwritten),
    ("of two writers of one name the first to finish wins", second_loses),
    ("of many threads that create one name exactly one wins", race),
    ("a name can be used again after its object is removed", again_after_removal),
    ("a session has one writer or reader at a time", one_at_a_time),
];

/// No verb of another session may show the object.
fn must_be_invisible(bench: &Bench<'_>, name: &str, when: &str) -> Verdict {
    let mut other = bench.session()?;
    ensure(!exists(&mut other, name)?, || format!("info shows the object {when}"))?;
    if other.capabilities().has(Capabilities::LIST) {
        let found = names(&mut other, name)?;
        ensure(found.is_empty(), || format!("list shows the object {when}"))?;
    }
    must_refuse(&format!("opening the object {when}"), other.open_at(name, 0), &[Code::NotFound])?;
    Ok(())
}

fn not_before_finish(bench: &Bench<'_>) -> Verdict {
    bench.need_several()?;
    let name = bench.name("publish/unfinished");
    let mut writer = bench.session()?.create(&name)?;
    must_be_invisible(bench, &name, "before a byte is written")?;
    writer.write(&content(&name, 100_000))?;
    must_be_invisible(bench, &name, "before finish")?;
    let (_, mut session) = writer.finish()?;
    ensure(exists(&mut session, &name)?, || "info does not show the object after finish".to_owned())?;
    expect(bench.session()?, &name, 100_000)?;
    Ok(())
}

fn nothing_after_abort(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("publish/aborted");
    let mut writer = bench.session()?.create(&name)?;
    writer.write(&content(&name, 100_000))?;
    writer.abort()?.close()?;
    must_be_invisible(bench, &name, "after abort")
}

fn nothing_after_drop(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("publish/dropped");
    let mut writer = bench.session()?.create(&name)?;
    writer.write(&content(&name, 100_000))?;
    drop(writer);
    must_be_invisible(bench, &name, "after writer and session are gone")
}

fn goes_on_after_abort(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("publish/second-try");
    let mut writer = bench.session()?.create(&name)?;
    writer.write(b"first try")?;
    let session = writer.abort()?;
    expect(put(session, &name, 500)?, &name, 500)?;
    Ok(())
}

/// Tries to write other bytes to a name. True when the plugin let it happen.
fn overwrites(session: Session, name: &str, bytes: &[u8]) -> Verdict<bool> {
    let refused = match session.create(name) {
        Err(refused) => refused,
        Ok(mut writer) => {
            // A plugin may find out in `finish` only.
            writer.write(bytes)?;
            match writer.finish() {
                Ok(_) => return Ok(true),
                Err(refused) => refused,
            }
        }
    };
    must_refuse::<()>("creating an object of a taken name", Err(refused), &[Code::Exists])?;
    Ok(false)
}

fn never_overwritten(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("publish/taken");
    put(bench.session()?, &name, 4000)?.close()?;
    let overwritten = overwrites(bench.session()?, &name, b"other bytes")?;
    ensure(!overwritten, || "an existing object was overwritten".to_owned())?;
    expect(bench.session()?, &name, 4000)?;
    Ok(())
}

fn second_loses(bench: &Bench<'_>) -> Verdict {
    bench.need_several()?;
    bench.need(Capabilities::CONDITIONAL_CREATE, "conditional create")?;
    let name = bench.name("publish/two");
    let mut first = bench.session()?.create(&name)?;
    first.write(&content(&name, 300))?;
    let second = bench.session()?.create(&name);
    first.finish()?;
    let lost = second.and_then(|mut second| match second.write(b"other bytes") {
        Ok(()) => second.finish().map(|_| ()),
        Err(error) => Err(crate::host::Refused { error, session: Box::new(second.abort()?) }),
    });
    must_refuse("finishing an object whose name has been taken", lost, &[Code::Exists])?;
    expect(bench.session()?, &name, 300)?;
    Ok(())
}

fn race(bench: &Bench<'_>) -> Verdict {
    bench.need_several()?;
    bench.need(Capabilities::CONDITIONAL_CREATE, "conditional create")?;
    for round in 0..10 {
        let name = bench.name(&format!("publish/race-{round}"));
        let start = std::sync::Barrier::new(4);
        let run = |thread: u8| -> Verdict<Option<u8>> {
            let session = bench.session();
            start.wait();
            Ok(overwrites(session?, &name, &[thread; 5000])?.then_some(thread))
        };
        let run = &run;
        let results: Vec<Verdict<Option<u8>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || run(thread))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| failed("a thread panicked"))).collect()
        });
        let winners: Vec<u8> = results.into_iter().collect::<Verdict<Vec<_>>>()?.into_iter().flatten().collect();
        let [winner] = winners.as_slice() else {
            return failed(format!("{} of 4 threads think that they made {name}", winners.len()));
        };
        let (found, _) = super::bench::get(bench.session()?, &name, 0, 9999)?;
        ensure(found == [*winner; 5000], || format!("{name} is not what the one winner wrote"))?;
    }
    Ok(())
}

fn again_after_removal(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("publish/again");
    let mut session = put_bytes(bench.session()?, &name, b"first")?;
    session.remove(&name)?;
    must_be_invisible(bench, &name, "after removal")?;
    expect(put(session, &name, 700)?, &name, 700)?;
    Ok(())
}

fn one_at_a_time(bench: &Bench<'_>) -> Verdict {
    let (name, other) = (bench.name("publish/one"), bench.name("publish/other"));
    let mut writer = bench.session()?.create(&name)?;
    writer.write(b"1")?;
    let second = writer.second(&other);
    super::bench::must_fail("a second writer in a session that has one", second, &[Code::Usage])?;
    writer.write(b"2")?;
    let (info, _) = writer.finish()?;
    ensure(info.len == 2, || "the first writer lost bytes over it".to_owned())
}
