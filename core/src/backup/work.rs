//! The work of a backup, cut into extents that the channels take one after the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::filter::FilePlan;
use crate::catalog::index::{section_of, section_run};
use crate::error::Result;
use crate::model::{FileEntry, PageRun};

/// Raw bytes that a channel takes at once.
pub(super) const EXTENT: u64 = 4 << 20;

/// A stretch of one file within one section.
#[derive(Clone)]
pub(super) struct Extent {
    /// The file, counted in the list of files.
    pub file: usize,
    /// How its pages are chosen.
    pub plan: Arc<FilePlan>,
    /// The pages to look at.
    pub pages: PageRun,
}

/// Hands out extents in ascending order of file and page. A file is planned when its turn comes, so that nothing has to
/// be known of all files at once.
pub(super) struct WorkQueue<'a, F> {
    files: &'a [FileEntry],
    plan: F,
    cursor: Mutex<Cursor>,
}

#[derive(Default)]
struct Cursor {
    file: usize,
    /// The plan of the file and the runs of pages that are left.
    current: Option<(Arc<FilePlan>, VecDeque<PageRun>)>,
}

impl<'a, F: Fn(&FileEntry) -> Result<FilePlan> + Sync> WorkQueue<'a, F> {
    pub(super) fn new(files: &'a [FileEntry], plan: F) -> Self {
        WorkQueue { files, plan, cursor: Mutex::default() }
    }

    /// The next extent; `None` when all are taken.
    pub(super) fn next(&self) -> Result<Option<Extent>> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(entry) = self.files.get(cursor.file) {
            let (plan, mut left) = match cursor.current.take() {
                Some(current) => current,
                None => {
                    let mut plan = (self.plan)(entry)?;
                    let look = std::mem::take(&mut plan.look);
                    (Arc::new(plan), look.runs().iter().copied().collect())
                }
            };
            if let Some(first) = left.pop_front() {
                let pages = cut(entry, first);
                if first.count > pages.count {
                    left.push_front(PageRun::new(pages.end(), first.count - pages.count));
                }
                cursor.current = Some((plan.clone(), left));
                return Ok(Some(Extent { file: cursor.file, plan, pages }));
            }
            cursor.file += 1;
        }
        Ok(None)
    }
}

/// The beginning of a run, up to an extent's size and the end of its section.
fn cut(entry: &FileEntry, run: PageRun) -> PageRun {
    let most = (EXTENT / u64::from(entry.page_size.max(1))).max(1);
    let short = PageRun::new(run.first.0, run.count.min(most));
    let section = section_run(entry, section_of(entry, run.first.0));
    section.and_then(|section| section.intersect(short)).unwrap_or(short)
}
