//! A piece read from front to back without its index, from bytes that come in portions of any size.
//!
//! This is how tape is read, and how a piece is checked when its end is lost. Headers, order and the trailer are checked
//! here; payloads are checked by whoever opens the frames.

use super::frame::{self, FrameHeader};
use super::piece::{self, PieceHeader, TRAILER_LEN, TRAILER_MAGIC, Trailer};
use super::words::FrameKind;
use crate::error::{Error, ErrorKind, Result};

/// A whole item of a piece; its bytes are in [`PieceScanner::bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// The header: always the first item.
    Header(PieceHeader),
    /// A frame.
    Frame {
        /// Where it begins in the piece.
        offset: u64,
        /// Its header. The payload is not checked yet.
        header: FrameHeader,
    },
    /// The trailer: the last item.
    Trailer(Trailer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    /// At the beginning of a frame or of the trailer.
    Between,
    FrameHeader,
    /// In a frame of this many bytes.
    Frame(usize),
    Trailer,
    Done,
    Failed,
}

/// Takes bytes in portions of any size and gives back whole items.
#[derive(Debug)]
pub struct PieceScanner {
    state: State,
    /// The item being gathered; kept whole until the next push.
    buffer: Vec<u8>,
    whole: bool,
    offset: u64,
    frames: u32,
    root: Option<(u64, u32)>,
    header: Option<PieceHeader>,
}

impl Default for PieceScanner {
    fn default() -> Self {
        PieceScanner::new()
    }
}

impl PieceScanner {
    /// A scanner at the beginning of a piece.
    #[must_use]
    pub fn new() -> Self {
        PieceScanner {
            state: State::Header,
            buffer: Vec::new(),
            whole: false,
            offset: 0,
            frames: 0,
            root: None,
            header: None,
        }
    }

    /// Takes bytes up to the end of the next item. Returns how many it took, and the item when it is whole; call again
    /// with the rest. The scanner is of no use after an error.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] with the offset; [`ErrorKind::Unsupported`] for a newer format.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(usize, Option<Scanned>)> {
        if self.whole {
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
            self.whole = false;
        }
        let mut taken = 0;
        loop {
            let wanted = self.wanted();
            let have = (wanted - self.buffer.len()).min(bytes.len() - taken);
            self.buffer.extend_from_slice(&bytes[taken..taken + have]);
            taken += have;
            if self.buffer.len() < wanted {
                return Ok((taken, None));
            }
            if self.state == State::Done && taken == bytes.len() {
                return Ok((taken, None));
            }
            let at = self.offset;
            match self.step().map_err(|error| error.on(format!("piece at offset {at}"))) {
                Ok(None) => {}
                Ok(Some(item)) => {
                    self.whole = true;
                    return Ok((taken, Some(item)));
                }
                Err(error) => {
                    self.state = State::Failed;
                    return Err(error);
                }
            }
        }
    }

    /// The bytes of the item that was returned last, until the next push.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        if self.whole { &self.buffer } else { &[] }
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when the trailer was not reached.
    pub fn finish(self) -> Result<()> {
        if self.state == State::Done {
            return Ok(());
        }
        let end = self.offset + self.buffer.len() as u64;
        Err(Error::damaged(
            format!("piece at offset {end}"),
            "the piece ends before its trailer: it is truncated or was never finished",
        ))
    }

    /// How many bytes the buffer must have before the next step can be taken.
    fn wanted(&self) -> usize {
        match self.state {
            State::Header => piece::HEADER_LEN,
            State::Between => TRAILER_MAGIC.len(),
            State::FrameHeader => frame::HEADER_LEN,
            State::Frame(total) => total,
            State::Trailer => TRAILER_LEN,
            State::Done | State::Failed => self.buffer.len(),
        }
    }

    fn step(&mut self) -> Result<Option<Scanned>> {
        match self.state {
            State::Header => {
                let header = PieceHeader::decode(&self.buffer)?;
                self.header = Some(header.clone());
                self.state = State::Between;
                Ok(Some(Scanned::Header(header)))
            }
            State::Between => {
                let trailer = self.buffer[..] == TRAILER_MAGIC;
                self.state = if trailer { State::Trailer } else { State::FrameHeader };
                Ok(None)
            }
            State::FrameHeader => self.frame_header(),
            State::Frame(_) => self.frame(),
            State::Trailer => self.trailer().map(Some),
            State::Done => Err(Error::new(ErrorKind::Damaged, "there are bytes behind the trailer")),
            State::Failed => Err(Error::new(ErrorKind::Internal, "the scanner has failed before")),
        }
    }

    fn frame_header(&mut self) -> Result<Option<Scanned>> {
        let header = FrameHeader::decode(&self.buffer)?;
        if header.number != self.frames || self.root.is_some() {
            let text = format!("frame {} stands where frame {} should", header.number, self.frames);
            return Err(Error::new(ErrorKind::Damaged, text));
        }
        self.state = State::Frame(header.total_len());
        Ok(None)
    }

    fn frame(&mut self) -> Result<Option<Scanned>> {
        let header = FrameHeader::decode(&self.buffer)?;
        self.frames = self
            .frames
            .checked_add(1)
            .ok_or_else(|| Error::new(ErrorKind::Damaged, "the piece has too many frames"))?;
        if header.kind == FrameKind::Root {
            self.root = Some((self.offset, header.total_len() as u32));
        }
        self.state = State::Between;
        Ok(Some(Scanned::Frame { offset: self.offset, header }))
    }

    fn trailer(&mut self) -> Result<Scanned> {
        let trailer = Trailer::decode(&self.buffer, self.offset + TRAILER_LEN as u64)?;
        let same_piece =
            self.header.as_ref().is_some_and(|header| header.set == trailer.set && header.piece == trailer.piece);
        let same_root = self.root == Some((trailer.root_offset, trailer.root_len));
        if !same_piece || !same_root || trailer.frames != self.frames {
            return Err(Error::new(ErrorKind::Damaged, "the trailer does not fit the frames in front of it"));
        }
        self.state = State::Done;
        Ok(Scanned::Trailer(trailer))
    }
}
