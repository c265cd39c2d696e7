//! A position in the log, as PostgreSQL writes it.

use std::fmt;
use std::str::FromStr;

/// A log sequence number: bytes since the log began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let half = |digits: &str| u32::from_str_radix(digits, 16).map_err(|error| format!("{text:?}: {error}"));
        let (high, low) = text.split_once('/').ok_or_else(|| format!("{text:?} is not an LSN"))?;
        Ok(Lsn(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::Lsn;

    #[test]
    fn text_and_number_are_the_same() {
        for (text, number) in [("0/0", 0), ("0/1737888", 0x173_7888), ("1A/FFFFFFFF", 0x1A_FFFF_FFFF)] {
            assert_eq!(text.parse(), Ok(Lsn(number)));
            assert_eq!(Lsn(number).to_string(), text);
        }
        for wrong in ["", "0", "0/", "/0", "0/123456789", "x/0"] {
            assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
        }
    }
}
