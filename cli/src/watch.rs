//! What the library tells while it works: a progress bar on a terminal, warnings, and a stop for crash tests.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use setpiece::events::{Event, Observer};
use setpiece::pipeline::Cancel;

use crate::output;

/// Shows and collects events.
pub(crate) struct Watcher {
    json: bool,
    bar: ProgressBar,
    warnings: Mutex<Vec<String>>,
    pause_at: Option<String>,
    cancel: Cancel,
}

impl Watcher {
    /// Draws only when standard error is a terminal and the answer is for people.
    pub(crate) fn new(json: bool, pause_at: Option<String>, cancel: Cancel) -> Self {
        let bar = ProgressBar::hidden();
        if !json && std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        }
        Watcher { json, bar, warnings: Mutex::default(), pause_at, cancel }
    }

    /// Keeps a warning for the document, or shows it at once.
    pub(crate) fn warn(&self, text: &str) {
        self.note(&format!("warning: {text}"));
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }

    /// Shows a line to people.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            self.bar.suspend(|| output::note(text));
        }
    }

    /// The warnings so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn start(&self, operation: &'static str, total: u64) {
        let template = if total == 0 {
            "{prefix} {spinner} {bytes} {binary_bytes_per_sec} {msg}"
        } else {
            "{prefix} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} {msg}"
        };
        // A template that does not parse leaves the bar as it is.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.set_prefix(operation);
        self.bar.reset();
        if total > 0 {
            self.bar.set_length(total);
        }
    }

    fn step(&self, name: &'static str) {
        self.bar.set_message(name);
        if name == "capturing" {
            self.note("capturing redo; stop with Ctrl-C");
        }
        if self.pause_at.as_deref() == Some(name) {
            output::note(&format!("paused at {name}"));
            while !self.cancel.is_cancelled() {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Observer for Watcher {
    fn event(&self, event: &Event) {
        match event {
            Event::Started { operation, total_bytes } => self.start(operation, *total_bytes),
            Event::Progress { bytes } => self.bar.inc(*bytes),
            Event::Warning { text } => self.warn(text),
            Event::Step { name } => self.step(name),
            // Reports tell the decisions; other events are of later versions.
            _ => {}
        }
    }
}
