//! LSNs as PostgreSQL writes them: two hexadecimal halves with a stroke between.

use setpiece_core::model::Lsn;

/// The text form, such as `0/16B3748`.
#[must_use]
pub fn lsn_text(lsn: Lsn) -> String {
    format!("{:X}/{:X}", lsn.0 >> 32, lsn.0 & 0xFFFF_FFFF)
}

/// Reads the text form; `None` when it is none.
#[must_use]
pub fn parse_lsn(text: &str) -> Option<Lsn> {
    let (high, low) = text.split_once('/')?;
    let half = |digits: &str| {
        let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        fits.then(|| u64::from_str_radix(digits, 16).ok())?
    };
    Some(Lsn(half(high)? << 32 | half(low)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_number_are_one() {
        for (lsn, text) in
            [(0, "0/0"), (0x16B_3748, "0/16B3748"), (0x1_0000_00AB, "1/AB"), (u64::MAX, "FFFFFFFF/FFFFFFFF")]
        {
            assert_eq!(lsn_text(Lsn(lsn)), text);
            assert_eq!(parse_lsn(text), Some(Lsn(lsn)));
        }
        for wrong in ["", "/", "1/", "/1", "1", "1/2/3", "+1/2", "123456789/0", "G/0", " 1/2"] {
            assert_eq!(parse_lsn(wrong), None, "{wrong:?}");
        }
    }
}
