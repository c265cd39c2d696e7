//! `setpiece restore --page`: one page into a file.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use setpiece::restore::{PageImage, PageRequest};
use setpiece::source::PageState;
use setpiece::{Error, ErrorKind, Result, Setpiece};

use crate::console::Answer;
use crate::documents::SetDocument;

/// A page's place: its file and its number in it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    file: String,
    page: u64,
}

#[derive(Serialize)]
struct Document {
    to: PathBuf,
    set: SetDocument,
    held_by: Option<String>,
    file: String,
    page: u64,
    bytes: usize,
    lsn: Option<u64>,
    fault: Option<String>,
}

/// Reads `FILE:PAGE`.
pub(super) fn place(text: &str) -> Result<Place, String> {
    let parts = text.rsplit_once(':').and_then(|(file, page)| Some((file, page.parse().ok()?)));
    match parts {
        Some((file, page)) if !file.is_empty() => Ok(Place { file: file.into(), page }),
        _ => Err("expected FILE:PAGE, such as base/5/16384:17".into()),
    }
}

pub(super) fn request(place: &Place, source: Option<String>, set: Option<String>) -> PageRequest {
    PageRequest { source, set, file: place.file.clone(), page: place.page }
}

pub(super) fn run(setpiece: &Setpiece, request: &PageRequest, to: &Path) -> Result<Answer> {
    setpiece.refuse_inside(to)?;
    let image = setpiece.page(request)?;
    write(to, &image.bytes)?;
    let (lsn, fault) = match &image.state {
        Some(PageState::At(lsn)) => (Some(lsn.0), None),
        Some(PageState::Bad(fault)) => (None, Some(fault.clone())),
        _ => (None, None),
    };
    let text = in_words(&image, request.page, to, lsn, fault.as_deref());
    let document = Document {
        to: to.to_owned(),
        set: (&image.set).into(),
        held_by: image.held_by,
        file: image.file.path.to_string(),
        page: request.page,
        bytes: image.bytes.len(),
        lsn,
        fault,
    };
    Answer::new(&document, text)
}

fn in_words(image: &PageImage, page: u64, to: &Path, lsn: Option<u64>, fault: Option<&str>) -> String {
    let file = &image.file.path;
    let mut text = format!("page {page} of {file}, {} bytes, written to {}\n", image.bytes.len(), to.display());
    text += &match (&image.held_by, lsn, fault) {
        (_, _, Some(fault)) => format!("  it is damaged: {fault}\n"),
        (Some(held_by), Some(lsn), _) => format!("  last changed at LSN {lsn}, from set {held_by}\n"),
        (Some(held_by), None, _) => format!("  it bears no LSN; from set {held_by}\n"),
        (None, ..) => "  it is all zeros\n".to_owned(),
    };
    text + &format!(
        "  as set {} has it, which is consistent at LSN {}: what was changed behind that is not in it\n",
        image.set.name, image.set.bak_end_lsn
    )
}

fn write(to: &Path, bytes: &[u8]) -> Result<()> {
    let place = || to.display().to_string();
    let made = OpenOptions::new().write(true).create_new(true).open(to).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(ErrorKind::Target, "is there already and is not overwritten")
            .on(place())
            .remedy("name a file that does not exist yet"),
        _ => Error::io(place(), error),
    })?;
    (&made).write_all(bytes).and_then(|()| made.sync_all()).map_err(|error| Error::io(place(), error))
}
