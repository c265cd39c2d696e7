//! The control file: who a cluster is and how it is built.
//!
//! Layout from PostgreSQL's `pg_control.h`, versions 12 to 18, on little-endian machines. Up to the checkpoint's time it
//! is the same in all of them; 18 has one more byte before the nonce, which moves the checksum.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use setpiece_core::model::Lsn;
use setpiece_core::{Error, ErrorKind, Result};

use crate::dialect::Dialect;

/// Where the checksum lies: up to 17, and from 18 on.
const CHECKSUMS: [usize; 2] = [288, 292];
/// A control file that is being written is whole again at once.
const ATTEMPTS: u32 = 10;

/// What the control file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    pub system_identifier: u64,
    pub state: State,
    pub checkpoint: Lsn,
    pub redo: Lsn,
    /// The version of the catalogs' layout; part of the name of a tablespace's directory.
    pub catalog_version: u32,
    pub timeline: u32,
    /// The number of the setting `wal_level`; 0 is `minimal`.
    pub wal_level: u32,
    /// On a standby: up to where, and on which timeline, the log must be replayed before the pages fit together.
    pub minimum_recovery: (Lsn, u32),
    pub block_size: u32,
    pub blocks_per_segment: u32,
    pub wal_segment_size: u32,
    pub checksums: u32,
}

/// What the server was doing when it wrote the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Shut down cleanly.
    ShutDown,
    /// A standby, shut down cleanly.
    ShutDownInRecovery,
    /// Replays the log that it gets from elsewhere, as a standby does.
    InArchiveRecovery,
    /// Anything else: it runs, or it ended without being shut down.
    Other(u32),
}

impl Control {
    /// Reads the control file of a data directory, and gives its bytes as well. While the server writes it, it is read
    /// again.
    pub(crate) fn read(directory: &Path, dialect: Dialect) -> Result<(Self, Vec<u8>)> {
        let path = directory.join(dialect.control_file());
        let mut attempt = 0;
        loop {
            let bytes = fs::read(&path).map_err(|error| Error::io(path.display().to_string(), error))?;
            match Control::decode(&bytes) {
                Ok(control) => return Ok((control, bytes)),
                Err(error) if attempt == ATTEMPTS => return Err(error.on(path.display().to_string())),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
            attempt += 1;
        }
    }

    /// Understands the content of a control file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let intact = CHECKSUMS.iter().any(|&at| {
            bytes.get(..at).zip(word(bytes, at)).is_some_and(|(content, sum)| crc32c::crc32c(content) == sum)
        });
        let short = || {
            Error::new(ErrorKind::Unsupported, "the control file is damaged, or of a server that is not known here")
                .remedy("servers from 12 to 18 are known; look at it with pg_controldata")
        };
        if !intact {
            return Err(short());
        }
        let word = |at| word(bytes, at).ok_or_else(short);
        let long = |at| Ok::<u64, Error>(u64::from(word(at)?) | u64::from(word(at + 4)?) << 32);
        let control = Control {
            system_identifier: long(0)?,
            state: match word(16)? {
                1 => State::ShutDown,
                2 => State::ShutDownInRecovery,
                5 => State::InArchiveRecovery,
                other => State::Other(other),
            },
            checkpoint: Lsn(long(32)?),
            redo: Lsn(long(40)?),
            catalog_version: word(12)?,
            timeline: word(48)?,
            wal_level: word(172)?,
            minimum_recovery: (Lsn(long(136)?), word(144)?),
            block_size: word(216)?,
            blocks_per_segment: word(220)?,
            wal_segment_size: word(228)?,
            checksums: word(252)?,
        };
        control.check()?;
        Ok(control)
    }

    fn check(&self) -> Result<()> {
        let sizes = [(self.block_size, 1 << 10, 32 << 10), (self.wal_segment_size, 1 << 20, 1 << 30)];
        let fits = sizes.iter().all(|&(size, least, most)| size.is_power_of_two() && (least..=most).contains(&size));
        if fits && self.blocks_per_segment > 0 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, "the control file is laid out in a way that is not known here")
            .remedy("servers from 12 to 18 are known; look at it with pg_controldata"))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    word.try_into().ok().map(u32::from_le_bytes)
}
