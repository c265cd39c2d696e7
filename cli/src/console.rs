//! What every verb works with: how to answer, whom to tell, when to stop.

use std::sync::Arc;
use std::thread;

use serde::Serialize;
use serde_json::Value;
use setpiece::events::Observer;
use setpiece::pipeline::Cancel;
use setpiece::{Error, ErrorKind, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::watch::Watcher;

/// What a verb answers.
pub(crate) struct Answer {
    document: Value,
    /// The answer for people.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

impl Answer {
    /// An answer in both forms.
    pub(crate) fn new(document: &impl Serialize, text: impl Into<String>) -> Result<Self> {
        let document = serde_json::to_value(document)
            .map_err(|error| Error::new(ErrorKind::Internal, "the answer has no JSON form").because(error))?;
        Ok(Answer { document, text: text.into(), code: 0 })
    }

    /// The same with another exit code.
    pub(crate) fn exit(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The document together with the warnings that came on the way.
    pub(crate) fn document_with(mut self, warnings: &[String]) -> Result<Value> {
        match &mut self.document {
            Value::Object(fields) => drop(fields.insert("warnings".into(), warnings.into())),
            _ => return Err(Error::new(ErrorKind::Internal, "an answer must be an object")),
        }
        Ok(self.document)
    }
}

/// The surroundings of a verb.
pub(crate) struct Console {
    /// Whether the answer is a document.
    pub json: bool,
    /// Set when a signal asks to stop.
    pub cancel: Cancel,
    watcher: Arc<Watcher>,
}

impl Console {
    /// Progress is drawn for people who look, and only for them.
    pub(crate) fn new(json: bool, pause_at: Option<String>) -> Self {
        let cancel = Cancel::new();
        Console { json, watcher: Arc::new(Watcher::new(json, pause_at, cancel.clone())), cancel }
    }

    /// Whom the library tells what happens.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        self.watcher.clone()
    }

    /// Warns, in the document or on standard error.
    pub(crate) fn warn(&self, text: &str) {
        self.watcher.warn(text);
    }

    /// Tells people something that is no part of the answer.
    pub(crate) fn note(&self, text: &str) {
        self.watcher.note(text);
    }

    /// The warnings so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.watcher.warnings()
    }

    /// Takes the progress bar away.
    pub(crate) fn finish_progress(&self) {
        self.watcher.finish();
    }

    /// The first interrupt asks to stop, which leaves nothing half done; the second ends the process, which is safe too.
    pub(crate) fn obey_signals(&self) -> Result<()> {
        let failed = |error| Error::io("the handler of signals", error);
        // A file that grows beyond what the process may write is a failure like any other, and not its end.
        signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(failed)?;
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let cancel = self.cancel.clone();
        let obey = move || {
            for signal in signals.forever() {
                if cancel.is_cancelled() {
                    // Ends the process as if nobody had taken care of the signal; where it can't, the wish stands.
                    drop(signal_hook::low_level::emulate_default_handler(signal));
                }
                cancel.cancel();
            }
        };
        thread::Builder::new().name("signals".into()).spawn(obey).map(drop).map_err(failed)
    }
}
