//! Text as part of an SQL statement.

use postgres_protocol::escape;

/// `text` as a literal, quotes included. Text with a backslash becomes an `E''` literal, which the commands of a
/// replication connection do not know; otherwise it fits there too.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    escape::escape_literal(text).trim_start().to_owned()
}

/// `name` as an identifier, quotes included.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    escape::escape_identifier(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_lose_their_meaning() {
        assert_eq!(quote_literal("a'b\"c"), "'a''b\"c'");
        assert_eq!(quote_literal("a'\\b"), "E'a''\\\\b'");
        assert_eq!(quote_literal(" a "), "' a '");
        assert_eq!(quote_identifier("a\"b'c\\"), "\"a\"\"b'c\\\"");
    }
}
