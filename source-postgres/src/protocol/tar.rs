//! The headers of a tar archive as the server writes them: the `ustar` layout of POSIX, names of at most 100 bytes, sizes
//! in octal digits, or in base 256 where those do not suffice.

use setpiece_core::{Error, Result};

/// Bytes of a header, and what the content of a member is filled up to.
pub(super) const BLOCK: usize = 512;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A directory, a link: nothing with content.
    Other,
}

/// A member's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub name: String,
    pub kind: Kind,
    pub mode: u32,
    pub len: u64,
}

/// Reads a header; `None` for the zeros that end an archive.
pub(super) fn header(block: &[u8; BLOCK]) -> Result<Option<Header>> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let damaged = |what: &str| Error::damaged("a tar header of the base backup", what);
    let sum: u64 =
        block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum();
    if number(&block[148..156]) != Some(sum) {
        return Err(damaged("its checksum is wrong"));
    }
    let name = block[..100].split(|byte| *byte == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).map_err(|_| damaged("its name is not UTF-8"))?;
    let mode = number(&block[100..108]).and_then(|mode| u32::try_from(mode).ok());
    let (mode, len) = mode.zip(number(&block[124..136])).ok_or_else(|| damaged("its mode or its size is no number"))?;
    let kind = if matches!(block[156], b'0' | 0) { Kind::File } else { Kind::Other };
    Ok(Some(Header {
        name: name.trim_end_matches('/').to_owned(),
        kind,
        mode,
        len: if kind == Kind::File { len } else { 0 },
    }))
}

fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 != 0 {
        let high = u64::from(field[0] & 0x7F);
        return field[1..].iter().try_fold(high, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(|c: char| c == ' ' || c == '\0');
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(name: &str, size: &[u8; 12], kind: u8) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(b"0000640");
        block[124..136].copy_from_slice(size);
        block[156] = kind;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    #[test]
    fn headers_are_read_as_they_are_written() {
        let read = header(&block("base/5/1259", b"00000020000\0", b'0')).unwrap().unwrap();
        assert_eq!(read, Header { name: "base/5/1259".into(), kind: Kind::File, mode: 0o640, len: 8192 });
        let large = header(&block("big", b"\x80\0\0\0\0\0\0\x03\0\0\0\0", b'0')).unwrap().unwrap();
        assert_eq!(large.len, 3 << 32);
        let directory = header(&block("base/5/", b"00000000000\0", b'5')).unwrap().unwrap();
        assert_eq!((directory.name.as_str(), directory.kind), ("base/5", Kind::Other));
        assert_eq!(header(&[0; BLOCK]).unwrap(), None);
    }

    #[test]
    fn a_damaged_header_is_noticed_wherever_it_is_damaged() {
        let whole = block("base/5/1259", b"00000020000\0", b'0');
        for at in 0..BLOCK {
            let mut damaged = whole;
            damaged[at] ^= 4;
            assert!(header(&damaged).is_err(), "byte {at}");
        }
    }
}
