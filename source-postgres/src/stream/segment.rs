//! The segment that is being received: its bytes so far, and how much of them was handed over.

use std::time::Instant;

use setpiece_core::model::Lsn;
use setpiece_core::{Error, ErrorKind, Result};

use crate::wal::{SegmentSize, lsn_text};

/// A segment under way.
pub(super) struct Segment {
    size: SegmentSize,
    /// Where it begins.
    start: Lsn,
    bytes: Vec<u8>,
    /// Bytes of it that were handed over as its beginning.
    handed: usize,
    /// When the first byte came that was not.
    since: Option<Instant>,
}

impl Segment {
    /// The segment that holds `lsn`, of which nothing was received.
    pub(super) fn at(size: SegmentSize, lsn: Lsn) -> Self {
        let start = Lsn(lsn.0 - size.offset(lsn));
        Segment { size, start, bytes: Vec::new(), handed: 0, since: None }
    }

    /// Begins again with the segment that holds `lsn`.
    pub(super) fn begin(&mut self, lsn: Lsn) {
        *self = Segment::at(self.size, lsn);
    }

    pub(super) fn start(&self) -> Lsn {
        self.start
    }

    /// Where the next byte belongs.
    pub(super) fn position(&self) -> Lsn {
        Lsn(self.start.0.saturating_add(self.bytes.len() as u64))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Since when bytes wait to be handed over.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.since
    }

    /// All that there is was handed over.
    pub(super) fn handed_over(&mut self) {
        self.handed = self.bytes.len();
        self.since = None;
    }

    /// Takes what belongs to the segment of bytes that were received, and gives the rest back.
    pub(super) fn take<'b>(&mut self, at: Lsn, received: &'b [u8]) -> Result<&'b [u8]> {
        if at != self.position() {
            let text =
                format!("the server sent redo from {} where {} belongs", lsn_text(at), lsn_text(self.position()));
            return Err(Error::new(ErrorKind::Source, text).retryable(true));
        }
        let room = self.length().saturating_sub(self.bytes.len());
        let (taken, rest) = received.split_at(received.len().min(room));
        if self.bytes.is_empty() {
            self.bytes.reserve_exact(self.length());
        }
        self.bytes.extend_from_slice(taken);
        if self.bytes.len() > self.handed {
            self.since.get_or_insert_with(Instant::now);
        }
        Ok(rest)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.bytes.len() == self.length()
    }

    /// Goes on with the next segment, and gives the bytes of this one.
    pub(super) fn turn(&mut self) -> Vec<u8> {
        let (start, bytes) = (self.start, std::mem::take(&mut self.bytes));
        self.begin(Lsn(start.0.saturating_add(self.size.bytes())));
        bytes
    }

    fn length(&self) -> usize {
        usize::try_from(self.size.bytes()).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_up_to_the_end_of_the_segment() {
        let size = SegmentSize::new(1 << 20).unwrap();
        let mut segment = Segment::at(size, Lsn((5 << 20) + 7));
        assert_eq!((segment.start(), segment.position()), (Lsn(5 << 20), Lsn(5 << 20)));
        assert!(segment.take(Lsn((5 << 20) + 1), &[1]).unwrap_err().is_retryable());
        let received = vec![3; (1 << 20) - 1];
        assert!(segment.take(Lsn(5 << 20), &received).unwrap().is_empty());
        segment.handed_over();
        assert_eq!((segment.is_whole(), segment.waiting_since()), (false, None));
        assert_eq!(segment.take(Lsn((6 << 20) - 1), &[4, 5, 6]).unwrap(), [5, 6]);
        assert!(segment.is_whole() && segment.waiting_since().is_some());
        assert_eq!(segment.turn().len(), 1 << 20);
        assert_eq!((segment.start(), segment.position()), (Lsn(6 << 20), Lsn(6 << 20)));
    }
}
