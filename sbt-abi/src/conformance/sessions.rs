//! Sessions: what they tell, that they can be many, and that they move between threads.

use super::bench::{Bench, content, expect, names, put, same};
use super::{CheckFn, Verdict, ensure, failed};
use crate::{Capabilities, Code};

pub(super) const CHECKS: &[(&str, CheckFn)] = &[
    ("the plugin says its name and version", says_its_name),
    ("capabilities fit together and fit what the verbs do", capabilities),
    ("a session can be opened and closed a hundred times", many_sessions),
    ("an object is there for a session opened later", seen_later),
    ("sessions work at the same time in several threads", at_the_same_time),
    ("a session with a writer and a reader moves between threads", moves),
];

fn says_its_name(bench: &Bench<'_>) -> Verdict {
    let (name, version) = (bench.plugin.name(), bench.plugin.version());
    ensure(!name.is_empty() && !version.is_empty(), || format!("its name is {name:?} and its version {version:?}"))
}

fn capabilities(bench: &Bench<'_>) -> Verdict {
    let mut session = bench.session()?;
    let told = session.capabilities();
    ensure(!told.has(Capabilities::SEQUENTIAL_ONLY.with(Capabilities::RANGED_READ)), || {
        "it says both that reads may begin anywhere and that objects are read in order only".to_owned()
    })?;
    ensure(!told.has(Capabilities::LOCKS) || bench.plugin.has_locks(), || {
        "it says that locks work, and does not have the extension for them".to_owned()
    })?;
    let listed = session.list(bench.word(), &mut |_, _| true);
    match (told.has(Capabilities::LIST), listed) {
        (true, Ok(())) => Ok(()),
        (true, Err(error)) => failed(format!("it says that it can list: {error}")),
        (false, Err(error)) if error.code() == Code::Unsupported => Ok(()),
        (false, other) => failed(format!("it says that it cannot list, and list gives {other:?}")),
    }
}

fn many_sessions(bench: &Bench<'_>) -> Verdict {
    for _ in 0..100 {
        bench.session()?.close()?;
    }
    Ok(())
}

fn seen_later(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("later");
    put(bench.session()?, &name, 1000)?.close()?;
    let mut session = expect(bench.session()?, &name, 1000)?;
    let len = session.info(&name)?.len;
    ensure(len == 1000, || format!("info says {len} bytes of 1000"))
}

fn at_the_same_time(bench: &Bench<'_>) -> Verdict {
    bench.need_several()?;
    let work = |thread: usize| -> Verdict {
        let mut session = bench.session()?;
        for round in 0..5 {
            let name = bench.name(&format!("threads/{thread}/{round}"));
            let len = 100_000 + 7 * thread + round;
            session = expect(put(session, &name, len)?, &name, len)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| failed("a thread panicked")))
    })?;
    let mut session = bench.session()?;
    if session.capabilities().has(Capabilities::LIST) {
        let found = names(&mut session, &format!("{}/threads/", bench.word()))?.len();
        ensure(found == 20, || format!("{found} of 20 objects are listed"))?;
    }
    Ok(())
}

fn moves(bench: &Bench<'_>) -> Verdict {
    let name = bench.name("moves");
    let bytes = content(&name, 10_000);
    let mut writer = bench.session()?.create(&name)?;
    let (first, second) = bytes.split_at(5000);
    writer.write(first)?;
    let elsewhere = |writer: crate::host::Writer| -> Verdict<crate::host::Reader> {
        let mut writer = writer;
        writer.write(second)?;
        let (_, session) = writer.finish()?;
        Ok(session.open_at(&name, 0)?)
    };
    let mut reader = std::thread::scope(|scope| {
        scope.spawn(|| elsewhere(writer)).join().unwrap_or_else(|_| failed("a thread panicked"))
    })?;
    let mut found = vec![0u8; 0];
    let mut part = [0u8; 3000];
    while let got @ 1.. = reader.read(&mut part)? {
        found.extend_from_slice(part.get(..got).unwrap_or_default());
    }
    reader.close()?.close()?;
    same(&name, &found, &bytes)
}
