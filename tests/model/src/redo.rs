//! Redo: what a physical transaction records, and the packages in which redo is written.
//!
//! A package describes itself. Its header, little-endian, 60 bytes: magic `MDLREDO\n`, `version u32, node u32, branch
//! u64, seq u64, after u64, upto u64, transactions u32, body length u32, crc32 u32` (over the header before it and the
//! body). The body is CBOR. `upto` says that all redo of the node up to there is in this package and those before it; a
//! node that had nothing to do writes empty packages now and then, so that others need not wait for it.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use setpiece_core::model::log::FileChanges;
use setpiece_core::model::{
    BranchId, FileEntry, FileId, LogUnit, Lsn, LsnSpan, NodeId, PageRun, PageSet, Seq, Tablespace, TablespaceId,
    Timestamp,
};
use setpiece_core::{Error, ErrorKind, Result};

use crate::page::FileKey;

const MAGIC: &[u8; 8] = b"MDLREDO\n";
const VERSION: u32 = 1;
/// Bytes of a package's header.
pub(crate) const HEADER: usize = 60;
/// The largest body that is read.
const MAX_BODY: usize = 64 << 20;

/// One change of a physical transaction.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Op {
    /// Some bytes of a page, which was last changed at `prev`.
    #[n(0)]
    Patch {
        /// The file.
        #[n(0)]
        file: FileKey,
        /// The page.
        #[n(1)]
        page: u64,
        /// The LSN of the page before.
        #[n(2)]
        prev: Lsn,
        /// Where in the page.
        #[n(3)]
        offset: u32,
        /// What is there now.
        #[n(4)]
        #[cbor(with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
    /// A whole page, whatever was there before.
    #[n(1)]
    Image {
        /// The file.
        #[n(0)]
        file: FileKey,
        /// The page.
        #[n(1)]
        page: u64,
        /// Header and body.
        #[n(2)]
        #[cbor(with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
    /// The page was allocated and is zeros.
    #[n(2)]
    Zero {
        /// The file.
        #[n(0)]
        file: FileKey,
        /// The page.
        #[n(1)]
        page: u64,
    },
    /// Bytes of a plain file, within one block.
    #[n(3)]
    Write {
        /// The file.
        #[n(0)]
        file: FileKey,
        /// Where in the file.
        #[n(1)]
        offset: u64,
        /// Bytes in a block of the file.
        #[n(2)]
        block: u32,
        /// What is there now.
        #[n(3)]
        #[cbor(with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
    /// A file of zeros was made.
    #[n(4)]
    Create(#[n(0)] FileEntry),
    /// A file was dropped.
    #[n(5)]
    Drop(#[n(0)] FileKey),
    /// A file was cut, or extended by zeros.
    #[n(6)]
    Resize {
        /// The file.
        #[n(0)]
        file: FileKey,
        /// Bytes before.
        #[n(1)]
        from: u64,
        /// Bytes now.
        #[n(2)]
        to: u64,
        /// Bytes in a page of the file.
        #[n(3)]
        page_size: u32,
    },
    /// A tablespace was made.
    #[n(7)]
    MakeSpace(#[n(0)] Tablespace),
    /// An empty tablespace was dropped.
    #[n(8)]
    DropSpace(#[n(0)] TablespaceId),
}

impl Op {
    /// The pages whose content the change touches; `None` when it touches none.
    fn touched(&self) -> Option<(FileId, PageRun)> {
        match self {
            Op::Patch { file, page, .. } | Op::Image { file, page, .. } | Op::Zero { file, page } => {
                Some((file.id, PageRun::new(*page, 1)))
            }
            Op::Write { file, offset, block, .. } => Some((file.id, PageRun::new(offset / u64::from(*block), 1))),
            Op::Create(entry) => Some((entry.id, PageRun::new(0, entry.pages()))),
            // A cut leaves nothing to read; a file that grows has new content from its old end on.
            Op::Resize { file, from, to, page_size } => {
                let (first, end) = (from / u64::from(*page_size), to.div_ceil(u64::from(*page_size)));
                Some((file.id, PageRun::new(first, end.saturating_sub(first))))
            }
            Op::Drop(_) | Op::MakeSpace(_) | Op::DropSpace(_) => None,
        }
    }
}

/// A physical transaction: changes that happen together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ptx {
    /// Its number, unique over all nodes.
    #[n(0)]
    pub lsn: Lsn,
    /// When it was committed.
    #[n(1)]
    pub time: Timestamp,
    /// What it changed, in order.
    #[n(2)]
    pub ops: Vec<Op>,
}

/// A package of redo of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The log stream.
    pub node: NodeId,
    /// The branch it was written on.
    pub branch: BranchId,
    /// Its number on that node and branch.
    pub seq: Seq,
    /// From the last LSN of the package before it to the last that it vouches for.
    pub span: LsnSpan,
    /// The transactions; with a parallel log not in the order of their LSNs.
    pub transactions: Vec<Ptx>,
}

impl Package {
    /// The bytes as they are written and handed to core.
    ///
    /// # Errors
    /// When the package is too large.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let body = minicbor::to_vec(&self.transactions)
            .map_err(|error| Error::new(ErrorKind::Internal, "redo cannot be encoded").because(error.to_string()))?;
        if body.len() > MAX_BODY {
            return Err(Error::new(ErrorKind::Source, "redo package is too large"));
        }
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.node.0.to_le_bytes());
        for number in [self.branch.0, self.seq.0, self.span.after.0, self.span.upto.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&(self.transactions.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        let crc = checksum(&bytes, &body);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// Reads the package at the beginning of `bytes` and says how many bytes it has.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when there is no whole package there.
    pub fn decode(bytes: &[u8]) -> Result<(Package, usize)> {
        let wrong = |what: &str| Error::damaged("redo package", what);
        let header = bytes.first_chunk::<HEADER>().ok_or_else(|| wrong("shorter than its header"))?;
        if header[..8] != MAGIC[..] || short(header, 8) != VERSION {
            return Err(wrong("has no header of a known version"));
        }
        let (count, len) = (short(header, 48), short(header, 52) as usize);
        let body = bytes[HEADER..].get(..len).filter(|_| len <= MAX_BODY).ok_or_else(|| wrong("is cut off"))?;
        if checksum(&header[..56], body) != short(header, 56) {
            return Err(wrong("checksum does not match"));
        }
        let transactions: Vec<Ptx> =
            minicbor::decode(body).map_err(|error| wrong("cannot be decoded").because(error.to_string()))?;
        let span = LsnSpan::new(Lsn(long(header, 32)), Lsn(long(header, 40))).ok_or_else(|| wrong("runs backwards"))?;
        if transactions.len() != count as usize || transactions.iter().any(|ptx| !span.contains(ptx.lsn)) {
            return Err(wrong("does not hold what its header says"));
        }
        let (node, branch, seq) = (NodeId(short(header, 12)), BranchId(long(header, 16)), Seq(long(header, 24)));
        Ok((Package { node, branch, seq, span, transactions }, HEADER + len))
    }

    /// How core records the package, which is `len` bytes long; with the pages it changes if the engine tells them.
    #[must_use]
    pub fn unit(&self, len: u64, tell_changes: bool) -> LogUnit {
        let times = || self.transactions.iter().map(|ptx| ptx.time);
        LogUnit {
            node: self.node,
            branch: self.branch,
            seq: self.seq,
            span: self.span,
            first_commit: times().min(),
            last_commit: times().max(),
            len,
            changes: tell_changes.then(|| file_changes(&self.transactions)),
            name: Some(format!("b{}-n{}-{:08}", self.branch, self.node, self.seq.0)),
            links: None,
            timing: None,
            points: None,
        }
    }
}

/// The pages that `transactions` change, file by file.
pub(crate) fn file_changes<'p>(transactions: impl IntoIterator<Item = &'p Ptx>) -> Vec<FileChanges> {
    let mut files: BTreeMap<FileId, PageSet> = BTreeMap::new();
    for (file, run) in transactions.into_iter().flat_map(|ptx| &ptx.ops).filter_map(Op::touched) {
        files.entry(file).or_default().insert(run);
    }
    files.into_iter().map(|(file, pages)| FileChanges { file, pages }).collect()
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

fn short(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}
