//! Loading a plugin from a shared library: what is refused before its code runs, and why it is never unloaded.

use std::fs::File;
use std::io::Read as _;
use std::mem::ManuallyDrop;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library as Loaded, RTLD_LOCAL, RTLD_NOW};

use super::table::{Plugin, TableError};
use crate::raw;

/// A loaded plugin library. It stays loaded as long as the process lives: code that has made threads or thread-local
/// values cannot be taken away safely.
#[derive(Debug)]
pub struct Library {
    path: PathBuf,
    plugin: Plugin,
}

/// Why a library can't be loaded. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A relative path would depend on where the process happens to be.
    #[error("{}: the path of a plugin library must be absolute", .0.display())]
    NotAbsolute(PathBuf),
    /// It is not there, or may not be looked at.
    #[error("{}: the plugin library cannot be opened: {error}; check the path and its permissions", path.display())]
    Open {
        /// The path asked for.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// It is a directory or something else that is not a file.
    #[error("{}: not a file; give the path of the plugin library itself", .0.display())]
    NotAFile(PathBuf),
    /// Others than its owner may change the code that would run here.
    #[error("{}: others than its owner may write to it; run chmod go-w on it after checking where it came from", .0.display())]
    Writable(PathBuf),
    /// It is not a shared library.
    #[error("{}: not a shared library; give the path of the plugin's .so file", .0.display())]
    NotALibrary(PathBuf),
    /// It was built for another kind of machine.
    #[error("{}: built for another processor ({found}) than this program ({}); get the plugin built for it", path.display(), std::env::consts::ARCH)]
    Architecture {
        /// The path asked for.
        path: PathBuf,
        /// What it was built for.
        found: String,
    },
    /// The dynamic loader refused it.
    #[error("{}: the plugin library cannot be loaded: {error}; check the libraries that it needs with ldd", path.display())]
    Load {
        /// The path asked for.
        path: PathBuf,
        /// What the loader says.
        error: String,
    },
    /// It is a library, but not a plugin of this ABI.
    #[error("{}: no plugin: it has no symbol {}; libobk and dmsbt libraries are loaded by their own kinds of URL", .0.display(), raw::SBT_QUERY_SYMBOL)]
    NoEntry(PathBuf),
    /// The entry function failed.
    #[error("{}: the plugin refuses this program with code {code}; get a plugin built for version {}.{} of the interface", path.display(), raw::SBT_ABI_MAJOR, raw::SBT_ABI_MINOR)]
    Refused {
        /// The path asked for.
        path: PathBuf,
        /// What the entry function returned.
        code: i32,
    },
    /// Its table can't be used.
    #[error("{}: {error}", path.display())]
    Table {
        /// The path asked for.
        path: PathBuf,
        /// What is wrong with the table.
        error: TableError,
    },
}

impl Library {
    /// Loads a plugin library from an absolute path. Loading the same file again gives the same code.
    ///
    /// # Errors
    /// When the file is missing, writable by others, no shared library, of another architecture, no plugin, or a
    /// plugin of another version of the ABI. All but the last three are found before any of its code runs.
    pub fn load(path: &Path) -> Result<Library, LoadError> {
        if !path.is_absolute() {
            return Err(LoadError::NotAbsolute(path.to_owned()));
        }
        check_file(path)?;
        // SAFETY: running a library's initialisers is what loading is; the user named this one, and nobody but its
        // owner can have changed it.
        let loaded = unsafe { Loaded::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        let load_error = |error: libloading::Error| LoadError::Load { path: path.to_owned(), error: error.to_string() };
        let loaded = ManuallyDrop::new(loaded.map_err(load_error)?);
        // SAFETY: the symbol has this type in every plugin, by contract.
        let query = unsafe { loaded.get::<raw::sbt_query_fn>(raw::SBT_QUERY_SYMBOL) };
        let Ok(query) = query else { return Err(LoadError::NoEntry(path.to_owned())) };
        let mut table = std::ptr::null();
        // SAFETY: `table` outlives the call.
        let code = unsafe { query(raw::SBT_ABI_MAJOR.into(), raw::SBT_ABI_MINOR.into(), &raw mut table) };
        if code != raw::SBT_OK && table.is_null() {
            return Err(LoadError::Refused { path: path.to_owned(), code });
        }
        // SAFETY: the plugin gave the table, and the library stays loaded.
        let plugin = unsafe { Plugin::from_raw(table) };
        let plugin = plugin.map_err(|error| LoadError::Table { path: path.to_owned(), error })?;
        if code != raw::SBT_OK {
            return Err(LoadError::Refused { path: path.to_owned(), code });
        }
        Ok(Library { path: path.to_owned(), plugin })
    }

    /// Where it was loaded from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The plugin in it.
    #[must_use]
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }
}

/// Everything that can be found out without running the library's code.
fn check_file(path: &Path) -> Result<(), LoadError> {
    let open_error = |error| LoadError::Open { path: path.to_owned(), error };
    // Looked at before it is opened: opening a pipe waits for its other end.
    let meta = std::fs::metadata(path).map_err(open_error)?;
    if !meta.is_file() {
        return Err(LoadError::NotAFile(path.to_owned()));
    }
    let mut file = File::open(path).map_err(open_error)?;
    let meta = file.metadata().map_err(open_error)?;
    if meta.permissions().mode() & 0o022 != 0 {
        return Err(LoadError::Writable(path.to_owned()));
    }
    if cfg!(target_os = "linux") {
        let mut head = [0u8; 20];
        if file.read_exact(&mut head).is_err() {
            return Err(LoadError::NotALibrary(path.to_owned()));
        }
        check_elf(&head, path)?;
    }
    Ok(())
}

/// ELF: magic, class at 4, data at 5, type at 16 (3 is a shared object), machine at 18.
fn check_elf(head: &[u8; 20], path: &Path) -> Result<(), LoadError> {
    let (class, data) = (head[4], head[5]);
    let little = data == 1;
    let half = |at: usize| {
        let bytes = [head[at], head[at + 1]];
        if little { u16::from_le_bytes(bytes) } else { u16::from_le_bytes([bytes[1], bytes[0]]) }
    };
    if &head[..4] != b"\x7fELF" || half(16) != 3 {
        return Err(LoadError::NotALibrary(path.to_owned()));
    }
    let own_class = if cfg!(target_pointer_width = "64") { 2 } else { 1 };
    let same_machine = own_machine().is_none_or(|own| own == half(18));
    if class == own_class && little == cfg!(target_endian = "little") && same_machine {
        return Ok(());
    }
    Err(LoadError::Architecture { path: path.to_owned(), found: describe(class, half(18)) })
}

/// The number that ELF has for the processor this program was built for, where it is known.
fn own_machine() -> Option<u16> {
    MACHINES.iter().find(|(_, name)| *name == std::env::consts::ARCH).map(|(number, _)| *number)
}

/// From the ELF specification, for the processors that are likely to be met.
const MACHINES: &[(u16, &str)] = &[
    (3, "x86"),
    (8, "mips64"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

fn describe(class: u8, machine: u16) -> String {
    let bits = if class == 2 { 64 } else { 32 };
    match MACHINES.iter().find(|(number, _)| *number == machine) {
        Some((_, name)) => format!("{name}, {bits} bit"),
        None => format!("ELF machine {machine}, {bits} bit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elf_heads_are_told_apart() {
        let path = Path::new("/x.so");
        let mut head = [0u8; 20];
        assert!(matches!(check_elf(&head, path), Err(LoadError::NotALibrary(_))));
        head[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        head[16] = 3;
        let [low, high] = own_machine().unwrap_or(0).to_le_bytes();
        (head[18], head[19]) = (low, high);
        assert!(check_elf(&head, path).is_ok());
        head[16] = 2;
        assert!(matches!(check_elf(&head, path), Err(LoadError::NotALibrary(_))));
        (head[16], head[18], head[19]) = (3, 0xf3 ^ head[18], 0);
        let error = check_elf(&head, path).unwrap_err().to_string();
        assert!(error.contains("another processor") && error.contains(std::env::consts::ARCH), "{error}");
    }
}
