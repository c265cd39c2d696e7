//! What the checks share: sessions, objects with known content, and the clearing away at the end.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Verdict, ensure, failed, not_here};
use crate::host::{Error, OpenParams, Plugin, Refused, Session};
use crate::{Capabilities, Code};

/// A plugin under test.
pub(super) struct Bench<'a> {
    pub(super) plugin: &'a Plugin,
    pub(super) params: OpenParams<'a>,
    /// What the names of this run begin with.
    word: String,
    made: Mutex<BTreeSet<String>>,
    before: Surroundings,
}

/// What a plugin must leave as it is.
#[derive(PartialEq, Eq)]
struct Surroundings {
    directory: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
}

impl Surroundings {
    fn now() -> Self {
        Surroundings { directory: std::env::current_dir().ok(), environment: std::env::vars_os().collect() }
    }
}

impl<'a> Bench<'a> {
    pub(super) fn new(plugin: &'a Plugin, params: &OpenParams<'a>) -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let word = format!("sp-test-{:x}-{nanos:x}", std::process::id());
        Bench { plugin, params: *params, word, made: Mutex::default(), before: Surroundings::now() }
    }

    /// The word that the names of this run begin with.
    pub(super) fn word(&self) -> &str {
        &self.word
    }

    /// A name of this run. What is made under it is removed at the end.
    pub(super) fn name(&self, tail: &str) -> String {
        let name = format!("{}/{tail}", self.word);
        self.note(&name);
        name
    }

    /// Has an object of any name removed at the end.
    pub(super) fn note(&self, name: &str) {
        self.made().insert(name.to_owned());
    }

    fn made(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn session(&self) -> Result<Session, Error> {
        self.plugin.open(&self.params)
    }

    /// Leaves the check unless the medium says that it can do this.
    pub(super) fn need(&self, wanted: Capabilities, what: &str) -> Verdict {
        if self.session()?.capabilities().has(wanted) { Ok(()) } else { not_here(format!("the medium says no {what}")) }
    }

    /// Leaves the check when only one object at a time can be open.
    pub(super) fn need_several(&self) -> Verdict {
        if self.session()?.capabilities().has(Capabilities::SEQUENTIAL_ONLY) {
            return not_here("the medium has one object at a time");
        }
        Ok(())
    }

    /// Removes what the run made, and looks whether the process is as it was.
    pub(super) fn end(&self) -> Verdict {
        let mut session = self.session()?;
        for name in self.made().iter() {
            session.remove(name)?;
        }
        session.close()?;
        ensure(Surroundings::now() == self.before, || {
            "the working directory or the environment of the process has changed".to_owned()
        })
    }
}

/// Content of an object: depends on the name and the position, so that nothing can be mistaken for anything else.
pub(super) fn content(name: &str, len: usize) -> Vec<u8> {
    let mut state = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Writes an object of known content in one go.
pub(super) fn put(session: Session, name: &str, len: usize) -> Verdict<Session> {
    put_bytes(session, name, &content(name, len))
}

pub(super) fn put_bytes(session: Session, name: &str, bytes: &[u8]) -> Verdict<Session> {
    let mut writer = session.create(name)?;
    writer.write(bytes)?;
    let (info, session) = writer.finish()?;
    let len = bytes.len() as u64;
    ensure(info.len == len, || format!("finish says {} bytes of {name}, {len} were written", info.len))?;
    Ok(session)
}

/// Reads from an offset to the end, in portions.
pub(super) fn get(session: Session, name: &str, offset: u64, portion: usize) -> Verdict<(Vec<u8>, Session)> {
    let mut reader = session.open_at(name, offset)?;
    let mut all = Vec::new();
    let mut part = vec![0u8; portion];
    loop {
        match reader.read(&mut part)? {
            0 => return Ok((all, reader.close()?)),
            got => all.extend_from_slice(part.get(..got).unwrap_or_default()),
        }
        ensure(all.len() <= (64 << 20), || format!("{name} does not end"))?;
    }
}

/// Reads an object and compares it with what [`put`] wrote.
pub(super) fn expect(session: Session, name: &str, len: usize) -> Verdict<Session> {
    let (found, session) = get(session, name, 0, 256 << 10)?;
    same(name, &found, &content(name, len))?;
    Ok(session)
}

pub(super) fn same(name: &str, found: &[u8], wanted: &[u8]) -> Verdict {
    if found == wanted {
        return Ok(());
    }
    let at = found.iter().zip(wanted).position(|(a, b)| a != b).unwrap_or_else(|| found.len().min(wanted.len()));
    failed(format!(
        "{name}: {} bytes were read where {} were written, first difference at {at}",
        found.len(),
        wanted.len()
    ))
}

/// The error of something that must fail with one of these codes, in a way that can be shown to a user.
pub(super) fn must_fail<T>(what: &str, done: Result<T, Error>, codes: &[Code]) -> Verdict<Error> {
    let Err(error) = done else { return failed(format!("{what} worked, and had to fail with {codes:?}")) };
    ensure(error.breach().is_none(), || format!("{what}: {error}"))?;
    ensure(codes.contains(&error.code()), || {
        format!("{what} gave {:?} where {codes:?} is right: {error}", error.code())
    })?;
    Ok(error)
}

/// As [`must_fail`], for verbs that take the session: it comes back.
pub(super) fn must_refuse<T>(what: &str, done: Result<T, Refused>, codes: &[Code]) -> Verdict<Session> {
    let done = done.map_err(|refused| (refused.error, refused.session));
    let (error, session) = match done {
        Ok(_) => return failed(format!("{what} worked, and had to fail with {codes:?}")),
        Err(both) => both,
    };
    must_fail::<()>(what, Err(error), codes)?;
    Ok(*session)
}

/// Looks whether there is an object.
pub(super) fn exists(session: &mut Session, name: &str) -> Verdict<bool> {
    match session.info(name) {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Code::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The names with a prefix, and their lengths; each may come only once.
pub(super) fn names(session: &mut Session, prefix: &str) -> Verdict<Vec<(String, u64)>> {
    let mut found = Vec::new();
    session.list(prefix, &mut |name, info| {
        found.push((name.to_owned(), info.len));
        true
    })?;
    found.sort();
    let twice = found.windows(2).find(|pair| matches!(pair, [a, b] if a.0 == b.0));
    ensure(twice.is_none(), || format!("an object is listed twice: {twice:?}"))?;
    Ok(found)
}
