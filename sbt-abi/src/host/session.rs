//! A session: the verbs that do not read or write an object's bytes.

use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{NonNull, null_mut};

use super::call::{TEXT_ROOM, call};
use super::lock::Lock;
use super::stream::{Reader, Writer};
use super::table::{Plugin, raw_str};
use super::{Error, Refused, Result};
use crate::types::{Capabilities, Info, LockMode, SessionInfo, is_name, is_prefix, size_u32};
use crate::{Code, raw};

/// The longest answer to a command that is kept, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// What a session is opened with.
#[derive(Clone, Copy, Default)]
pub struct OpenParams<'a> {
    /// Where the objects are, in the plugin's own words. May be empty.
    pub location: &'a str,
    /// The PARMS string as the user gave it. May be empty.
    pub parms: &'a str,
    /// Further parameters. The values may be secrets and are never shown.
    pub pairs: &'a [(&'a str, &'a str)],
}

impl fmt::Debug for OpenParams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.pairs.iter().map(|(key, _)| *key).collect();
        f.debug_struct("OpenParams").field("location", &self.location).field("keys", &keys).finish_non_exhaustive()
    }
}

/// One opened use of a medium. Moves between threads, is used by one at a time, and is closed when dropped.
pub struct Session {
    plugin: Plugin,
    handle: NonNull<raw::sbt_session>,
    info: SessionInfo,
    poisoned: bool,
    closed: bool,
    /// Bytes of error text that the plugin is offered; less than usual in the conformance suite only.
    pub(crate) text_room: u32,
    /// Whether names are checked here too; not in the conformance suite, which wants to see the plugin do it.
    pub(crate) check_names: bool,
}

// SAFETY: the ABI lets a session move between threads; the host uses it from one at a time because it is not `Sync`.
unsafe impl Send for Session {}

impl Session {
    pub(super) fn open(plugin: &Plugin, params: &OpenParams<'_>) -> Result<Session> {
        let pairs: Vec<raw::sbt_pair> = params
            .pairs
            .iter()
            .map(|(key, value)| raw::sbt_pair { key: raw_str(key), value: raw_str(value) })
            .collect();
        let given = raw::sbt_params {
            size: size_u32::<raw::sbt_params>(),
            flags: 0,
            location: raw_str(params.location),
            parms: raw_str(params.parms),
            pairs: pairs.as_ptr(),
            pair_count: pairs.len() as u64,
        };
        let mut told = raw::sbt_session_info {
            size: size_u32::<raw::sbt_session_info>(),
            flags: 0,
            capabilities: 0,
            max_object: 0,
            best_write: 0,
        };
        let mut handle = null_mut();
        // SAFETY: all that is pointed to outlives the call.
        plugin.call("open session", None, |error| unsafe {
            (plugin.verbs().open_session)(&raw const given, &raw mut told, &raw mut handle, error)
        })?;
        let Some(handle) = NonNull::new(handle) else {
            let error = Error::broke("it opened a session and gave no handle");
            return Err(plugin.name_error(error, "open session", None));
        };
        let info = SessionInfo {
            capabilities: Capabilities(told.capabilities),
            max_object: (told.max_object > 0).then_some(told.max_object),
            best_write: (told.best_write > 0).then_some(told.best_write),
        };
        Ok(Session {
            plugin: plugin.clone(),
            handle,
            info,
            poisoned: false,
            closed: false,
            text_room: TEXT_ROOM,
            check_names: true,
        })
    }

    /// What the session told about itself when it was opened.
    #[must_use]
    pub fn told(&self) -> &SessionInfo {
        &self.info
    }

    /// What the session can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.info.capabilities
    }

    /// The plugin that the session belongs to.
    #[must_use]
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Whether an earlier call panicked or broke the contract; nothing but closing works then.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Begins an object. The writer owns the session until it is finished or aborted.
    ///
    /// # Errors
    /// What the plugin reports, here or in `finish` [`Code::Exists`] when the name is taken. The session comes back.
    pub fn create(mut self, name: &str) -> Result<Writer, Refused> {
        let mut out = null_mut();
        let made = self.call_for("create", name, |verbs, session, text, error| {
            // SAFETY: the session is open and not in use, and `out` outlives the call.
            unsafe { (verbs.create)(session, text, &raw mut out, error) }
        });
        match self.handle_of(made, out, "create", name) {
            Ok(handle) => Ok(Writer::new(self, handle, name)),
            Err(error) => Err(Refused { error, session: Box::new(self) }),
        }
    }

    /// Opens an object to be read from `offset` on. The reader owns the session until it is closed.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is none; what else the plugin reports. The session comes back.
    pub fn open_at(mut self, name: &str, offset: u64) -> Result<Reader, Refused> {
        let mut out = null_mut();
        let made = self.call_for("open", name, |verbs, session, text, error| {
            // SAFETY: the session is open and not in use, and `out` outlives the call.
            unsafe { (verbs.open)(session, text, offset, &raw mut out, error) }
        });
        match self.handle_of(made, out, "open", name) {
            Ok(handle) => Ok(Reader::new(self, handle, name)),
            Err(error) => Err(Refused { error, session: Box::new(self) }),
        }
    }

    /// Takes a lock without waiting. The lock owns the session until it is released.
    ///
    /// # Errors
    /// [`Code::Locked`] when another holds it, [`Code::Unsupported`] when the session has no locks. The session comes
    /// back.
    pub fn lock(mut self, name: &str, mode: LockMode) -> Result<Lock, Refused> {
        let verbs = self.plugin.lock_verbs().filter(|_| self.info.capabilities.has(Capabilities::LOCKS));
        let Some(lock_verbs) = verbs else {
            let error = Error::refused(Code::Unsupported, "this medium has no locks");
            let error = self.plugin.name_error(error, "lock", Some(name));
            return Err(Refused { error, session: Box::new(self) });
        };
        let mut out = null_mut();
        let made = self.call_for("lock", name, |_, session, text, error| {
            // SAFETY: the session is open and not in use, and `out` outlives the call.
            unsafe { (lock_verbs.lock)(session, text, mode.number(), &raw mut out, error) }
        });
        match self.handle_of(made, out, "lock", name) {
            Ok(handle) => Ok(Lock::new(self, handle, lock_verbs)),
            Err(error) => Err(Refused { error, session: Box::new(self) }),
        }
    }

    /// What is known of an object.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is none; what else the plugin reports.
    pub fn info(&mut self, name: &str) -> Result<Info> {
        let mut info = blank_info();
        self.call_for("info", name, |verbs, session, text, error| {
            // SAFETY: the session is open and not in use, and `info` outlives the call.
            unsafe { (verbs.info)(session, text, &raw mut info, error) }
        })?;
        Ok(Info::from_raw(&info))
    }

    /// Removes an object. Succeeds when there is none.
    ///
    /// # Errors
    /// [`Code::Retention`] when it is protected; what else the plugin reports.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        self.call_for("remove", name, |verbs, session, text, error| {
            // SAFETY: the session is open and not in use.
            unsafe { (verbs.remove)(session, text, error) }
        })
    }

    /// Hands every object whose name begins with `prefix` to `each`, in no particular order, until `each` says no.
    ///
    /// # Errors
    /// [`Code::Unsupported`] when the medium cannot list; what else the plugin reports. A list that `each` ended is
    /// not an error.
    pub fn list(&mut self, prefix: &str, each: &mut dyn FnMut(&str, Info) -> bool) -> Result<()> {
        if self.check_names && !is_prefix(prefix) {
            let error = Error::refused(Code::Usage, "no name can begin like this");
            return Err(self.plugin.name_error(error, "list", Some(prefix)));
        }
        let mut listing = Listing { prefix, each, end: None };
        let context = (&raw mut listing).cast::<c_void>();
        let done = self.call("list", Some(prefix), |verbs, session, error| {
            // SAFETY: the session is open and not in use; `on_listed` gets its context back during the call only.
            unsafe { (verbs.list)(session, raw_str(prefix), Some(on_listed), context, error) }
        });
        match listing.end {
            None => done,
            Some(End::Stopped) => match done {
                Err(error) if error.code() != Code::Stopped => Err(error),
                _ => Ok(()),
            },
            Some(End::Broke(how)) => {
                self.poisoned = true;
                Err(self.plugin.name_error(Error::broke(how), "list", Some(prefix)))
            }
            Some(End::Panicked(payload)) => resume_unwind(payload),
        }
    }

    /// Has the plugin do something of its own, and returns its answer.
    ///
    /// # Errors
    /// [`Code::Unsupported`] when the plugin has no such command; what else it reports.
    pub fn command(&mut self, command: &str, argument: &str) -> Result<String> {
        let mut answer: Vec<u8> = Vec::new();
        let context = (&raw mut answer).cast::<c_void>();
        self.call("command", Some(command), |verbs, session, error| {
            let (command, argument) = (raw_str(command), raw_str(argument));
            // SAFETY: the session is open and not in use; `on_answer` gets its context back during the call only.
            unsafe { (verbs.command)(session, command, argument, Some(on_answer), context, error) }
        })?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Closes the session. Dropping it does the same and forgets what the plugin says.
    ///
    /// # Errors
    /// What the plugin reports; the session is gone in any case.
    pub fn close(self) -> Result<()> {
        let mut session = self;
        session.closed = true;
        let handle = session.handle.as_ptr();
        // SAFETY: the session is open, nothing of it is in use, and this is the last call with its handle.
        session
            .plugin
            .call("close session", None, |error| unsafe { (session.plugin.verbs().close_session)(handle, error) })
    }

    #[cfg(feature = "conformance")]
    pub(super) fn raw_handle(&self) -> *mut raw::sbt_session {
        self.handle.as_ptr()
    }

    /// Notes what a writer, reader or lock of this session met.
    pub(super) fn note(&mut self, error: &Error) {
        self.poisoned |= error.is_fatal();
    }

    fn call_for(
        &mut self,
        verb: &'static str,
        name: &str,
        run: impl FnOnce(&super::table::Verbs, *mut raw::sbt_session, raw::sbt_str, *mut raw::sbt_error) -> i32,
    ) -> Result<()> {
        if self.check_names && !is_name(name) {
            let error = Error::refused(Code::Usage, "not a name that an object may have");
            return Err(self.plugin.name_error(error, verb, Some(name)));
        }
        self.call(verb, Some(name), |verbs, session, error| run(verbs, session, raw_str(name), error))
    }

    fn call(
        &mut self,
        verb: &'static str,
        object: Option<&str>,
        run: impl FnOnce(&super::table::Verbs, *mut raw::sbt_session, *mut raw::sbt_error) -> i32,
    ) -> Result<()> {
        if self.poisoned {
            let error = Error::refused(Code::Poisoned, "an earlier call of this session failed; open another");
            return Err(self.plugin.name_error(error, verb, object));
        }
        let done = call(self.text_room, |error| run(self.plugin.verbs(), self.handle.as_ptr(), error));
        done.map_err(|error| {
            self.note(&error);
            self.plugin.name_error(error, verb, object)
        })
    }

    fn handle_of<T>(&mut self, done: Result<()>, out: *mut T, verb: &'static str, name: &str) -> Result<NonNull<T>> {
        done?;
        NonNull::new(out).ok_or_else(|| {
            self.poisoned = true;
            self.plugin.name_error(Error::broke("it says that it worked and gave no handle"), verb, Some(name))
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let handle = self.handle.as_ptr();
        // SAFETY: the session is open, nothing of it is in use, and this is the last call with its handle.
        let closed = call(TEXT_ROOM, |error| unsafe { (self.plugin.verbs().close_session)(handle, error) });
        // A session that is dropped has nobody to tell; whoever wants to know calls `close`.
        drop(closed);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("plugin", &self.plugin).field("told", &self.info).finish_non_exhaustive()
    }
}

pub(super) fn blank_info() -> raw::sbt_info {
    raw::sbt_info { size: size_u32::<raw::sbt_info>(), flags: 0, len: 0, created_us: 0 }
}

struct Listing<'a> {
    prefix: &'a str,
    each: &'a mut dyn FnMut(&str, Info) -> bool,
    end: Option<End>,
}

enum End {
    Stopped,
    Broke(String),
    Panicked(Box<dyn std::any::Any + Send>),
}

impl Listing<'_> {
    /// # Safety
    /// `name` and `info` are what a plugin handed to its callback: valid during the call.
    unsafe fn on(&mut self, name: raw::sbt_str, info: *const raw::sbt_info) -> Result<bool, String> {
        if self.end.is_some() {
            return Ok(false);
        }
        if name.ptr.is_null() || name.len > u64::from(raw::SBT_NAME_MAX) || info.is_null() || !info.is_aligned() {
            return Err("it listed an object without a name, with too long a name, or without information".into());
        }
        // SAFETY: not null, of a sane length, and valid during the call by contract.
        let bytes = unsafe { std::slice::from_raw_parts(name.ptr, name.len as usize) };
        // SAFETY: not null, aligned, and valid during the call by contract.
        let info = Info::from_raw(unsafe { &*info });
        let name = std::str::from_utf8(bytes).ok().filter(|name| is_name(name));
        let Some(name) = name else {
            return Err(format!("it listed {:?}, which no object can be named", String::from_utf8_lossy(bytes)));
        };
        if !name.starts_with(self.prefix) {
            return Err(format!("it listed {name}, which does not begin with {}", self.prefix));
        }
        Ok((self.each)(name, info))
    }
}

/// What the plugin calls for each object. A panic of the caller's closure must not cross the plugin's frames: it is
/// kept, and goes on once the plugin has returned.
unsafe extern "C" fn on_listed(context: *mut c_void, name: raw::sbt_str, info: *const raw::sbt_info) -> i32 {
    // SAFETY: the context is the `Listing` of the call that is under way, used by this thread only.
    let listing = unsafe { &mut *context.cast::<Listing<'_>>() };
    // SAFETY: the plugin hands over what the contract says.
    let went = catch_unwind(AssertUnwindSafe(|| unsafe { listing.on(name, info) }));
    let end = match went {
        Ok(Ok(true)) => return 0,
        Ok(Ok(false)) => End::Stopped,
        Ok(Err(how)) => End::Broke(how),
        Err(payload) => End::Panicked(payload),
    };
    listing.end.get_or_insert(end);
    1
}

/// What the plugin calls with its answer. What goes beyond the bound is dropped.
unsafe extern "C" fn on_answer(context: *mut c_void, text: raw::sbt_str) {
    // SAFETY: the context is the answer of the call that is under way, used by this thread only.
    let answer = unsafe { &mut *context.cast::<Vec<u8>>() };
    let room = MAX_ANSWER.saturating_sub(answer.len());
    if text.ptr.is_null() {
        return;
    }
    let len = usize::try_from(text.len).unwrap_or(usize::MAX).min(room);
    // SAFETY: the text is valid during the call by contract, and no more of it than bounded is read.
    answer.extend_from_slice(unsafe { std::slice::from_raw_parts(text.ptr, len) });
}
