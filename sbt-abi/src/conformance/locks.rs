//! The extension `setpiece.lock/1`.

use super::bench::{Bench, exists, must_refuse, names, put};
use super::{CheckFn, Verdict, ensure};
use crate::{Capabilities, Code, LockMode};

pub(super) const CHECKS: &[(&str, CheckFn)] = &[
    ("an exclusive lock keeps all others out", exclusive),
    ("shared locks share, and keep exclusive ones out", shared),
    ("locks end with release, with drop and with the session", ends),
    ("locks of other names and objects of the same name are free", independent),
];

fn need_locks(bench: &Bench<'_>) -> Verdict {
    bench.need(Capabilities::LOCKS, "locks")
}

fn must_be_locked(bench: &Bench<'_>, name: &str, mode: LockMode) -> Verdict {
    must_refuse(&format!("a {mode:?} lock that does not fit"), bench.session()?.lock(name, mode), &[Code::Locked])?;
    Ok(())
}

fn exclusive(bench: &Bench<'_>) -> Verdict {
    need_locks(bench)?;
    let name = bench.name("lock/exclusive");
    let _held = bench.session()?.lock(&name, LockMode::Exclusive)?;
    must_be_locked(bench, &name, LockMode::Exclusive)?;
    must_be_locked(bench, &name, LockMode::Shared)
}

fn shared(bench: &Bench<'_>) -> Verdict {
    need_locks(bench)?;
    let name = bench.name("lock/shared");
    let one = bench.session()?.lock(&name, LockMode::Shared)?;
    let _two = bench.session()?.lock(&name, LockMode::Shared)?;
    must_be_locked(bench, &name, LockMode::Exclusive)?;
    one.release()?;
    must_be_locked(bench, &name, LockMode::Exclusive)
}

fn ends(bench: &Bench<'_>) -> Verdict {
    need_locks(bench)?;
    let name = bench.name("lock/ends");
    let session = bench.session()?.lock(&name, LockMode::Exclusive)?.release()?;
    let again = session.lock(&name, LockMode::Exclusive)?;
    drop(again);
    bench.session()?.lock(&name, LockMode::Exclusive)?.release()?.close()?;
    bench.session()?.lock(&name, LockMode::Exclusive)?.release()?;
    Ok(())
}

fn independent(bench: &Bench<'_>) -> Verdict {
    need_locks(bench)?;
    let (name, flat) = (bench.name("lock/a/b"), bench.name("lock/a-b"));
    let _held = bench.session()?.lock(&name, LockMode::Exclusive)?;
    let _other = bench.session()?.lock(&flat, LockMode::Exclusive)?;
    let mut session = bench.session()?;
    ensure(!exists(&mut session, &name)?, || "info shows the lock as an object".to_owned())?;
    session = put(session, &name, 10)?;
    if session.capabilities().has(Capabilities::LIST) {
        let found = names(&mut session, &format!("{}/lock/", bench.word()))?;
        ensure(found == [(name, 10)], || format!("list gives {found:?} and not the one object"))?;
    }
    Ok(())
}
