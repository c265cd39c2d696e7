//! Segments in the server's log directory, by name and along timelines.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use setpiece_core::model::{BranchHistory, Lsn, Seq};
use setpiece_core::{Error, Result};

use crate::wal::{DESCRIBED, SegmentName, SegmentSize, describe};

/// The log directory of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct SegmentFiles {
    pub directory: PathBuf,
    pub system_identifier: u64,
    pub size: SegmentSize,
    /// Bytes of a block of a relation.
    pub block_size: u32,
}

impl SegmentFiles {
    /// The name of segment `number` along a history: of the newest timeline that has redo in it.
    pub(super) fn name(&self, history: &BranchHistory, number: Seq) -> Option<SegmentName> {
        let end = Lsn(self.size.start(number)?.0.checked_add(self.size.bytes())?);
        let left = history.points.iter().find(|point| point.fork >= end).map(|point| point.parent);
        SegmentName::new(u32::try_from(left.unwrap_or(history.current).0).ok()?, number, self.size)
    }

    /// Opens a segment; `None` when it is gone, or the file of this name was made ahead and still holds another.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn open(&self, name: SegmentName) -> Result<Option<File>> {
        let path = self.directory.join(name.to_string());
        let failed = |error| Error::io(path.display().to_string(), error);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut front = [0; DESCRIBED];
        match file.read_exact(&mut front) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.map_err(failed)?,
        }
        let is_it = describe(&front).is_ok_and(|info| info.check(name, self.system_identifier).is_ok());
        Ok(is_it.then_some(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use setpiece_core::model::BranchId;

    #[test]
    fn a_segment_is_of_the_newest_timeline_that_wrote_into_it() {
        let size = SegmentSize::new(1 << 20).unwrap();
        let files = SegmentFiles { directory: PathBuf::new(), system_identifier: 1, size, block_size: 8192 };
        let history = BranchHistory::first(BranchId(1));
        let history = history.fork(BranchId(2), Lsn(0x30_0000), None).fork(BranchId(5), Lsn(0x48_0000), None);
        let timelines = (0..6).map(|number| files.name(&history, Seq(number)).unwrap().timeline);
        assert_eq!(timelines.collect::<Vec<_>>(), [1, 1, 1, 2, 5, 5]);
        assert_eq!(files.name(&history, Seq(u64::MAX)), None);
    }
}
