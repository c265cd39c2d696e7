//! What every use case works with besides the repository: who is told, who may cancel, where copies of metadata are.

use super::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, Observer};
use crate::pipeline::Cancel;

/// The most channels a use case can have.
pub const MAX_CHANNELS: u16 = 255;

/// What a use case works with.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Told of progress, warnings and decisions.
    pub observer: &'a dyn Observer,
    /// Looked at between frames.
    pub cancel: &'a Cancel,
    /// Copies of metadata, if the caller keeps any.
    pub cache: Option<&'a Cache>,
}

impl Surroundings<'_> {
    /// Says that a step begins, unless the caller cancelled.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`].
    pub fn step(&self, name: &'static str) -> Result<()> {
        self.observer.event(&Event::Step { name });
        self.cancel.check()
    }

    /// Tells of a choice and its reason.
    pub fn decision(&self, text: &str) {
        self.observer.event(&Event::Decision { text: text.into() });
    }
}

/// Refuses a number of channels that is out of range.
///
/// # Errors
/// [`ErrorKind::Usage`].
pub fn check_channels(channels: u16) -> Result<usize> {
    if (1..=MAX_CHANNELS).contains(&channels) {
        return Ok(usize::from(channels));
    }
    Err(Error::new(ErrorKind::Usage, format!("{channels} channels are out of range")).remedy("use 1 to 255"))
}
