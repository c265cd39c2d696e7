//! The pieces of a set as objects: which are missing, and how one is opened for reading.

use crate::error::{Error, Result};
use crate::format::piece::{HEADER_LEN, TRAILER_LEN};
use crate::format::{PieceInfo, PieceRoot, SetMeta};
use crate::media::layout::{self, SetObject};
use crate::media::repository::{Repository, SetObjects, read_range};
use crate::media::{Medium, ObjectName};
use crate::model::SetId;
use crate::transform::{DataKey, PieceReader};

/// The names of the pieces that are not on the medium with the length that the metadata gives.
#[must_use]
pub fn missing(meta: &SetMeta, objects: &SetObjects) -> Vec<String> {
    let there = |piece: &PieceInfo| {
        objects.objects.iter().any(|(object, info)| *object == SetObject::Piece(piece.piece) && info.len == piece.len)
    };
    let lost = meta.pieces.iter().filter(|piece| !there(piece));
    lost.map(|piece| format!("{}{:06}.bak", layout::set_prefix(meta.summary.id), piece.piece.0)).collect()
}

/// A piece with its index directory read.
pub struct OpenPiece {
    /// The object.
    pub name: ObjectName,
    /// What the metadata says of it.
    pub info: PieceInfo,
    /// What it says of itself.
    pub root: PieceRoot,
}

/// Reads a piece's header: gives the reader that understands its frames.
///
/// # Errors
/// When the piece is damaged, swapped, or sealed with another key.
pub fn reader(medium: &dyn Medium, set: SetId, info: &PieceInfo, key: Option<&DataKey>) -> Result<PieceReader> {
    let name = layout::object(set, SetObject::Piece(info.piece))?;
    let header = read_range(medium, &name, 0, HEADER_LEN as u64)?;
    let reader = PieceReader::open(&header, set, info.piece, key).map_err(|error| error.on(name.to_string()))?;
    reader.matches(info).map_err(|error| error.on(name.to_string()))?;
    Ok(reader)
}

/// Opens a piece by way of its trailer.
///
/// # Errors
/// When the piece is damaged, swapped, or sealed with another key.
pub fn open(
    repository: &Repository,
    set: SetId,
    info: &PieceInfo,
    key: Option<&DataKey>,
) -> Result<(OpenPiece, PieceReader)> {
    let medium = &**repository.medium();
    let name = layout::object(set, SetObject::Piece(info.piece))?;
    let mut reader = reader(medium, set, info, key)?;
    let trailer_at = info
        .len
        .checked_sub(TRAILER_LEN as u64)
        .ok_or_else(|| Error::damaged(name.to_string(), format!("{} bytes cannot hold a piece", info.len)))?;
    let trailer = read_range(medium, &name, trailer_at, TRAILER_LEN as u64)?;
    let at = |error: Error| error.on(name.to_string());
    let trailer = reader.trailer(&trailer, info.len).map_err(at)?;
    let frame = read_range(medium, &name, trailer.root_offset, u64::from(trailer.root_len))?;
    let root = reader.root(&frame, &trailer).map_err(at)?;
    Ok((OpenPiece { name, info: info.clone(), root }, reader))
}
