//! Passwords from a file of libpq's kind: lines of `host:port:database:user:password`.
//!
//! `*` alone in a field is anything, a backslash takes the meaning from a `:` or a backslash, the first line that fits
//! counts, a line that begins with `#` is a remark. The rules are those of libpq's manual, "The Password File".

use std::path::Path;

use setpiece_core::Result;

use super::secret_file::read_private;

/// Directories of sockets that libpq takes for its own, and then looks for as `localhost`.
const USUAL_DIRECTORIES: [&str; 2] = ["/tmp", "/var/run/postgresql"];

/// For what a password is looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password that the file at `path` has for `door`, if any.
pub(super) fn look_up(path: &Path, door: Door<'_>) -> Result<Option<String>> {
    let bytes = read_private(path)?;
    Ok(find(&String::from_utf8_lossy(&bytes), door))
}

fn find(text: &str, door: Door<'_>) -> Option<String> {
    let line_fits = |line: &str| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mut fields = Fields { rest: Some(line) };
        let host = fields.next()?;
        let usual = USUAL_DIRECTORIES.contains(&door.host) && host.fits("localhost");
        let fits = (host.fits(door.host) || usual)
            && fields.next()?.fits(&door.port.to_string())
            && fields.next()?.fits(door.database)
            && fields.next()?.fits(door.user);
        fields.next().filter(|_| fits).map(|password| password.text)
    };
    text.split('\n').filter(|line| !line.starts_with('#')).find_map(line_fits)
}

struct Field {
    text: String,
    /// `*`, not escaped and alone.
    any: bool,
}

impl Field {
    fn fits(&self, value: &str) -> bool {
        self.any || self.text == value
    }
}

/// The fields of a line, with escapes undone.
struct Fields<'a> {
    rest: Option<&'a str>,
}

impl Iterator for Fields<'_> {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        let line = self.rest.take()?;
        let mut text = String::new();
        let mut characters = line.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                ':' => {
                    self.rest = line.get(at + 1..);
                    return Some(Field { any: &line[..at] == "*", text });
                }
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                _ => text.push(character),
            }
        }
        Some(Field { any: line == "*", text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door<'a>(host: &'a str, database: &'a str, user: &'a str) -> Door<'a> {
        Door { host, port: 5432, database, user }
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let file =
            "# a:5432:b:c:remark\nshort:5432\na:5433:b:c:port\na:5432:b:c:all\na:*:*:c:any\r\n*:*:replication:*:r\n";
        assert_eq!(find(file, door("a", "b", "c")).as_deref(), Some("all"));
        assert_eq!(find(file, door("a", "x", "c")).as_deref(), Some("any"));
        assert_eq!(find(file, door("z", "replication", "y")).as_deref(), Some("r"));
        assert_eq!(find(file, door("z", "b", "c")), None);
    }

    #[test]
    fn a_backslash_takes_the_meaning_away() {
        let file = "a\\:b:*:d\\\\:u:p\\:w\\\\:behind\n\\*:*:*:*:star\nq:*:*:*:end\\";
        assert_eq!(find(file, door("a:b", "d\\", "u")).as_deref(), Some("p:w\\"));
        assert_eq!(find(file, door("*", "d", "u")).as_deref(), Some("star"));
        assert_eq!(find(file, door("other", "d", "u")), None);
        assert_eq!(find(file, door("q", "d", "u")).as_deref(), Some("end"));
    }

    #[test]
    fn the_usual_socket_is_localhost() {
        let file = "localhost:*:*:*:local\n/srv:*:*:*:srv\n";
        assert_eq!(find(file, door("/tmp", "d", "u")).as_deref(), Some("local"));
        assert_eq!(find(file, door("/srv", "d", "u")).as_deref(), Some("srv"));
        assert_eq!(find(file, door("/run", "d", "u")), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[a*:\\\\#\n\r\u{e4}]{0,60}") {
            let _either = find(&text, door("a", "a", "a"));
        }
    }
}
