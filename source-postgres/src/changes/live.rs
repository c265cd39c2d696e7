//! What the server's own log changes from one LSN to another, as long as all of it is still there.

use std::io::{Read, Seek};

use setpiece_core::Result as Outcome;
use setpiece_core::model::{BranchHistory, Lsn, Seq};

use super::files::SegmentFiles;
use crate::wal::{Changes, Gatherer, Reader, lsn_text};

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
    let mut bytes = Vec::new();
    let numbers = files.size.number(since).0..=files.size.number(upto).0;
    let names: Option<Vec<_>> = numbers.map(|number| files.name(history, Seq(number))).collect();
    let names = names.ok_or("no segment of the server's log has such a number")?;
    let gone = |name: &_| format!("segment {name} is no longer in the server's log directory");
    // All of them are looked for before the first is read.
    for name in &names {
        files.open(*name).map_err(|error| error.to_string())?.ok_or_else(|| gone(name))?;
    }
    for name in &names {
        let mut file = files.open(*name).map_err(|error| error.to_string())?.ok_or_else(|| gone(name))?;
        bytes.clear();
        let read = file.rewind().and_then(|()| file.take(files.size.bytes()).read_to_end(&mut bytes));
        read.map_err(|error| format!("segment {name} cannot be read: {error}"))?;
        span.read(&mut reader, &bytes, &mut gatherer).map_err(|error| error.to_string())?;
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
