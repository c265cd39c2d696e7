//! Opens the frames of a piece: checks, unseals, decompresses.

use std::fmt;

use super::codec::Unpacker;
use super::indexer::section_key;
use super::seal::FrameSeal;
use super::secret::DataKey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::HEADER_LEN as FRAME_HEADER;
use crate::format::limits::MAX_RAW;
use crate::format::piece::BOUND_LEN;
use crate::format::wire::crc;
use crate::format::{
    Codec, EntryContent, FrameHeader, FrameKind, IndexEntry, LogTable, PagesTable, PieceHeader, PieceInfo, PieceKind,
    PieceRoot, SegmentRef, Trailer, cbor, table,
};
use crate::model::{LogUnit, PieceNo, SetId};

/// A unit of redo and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeUnit {
    /// What it is.
    pub unit: LogUnit,
    /// The redo.
    pub bytes: Vec<u8>,
}

/// What was in a frame that was read without the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameContent {
    /// Pages; their bytes are in the caller's buffer.
    Pages(PagesTable),
    /// The units that became whole with this frame.
    Log(Vec<WholeUnit>),
    /// A part of the index.
    Index(Vec<IndexEntry>),
    /// The root of the index.
    Root(PieceRoot),
}

/// What opening a frame needs besides the key: a decompression context and buffers.
#[derive(Default)]
pub struct Workbench {
    unpacker: Unpacker,
    /// A payload without its seal.
    scratch: Vec<u8>,
    /// The content of a frame that isn't handed out as it is.
    content: Vec<u8>,
}

/// Opens frames of one piece, in any order. Sans-IO: the caller hands it the bytes of whole frames.
pub struct PieceReader {
    header: PieceHeader,
    seal: FrameSeal,
    workbench: Workbench,
    split: Option<SplitUnit>,
}

/// A unit of which some parts were seen, and the number of the frame with the last of them. The next frame of redo may
/// stand behind an index segment.
struct SplitUnit {
    whole: WholeUnit,
    last_frame: u32,
}

impl PieceReader {
    /// Opens the piece with this header (the first 128 bytes).
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when it is another piece than the one wanted, [`ErrorKind::Key`] when the key is missing
    /// or wrong, [`ErrorKind::Unsupported`] when the format is newer.
    pub fn open(header: &[u8], set: SetId, piece: PieceNo, key: Option<&DataKey>) -> Result<Self> {
        let object = || format!("set {set} piece {piece}");
        let bytes = header;
        let header = PieceHeader::decode(bytes).map_err(|error| error.on(object()))?;
        if header.set != set || header.piece != piece {
            let text = format!("this is piece {} of set {}: pieces were swapped", header.piece, header.set);
            return Err(Error::damaged(object(), text));
        }
        let seal = FrameSeal::open(&header, &bytes[..BOUND_LEN], key).map_err(|error| error.on(object()))?;
        Ok(PieceReader { header, seal, workbench: Workbench::default(), split: None })
    }

    /// Exchanges the working memory, which holds nothing between two calls. Who has many readers and uses one at a time
    /// needs it only once.
    pub fn exchange_workbench(&mut self, other: &mut Workbench) {
        std::mem::swap(&mut self.workbench, other);
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &PieceHeader {
        &self.header
    }

    /// Checks that this is the very piece that the metadata speaks of, and not an earlier attempt to write it.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn matches(&self, info: &PieceInfo) -> Result<()> {
        let header = &self.header;
        let same = info.piece == header.piece && info.channel == header.channel && info.kind == header.kind;
        if same && info.salt == header.salt {
            return Ok(());
        }
        Err(Error::damaged(self.object(), "the set's metadata speaks of another piece of this number"))
    }

    /// Reads the trailer: the last 64 bytes of the piece. It says where the root frame is.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when the piece is truncated or not the one that was opened.
    pub fn trailer(&self, bytes: &[u8], piece_len: u64) -> Result<Trailer> {
        let trailer = Trailer::decode(bytes, piece_len).map_err(|error| error.on(self.object()))?;
        if trailer.set != self.header.set || trailer.piece != self.header.piece {
            let text = format!("it ends with the trailer of piece {} of set {}", trailer.piece, trailer.set);
            return Err(Error::damaged(self.object(), text));
        }
        Ok(trailer)
    }

    /// Opens the root of the index.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn root(&mut self, frame: &[u8], trailer: &Trailer) -> Result<PieceRoot> {
        let offset = trailer.root_offset;
        self.placed(offset, frame, |reader, header| {
            if header.kind != FrameKind::Root || header.number.checked_add(1) != Some(trailer.frames) {
                return Err(damaged("this is not the root of the index"));
            }
            let root: PieceRoot = reader.record(header, frame, "the root of the index")?;
            root.validate(offset, trailer.frames)?;
            Ok(root)
        })
    }

    /// Opens a segment of the index.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn segment(&mut self, at: &SegmentRef, frame: &[u8]) -> Result<Vec<IndexEntry>> {
        self.placed(at.offset, frame, |reader, header| {
            let found = (header.kind, header.number, header.total_len(), header.raw_len);
            if found != (FrameKind::Index, at.number, at.stored_len as usize, at.raw_len) {
                return Err(damaged("this is not the index segment that the root speaks of"));
            }
            let entries = reader.entries(header, frame, at.offset)?;
            let sections = || entries.iter().filter_map(|entry| section_key(&entry.content));
            let range = (sections().min(), sections().max());
            if entries.len() != at.entries as usize || range != (at.first, at.last) {
                return Err(damaged("the index segment does not hold what the root says"));
            }
            Ok(entries)
        })
    }

    /// Checks the frame at `offset`: checksums, and the seal where there is one. Does not decompress.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn check(&mut self, offset: u64, frame: &[u8]) -> Result<FrameHeader> {
        self.placed(offset, frame, |reader, header| {
            let payload = intact_payload(header, frame)?;
            reader.seal.unseal(header, payload, &mut reader.workbench.scratch)?;
            Ok(*header)
        })
    }

    /// Opens a frame of pages. Afterwards `raw` holds the bytes of its `Data` runs and nothing else. `raw` need not be
    /// empty before; handing in the same buffer again saves clearing it.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn pages(&mut self, entry: &IndexEntry, frame: &[u8], raw: &mut Vec<u8>) -> Result<PagesTable> {
        self.placed(entry.offset, frame, |reader, header| {
            expect_entry(header, entry, FrameKind::Pages)?;
            let found = reader.page_frame(header, frame, raw)?;
            match &entry.content {
                EntryContent::Pages { table, .. } if *table == found => Ok(found),
                _ => Err(damaged("the frame holds other pages than the index says")),
            }
        })
    }

    /// Opens a frame of redo, and returns the units that became whole with it. The parts of a unit that is split must
    /// be handed in one after the other, beginning with the frame in which it begins.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn log(&mut self, entry: &IndexEntry, frame: &[u8]) -> Result<Vec<WholeUnit>> {
        self.placed(entry.offset, frame, |reader, header| {
            expect_entry(header, entry, FrameKind::Log)?;
            let (found, data) = reader.log_frame(header, frame)?;
            match &entry.content {
                EntryContent::Log { table } if *table == found => reader.units(header.number, found, data),
                _ => Err(damaged("the frame holds other redo than the index says")),
            }
        })
    }

    /// Opens a frame of any kind without the index, as a scanner gives it. Pages go to `raw`, as in
    /// [`PieceReader::pages`].
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn frame(&mut self, offset: u64, frame: &[u8], raw: &mut Vec<u8>) -> Result<FrameContent> {
        self.placed(offset, frame, |reader, header| match header.kind {
            FrameKind::Pages => reader.page_frame(header, frame, raw).map(FrameContent::Pages),
            FrameKind::Log => {
                let (found, data) = reader.log_frame(header, frame)?;
                reader.units(header.number, found, data).map(FrameContent::Log)
            }
            FrameKind::Index => reader.entries(header, frame, offset).map(FrameContent::Index),
            FrameKind::Root => {
                let root: PieceRoot = reader.record(header, frame, "the root of the index")?;
                root.validate(offset, header.number.saturating_add(1))?;
                Ok(FrameContent::Root(root))
            }
        })
    }

    /// Reads the header of `frame`, runs `step`, and says of an error where it happened.
    fn placed<T>(
        &mut self,
        offset: u64,
        frame: &[u8],
        step: impl FnOnce(&mut Self, &FrameHeader) -> Result<T>,
    ) -> Result<T> {
        let header = match FrameHeader::decode(frame) {
            Ok(header) => header,
            Err(error) => return Err(error.on(format!("{} at offset {offset}", self.object()))),
        };
        step(self, &header)
            .map_err(|error| error.on(format!("{} frame {} at offset {offset}", self.object(), header.number)))
    }

    fn object(&self) -> String {
        format!("set {} piece {}", self.header.set, self.header.piece)
    }

    /// Replaces the content of `raw` by that of the frame.
    fn open_frame(&mut self, header: &FrameHeader, frame: &[u8], raw: &mut Vec<u8>) -> Result<()> {
        let payload = intact_payload(header, frame)?;
        let raw_len = header.raw_len as usize;
        if header.codec == Codec::None && self.seal.overhead() > 0 {
            // Opened straight into the caller's buffer, since there is nothing to decompress.
            let len = self.seal.unseal(header, payload, raw)?.len();
            let lie = || damaged(format!("the frame has {len} bytes instead of {raw_len}"));
            return if len == raw_len { Ok(()) } else { Err(lie()) };
        }
        let packed = self.seal.unseal(header, payload, &mut self.workbench.scratch)?;
        self.workbench.unpacker.unpack(header.codec, packed, raw_len, raw)
    }

    fn with_content<T>(
        &mut self,
        header: &FrameHeader,
        frame: &[u8],
        step: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let mut content = std::mem::take(&mut self.workbench.content);
        let done = self.open_frame(header, frame, &mut content).and_then(|()| step(&content));
        self.workbench.content = content;
        done
    }

    fn record<T: for<'b> minicbor::Decode<'b, ()>>(
        &mut self,
        header: &FrameHeader,
        frame: &[u8],
        what: &str,
    ) -> Result<T> {
        self.with_content(header, frame, |content| cbor::from_slice(content, what))
    }

    fn entries(&mut self, header: &FrameHeader, frame: &[u8], limit: u64) -> Result<Vec<IndexEntry>> {
        let Entries(entries) = self.record(header, frame, "an index segment")?;
        let wanted = self.header.kind;
        for entry in &entries {
            entry.validate(limit)?;
            let kind = match entry.content {
                EntryContent::Pages { .. } => PieceKind::Data,
                EntryContent::Log { .. } => PieceKind::Log,
            };
            if kind != wanted {
                return Err(damaged("the index has pages and redo in one piece"));
            }
        }
        let ascending = |pair: &[IndexEntry]| {
            pair[0].number < pair[1].number && pair[0].offset + u64::from(pair[0].stored_len) <= pair[1].offset
        };
        if !entries.windows(2).all(ascending) {
            return Err(damaged("the entries of an index segment are not in order"));
        }
        Ok(entries)
    }

    fn page_frame(&mut self, header: &FrameHeader, frame: &[u8], raw: &mut Vec<u8>) -> Result<PagesTable> {
        self.open_frame(header, frame, raw)?;
        let (data_len, found) = table::split::<PagesTable>(raw, "the table of pages")?;
        found.validate(data_len)?;
        raw.truncate(data_len);
        Ok(found)
    }

    fn log_frame(&mut self, header: &FrameHeader, frame: &[u8]) -> Result<(LogTable, Vec<u8>)> {
        let mut raw = Vec::new();
        self.open_frame(header, frame, &mut raw)?;
        let (data_len, found) = table::split::<LogTable>(&raw, "the table of redo")?;
        found.validate(data_len)?;
        raw.truncate(data_len);
        Ok((found, raw))
    }

    /// Cuts the data of a frame into units, and joins the parts of one that is split.
    fn units(&mut self, number: u32, table: LogTable, data: Vec<u8>) -> Result<Vec<WholeUnit>> {
        let mut whole = Vec::with_capacity(table.parts.len());
        let split = self.split.take();
        let mut rest = data.as_slice();
        if split.is_some() && table.parts.iter().any(|part| part.unit.is_some()) {
            return Err(damaged("the unit of redo in front of this frame is cut short"));
        }
        let mut split = split.filter(|split| split.last_frame < number);
        for part in table.parts {
            let (bytes, behind) = rest.split_at_checked(part.len as usize).unwrap_or((rest, &[]));
            rest = behind;
            let mut joined = match (part.unit, split.take()) {
                (Some(unit), _) => WholeUnit { unit, bytes: Vec::new() },
                (None, Some(split)) if split.whole.bytes.len() as u64 == part.offset => split.whole,
                (None, _) => return Err(damaged("a part of a unit of redo without the part in front of it")),
            };
            joined.bytes.extend_from_slice(bytes);
            match (joined.bytes.len() as u64).cmp(&joined.unit.len) {
                std::cmp::Ordering::Equal => whole.push(joined),
                std::cmp::Ordering::Less => {
                    self.split = Some(SplitUnit { whole: joined, last_frame: number });
                }
                std::cmp::Ordering::Greater => return Err(damaged("a unit of redo is longer than its record says")),
            }
        }
        Ok(whole)
    }
}

/// An index segment.
struct Entries(Vec<IndexEntry>);

impl<'b, C> minicbor::Decode<'b, C> for Entries {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        cbor::list::<MAX_RAW, _, _>(d, ctx).map(Entries)
    }
}

fn damaged(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Damaged, what)
}

/// The payload, when the frame has the length its header says and the checksum fits.
fn intact_payload<'f>(header: &FrameHeader, frame: &'f [u8]) -> Result<&'f [u8]> {
    if frame.len() != header.total_len() {
        return Err(damaged(format!("the frame has {} bytes instead of {}", frame.len(), header.total_len())));
    }
    let payload = frame.get(FRAME_HEADER..).unwrap_or_default();
    if crc(payload) == header.payload_crc { Ok(payload) } else { Err(damaged("the checksum does not match")) }
}

fn expect_entry(header: &FrameHeader, entry: &IndexEntry, kind: FrameKind) -> Result<()> {
    let found = (header.kind, header.number, header.total_len(), header.raw_len);
    if found == (kind, entry.number, entry.stored_len as usize, entry.raw_len) {
        return Ok(());
    }
    Err(damaged(format!("this is not frame {} that the index speaks of", entry.number)))
}

impl fmt::Debug for PieceReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceReader({})", self.object())
    }
}
