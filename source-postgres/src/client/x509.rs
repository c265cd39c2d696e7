//! The few things of a certificate that TLS does not tell: how it was signed and when it is valid.
//!
//! Layout from RFC 5280, numbers of algorithms from RFC 8017 and RFC 5758.

use setpiece_core::model::Timestamp;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
const ECDSA_SHA2: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
const ECDSA_SHA1: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];

const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// What binds a login to the certificate of the server: `tls-server-end-point` of RFC 5929, the hash of the whole
/// certificate by the hash of its signature, or by SHA-256 where that is MD5 or SHA-1.
///
/// `None` where it isn't defined (Ed25519), and for RSASSA-PSS, which servers before 16 cannot hash either.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (algorithm, number) = signature_algorithm(certificate)?.split_last().map(|(last, first)| (first, *last))?;
    let hash = match (algorithm, number) {
        (first, 4 | 5 | 11) if first == RSA => Sha256::digest(certificate).to_vec(),
        (first, 12) if first == RSA => Sha384::digest(certificate).to_vec(),
        (first, 13) if first == RSA => Sha512::digest(certificate).to_vec(),
        (first, 14) if first == RSA => Sha224::digest(certificate).to_vec(),
        (first, 1) if first == &ECDSA_SHA1[..6] => Sha256::digest(certificate).to_vec(),
        (first, 1) if first == ECDSA_SHA2 => Sha224::digest(certificate).to_vec(),
        (first, 2) if first == ECDSA_SHA2 => Sha256::digest(certificate).to_vec(),
        (first, 3) if first == ECDSA_SHA2 => Sha384::digest(certificate).to_vec(),
        (first, 4) if first == ECDSA_SHA2 => Sha512::digest(certificate).to_vec(),
        _ => return None,
    };
    Some(hash)
}

/// Whether a moment lies in the time of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    TooEarly,
    Valid,
    TooLate,
}

/// Whether `certificate` is valid at `now`; `None` when that cannot be read.
pub(super) fn validity(certificate: &[u8], now: Timestamp) -> Option<Validity> {
    let mut body = Der(Der(certificate).take(SEQUENCE)?);
    let mut inner = Der(body.take(SEQUENCE)?);
    if inner.peek() == Some(VERSION) {
        inner.next()?;
    }
    let [_serial, _algorithm, _issuer] = [inner.next()?, inner.next()?, inner.next()?];
    let mut span = Der(inner.take(SEQUENCE)?);
    let (from, upto) = (digits(span.next()?)?, digits(span.next()?)?);
    // Years, months, days, hours, minutes and seconds, all of fixed width: digits in the order of time.
    let now: String = now.to_string().split('.').next()?.chars().filter(char::is_ascii_digit).collect();
    Some(match now.as_bytes() {
        now if now < from.as_slice() => Validity::TooEarly,
        now if now > upto.as_slice() => Validity::TooLate,
        _ => Validity::Valid,
    })
}

/// The fourteen digits of a moment. Two digits are a year from 1950 to 2049 (RFC 5280, 4.1.2.5.1).
fn digits((tag, text): (u8, &[u8])) -> Option<Vec<u8>> {
    let digits = text.strip_suffix(b"Z")?;
    let whole = match tag {
        UTC_TIME if *digits.first()? < b'5' => [b"20", digits].concat(),
        UTC_TIME => [b"19", digits].concat(),
        GENERALIZED_TIME => digits.to_vec(),
        _ => return None,
    };
    (whole.len() == 14 && whole.iter().all(u8::is_ascii_digit)).then_some(whole)
}

fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let mut body = Der(Der(certificate).take(SEQUENCE)?);
    body.take(SEQUENCE)?;
    Der(body.take(SEQUENCE)?).take(OBJECT_ID)
}

/// The elements of a DER encoding (X.690), one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element: its tag and what is in it.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, short], rest) = self.0.split_first_chunk::<2>()?;
        let (len, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// What is in the next element, if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let (high, low) = (u8::try_from(content.len() >> 8).unwrap(), (content.len() & 0xff) as u8);
        let head = if content.len() < 0x80 { vec![tag, low] } else { vec![tag, 0x82, high, low] };
        [head, content.to_vec()].concat()
    }

    fn certificate(algorithm: &[u8], from: (u8, &str), upto: (u8, &str), versioned: bool) -> Vec<u8> {
        let algorithm = element(SEQUENCE, &element(OBJECT_ID, algorithm));
        let span = [element(from.0, from.1.as_bytes()), element(upto.0, upto.1.as_bytes())].concat();
        let version = if versioned { element(VERSION, &[2, 1, 2]) } else { Vec::new() };
        let (serial, names) = (element(2, &[7]), element(SEQUENCE, &[0; 300]));
        let inner = [version, serial, algorithm.clone(), names.clone(), element(SEQUENCE, &span), names].concat();
        element(SEQUENCE, &[element(SEQUENCE, &inner), algorithm, element(3, &[0; 70])].concat())
    }

    const FROM: (u8, &str) = (UTC_TIME, "991231235959Z");
    const UPTO: (u8, &str) = (GENERALIZED_TIME, "20500102030405Z");

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let cases: [(&[u8], u8, usize); 10] = [
            (&RSA, 4, 32),
            (&RSA, 5, 32),
            (&RSA, 11, 32),
            (&RSA, 12, 48),
            (&RSA, 13, 64),
            (&RSA, 14, 28),
            (&ECDSA_SHA2, 1, 28),
            (&ECDSA_SHA2, 2, 32),
            (&ECDSA_SHA2, 3, 48),
            (&ECDSA_SHA2, 4, 64),
        ];
        for (family, number, len) in cases {
            let hash = end_point(&certificate(&[family, &[number]].concat(), FROM, UPTO, true));
            assert_eq!(hash.map(|hash| hash.len()), Some(len), "{family:x?} {number}");
        }
        let sha1 = certificate(&ECDSA_SHA1, FROM, UPTO, true);
        assert_eq!(end_point(&sha1), Some(Sha256::digest(&sha1).to_vec()));
        let ed25519 = [0x2b, 0x65, 0x70];
        assert_eq!(end_point(&certificate(&ed25519, FROM, UPTO, true)), None);
        assert_eq!(end_point(&certificate(&[&RSA[..], &[10]].concat(), FROM, UPTO, true)), None);
    }

    #[test]
    fn a_certificate_has_its_time() {
        let at = |seconds: i64| Timestamp(seconds * 1_000_000 + 999_999);
        for versioned in [true, false] {
            let made = certificate(&ECDSA_SHA1, FROM, UPTO, versioned);
            assert_eq!(validity(&made, at(946_684_798)), Some(Validity::TooEarly));
            assert_eq!(validity(&made, at(946_684_799)), Some(Validity::Valid));
            assert_eq!(validity(&made, at(2_524_705_445)), Some(Validity::Valid));
            assert_eq!(validity(&made, at(2_524_705_446)), Some(Validity::TooLate));
        }
        let odd = certificate(&ECDSA_SHA1, (UTC_TIME, "9912312359+0"), UPTO, true);
        assert_eq!(validity(&odd, at(0)), None);
    }

    #[test]
    fn cut_short_anywhere_it_is_refused() {
        let whole = certificate(&ECDSA_SHA1, FROM, UPTO, true);
        for len in 0..whole.len() {
            assert_eq!((end_point(&whole[..len]), validity(&whole[..len], Timestamp(0))), (None, None));
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(at in 0_usize..400, byte: u8, other in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            let mut changed = certificate(&ECDSA_SHA1, FROM, UPTO, true);
            changed[at] = byte;
            for bytes in [changed, other] {
                let _either = (end_point(&bytes), validity(&bytes, Timestamp(0)));
            }
        }
    }
}
