//! The text form of connection parameters: taking a URI of libpq's kind apart, and percent-encoding.
//!
//! Nothing here says what a parameter means. No message repeats what stands in the URI, except names of parameters:
//! where a URI is written wrongly, any piece of it may be a piece of the password.

use setpiece_core::{Error, ErrorKind, Result};

/// A URI in pieces, decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    pub(super) scheme: String,
    pub(super) user: String,
    pub(super) password: String,
    /// Name and port as they are written; there is always at least one, which may be empty.
    pub(super) hosts: Vec<(String, String)>,
    pub(super) database: String,
    /// In the order of the text.
    pub(super) parameters: Vec<(String, String)>,
}

/// Takes `scheme://user:password@host:port,host:port/database?name=value&name=value` apart, of which all but the
/// scheme may be missing.
pub(super) fn split(text: &str) -> Result<Pieces> {
    let (scheme, rest) =
        text.split_once("://").ok_or_else(|| wrong("a connection URI begins with a scheme and `://`"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (account, hosts) = authority.split_once('@').unwrap_or(("", authority));
    let (user, password) = account.split_once(':').unwrap_or((account, ""));
    Ok(Pieces {
        scheme: scheme.to_ascii_lowercase(),
        user: decode(user)?,
        password: decode(password)?,
        hosts: hosts.split(',').map(host_and_port).collect::<Result<_>>()?,
        database: decode(database)?,
        parameters: parameters(query)?,
    })
}

fn host_and_port(text: &str) -> Result<(String, String)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(inside) => {
            let (host, behind) =
                inside.split_once(']').ok_or_else(|| wrong("an address that begins with `[` must end with `]`"))?;
            let port = behind.strip_prefix(':').or(behind.is_empty().then_some(""));
            (host, port.ok_or_else(|| wrong("only `:` and a port may follow the `]` of an address"))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    Ok((decode(host)?, decode(port)?))
}

fn parameters(query: &str) -> Result<Vec<(String, String)>> {
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').ok_or_else(|| wrong("a parameter has no `=`"))?;
        if value.contains('=') {
            return Err(wrong("a parameter has a second `=`; write `%3D` inside of a value"));
        }
        Ok((decode(name)?, decode(value)?))
    };
    query.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

/// Turns each `%` and two hexadecimal digits into the byte they stand for.
fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, behind @ ..] = rest else { return Err(bad_escape()) };
        bytes.push(16 * digit(*high)? + digit(*low)?);
        rest = behind;
    }
    if bytes.contains(&0) {
        return Err(wrong("a zero byte cannot be part of a connection parameter"));
    }
    String::from_utf8(bytes).map_err(|_| wrong("what `%` stands for is not UTF-8"))
}

fn digit(character: u8) -> Result<u8> {
    let value = char::from(character).to_digit(16).and_then(|value| u8::try_from(value).ok());
    value.ok_or_else(bad_escape)
}

fn bad_escape() -> Error {
    wrong("`%` is not followed by two hexadecimal digits; a percent sign itself is written `%25`")
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::Usage, what)
        .on("connection URI")
        .remedy("the form is postgresql://user@host:port/database?parameter=value")
}

/// Writes `text` so that it can stand anywhere in a URI; of the characters with a meaning in URIs only those in `plain`
/// stay as they are.
pub(super) fn encode(text: &str, plain: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || "-._~".contains(character) || plain.contains(character) {
            encoded.push(character);
            continue;
        }
        let mut bytes = [0; 4];
        for byte in character.encode_utf8(&mut bytes).bytes() {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_piece_is_found() {
        let all = split("PostgreSQL://us%20er:p%40ss@h1:1,[::1]:2,%2Ftmp/da%2Fta?a=b%26c&&d=").unwrap();
        let text = |text: &str| text.to_owned();
        let hosts = [("h1", "1"), ("::1", "2"), ("/tmp", "")];
        let expected = Pieces {
            scheme: text("postgresql"),
            user: text("us er"),
            password: text("p@ss"),
            hosts: hosts.iter().map(|(host, port)| (text(host), text(port))).collect(),
            database: text("da/ta"),
            parameters: vec![(text("a"), text("b&c")), (text("d"), text(""))],
        };
        assert_eq!(all, expected);
        let none = split("x://").unwrap();
        assert_eq!((none.hosts, none.user.as_str()), (vec![(String::new(), String::new())], ""));
        // An @ behind the authority is no end of an account.
        assert_eq!(split("x://h/d?user=a@b").unwrap().parameters, [(text("user"), text("a@b"))]);
        assert_eq!(split("x://h?user=a@b").unwrap().hosts, [(text("h"), text(""))]);
    }

    #[test]
    fn what_is_written_wrongly_is_refused_without_being_repeated() {
        let texts = [
            "secret",
            "x://h/%5",
            "x://h/%5x",
            "x://h/%00",
            "x://h/%ff",
            "x://[secret/",
            "x://[a]secret",
            "x://h?secret",
            "x://h?a=secret=c",
            "x://%secret",
        ];
        for text in texts {
            let error = split(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn encoded_text_decodes_to_itself(text in "[^\0]*", plain in "[/:]{0,2}") {
            prop_assert_eq!(decode(&encode(&text, &plain)).unwrap(), text);
        }

        #[test]
        fn nothing_makes_it_panic(text in ".*", shape in "[a%25@:/?&=,\\[\\]\u{e4}]{0,40}") {
            let _either = split(&text).is_ok();
            let _either = split(&format!("x://{shape}")).is_ok();
        }
    }
}
