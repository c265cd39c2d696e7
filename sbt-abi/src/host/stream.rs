//! An object being written, an object being read.

use std::fmt;
use std::ptr::NonNull;

use super::call::{TEXT_ROOM, call};
use super::session::{Session, blank_info};
use super::table::Plugin;
use super::{Error, Refused, Result};
use crate::types::Info;
use crate::{Code, raw};

/// An object being written. Poisoned by its first error; dropping it without `finish` aborts it.
pub struct Writer {
    // Dropped before the session, as the ABI asks.
    handle: WriterHandle,
    session: Session,
    name: String,
    written: u64,
    poisoned: bool,
}

struct WriterHandle {
    plugin: Plugin,
    raw: NonNull<raw::sbt_writer>,
    open: bool,
}

// SAFETY: the ABI lets handles move between threads with their session; one thread uses them at a time.
unsafe impl Send for WriterHandle {}

impl Writer {
    pub(super) fn new(session: Session, raw: NonNull<raw::sbt_writer>, name: &str) -> Self {
        let handle = WriterHandle { plugin: session.plugin().clone(), raw, open: true };
        Writer { handle, session, name: name.to_owned(), written: 0, poisoned: false }
    }

    /// What the session told about itself when it was opened.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// What the plugin reports; after that nothing but `abort` works, and dropping.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.poisoned {
            return Err(poisoned(&self.handle.plugin, "write", &self.name));
        }
        let plugin = &self.handle.plugin;
        // SAFETY: the writer is open and used by this thread only, and the bytes are valid during the call.
        let done = plugin.call("write", Some(&self.name), |error| unsafe {
            (plugin.verbs().write)(self.handle.raw.as_ptr(), bytes.as_ptr(), bytes.len() as u64, error)
        });
        match &done {
            Ok(()) => self.written = self.written.saturating_add(bytes.len() as u64),
            Err(error) => {
                self.poisoned = true;
                self.session.note(error);
            }
        }
        done
    }

    /// Tries to open a second writer on the session, which the plugin has to refuse. For the conformance suite.
    ///
    /// # Errors
    /// What the plugin reports.
    #[cfg(feature = "conformance")]
    pub(crate) fn second(&mut self, name: &str) -> Result<()> {
        let mut out = std::ptr::null_mut();
        let plugin = self.session.plugin().clone();
        let (session, text) = (self.session.raw_handle(), super::table::raw_str(name));
        // SAFETY: the session is open and this thread's; `out` outlives the call.
        plugin.call("create", Some(name), |error| unsafe {
            (plugin.verbs().create)(session, text, &raw mut out, error)
        })?;
        if let Some(writer) = NonNull::new(out) {
            // SAFETY: the plugin gave the handle a moment ago, and this is its last call.
            plugin.call("abort", Some(name), |error| unsafe { (plugin.verbs().abort)(writer.as_ptr(), error) })?;
        }
        Ok(())
    }

    /// Makes the object durable and visible: the only road to success. Gives the session back.
    ///
    /// # Errors
    /// What the plugin reports, [`Code::Exists`] when the name has been taken; [`Code::Poisoned`] after an error of
    /// `write`. The object is given up and the session comes back.
    pub fn finish(mut self) -> Result<(Info, Session), Refused> {
        if self.poisoned {
            let error = poisoned(&self.handle.plugin, "finish", &self.name);
            drop(self.handle);
            return Err(Refused { error, session: Box::new(self.session) });
        }
        let mut info = blank_info();
        let writer = self.handle.take();
        let plugin = self.session.plugin().clone();
        // SAFETY: the writer is open, used by this thread only, and gone after this call.
        let done = plugin
            .call("finish", Some(&self.name), |error| unsafe { (plugin.verbs().finish)(writer, &raw mut info, error) });
        let whole = done.and_then(|()| {
            if info.len == self.written {
                return Ok(());
            }
            let how = format!("it finished an object of {} bytes where {} were written", info.len, self.written);
            Err(plugin.name_error(Error::broke(how), "finish", Some(&self.name)))
        });
        match whole {
            Ok(()) => Ok((Info::from_raw(&info), self.session)),
            Err(error) => {
                self.session.note(&error);
                Err(Refused { error, session: Box::new(self.session) })
            }
        }
    }

    /// Gives the object up; nothing of it remains. Gives the session back.
    ///
    /// # Errors
    /// What the plugin reports; the writer is gone in any case, and the session comes back.
    pub fn abort(mut self) -> Result<Session, Refused> {
        let writer = self.handle.take();
        let plugin = self.session.plugin().clone();
        // SAFETY: the writer is open, used by this thread only, and gone after this call.
        let done = plugin.call("abort", Some(&self.name), |error| unsafe { (plugin.verbs().abort)(writer, error) });
        match done {
            Ok(()) => Ok(self.session),
            Err(error) => {
                self.session.note(&error);
                Err(Refused { error, session: Box::new(self.session) })
            }
        }
    }
}

impl WriterHandle {
    /// The handle for its last call.
    fn take(&mut self) -> *mut raw::sbt_writer {
        self.open = false;
        self.raw.as_ptr()
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        if self.open {
            // SAFETY: the writer is open and gone after this call.
            let done = call(TEXT_ROOM, |error| unsafe { (self.plugin.verbs().abort)(self.raw.as_ptr(), error) });
            // Nobody is left to be told; whoever wants to know calls `Writer::abort`.
            drop(done);
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("name", &self.name).field("poisoned", &self.poisoned).finish_non_exhaustive()
    }
}

/// An object being read. Poisoned by its first error; closed when dropped.
pub struct Reader {
    // Dropped before the session, as the ABI asks.
    handle: ReaderHandle,
    session: Session,
    name: String,
    poisoned: bool,
}

struct ReaderHandle {
    plugin: Plugin,
    raw: NonNull<raw::sbt_reader>,
    open: bool,
}

// SAFETY: the ABI lets handles move between threads with their session; one thread uses them at a time.
unsafe impl Send for ReaderHandle {}

impl Reader {
    pub(super) fn new(session: Session, raw: NonNull<raw::sbt_reader>, name: &str) -> Self {
        let handle = ReaderHandle { plugin: session.plugin().clone(), raw, open: true };
        Reader { handle, session, name: name.to_owned(), poisoned: false }
    }

    /// Reads up to `into.len()` bytes; 0 means the end, or that `into` is empty.
    ///
    /// # Errors
    /// What the plugin reports; after that nothing but closing works.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        if self.poisoned {
            return Err(poisoned(&self.handle.plugin, "read", &self.name));
        }
        if into.is_empty() {
            return Ok(0);
        }
        let plugin = &self.handle.plugin;
        let mut got = 0u64;
        // SAFETY: the reader is open and used by this thread only; buffer and count are valid during the call.
        let done = plugin.call("read", Some(&self.name), |error| unsafe {
            let room = into.len() as u64;
            (plugin.verbs().read)(self.handle.raw.as_ptr(), into.as_mut_ptr(), room, &raw mut got, error)
        });
        let checked = done.and_then(|()| {
            usize::try_from(got).ok().filter(|got| *got <= into.len()).ok_or_else(|| {
                let how = format!("it says that it read {got} bytes into room for {}", into.len());
                plugin.name_error(Error::broke(how), "read", Some(&self.name))
            })
        });
        if let Err(error) = &checked {
            self.poisoned = true;
            self.session.note(error);
        }
        checked
    }

    /// Whether an earlier call failed; nothing but closing works then.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Closes the reader and gives the session back.
    ///
    /// # Errors
    /// What the plugin reports; the reader is gone in any case, and the session comes back.
    pub fn close(mut self) -> Result<Session, Refused> {
        let plugin = self.session.plugin().clone();
        self.handle.open = false;
        let reader = self.handle.raw.as_ptr();
        // SAFETY: the reader is open, used by this thread only, and gone after this call.
        let done = plugin
            .call("close reader", Some(&self.name), |error| unsafe { (plugin.verbs().close_reader)(reader, error) });
        match done {
            Ok(()) => Ok(self.session),
            Err(error) => {
                self.session.note(&error);
                Err(Refused { error, session: Box::new(self.session) })
            }
        }
    }
}

impl Drop for ReaderHandle {
    fn drop(&mut self) {
        if self.open {
            // SAFETY: the reader is open and gone after this call.
            let done = call(TEXT_ROOM, |error| unsafe { (self.plugin.verbs().close_reader)(self.raw.as_ptr(), error) });
            // Nothing can be lost by a reader that fails to close.
            drop(done);
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("name", &self.name).field("poisoned", &self.poisoned).finish_non_exhaustive()
    }
}

fn poisoned(plugin: &Plugin, verb: &'static str, name: &str) -> Error {
    let error = Error::refused(Code::Poisoned, "an earlier call failed; open it again");
    plugin.name_error(error, verb, Some(name))
}
