//! Changes as bytes, to be stored beside the WAL that they are of.
//!
//! CBOR: an array of the version of this layout and the changes as a map with integer keys, in which unknown keys are
//! passed over.

use minicbor::Decoder;
use setpiece_core::{Error, ErrorKind, Result};

use super::changes::{Changes, MAX_RUNS};

/// The version that is written. It grows when a reader of the one before would misunderstand what is written.
const VERSION: u32 = 1;
/// Bytes that are read at most; more than changes with the most runs have.
const MAX_BYTES: usize = 64 << 20;

impl Changes {
    /// The changes as bytes.
    ///
    /// # Errors
    /// Never, in fact: memory takes all that is written to it.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let written = minicbor::to_vec((VERSION, self));
        written.map_err(|error| Error::new(ErrorKind::Internal, "changes of WAL cannot be encoded").because(error))
    }

    /// The changes as at most `most` bytes, with more blocks than changed where that is what it takes; `None` when even
    /// one run for each fork does not fit.
    ///
    /// # Errors
    /// As [`Changes::encode`].
    pub fn encode_within(mut self, most: usize) -> Result<Option<Vec<u8>>> {
        loop {
            let bytes = self.encode()?;
            if bytes.len() <= most {
                return Ok(Some(bytes));
            }
            let runs = self.runs();
            self.bound(runs / 2);
            if self.runs() == runs {
                return Ok(None);
            }
        }
    }

    /// Reads what [`Changes::encode`] has written.
    ///
    /// # Errors
    /// When the bytes are damaged, or written by a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: String| {
            Error::damaged("changes of WAL", what).remedy("read the WAL again, or take a backup that needs no base")
        };
        if bytes.len() > MAX_BYTES {
            return Err(damaged(format!("{} bytes are more than changes can have", bytes.len())));
        }
        let mut decoder = Decoder::new(bytes);
        let broken = |error: minicbor::decode::Error| damaged(error.to_string());
        let parts = decoder.array().map_err(broken)?;
        let version = decoder.u32().map_err(broken)?;
        if version != VERSION {
            let what = format!("changes of WAL in version {version} of their layout");
            return Err(
                Error::new(ErrorKind::Unsupported, what).remedy("use the Setpiece that wrote them, or a newer one")
            );
        }
        let changes: Changes = decoder.decode().map_err(broken)?;
        let whole = parts == Some(2) && decoder.position() == bytes.len();
        let fits = changes.span.after <= changes.span.upto && changes.runs() <= MAX_RUNS;
        if whole && fits { Ok(changes) } else { Err(damaged("the numbers do not fit each other".to_owned())) }
    }
}
