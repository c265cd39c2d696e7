//! Rows of an answer, in the text format.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, RowDescriptionBody};
use setpiece_core::{Error, ErrorKind, Result};

use super::fault::{malformed, protocol};

/// The memory that the rows of one result may take. Nothing that a backup asks for comes near.
const LIMIT: usize = 512 * 1024 * 1024;

/// A row.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Arc<[String]>,
    bytes: Box<[u8]>,
    /// One for each column; `None` is NULL.
    values: Box<[Option<Range<usize>>]>,
}

/// What names a column: its name, or its position from 0.
pub trait Column: sealed::Find {}

impl Column for &str {}
impl Column for usize {}

mod sealed {
    /// Not to be implemented elsewhere.
    pub trait Find: Copy {
        /// The position among `columns`.
        fn find(self, columns: &[String]) -> Option<usize>;
        /// For messages.
        fn shown(self) -> String;
    }

    impl Find for &str {
        fn find(self, columns: &[String]) -> Option<usize> {
            columns.iter().position(|column| column == self)
        }

        fn shown(self) -> String {
            format!("column `{self}`")
        }
    }

    impl Find for usize {
        fn find(self, columns: &[String]) -> Option<usize> {
            (self < columns.len()).then_some(self)
        }

        fn shown(self) -> String {
            format!("column {self}")
        }
    }
}

impl Row {
    /// The names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The text of `column`.
    ///
    /// # Errors
    /// When there is no such column, or it is NULL or not UTF-8.
    pub fn get(&self, column: impl Column) -> Result<&str> {
        self.optional(column)?.ok_or_else(|| fault(column, "is NULL"))
    }

    /// The text of `column`; `None` when it is NULL.
    ///
    /// # Errors
    /// When there is no such column, or it is not UTF-8.
    pub fn optional(&self, column: impl Column) -> Result<Option<&str>> {
        let text = self.bytes(column)?.map(str::from_utf8).transpose();
        text.map_err(|error| fault(column, "is not UTF-8").because(error))
    }

    /// The bytes of `column`, such as a path that is in no encoding; `None` when it is NULL.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn bytes(&self, column: impl Column) -> Result<Option<&[u8]>> {
        let at = column.find(&self.columns).ok_or_else(|| fault(column, "is not there"))?;
        let range = self.values.get(at).and_then(Option::as_ref);
        Ok(range.and_then(|range| self.bytes.get(range.clone())))
    }
}

fn fault(column: impl Column, what: &str) -> Error {
    Error::new(ErrorKind::Source, format!("{} of the server's answer {what}", column.shown()))
        .remedy("the server may be of a version that is not known here")
}

/// A result that is being received.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Arc<[String]>,
    rows: Vec<Row>,
    /// Memory taken.
    size: usize,
}

impl Rows {
    /// A result without rows yet.
    pub(super) fn described(body: &RowDescriptionBody) -> io::Result<Self> {
        let columns: Vec<String> =
            body.fields().map(|field| Ok(field.name().to_owned())).collect().map_err(malformed)?;
        Ok(Rows { columns: columns.into(), rows: Vec::new(), size: 0 })
    }

    /// Adds a row. It is copied, because the buffer that it lies in may be much larger.
    pub(super) fn push(&mut self, body: &DataRowBody) -> io::Result<()> {
        let values: Box<[_]> = body.ranges().collect::<Vec<_>>().map_err(malformed)?.into();
        if values.len() != self.columns.len() {
            let what = format!("a row has {} values for {} columns", values.len(), self.columns.len());
            return Err(protocol(what));
        }
        self.size += body.buffer().len() + size_of_val(&*values) + size_of::<Row>();
        if self.size > LIMIT {
            return Err(protocol(format!("a result is larger than {LIMIT} bytes")));
        }
        self.rows.push(Row { columns: Arc::clone(&self.columns), bytes: body.buffer().into(), values });
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<Row> {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use postgres_protocol::message::backend::Message;

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Message {
        let mut bytes = BytesMut::new();
        bytes.put_u8(tag);
        bytes.put_u32(u32::try_from(body.len() + 4).unwrap());
        bytes.put_slice(body);
        Message::parse(&mut bytes).unwrap().unwrap()
    }

    fn rows(columns: &[&str]) -> Rows {
        let mut body = BytesMut::new();
        body.put_u16(u16::try_from(columns.len()).unwrap());
        for column in columns {
            body.put_slice(column.as_bytes());
            body.put_slice(&[0; 19]);
        }
        let Message::RowDescription(body) = message(b'T', &body) else { panic!("no description") };
        Rows::described(&body).unwrap()
    }

    fn push(rows: &mut Rows, values: &[Option<&[u8]>]) -> io::Result<()> {
        let mut body = BytesMut::new();
        body.put_u16(u16::try_from(values.len()).unwrap());
        for value in values {
            body.put_i32(value.map_or(-1, |value| i32::try_from(value.len()).unwrap()));
            body.put_slice(value.unwrap_or_default());
        }
        let Message::DataRow(body) = message(b'D', &body) else { panic!("no row") };
        rows.push(&body)
    }

    #[test]
    fn values_are_found_by_name_and_position() {
        let mut rows = rows(&["a", "b", "c"]);
        push(&mut rows, &[Some(b"one"), None, Some(b"\xff")]).unwrap();
        push(&mut rows, &[Some(b""), Some(b"two"), None]).unwrap();
        let rows = rows.finish();
        assert_eq!((rows[0].get("a").unwrap(), rows[0].get(0).unwrap()), ("one", "one"));
        assert_eq!((rows[1].get("a").unwrap(), rows[1].get(1).unwrap()), ("", "two"));
        assert_eq!((rows[0].optional("b").unwrap(), rows[1].optional("b").unwrap()), (None, Some("two")));
        assert_eq!(rows[0].bytes("c").unwrap(), Some(&b"\xff"[..]));
        assert_eq!(rows[0].columns(), ["a", "b", "c"]);
        for (error, part) in [
            (rows[0].get("b"), "`b` of the server's answer is NULL"),
            (rows[0].get("c"), "not UTF-8"),
            (rows[0].get("d"), "not there"),
            (rows[0].get(3), "column 3"),
        ] {
            assert!(error.unwrap_err().to_string().contains(part), "{part}");
        }
    }

    #[test]
    fn a_row_that_does_not_fit_or_has_no_room_is_refused() {
        let mut rows = rows(&["a", "b"]);
        assert!(push(&mut rows, &[None]).is_err());
        assert!(push(&mut rows, &[None, None, None]).is_err());
        rows.size = LIMIT - 100;
        assert!(push(&mut rows, &[Some(&[0; 100]), None]).unwrap_err().to_string().contains("larger"));
    }
}
