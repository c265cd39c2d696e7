//! The two halves of a URL of ours, and what to say about a scheme that is not known here.

use setpiece_core::{Error, ErrorKind, Result};

/// What stands before the first colon, and what behind it.
pub(crate) fn split(url: &str) -> Result<(&str, &str)> {
    let scheme =
        |scheme: &&str| !scheme.is_empty() && scheme.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let parts = url.split_once(':').filter(|(word, _)| scheme(word));
    parts.ok_or_else(|| {
        Error::new(ErrorKind::Usage, "this is no URL")
            .on(url)
            .remedy(format!("say what kind of place it is, such as disk:{url} or sqlite:{url}"))
    })
}

/// The path in a URL, which has to be absolute: a library knows no current directory.
pub(crate) fn absolute<'a>(url: &str, path: &'a str) -> Result<&'a str> {
    if path.starts_with('/') && !path.starts_with("//") {
        return Ok(path);
    }
    Err(Error::new(ErrorKind::Usage, "the path in the URL is not absolute")
        .on(url)
        .remedy("write the scheme, a colon and a path from the root on, such as disk:/var/backup"))
}

/// An error that tells a scheme which other builds have from one that nobody has.
pub(crate) fn unknown(scheme: &str, here: &[&str], elsewhere: &[&str]) -> Error {
    let known = if here.is_empty() { "nothing".to_owned() } else { here.join(", ") };
    let what = if elsewhere.contains(&scheme) { "is not in this build" } else { "is not known" };
    Error::new(ErrorKind::Unsupported, format!("the scheme {scheme}: {what}"))
        .remedy(format!("this build knows {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_scheme_and_paths_begin_at_the_root() {
        assert_eq!(split("disk:/a:b").unwrap(), ("disk", "/a:b"));
        for wrong in ["", "/a", ":x", "a/b:c", "Disk:/x"] {
            assert_eq!(split(wrong).unwrap_err().kind(), ErrorKind::Usage, "{wrong}");
        }
        assert!(absolute("disk:/a", "/a").is_ok());
        assert!(absolute("disk:a", "a").is_err());
        assert!(absolute("disk://host/a", "//host/a").is_err());
    }

    #[test]
    fn a_scheme_of_another_build_is_told_from_a_wrong_one() {
        let other = unknown("tape", &["disk:", "sbt:"], &["tape"]).to_string();
        assert!(other.contains("not in this build") && other.contains("disk:, sbt:"), "{other}");
        let wrong = unknown("dsik", &[], &["tape"]);
        assert!(wrong.to_string().contains("not known"));
        assert_eq!(wrong.kind(), ErrorKind::Unsupported);
    }
}
