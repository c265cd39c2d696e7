//! Fixed-width little-endian fields, and the fields that all our objects begin with.

use crate::error::{Error, ErrorKind, Result};

/// The major version that this code reads and writes. Another major is refused.
pub const MAJOR: u16 = 1;
/// The minor version that this code writes. A larger minor of the same major is read.
pub const MINOR: u16 = 0;
/// Features that a reader must know. None are defined yet.
pub const KNOWN_INCOMPATIBLE: u32 = 0;
/// Bytes of magic, versions, header length and feature masks.
pub const PREFIX_LEN: usize = 24;

/// Copies `N` bytes from `at` on; zeros where `bytes` is too short, which callers rule out by checking the length.
#[must_use]
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(found) = bytes.get(at..at.saturating_add(N)) {
        out.copy_from_slice(found);
    }
    out
}

/// The 16-bit number at `at`.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

/// The 32-bit number at `at`.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

/// The 64-bit number at `at`.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// Writes `value` at `at`. Only for buffers whose length is a constant of the layout.
pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(value.len())) {
        place.copy_from_slice(value);
    }
}

/// CRC-32 (IEEE) of `bytes`.
#[must_use]
pub fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Writes magic, versions, `header_len` and empty feature masks.
pub fn put_prefix(bytes: &mut [u8], magic: &[u8; 8], header_len: usize) {
    put(bytes, 0, magic);
    put(bytes, 8, &MAJOR.to_le_bytes());
    put(bytes, 10, &MINOR.to_le_bytes());
    put(bytes, 12, &(header_len as u32).to_le_bytes());
}

/// Writes the CRC of everything before the last four bytes into the last four bytes.
pub fn put_crc(bytes: &mut [u8]) {
    let at = bytes.len().saturating_sub(4);
    let sum = crc(bytes.get(..at).unwrap_or_default());
    put(bytes, at, &sum.to_le_bytes());
}

/// Checks a fixed header that ends with its CRC: magic, then version and features, then the CRC.
///
/// The version comes before the CRC, since a newer major may have moved the CRC.
///
/// # Errors
/// [`ErrorKind::Damaged`], or [`ErrorKind::Unsupported`] with the version or feature named.
pub fn check_header(bytes: &[u8], magic: &[u8; 8], what: &str, header_len: usize) -> Result<()> {
    if bytes.get(..8) != Some(magic) {
        return Err(Error::new(ErrorKind::Damaged, format!("this is not {what}: it begins with other bytes")));
    }
    if bytes.len() < header_len {
        let found = bytes.len();
        return Err(Error::new(ErrorKind::Damaged, format!("{what} ends after {found} bytes, inside its header")));
    }
    let bytes = &bytes[..header_len];
    let (major, minor) = (u16_at(bytes, 8), u16_at(bytes, 10));
    let intact = crc(&bytes[..header_len - 4]) == u32_at(bytes, header_len - 4);
    if major != MAJOR {
        // A newer header need not end where ours does, so its CRC proves nothing here.
        let text = format!("{what} has format {major}.{minor}; this version reads format {MAJOR}.x");
        return Err(Error::new(ErrorKind::Unsupported, text).remedy("use the version of Setpiece that wrote it"));
    }
    if !intact {
        return Err(Error::new(ErrorKind::Damaged, format!("the checksum of the header of {what} does not match")));
    }
    let unknown = u32_at(bytes, 20) & !KNOWN_INCOMPATIBLE;
    if unknown != 0 {
        let text =
            format!("{what} of format {major}.{minor} uses features that are not known here (mask {unknown:#x})");
        return Err(Error::new(ErrorKind::Unsupported, text).remedy("use the version of Setpiece that wrote it"));
    }
    if u32_at(bytes, 12) as usize != header_len {
        return Err(Error::new(ErrorKind::Damaged, format!("{what} gives a wrong length of its header")));
    }
    Ok(())
}

/// Checks that reserved bytes are zero.
///
/// # Errors
/// [`ErrorKind::Damaged`].
pub fn check_zero(bytes: &[u8], what: &str) -> Result<()> {
    if bytes.iter().all(|&byte| byte == 0) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Damaged, format!("reserved bytes of {what} are not zero")))
}
