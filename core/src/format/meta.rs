//! The metadata of a set: the record, and the fixed header of the object that holds it.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use super::cbor;
use super::limits::{
    MAX_FILES, MAX_KEYS, MAX_LIST, MAX_META_RAW, MAX_META_STORED, MAX_PAGE_SIZE, MAX_PIECES, MAX_UNITS, MIN_PAGE_SIZE,
    SECTION,
};
use super::piece::PieceInfo;
use super::wire::{array, check_header, check_zero, put, put_crc, put_prefix, u16_at, u32_at, u64_at};
use super::words::{CipherId, Compression};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{CarriedFile, FileEntry, FileId, LogUnit, Lsn, PageNo, SetId, SetSummary, Tablespace, Uuid};

/// Bytes in the header of a metadata object.
pub const HEADER_LEN: usize = 160;
/// The part of the header that the commitment is bound to: all before the salt.
pub const BOUND_LEN: usize = 64;
/// The bytes that a metadata object begins with.
pub const MAGIC: [u8; 8] = *b"SPMETA\n\0";

/// A page that the source could not give in order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BadPage {
    /// The file.
    #[n(0)]
    pub file: FileId,
    /// The page.
    #[n(1)]
    pub page: PageNo,
    /// What is wrong with it.
    #[n(2)]
    pub why: String,
}

/// A parameter of the source.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Parameter {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its value.
    #[n(1)]
    pub value: String,
}

/// Everything that is needed to understand and restore a set.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SetMeta {
    /// What chains and windows need.
    #[n(0)]
    pub summary: SetSummary,
    /// Name and version of the program that wrote it.
    #[n(1)]
    pub tool: String,
    /// The tablespaces of the source, temporary ones too.
    #[n(2)]
    #[cbor(decode_with = "cbor::list::<MAX_LIST, _, _>")]
    pub tablespaces: Vec<Tablespace>,
    /// The files, ascending by number, with the length they are restored to.
    #[n(3)]
    #[cbor(decode_with = "cbor::list::<MAX_FILES, _, _>")]
    pub files: Vec<FileEntry>,
    /// The pieces, ascending.
    #[n(4)]
    #[cbor(decode_with = "cbor::list::<MAX_PIECES, _, _>")]
    pub pieces: Vec<PieceInfo>,
    /// The redo that the set's log pieces hold.
    #[n(5)]
    #[cbor(decode_with = "cbor::list::<MAX_UNITS, _, _>")]
    pub log: Vec<LogUnit>,
    /// Parameters the source was made with, and its settings.
    #[n(6)]
    #[cbor(decode_with = "cbor::list::<MAX_LIST, _, _>")]
    pub parameters: Vec<Parameter>,
    /// Key files of the source.
    #[n(7)]
    #[cbor(decode_with = "cbor::list::<MAX_LIST, _, _>")]
    pub key_files: Vec<CarriedFile>,
    /// What the source wants to see again at its next backup.
    #[n(8)]
    #[cbor(with = "minicbor::bytes")]
    pub cookie: Vec<u8>,
    /// Choices that were made, and why: the base, the way in which changed pages were found.
    #[n(9)]
    #[cbor(decode_with = "cbor::list::<MAX_LIST, _, _>")]
    pub decisions: Vec<String>,
    /// Pages that the source could not give in order.
    #[n(10)]
    #[cbor(decode_with = "cbor::list::<MAX_LIST, _, _>")]
    pub bad_pages: Vec<BadPage>,
    /// How frames were compressed.
    #[n(11)]
    pub compression: Compression,
    /// How pieces and metadata are sealed.
    #[n(12)]
    pub cipher: CipherId,
    /// Bytes of file in a section.
    #[n(13)]
    pub section: u64,
    /// Raw bytes of pages and redo.
    #[n(14)]
    pub raw_bytes: u64,
    /// Bytes of all pieces.
    #[n(15)]
    pub stored_bytes: u64,
    /// Whether the redo in it was captured as it was written, instead of belonging to a backup of pages.
    #[n(16)]
    pub captured: bool,
    /// Channels that wrote it.
    #[n(17)]
    pub channels: u16,
    /// Present when the database had been put back to an earlier state that was on record: the LSN that redo on record
    /// had for it, and went on from.
    #[n(18)]
    pub put_back: Option<Lsn>,
}

/// Damaged pages that are told one by one.
const TOLD: usize = 16;

impl SetMeta {
    /// What is to be told of the set's damaged pages before they are relied on: a sentence each, the first 16 of them.
    #[must_use]
    pub fn told_bad_pages(&self) -> Vec<String> {
        let name = &self.summary.name;
        let file = |id| self.file(id).map_or_else(|| format!("file {id}"), |file| file.path.to_string());
        let one = |bad: &BadPage| {
            let (file, page, why) = (file(bad.file), bad.page, &bad.why);
            format!("set {name} holds a page that was damaged when it was backed up: {file} page {page}: {why}")
        };
        let mut told: Vec<String> = self.bad_pages.iter().take(TOLD).map(one).collect();
        if self.bad_pages.len() > TOLD {
            told.push(format!("set {name} holds {} more such pages", self.bad_pages.len() - TOLD));
        }
        told
    }

    /// Checks what readers rely on. Used by writer and reader alike.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] that says what is wrong.
    pub fn validate(&self) -> Result<()> {
        let wrong = |what: String| {
            Err(Error::new(ErrorKind::Damaged, format!("the metadata is wrong: {what}"))
                .on(format!("set {}", self.summary.id)))
        };
        if self.section != SECTION {
            return wrong(format!("sections of {} bytes instead of {SECTION}", self.section));
        }
        if let Some(pair) = self.files.windows(2).find(|pair| pair[0].id >= pair[1].id) {
            return wrong(format!("file {} is not in order", pair[1].id));
        }
        let mut paths = BTreeSet::new();
        for file in &self.files {
            if !(MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&file.page_size) {
                return wrong(format!("file {} has pages of {} bytes", file.id, file.page_size));
            }
            if !paths.insert((file.tablespace, &file.path)) {
                return wrong(format!("two files have the path {}", file.path));
            }
        }
        if let Some(pair) = self.pieces.windows(2).find(|pair| pair[0].piece >= pair[1].piece) {
            return wrong(format!("piece {} is not in order", pair[1].piece));
        }
        if self.pieces.first().is_some_and(|piece| piece.piece.0 == 0) {
            return wrong("pieces are counted from 1".into());
        }
        Ok(())
    }

    /// The file of that number.
    #[must_use]
    pub fn file(&self, id: FileId) -> Option<&FileEntry> {
        let at = self.files.binary_search_by_key(&id, |file| file.id).ok()?;
        self.files.get(at)
    }
}

/// The header of a metadata object: readable without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaHeader {
    /// Format, major and minor.
    pub version: (u16, u16),
    /// The set.
    pub set: SetId,
    /// How the body is sealed.
    pub cipher: CipherId,
    /// Bytes of wrapped keys; 0 when nothing is sealed.
    pub keys_len: u32,
    /// Bytes of the body as stored, the tag included.
    pub body_len: u64,
    /// Bytes of the body when it is decompressed.
    pub raw_len: u64,
    /// Random; the key of the body is derived with it. Zeros when nothing is sealed.
    pub salt: [u8; 32],
    /// Proves that a key is the right one. Zeros when nothing is sealed.
    pub commitment: [u8; 32],
}

impl MetaHeader {
    /// The bytes of the header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        put_prefix(&mut bytes, &MAGIC, HEADER_LEN);
        put(&mut bytes, 24, &self.set.0.0);
        put(&mut bytes, 40, &[self.cipher as u8]);
        put(&mut bytes, 44, &self.keys_len.to_le_bytes());
        put(&mut bytes, 48, &self.body_len.to_le_bytes());
        put(&mut bytes, 56, &self.raw_len.to_le_bytes());
        put(&mut bytes, 64, &self.salt);
        put(&mut bytes, 96, &self.commitment);
        put_crc(&mut bytes);
        bytes
    }

    /// Reads a header; the rest of the object need not be there.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`]; [`ErrorKind::Unsupported`] with the version or feature named.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        check_header(bytes, &MAGIC, "the metadata of a set", HEADER_LEN)?;
        check_zero(&bytes[41..44], "the metadata of a set")?;
        check_zero(&bytes[128..156], "the metadata of a set")?;
        let header = MetaHeader {
            version: (u16_at(bytes, 8), u16_at(bytes, 10)),
            set: SetId(Uuid(array(bytes, 24))),
            cipher: CipherId::from_byte(bytes[40])?,
            keys_len: u32_at(bytes, 44),
            body_len: u64_at(bytes, 48),
            raw_len: u64_at(bytes, 56),
            salt: array(bytes, 64),
            commitment: array(bytes, 96),
        };
        let sealed = header.cipher != CipherId::None;
        let possible = header.keys_len as usize <= MAX_KEYS
            && header.body_len <= MAX_META_STORED as u64
            && header.raw_len <= MAX_META_RAW as u64;
        if !possible || sealed == (header.keys_len == 0) {
            let text = "the metadata of a set gives impossible lengths";
            return Err(Error::new(ErrorKind::Damaged, text).on(format!("set {}", header.set)));
        }
        if !sealed {
            check_zero(&bytes[64..128], "metadata that is not encrypted")?;
        }
        Ok(header)
    }

    /// Whether the body is encrypted.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.cipher != CipherId::None
    }

    /// Bytes of the whole object: header, keys and their CRC, body and its CRC.
    #[must_use]
    pub fn object_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.keys_len) + 4 + self.body_len + 4
    }
}
