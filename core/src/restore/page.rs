//! One page by itself: the newest image that a chain has of it, from the only frame that holds it.

use crate::catalog::index::{ChainIndex, LiveFrame, section_of};
use crate::catalog::{Catalog, LATEST, Surroundings, pieces};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::format::RunKind;
use crate::media::repository::{Repository, read_range};
use crate::model::{FileEntry, SetSummary};
use crate::source::{PageState, Recovery};

/// Which page is wanted.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// The source, by name, identifier or the beginning of one; may be left out when the repository has one only.
    pub source: Option<String>,
    /// The set; the newest when it is left out.
    pub set: Option<String>,
    /// The file's path below the source's directory.
    pub file: String,
    /// The page, counted in the file.
    pub page: u64,
}

/// A page that was read back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PageImage {
    /// The set that was asked; the image may come from one below it.
    pub set: SetSummary,
    /// The name of the set that holds the image; `None` for a page of zeros, which is not stored.
    pub held_by: Option<String>,
    /// The file.
    pub file: FileEntry,
    /// What the engine says of the page; `None` when nothing here knows the engine.
    pub state: Option<PageState>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Reads one page. No redo is applied to it.
///
/// # Errors
/// [`ErrorKind::NotFound`] when the set has no such file or page; [`ErrorKind::Damaged`] when it is not what was stored.
pub fn page(
    repository: &Repository,
    recoveries: &[&dyn Recovery],
    request: &PageRequest,
    around: Surroundings<'_>,
) -> Result<PageImage> {
    let catalog = Catalog::load(repository, around.cache)?;
    let source = catalog.find_source(request.source.as_deref())?;
    let set = catalog.find_of(source, request.set.as_deref().unwrap_or(LATEST))?.summary.clone();
    let chain = ChainIndex::open(repository, &catalog.chain(set.id)?, false).doing(|| "opening the chain".into())?;
    let file = find_file(&chain, request)?;
    let missing = |what: String| Error::new(ErrorKind::NotFound, what).on(format!("set {} {}", set.name, file.path));
    if request.page >= file.pages() {
        return Err(missing(format!("has {} pages, so there is no page {}", file.pages(), request.page)));
    }
    let map = chain.section(repository, &file, section_of(&file, request.page))?;
    let frame = map.frames.iter().find(|frame| frame.pages.contains(request.page));
    let is_zero = map.zero.contains(request.page) || map.free.contains(request.page);
    let len = u64::from(file.page_size).min(file.len - file.offset(request.page));
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let (bytes, held_by) = match frame {
        Some(frame) => {
            let name = chain.sets().get(frame.set).map(|set| set.meta.summary.name.clone());
            (read(repository, &chain, frame, request.page, len)?, name)
        }
        None if is_zero => (vec![0; len], None),
        None => {
            let text = format!("no set of the chain holds page {}", request.page);
            return Err(Error::damaged(format!("set {} file {}", set.name, file.path), text).remedy("use another set"));
        }
    };
    let engine = recoveries.iter().find(|recovery| recovery.engine() == set.engine);
    let state = engine.map(|engine| engine.inspect(&file, request.page, &bytes));
    Ok(PageImage { set, held_by, file, state, bytes })
}

/// A file by its path below the source's directory; one of a tablespace elsewhere also by a path that ends with the
/// number of the tablespace and the file's path in it.
fn find_file(chain: &ChainIndex, request: &PageRequest) -> Result<FileEntry> {
    let meta = &chain.newest()?.meta;
    let is_meant = |file: &&FileEntry| {
        let path = file.path.as_str();
        let below = || format!("/{}/{path}", file.tablespace.0);
        path == request.file || request.file.ends_with(&below())
    };
    let mut found = meta.files.iter().filter(is_meant);
    match (found.next(), found.next()) {
        (Some(file), None) => Ok(file.clone()),
        (None, _) => Err(Error::new(ErrorKind::NotFound, "the set has no such file")
            .on(request.file.clone())
            .remedy("`setpiece show SET --json` lists the files of a set")),
        (Some(_), Some(_)) => Err(Error::new(ErrorKind::Usage, "several tablespaces have a file of this path")
            .on(request.file.clone())
            .remedy("say it as pg_tblspc/NUMBER/PATH")),
    }
}

fn read(repository: &Repository, chain: &ChainIndex, frame: &LiveFrame, page: u64, len: usize) -> Result<Vec<u8>> {
    let set = &chain.sets()[frame.set];
    let piece = &set.pieces[frame.piece];
    let medium = &**repository.medium();
    let mut reader = pieces::reader(medium, set.meta.summary.id, &piece.info, set.key.as_ref())?;
    let stored = read_range(medium, &piece.name, frame.entry.offset, u64::from(frame.entry.stored_len))?;
    let mut raw = Vec::new();
    let table = reader.pages(&frame.entry, &stored, &mut raw).map_err(|error| error.on(piece.name.to_string()))?;
    let mut before = 0u64;
    for run in table.runs.iter().filter(|run| run.kind == RunKind::Data) {
        if (run.run.first.0..run.run.end()).contains(&page) {
            before += page - run.run.first.0;
            break;
        }
        before += run.run.count;
    }
    let from = usize::try_from(before * u64::from(table.page_size)).unwrap_or(usize::MAX);
    let bytes = from.checked_add(len).and_then(|upto| raw.get(from..upto));
    bytes
        .map(<[u8]>::to_vec)
        .ok_or_else(|| Error::damaged(piece.name.to_string(), "the frame holds less than its table says"))
}
