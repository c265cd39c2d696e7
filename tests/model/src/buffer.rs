//! The buffer cache: pages and blocks in memory, since when they are dirty, and what redo must be on disk before them.

use std::collections::BTreeMap;

use setpiece_core::model::Lsn;

use crate::page::FileKey;

/// A page of a paged file or a block of a plain one.
pub(crate) type Place = (FileKey, u64);

/// What the cache holds for a place.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// A whole page; a block of a plain file is filled up with zeros behind the end of the file.
    pub(crate) bytes: Vec<u8>,
    /// The first change that is not on disk.
    pub(crate) dirty_since: Option<Lsn>,
    /// For each node the last of its changes: its redo goes to disk before the page does.
    pub(crate) needs: Vec<Lsn>,
}

/// All frames. Grows until clean frames are evicted.
#[derive(Debug, Default)]
pub(crate) struct Cache(BTreeMap<Place, Frame>);

impl Cache {
    pub(crate) fn get(&self, at: Place) -> Option<&Frame> {
        self.0.get(&at)
    }

    pub(crate) fn get_mut(&mut self, at: Place) -> Option<&mut Frame> {
        self.0.get_mut(&at)
    }

    pub(crate) fn insert(&mut self, at: Place, bytes: Vec<u8>, nodes: usize) {
        let frame = Frame { bytes, dirty_since: None, needs: vec![Lsn(0); nodes] };
        self.0.insert(at, frame);
    }

    /// The dirty places, those that have been so for longest first.
    pub(crate) fn dirty(&self) -> Vec<Place> {
        let since = |(at, frame): (&Place, &Frame)| frame.dirty_since.map(|lsn| (lsn, *at));
        let mut dirty: Vec<(Lsn, Place)> = self.0.iter().filter_map(since).collect();
        dirty.sort_unstable();
        dirty.into_iter().map(|(_, at)| at).collect()
    }

    /// The first change that is not on disk.
    pub(crate) fn oldest_dirty(&self) -> Option<Lsn> {
        self.0.values().filter_map(|frame| frame.dirty_since).min()
    }

    /// Forgets clean frames.
    pub(crate) fn evict(&mut self) {
        self.0.retain(|_, frame| frame.dirty_since.is_some());
    }

    /// Forgets everything of `file` from page `first` on, dirty or not.
    pub(crate) fn discard(&mut self, file: FileKey, first: u64) {
        self.0.retain(|(key, page), _| *key != file || *page < first);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
