//! The index of a piece, held against the frames that were found.
//!
//! The index names every frame once, in order. A segment need not name all frames before it: the writer puts a segment
//! behind the frame that did not fit into it any more, and that frame is named by the next one.

use std::collections::VecDeque;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{EntryContent, FrameHeader, IndexEntry, PagesTable, PieceRoot, SegmentRef};
use crate::transform::indexer::section_key;

/// A frame of pages or redo that was found.
pub(super) struct Seen {
    pub header: FrameHeader,
    pub offset: u64,
    /// The table and the hashes of pages, where the frame was opened and is in order.
    pub found: Option<(PagesTable, Vec<u8>)>,
}

/// What is known of the index so far.
#[derive(Default)]
pub(super) struct IndexCheck {
    /// Frames that no segment has named yet.
    unnamed: VecDeque<Seen>,
    segments: Vec<SegmentRef>,
    lost: bool,
}

impl IndexCheck {
    /// Takes a frame of pages or redo.
    pub(super) fn frame(&mut self, seen: Seen) {
        self.unnamed.push_back(seen);
    }

    /// Says that a part of the index cannot be read, so that frames may be named there.
    pub(super) fn lost(&mut self) {
        self.lost = true;
    }

    /// Holds a segment against the frames before it.
    pub(super) fn segment(&mut self, header: &FrameHeader, offset: u64, entries: &[IndexEntry]) -> Result<()> {
        let sections = || entries.iter().filter_map(|entry| section_key(&entry.content));
        self.segments.push(SegmentRef {
            number: header.number,
            offset,
            stored_len: header.total_len() as u32,
            raw_len: header.raw_len,
            entries: entries.len() as u32,
            first: sections().min(),
            last: sections().max(),
        });
        self.entries(entries)
    }

    /// Holds entries against the frames before them; the first misfit is the one that is reported.
    pub(super) fn entries(&mut self, entries: &[IndexEntry]) -> Result<()> {
        let mut result = Ok(());
        for entry in entries {
            while let Some(frame) = self.take(|number| number < entry.number) {
                result = result.and_then(|()| self.missing(&frame));
            }
            let fit = match self.take(|number| number == entry.number) {
                Some(frame) => fits(&frame, entry),
                None => misfit(format!("it names frame {}, which is not there", entry.number)),
            };
            result = result.and(fit);
        }
        result
    }

    /// Holds the root against the segments.
    pub(super) fn root(&self, root: &PieceRoot) -> Result<()> {
        if self.lost || root.segments == self.segments {
            return Ok(());
        }
        misfit("the root names other segments than there are".into())
    }

    /// Says whether every frame was named.
    pub(super) fn finish(&self) -> Result<()> {
        self.unnamed.front().map_or(Ok(()), |frame| self.missing(frame))
    }

    fn take(&mut self, wanted: impl Fn(u32) -> bool) -> Option<Seen> {
        if wanted(self.unnamed.front()?.header.number) { self.unnamed.pop_front() } else { None }
    }

    fn missing(&self, frame: &Seen) -> Result<()> {
        if self.lost {
            return Ok(());
        }
        misfit(format!("frame {} at offset {} is not in it", frame.header.number, frame.offset))
    }
}

fn misfit(what: String) -> Result<()> {
    Err(Error::new(ErrorKind::Damaged, format!("the index does not fit the frames: {what}")))
}

fn fits(frame: &Seen, entry: &IndexEntry) -> Result<()> {
    let header = &frame.header;
    let found = (frame.offset, header.total_len(), header.raw_len);
    if found != (entry.offset, entry.stored_len as usize, entry.raw_len) {
        return misfit(format!("frame {} at offset {}", header.number, frame.offset));
    }
    let (Some((table, hashes)), EntryContent::Pages { table: indexed, hashes: named }) = (&frame.found, &entry.content)
    else {
        return Ok(());
    };
    if table != indexed {
        return misfit(format!("the pages of frame {}", entry.number));
    }
    if named.as_ref().is_some_and(|named| named != hashes) {
        return misfit(format!("the hashes of the pages of frame {}", entry.number));
    }
    Ok(())
}
