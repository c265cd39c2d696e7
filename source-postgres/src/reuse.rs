//! Whether a restore may rewrite a data directory that is there already.

use std::fs;
use std::path::Path;

use setpiece_core::model::{RelPath, SourceId};
use setpiece_core::source::Reuse;
use setpiece_core::{Error, ErrorKind, Result};

use crate::control::Control;
use crate::dialect::Dialect;
use crate::directory::lock_file;
use crate::identity::source_id;

/// Proves that `directory` is a cluster of `source` whose server does not run.
pub(crate) fn reuse(directory: &Path, dialect: Dialect, source: SourceId, unfinished: bool) -> Result<Reuse> {
    let refused = |what: String, remedy: &str| {
        Err(Error::new(ErrorKind::Target, what).on(directory.display().to_string()).remedy(remedy))
    };
    if let Some(lock) = lock_file(directory) {
        let remedy = "stop the server; if it was killed and does not run any more, remove that file";
        return refused(format!("the server runs: {} exists", lock.display()), remedy);
    }
    let control = directory.join(dialect.control_file());
    // Without it the directory is proven by the mark of the restore that took it away.
    if !unfinished || control.exists() {
        let found = Control::read(directory, dialect).map_err(|error| {
            Error::new(ErrorKind::Target, "is not known to be a data directory of this cluster")
                .on(directory.display().to_string())
                .remedy("restore into a new directory")
                .because(error)
        })?;
        let (cluster, _) = found;
        if source_id(cluster.system_identifier) != source {
            let what = format!("belongs to another cluster, {}", cluster.system_identifier);
            return refused(what, "restore into a new directory, or over the cluster that the set is of");
        }
    }
    Ok(Reuse { keystone: plain(dialect.control_file())?, links: links(directory, dialect)? })
}

/// The links by which the server finds its tablespaces.
fn links(directory: &Path, dialect: Dialect) -> Result<Vec<RelPath>> {
    let place = directory.join(dialect.name("tblspc"));
    let Ok(entries) = fs::read_dir(&place) else { return Ok(Vec::new()) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let numbers = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    numbers.map(|name| plain(format!("{}/{name}", dialect.name("tblspc")))).collect()
}

fn plain(path: String) -> Result<RelPath> {
    RelPath::new(path).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))
}
