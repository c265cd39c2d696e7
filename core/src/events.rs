//! What the library tells its caller while it works: progress, warnings, decisions and figures.
//!
//! Events are plain data. The observer is called from the worker threads, so it must be quick and must not call back
//! into the operation that it observes.

/// Something worth telling.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An operation is about to move about this many bytes of raw data.
    Started {
        /// What is being done: `backup`, `restore`, `check`, `copy`.
        operation: &'static str,
        /// The expected amount in bytes of raw data; 0 when unknown.
        total_bytes: u64,
    },
    /// More raw bytes are done. Sent about once a frame.
    Progress {
        /// Raw bytes since the last event of this kind from the same thread.
        bytes: u64,
    },
    /// A choice was made that the user may want to know the reason of.
    Decision {
        /// What was chosen and why.
        text: String,
    },
    /// Something is not as it should be, but the operation goes on.
    Warning {
        /// What, where, and what follows.
        text: String,
    },
    /// A step of the operation begins. Fault tests use these names to stop at every stage.
    Step {
        /// The name of the step, stable within a version.
        name: &'static str,
    },
}

/// Receives events. Called from several threads at once.
pub trait Observer: Send + Sync {
    /// Takes one event. Must not block for long.
    fn event(&self, event: &Event);
}

/// Ignores every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: &Event) {}
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn event(&self, event: &Event) {
        self(event);
    }
}
