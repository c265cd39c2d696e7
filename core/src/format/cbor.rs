//! CBOR in and out, with the lists that hostile input could make large kept within a limit.

use minicbor::{Decode, Decoder, Encode};

use crate::error::{Error, ErrorKind, Result};

/// Encodes a record.
///
/// # Errors
/// [`ErrorKind::Internal`]; writing to memory does not fail otherwise.
pub fn to_vec<T: Encode<()>>(record: &T) -> Result<Vec<u8>> {
    minicbor::to_vec(record)
        .map_err(|error| Error::new(ErrorKind::Internal, "a record cannot be encoded").because(error))
}

/// Decodes a record that fills `bytes`.
///
/// # Errors
/// [`ErrorKind::Damaged`] when it is none, or when bytes are left over.
pub fn from_slice<'b, T: Decode<'b, ()>>(bytes: &'b [u8], what: &str) -> Result<T> {
    let mut decoder = Decoder::new(bytes);
    let record = decoder
        .decode()
        .map_err(|error| Error::new(ErrorKind::Damaged, format!("{what} cannot be decoded: {error}")))?;
    if decoder.position() != bytes.len() {
        return Err(Error::new(ErrorKind::Damaged, format!("{what} has bytes behind its end")));
    }
    Ok(record)
}

/// Decodes a list of at most `MAX` items; used by `#[cbor(decode_with)]`.
///
/// # Errors
/// When it is no list of such items, or too long.
pub fn list<'b, const MAX: usize, T: Decode<'b, C>, C>(
    d: &mut Decoder<'b>,
    ctx: &mut C,
) -> Result<Vec<T>, minicbor::decode::Error> {
    let declared = d.array()?;
    let mut items = Vec::new();
    loop {
        match declared {
            Some(count) if items.len() as u64 == count => return Ok(items),
            None if d.datatype()? == minicbor::data::Type::Break => {
                d.skip()?;
                return Ok(items);
            }
            _ if items.len() == MAX => return Err(minicbor::decode::Error::message("a list is too long")),
            _ => items.push(d.decode_with(ctx)?),
        }
    }
}
