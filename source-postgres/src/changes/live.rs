//! What the server's own log changes from one LSN to another, as long as all of it is still there.

use std::fs::File;
use std::os::unix::fs::FileExt;

use setpiece_core::model::{BranchHistory, Lsn, Seq};
use setpiece_core::{Error, Result as Outcome};

use super::files::SegmentFiles;
use crate::wal::{Changes, Gatherer, Reader, lsn_text};

/// Bytes that are read at once; a multiple of every size that pages have, and a part of every size of segments.
const CHUNK: usize = 1 << 20;

/// What the records change that begin from `since` on and before `upto`, along a history.
///
/// `since` is the begin of a record or of a segment, `upto` that of a record.
///
/// # Errors
/// Why that cannot be told: reads as what follows "because".
pub(crate) fn changes(files: &SegmentFiles, history: &BranchHistory, since: Lsn, upto: Lsn) -> Result<Changes, String> {
    if since >= upto {
        return Ok(Changes::none(since));
    }
    let mut span = Span { since, upto, began: files.size.offset(since) == 0, ended: false };
    let mut gatherer = Gatherer::new(since, files.block_size);
    let mut reader = Reader::new();
    let numbers = files.size.number(since).0..=files.size.number(upto).0;
    let names: Option<Vec<_>> = numbers.map(|number| files.name(history, Seq(number))).collect();
    let names = names.ok_or("no segment of the server's log has such a number")?;
    let gone = |name: &_| format!("segment {name} is no longer in the server's log directory");
    // All of them are looked for before the first is read.
    for name in &names {
        files.open(*name).map_err(|error| error.to_string())?.ok_or_else(|| gone(name))?;
    }
    for name in &names {
        let file = files.open(*name).map_err(|error| error.to_string())?.ok_or_else(|| gone(name))?;
        let read = span.segment(&file, files.size.bytes(), &mut reader, &mut gatherer);
        read.map_err(|error| error.on(format!("segment {name}")).to_string())?;
        // The record behind the stretch may go on in a segment that is of no interest.
        span.ended |= reader.unfinished().is_some_and(|start| start >= upto);
        if span.ended || reader.end().is_some() {
            break;
        }
    }
    if !span.began {
        return Err(format!("no record of the server's log begins at {}, where the base does", lsn_text(since)));
    }
    if !span.ended {
        let end = reader.end().map_or(reader.position(), |end| end.at);
        return Err(format!("the server's log can be read up to {} only", lsn_text(end)));
    }
    Ok(gatherer.finish(upto))
}

struct Span {
    since: Lsn,
    upto: Lsn,
    /// A record that begins where the stretch does was seen, or the stretch begins with a segment.
    began: bool,
    /// A record that begins behind the stretch was seen.
    ended: bool,
}

impl Span {
    /// Reads a segment as far as it is of interest.
    fn segment(&mut self, file: &File, len: u64, reader: &mut Reader, gatherer: &mut Gatherer) -> Outcome<()> {
        let mut bytes = vec![0; CHUNK];
        let mut at = 0;
        while at < len && !self.ended && reader.end().is_none() {
            file.read_exact_at(&mut bytes, at).map_err(|error| Error::io(format!("byte {at}"), error))?;
            self.read(reader, &bytes, gatherer)?;
            at = at.saturating_add(CHUNK as u64).saturating_add(reader.pass_over());
        }
        Ok(())
    }

    fn read(&mut self, reader: &mut Reader, bytes: &[u8], gatherer: &mut Gatherer) -> Outcome<()> {
        let mut records = reader.push(bytes)?;
        while let Some(record) = records.next_record()? {
            if record.start >= self.upto {
                self.ended = true;
                return Ok(());
            }
            if record.start >= self.since {
                self.began |= record.start == self.since;
                gatherer.add(&record)?;
            }
        }
        Ok(())
    }
}
