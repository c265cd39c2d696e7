//! The answer to BASE_BACKUP, read member by member: one archive for each tablespace and one for the data directory.
//!
//! Messages from PostgreSQL's documentation of the replication protocol, from version 15 on: `n` begins an archive, `d` is
//! a part of it, `p` tells how far it is.

use bytes::{Buf, Bytes};
use setpiece_core::model::Lsn;
use setpiece_core::{Error, ErrorKind, Result};

use super::tar::{BLOCK, Header, header};
use crate::client::{Client, CopyOut, CopyOutItem, Row};
use crate::session::lsn;

/// A tablespace as the server announces it: its number and where it lies.
pub(super) type Announced = (u32, String);

/// A member of an archive.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// The tablespace whose archive it is in; none for the data directory.
    pub tablespace: Option<u32>,
    pub header: Header,
}

/// A base backup while it arrives.
pub(super) struct Stream {
    out: CopyOut,
    data: Bytes,
    /// The archive that arrives.
    tablespace: Option<u32>,
    /// Bytes of the member that were not read yet, and what fills up its last block.
    left: u64,
    padding: u64,
    ended: bool,
}

/// What the server sends of the archives.
enum Part {
    Data(Bytes),
    Archive(Option<u32>),
    End,
}

impl Stream {
    /// Begins a base backup: where it begins, its timeline and the tablespaces.
    pub(super) fn begin(client: Client) -> Result<(Self, Lsn, u32, Vec<Announced>)> {
        let command = "BASE_BACKUP (LABEL 'setpiece', CHECKPOINT 'fast', WAL false, WAIT false, TABLESPACE_MAP true, \
                       MANIFEST 'no', VERIFY_CHECKSUMS false)";
        let mut out = client.copy_out(command)?;
        let (begin, timeline) = position(&rows(&mut out)?)?;
        let announced = rows(&mut out)?;
        let tablespaces = announced.iter().filter_map(|row| announced_of(row).transpose()).collect::<Result<_>>()?;
        match out.next()? {
            Some(CopyOutItem::Begin) => {}
            _ => return Err(unexpected("no stream of files")),
        }
        let stream = Stream { out, data: Bytes::new(), tablespace: None, left: 0, padding: 0, ended: false };
        Ok((stream, begin, timeline, tablespaces))
    }

    /// The next member of any archive; `None` at the end of all. What was not read of the one before is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        let mut rest = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        while rest > 0 {
            rest -= self.skip(rest)?;
        }
        while !self.ended {
            if self.data.is_empty() && !self.more()? {
                continue;
            }
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            let Some(header) = header(&block)? else {
                // The archive ends; the next one says so itself.
                self.data.clear();
                continue;
            };
            self.left = header.len;
            self.padding = header.len.next_multiple_of(BLOCK as u64) - header.len;
            return Ok(Some(Member { tablespace: self.tablespace, header }));
        }
        Ok(None)
    }

    /// Bytes of the member that were not read yet.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Reads on in the member.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<()> {
        let len = into.len() as u64;
        self.left = self.left.checked_sub(len).ok_or_else(|| unexpected("less of a file than its header says"))?;
        self.fill(into)
    }

    /// Where the backup ends; after the last member.
    pub(super) fn end(mut self) -> Result<Lsn> {
        let end = position(&rows(&mut self.out)?)?.0;
        while self.out.next()?.is_some() {}
        Ok(end)
    }

    fn fill(&mut self, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            if self.data.is_empty() && !self.more()? {
                return Err(unexpected("an archive that ends in the middle of a file"));
            }
            let (now, later) = into.split_at_mut(self.data.len().min(into.len()));
            self.data.copy_to_slice(now);
            into = later;
        }
        Ok(())
    }

    fn skip(&mut self, most: u64) -> Result<u64> {
        if self.data.is_empty() && !self.more()? {
            return Err(unexpected("an archive that ends in the middle of a file"));
        }
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(self.data.len());
        self.data.advance(count);
        Ok(count as u64)
    }

    /// Waits for more of the archive; false when it is over, with the next one begun or none left.
    fn more(&mut self) -> Result<bool> {
        match self.part()? {
            Part::Data(data) => {
                self.data = data;
                Ok(!self.data.is_empty())
            }
            Part::Archive(tablespace) => {
                self.tablespace = tablespace;
                Ok(false)
            }
            Part::End => {
                self.ended = true;
                Ok(false)
            }
        }
    }

    fn part(&mut self) -> Result<Part> {
        loop {
            let mut data = match self.out.next()? {
                Some(CopyOutItem::Data(data)) if !data.is_empty() => data,
                Some(CopyOutItem::End) => return Ok(Part::End),
                _ => return Err(unexpected("no data where the files were to go on")),
            };
            match data.get_u8() {
                b'd' if data.is_empty() => {}
                b'd' => return Ok(Part::Data(data)),
                b'n' => return archive(&data).map(Part::Archive),
                b'p' => {}
                other => return Err(unexpected(&format!("a message of kind {other}"))),
            }
        }
    }
}

/// The tablespace of an archive, by its name: `base.tar`, or its number.
fn archive(message: &[u8]) -> Result<Option<u32>> {
    let name = message.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    match name.strip_suffix(".tar") {
        Some("base") => Ok(None),
        Some(number) => number.parse().map(Some).map_err(|_| unexpected(&format!("an archive called {name}"))),
        None => Err(unexpected(&format!("an archive called {name}"))),
    }
}

fn rows(out: &mut CopyOut) -> Result<Vec<Row>> {
    match out.next()? {
        Some(CopyOutItem::Rows(rows)) => Ok(rows),
        _ => Err(unexpected("no result where one belongs")),
    }
}

fn position(rows: &[Row]) -> Result<(Lsn, u32)> {
    let row = rows.first().ok_or_else(|| unexpected("an empty result"))?;
    let timeline = row.get(1)?.parse().map_err(|_| unexpected("a timeline that is no number"))?;
    Ok((lsn(row.get(0)?)?, timeline))
}

/// The row of the data directory has no number.
fn announced_of(row: &Row) -> Result<Option<Announced>> {
    let Some(number) = row.optional(0)? else { return Ok(None) };
    let number = number.parse().map_err(|_| unexpected("a tablespace whose number is none"))?;
    Ok(Some((number, row.optional(1)?.unwrap_or_default().to_owned())))
}

fn unexpected(what: &str) -> Error {
    Error::new(ErrorKind::Source, format!("the server's base backup has {what}"))
        .remedy("look at the server's log, then back up again")
}
