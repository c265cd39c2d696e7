//! Files that hold a secret: read only when nobody else can read them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use setpiece_core::{Error, ErrorKind, Result};

/// More than any key or list of passwords has.
const LIMIT: u64 = 1024 * 1024;

/// The bytes of a file that must be private: with mode 0600 or stricter, or 0640 when root owns it, as libpq asks of
/// private keys.
pub(super) fn read_private(path: &Path) -> Result<Vec<u8>> {
    let name = || path.display().to_string();
    let file = File::open(path).map_err(|error| Error::io(name(), error))?;
    let metadata = file.metadata().map_err(|error| Error::io(name(), error))?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::Usage, "is not a file").on(name()));
    }
    let open_to_others = if metadata.uid() == 0 { 0o027 } else { 0o077 };
    if metadata.mode() & open_to_others != 0 {
        let error = Error::new(ErrorKind::Usage, "holds a secret and can be read by others than its owner").on(name());
        return Err(error.remedy("take the rights of others away: chmod 0600"));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| Error::io(name(), error))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Error::new(ErrorKind::Usage, "is too large for a key or a list of passwords").on(name()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "text").unwrap();
        for (mode, fine) in [(0o600, true), (0o400, true), (0o604, false), (0o620, false), (0o644, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let read = read_private(&path);
            assert_eq!(read.is_ok(), fine, "{mode:o}: {read:?}");
        }
        assert!(read_private(dir.path()).is_err());
        assert_eq!(read_private(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::Io);
        let large = File::create(&path).unwrap();
        large.set_len(LIMIT + 1).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(read_private(&path).unwrap_err().to_string().contains("too large"));
    }
}
