//! A unit of captured redo: transactions as SQLite wrote them to its log, in the order of their commits.
//!
//! All numbers are little-endian.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `SPSQLOG\n` |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | zero |
//! | 12 | 4 | bytes of a page, 512 to 65536 |
//! | 16 | 4 | transactions, at least 1 |
//! | 20 | 4 | zero |
//! | 24 | 8 | the two salts of the log |
//! | 32 | 8 | the running checksum of the log before the first frame, two halves |
//! | 40 | 8 | the same after the last frame |
//! | 48 | | the transactions |
//!
//! A transaction:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | LSN of its commit |
//! | 8 | 8 | when the commit was seen, in microseconds since 1970 |
//! | 16 | 4 | pages of the database after it; 0 when the transaction goes on in the next unit |
//! | 20 | 4 | page images |
//! | 24 | | for each: 4 bytes page number, counted from 1, then the page |
//!
//! All transactions of a unit are of one generation of the log. Salts and checksums are SQLite's own; with them units
//! that follow each other in the same generation prove that nothing is missing or mixed up between them.
//!
//! A transaction holds the last image of each page that it wrote, none behind the end of the database.
//!
//! A transaction that is too large for a unit is cut into parts. All but the last are alone in their units; instead of
//! the LSN of the commit they have that of their last frame, their time means nothing, and their pages may lie behind
//! the end of the database. The last part ends with the commit; an image in it, or in a later part, replaces those in
//! the parts before. Nothing of it is to be applied as long as the commit has not come.

use setpiece_core::model::{Lsn, Timestamp};

use crate::bytes::is_page_size;
use crate::wal::{Salts, Sum};

const MAGIC: &[u8; 8] = b"SPSQLOG\n";
const VERSION: u16 = 1;
const HEAD: usize = 48;
const COUNT_AT: usize = 16;
const AFTER_AT: usize = 40;

/// Writes a unit.
#[derive(Debug)]
pub(crate) struct UnitWriter {
    bytes: Vec<u8>,
    transactions: u32,
}

impl UnitWriter {
    /// A unit without transactions, behind the place of the log where the checksum is `before`.
    pub(crate) fn new(page_size: u32, salts: Salts, before: Sum) -> Self {
        let mut bytes = Vec::with_capacity(HEAD);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&page_size.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        for number in salts.into_iter().chain(before) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; 8]);
        UnitWriter { bytes, transactions: 0 }
    }

    /// Adds a transaction, or a part of one, for which `database` is 0; `pages` are page numbers and images, none twice.
    pub(crate) fn add<'p>(
        &mut self,
        lsn: Lsn,
        seen: Timestamp,
        database: u32,
        pages: impl ExactSizeIterator<Item = (u32, &'p [u8])>,
    ) {
        let count = u32::try_from(pages.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&lsn.0.to_le_bytes());
        self.bytes.extend_from_slice(&seen.0.to_le_bytes());
        self.bytes.extend_from_slice(&database.to_le_bytes());
        self.bytes.extend_from_slice(&count.to_le_bytes());
        for (page, image) in pages {
            self.bytes.extend_from_slice(&page.to_le_bytes());
            self.bytes.extend_from_slice(image);
        }
        self.transactions += 1;
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes of the unit, whose last frame has the checksum `after`.
    pub(crate) fn finish(mut self, after: Sum) -> Vec<u8> {
        self.bytes[AFTER_AT..AFTER_AT + 4].copy_from_slice(&after[0].to_le_bytes());
        self.bytes[AFTER_AT + 4..HEAD].copy_from_slice(&after[1].to_le_bytes());
        self.bytes[COUNT_AT..COUNT_AT + 4].copy_from_slice(&self.transactions.to_le_bytes());
        self.bytes
    }
}

/// A transaction of a unit, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transaction<'b> {
    /// The LSN of its commit, or of the end of the part.
    pub(crate) lsn: Lsn,
    /// When the commit was seen.
    pub(crate) seen: Timestamp,
    /// Pages of the database after it; 0 when it goes on in the next unit.
    pub(crate) database: u32,
    page_size: usize,
    images: &'b [u8],
}

impl<'b> Transaction<'b> {
    /// Whether this is a part behind which the transaction goes on.
    pub(crate) fn goes_on(&self) -> bool {
        self.database == 0
    }

    /// Page numbers, counted from 1, and images.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (u32, &'b [u8])> + use<'b> {
        self.images.chunks_exact(4 + self.page_size).filter_map(|bytes| {
            let (number, image) = bytes.split_first_chunk::<4>()?;
            Some((u32::from_le_bytes(*number), image))
        })
    }
}

/// A unit as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit<'b> {
    /// Bytes of a page.
    pub(crate) page_size: u32,
    /// The generation of the log.
    pub(crate) salts: Salts,
    /// The running checksum before it.
    pub(crate) before: Sum,
    /// The running checksum after it.
    pub(crate) after: Sum,
    /// The transactions, at least one.
    pub(crate) transactions: Vec<Transaction<'b>>,
}

/// Takes the bytes from the front one number after the other.
struct Taker<'b>(&'b [u8]);

impl<'b> Taker<'b> {
    fn bytes(&mut self, count: usize) -> Result<&'b [u8], &'static str> {
        let (head, rest) = self.0.split_at_checked(count).ok_or("it ends in the middle")?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or("it ends in the middle")?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Reads a unit and checks its form.
///
/// # Errors
/// Words that say what is wrong with it. Nothing is allocated by what the bytes claim.
pub(crate) fn read_unit(bytes: &[u8]) -> Result<Unit<'_>, &'static str> {
    let mut taker = Taker(bytes);
    if taker.array()? != *MAGIC {
        return Err("it is no redo of SQLite");
    }
    if u16::from_le_bytes(taker.array()?) != VERSION {
        return Err("it has a version that is not known here");
    }
    if taker.array()? != [0; 2] {
        return Err("reserved bytes are not zero");
    }
    let (page_size, count) = (taker.u32()?, taker.u32()?);
    if !is_page_size(page_size) {
        return Err("it names a page size that SQLite cannot have");
    }
    if taker.u32()? != 0 || count == 0 {
        return Err("it holds nothing, or reserved bytes are not zero");
    }
    let mut pair = || Ok::<_, &'static str>([taker.u32()?, taker.u32()?]);
    let (salts, before, after) = (pair()?, pair()?, pair()?);
    let mut transactions: Vec<Transaction<'_>> = Vec::new();
    for _ in 0..count {
        let transaction = read_transaction(&mut taker, page_size as usize)?;
        if transactions.last().is_some_and(|last| last.lsn >= transaction.lsn) {
            return Err("its LSNs do not ascend");
        }
        if transaction.goes_on() && count != 1 {
            return Err("a part of a transaction is not alone");
        }
        transactions.push(transaction);
    }
    if !taker.0.is_empty() {
        return Err("there are bytes behind its end");
    }
    Ok(Unit { page_size, salts, before, after, transactions })
}

fn read_transaction<'b>(taker: &mut Taker<'b>, page_size: usize) -> Result<Transaction<'b>, &'static str> {
    let lsn = Lsn(taker.u64()?);
    let seen = Timestamp(i64::from_le_bytes(taker.array()?));
    let (database, count) = (taker.u32()?, taker.u32()? as usize);
    let len = count.checked_mul(4 + page_size).ok_or("a transaction is too long")?;
    let transaction = Transaction { lsn, seen, database, page_size, images: taker.bytes(len)? };
    let inside = |page: u32| page != 0 && (page <= database || transaction.goes_on());
    if !transaction.pages().all(|(page, _)| inside(page)) {
        return Err("a page lies outside of the database");
    }
    Ok(transaction)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(transactions: &[(u64, u32, Vec<u32>)]) -> Vec<u8> {
        let mut writer = UnitWriter::new(512, [1, 2], [3, 4]);
        for (lsn, database, pages) in transactions {
            let images: Vec<Vec<u8>> = pages.iter().map(|page| vec![*page as u8; 512]).collect();
            let pages = pages.iter().copied().zip(images.iter().map(Vec::as_slice)).collect::<Vec<_>>();
            writer.add(Lsn(*lsn), Timestamp(*lsn as i64 * 10), *database, pages.into_iter());
        }
        writer.finish([5, 6])
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = unit(&[(5, 9, vec![1, 9]), (7, 1, vec![]), (8, 4, vec![4])]);
        let unit = read_unit(&bytes).unwrap();
        assert_eq!((unit.page_size, unit.salts, unit.before, unit.after), (512, [1, 2], [3, 4], [5, 6]));
        let read = unit.transactions;
        let pages: Vec<Vec<u32>> = read.iter().map(|one| one.pages().map(|(page, _)| page).collect()).collect();
        assert_eq!(pages, [vec![1, 9], vec![], vec![4]]);
        assert!(read[0].pages().all(|(page, image)| image == vec![page as u8; 512]));
        assert_eq!((read[2].lsn, read[2].seen, read[2].database), (Lsn(8), Timestamp(80), 4));
        let part = [(5, 0, vec![7, 3])];
        let bytes = self::unit(&part);
        let read = read_unit(&bytes).unwrap().transactions;
        assert!(read[0].goes_on() && read[0].pages().map(|(page, _)| page).eq([7, 3]));
    }

    #[test]
    fn wrong_units_are_refused() {
        let good = unit(&[(5, 9, vec![1, 9])]);
        for len in 0..good.len() {
            assert!(read_unit(&good[..len]).is_err(), "cut at {len}");
        }
        assert!(read_unit(&[&good[..], b"x"].concat()).is_err());
        assert!(read_unit(&unit(&[(5, 9, vec![10])])).is_err(), "page behind the end");
        assert!(read_unit(&unit(&[(5, 9, vec![0])])).is_err(), "page 0");
        assert!(read_unit(&unit(&[(5, 0, vec![0])])).is_err(), "page 0 in a part");
        assert!(read_unit(&unit(&[(5, 0, vec![1]), (6, 1, vec![])])).is_err(), "a part that is not alone");
        assert!(read_unit(&unit(&[(5, 9, vec![]), (5, 9, vec![])])).is_err(), "LSNs that do not ascend");
        assert!(read_unit(&unit(&[])).is_err(), "no transactions");
        let mut lie = good.clone();
        lie[HEAD + 20..HEAD + 24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read_unit(&lie).is_err(), "more pages than there are");
        let mut lie = good;
        lie[COUNT_AT..COUNT_AT + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read_unit(&lie).is_err(), "more transactions than there are");
    }

    proptest! {
        /// Hostile bytes are refused or read, without a panic.
        #[test]
        fn any_bytes_are_survived(mut tail in proptest::collection::vec(any::<u8>(), 0..2000), flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
            let _any_result = read_unit(&tail);
            let mut bytes = unit(&[(5, 9, vec![1, 9]), (7, 1, vec![1])]);
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _any_result = read_unit(&bytes);
            bytes.truncate(HEAD);
            bytes.append(&mut tail);
            let _any_result = read_unit(&bytes);
        }
    }
}
