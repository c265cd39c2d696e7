//! Parameters of a session: `key=value` parts, joined by commas, and further pairs.

use std::fmt;

use super::{Failure, Result};
use crate::Code;

/// The parameters that a session was given. Take those that are known, then let [`Parms::finish`] refuse the rest.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parms(Vec<(String, String)>);

impl Parms {
    /// Reads a PARMS string: `key=value` parts joined by commas. `%` and two hexadecimal digits stand for a byte, so that
    /// a value can have a comma (`%2C`) or a percent sign (`%25`) in it.
    ///
    /// # Errors
    /// [`Code::Usage`] for a part without `=` or key, a bad `%`, or a key that is given twice.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parms = Parms::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) =
                part.split_once('=').ok_or_else(|| usage("PARMS", "has a part that is not key=value"))?;
            parms.add(key.trim(), decode(key, value)?)?;
        }
        Ok(parms)
    }

    /// Adds a parameter.
    ///
    /// # Errors
    /// [`Code::Usage`] when the key is empty or given before.
    pub fn add(&mut self, key: &str, value: String) -> Result<()> {
        if key.is_empty() {
            return Err(usage("PARMS", "has a value without a key"));
        }
        if self.0.iter().any(|(known, _)| known == key) {
            return Err(usage(key, "is given twice"));
        }
        self.0.push((key.to_owned(), value));
        Ok(())
    }

    /// Takes a parameter out.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a parameter out that is `yes` or `no`.
    ///
    /// # Errors
    /// [`Code::Usage`] for any other value.
    pub fn take_flag(&mut self, key: &str) -> Result<Option<bool>> {
        match self.take(key).as_deref() {
            None => Ok(None),
            Some("yes") => Ok(Some(true)),
            Some("no") => Ok(Some(false)),
            Some(_) => Err(usage(key, "must be yes or no")),
        }
    }

    /// Succeeds when every parameter has been taken. `known` is for the message.
    ///
    /// # Errors
    /// [`Code::Usage`] naming a key that nobody took.
    pub fn finish(self, known: &str) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(usage(key, &format!("is not known; known are {known}"))),
        }
    }
}

/// Shows the keys only: values may be secrets.
impl fmt::Debug for Parms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}

fn usage(key: &str, what: &str) -> Failure {
    Failure::new(Code::Usage, format!("parameter {key} {what}"))
}

fn decode(key: &str, value: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.next().and_then(hex).zip(rest.next().and_then(hex));
        let (high, low) = digits.ok_or_else(|| usage(key, "has a % without two hexadecimal digits"))?;
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).map_err(|_| usage(key, "is not UTF-8"))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_and_the_rest_is_refused() {
        let mut parms = Parms::parse("path=/a%2Cb,create=yes,more=1").unwrap();
        assert_eq!(parms.take("path").as_deref(), Some("/a,b"));
        assert_eq!(parms.take_flag("create"), Ok(Some(true)));
        let text = parms.finish("path and create").unwrap_err().text;
        assert!(text.contains("more") && text.contains("path and create"), "{text}");
        assert!(Parms::parse("").unwrap().finish("").is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in ["path", "=x", "a=1,a=2", "a=%2", "a=%zz", "a=%ff"] {
            assert_eq!(Parms::parse(bad).unwrap_err().code, Code::Usage, "{bad}");
        }
        assert!(Parms::parse("create=maybe").unwrap().take_flag("create").is_err());
    }
}
