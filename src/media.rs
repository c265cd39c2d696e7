//! Storage: the trait that everything works on, and how a URL becomes a medium.
//!
//! | URL | what |
//! |---|---|
//! | `disk:/path?PARMS` | a directory, feature `disk`; `PARMS` are those of the disk medium, such as `create=yes` |
//! | `sbt:/path/library.so?PARMS` | a plugin loaded from a library; `PARMS` goes to the plugin as it is |
//!
//! Our own media and those of others take the same road: a table of functions behind the plugin ABI.

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use setpiece_core::media::*;
#[cfg(feature = "conformance")]
pub use setpiece_sbt_abi::conformance;
pub use setpiece_sbt_abi::host::Plugin;

use setpiece_core::{Error, ErrorKind, Result};
use setpiece_sbt_abi::host::Library;

use crate::url;

/// The schemes of media that this build knows.
pub const SCHEMES: &[&str] = &[
    #[cfg(feature = "disk")]
    "disk:",
    "sbt:",
];

/// What other builds may know.
const ELSEWHERE: &[&str] = &["disk", "s3", "tape", "libobk", "dmsbt"];

/// A plugin and the words with which its sessions are opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Place {
    /// The plugin.
    pub plugin: Plugin,
    /// Where the objects are, in the plugin's own words.
    pub location: String,
    /// Parameters, in the plugin's own words. May hold secrets.
    pub parms: String,
}

#[cfg(feature = "conformance")]
impl Place {
    /// Runs the tests that every plugin has to pass. They write objects of their own and remove them.
    #[must_use]
    pub fn test(&self) -> conformance::Report {
        let params = setpiece_sbt_abi::host::OpenParams { location: &self.location, parms: &self.parms, pairs: &[] };
        conformance::run(&self.plugin, &params)
    }
}

/// Finds the plugin that a URL means, and loads it if it has to be loaded. Opens no session.
///
/// # Errors
/// [`Usage`](ErrorKind::Usage) when it is no URL, [`Unsupported`](ErrorKind::Unsupported) when this build does not know
/// its scheme or cannot use the library.
pub fn place(url: &str) -> Result<Place> {
    match url::split(url)? {
        #[cfg(feature = "disk")]
        ("disk", rest) => {
            let (path, parms) = path_and_parms(rest);
            let plugin = Plugin::from_static(&setpiece_media_disk::PLUGIN);
            let plugin = plugin.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()).on("disk"))?;
            Ok(Place { plugin, location: url::absolute(url, path)?.into(), parms: parms.into() })
        }
        ("sbt", rest) => {
            let (path, parms) = path_and_parms(rest);
            load(Path::new(url::absolute(url, path)?), parms)
        }
        (scheme, _) => Err(url::unknown(scheme, SCHEMES, ELSEWHERE).on(without_parms(url))),
    }
}

/// Loads a plugin from a library, which must be an absolute path.
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported) when the library cannot be used; the text says why and what to do.
pub fn load(library: &Path, parms: &str) -> Result<Place> {
    let loaded = Library::load(library).map_err(|error| Error::new(ErrorKind::Unsupported, error.to_string()))?;
    Ok(Place { plugin: loaded.plugin().clone(), location: String::new(), parms: parms.into() })
}

/// Opens the medium that a URL names. Makes nothing: a directory must be there.
///
/// # Errors
/// As [`place`], and whatever the plugin fails with.
pub fn open(url: &str) -> Result<Arc<dyn Medium>> {
    medium(url, &place(url)?)
}

/// The directory that a `disk:` URL names, which is the repository's own; `None` for other URLs.
#[must_use]
pub(crate) fn directory(url: &str) -> Option<PathBuf> {
    match url::split(url) {
        Ok(("disk", rest)) => Some(path_and_parms(rest).0.into()),
        _ => None,
    }
}

/// As [`open`], and makes the directory of a `disk:` URL where there is none, unless its parameters say otherwise.
///
/// # Errors
/// As [`open`].
pub fn create(url: &str) -> Result<Arc<dyn Medium>> {
    let mut place = place(url)?;
    let said = place.parms.split(',').any(|part| part.trim_start().starts_with("create="));
    if url.starts_with("disk:") && !said {
        place.parms = format!("create=yes,{}", place.parms);
    }
    medium(url, &place)
}

fn medium(url: &str, place: &Place) -> Result<Arc<dyn Medium>> {
    let params = PluginParams {
        label: without_parms(url),
        location: place.location.clone(),
        parms: place.parms.clone(),
        ..PluginParams::default()
    };
    Ok(Arc::new(PluginMedium::open(place.plugin.clone(), params)?))
}

/// The part of a URL behind its scheme: a path, and the parameters behind the first question mark.
fn path_and_parms(rest: &str) -> (&str, &str) {
    rest.split_once('?').unwrap_or((rest, ""))
}

/// What may be shown of a URL: parameters can hold secrets.
fn without_parms(url: &str) -> String {
    url.split_once('?').map_or(url, |(shown, _)| shown).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_of_other_builds_are_refused_by_name_and_secrets_are_not_shown() {
        let error = open("s3://bucket?secret=hunter2").map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("not in this build"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_library_that_is_none_is_refused() {
        let error = open("sbt:/nowhere/at/all.so?x=1").map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all.so"), "{error}");
        assert_eq!(open("sbt:relative.so").map(|_| ()).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[cfg(feature = "disk")]
    #[test]
    fn a_directory_is_made_only_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("disk:{}", dir.path().join("repo").display());
        assert!(open(&url).is_err());
        create(&url).unwrap();
        open(&url).unwrap();
    }

    /// What stands behind a question mark became a part of the directory's name, but was left out of what is shown: a
    /// repository was made in another place than was said.
    #[cfg(feature = "disk")]
    #[test]
    fn parameters_of_a_directory_are_used_and_unknown_ones_refused() {
        let dir = tempfile::tempdir().unwrap();
        let url = |name: &str| format!("disk:{}", dir.path().join(name).display());
        let kind = |made: Result<Arc<dyn Medium>>| made.map(drop).unwrap_err().kind();
        assert_eq!(kind(create(&url("a?create=no"))), ErrorKind::NotFound);
        assert_eq!(kind(create(&url("a?what=1"))), ErrorKind::Usage);
        assert_eq!(kind(create(&url("a?what"))), ErrorKind::Usage);
        assert_eq!(create(&url("a?tmpfile=no")).unwrap().label(), url("a"));
        open(&url("b?create=yes")).unwrap();
        let mut made: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        made.sort();
        assert_eq!(made, ["a", "b"]);
    }
}
