//! The host: what it refuses to load, and that it never believes what a plugin returns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::ffi::c_void;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::{dangling_mut, null_mut};

use common::{Fault, Memory, Sound};
use setpiece_sbt_abi::host::{Library, LoadError, OpenParams, Plugin, Session, TableError};
use setpiece_sbt_abi::plugin::table_with_locks;
use setpiece_sbt_abi::raw::*;
use setpiece_sbt_abi::{Code, Info, LockMode, Table};

fn leak(table: sbt_plugin) -> &'static Table {
    // SAFETY: the functions of these tables return what they shouldn't, which the host must withstand; none of them
    // follows a pointer that it was not given.
    Box::leak(Box::new(unsafe { Table::new(table) }))
}

fn sound() -> sbt_plugin {
    *table_with_locks::<Memory<Sound>>().raw()
}

fn session(table: &'static Table, location: &str) -> Session {
    Plugin::from_static(table).unwrap().open(&OpenParams { location, ..OpenParams::default() }).unwrap()
}

/// A session of the sound plugin with one verb exchanged.
fn with(location: &str, change: impl FnOnce(&mut sbt_plugin)) -> Session {
    let mut table = sound();
    change(&mut table);
    session(leak(table), location)
}

fn table_error(change: impl FnOnce(&mut sbt_plugin)) -> TableError {
    let mut table = sound();
    change(&mut table);
    Plugin::from_static(leak(table)).unwrap_err()
}

#[test]
fn tables_of_another_version_or_with_holes_are_refused() {
    assert_eq!(table_error(|t| t.head.abi_minor += 1), TableError::Version { major: 0, minor: 2 });
    assert_eq!(table_error(|t| t.head.abi_major += 1), TableError::Version { major: 1, minor: 1 });
    assert!(matches!(table_error(|t| t.head.size -= 8), TableError::Short { table: "plugin", size: 168, needed: 176 }));
    assert_eq!(table_error(|t| t.finish = None), TableError::Missing("finish"));
    assert_eq!(table_error(|t| t.name.len = 1 << 40), TableError::Text("name"));
    let error = table_error(|t| t.head.abi_minor = 9).to_string();
    assert!(error.contains("0.9") && error.contains("0.1"), "{error}");
}

unsafe extern "C" fn no_handle(_: *mut sbt_session, _: sbt_str, _: *mut *mut sbt_writer, _: *mut sbt_error) -> i32 {
    SBT_OK
}

unsafe extern "C" fn reads_too_much(_: *mut sbt_reader, _: *mut u8, cap: u64, got: *mut u64, _: *mut sbt_error) -> i32 {
    // SAFETY: the host passes a place for the count.
    unsafe { *got = cap + 1 };
    SBT_OK
}

unsafe extern "C" fn strange_code(_: *mut sbt_session, _: sbt_str, _: *mut sbt_info, _: *mut sbt_error) -> i32 {
    -4711
}

unsafe extern "C" fn lists_nonsense(
    _: *mut sbt_session,
    _: sbt_str,
    each: Option<sbt_list_fn>,
    context: *mut c_void,
    _: *mut sbt_error,
) -> i32 {
    let info = sbt_info { size: 24, flags: 0, len: 0, created_us: 0 };
    let name = sbt_str { ptr: b"../etc".as_ptr(), len: 6 };
    // SAFETY: name and information are valid during the call, the context is the host's.
    unsafe { each.unwrap()(context, name, &raw const info) };
    SBT_OK
}

unsafe extern "C" fn forgets_bytes(_: *mut sbt_writer, info: *mut sbt_info, _: *mut sbt_error) -> i32 {
    // SAFETY: the host passes a place for the information.
    unsafe { (*info).len = 1 };
    SBT_OK
}

#[test]
fn what_a_plugin_returns_is_not_believed() {
    let refused = with("no handle", |t| t.create = Some(no_handle)).create("a").unwrap_err();
    assert!(refused.error.breach().unwrap().contains("handle"), "{refused}");
    assert!(refused.session.is_poisoned());
    let mut poisoned = *refused.session;
    assert_eq!(poisoned.info("a").unwrap_err().code(), Code::Poisoned);

    let session = put(with("too much", |t| t.read = Some(reads_too_much)), "a", b"123");
    let mut reader = session.open_at("a", 0).unwrap();
    let error = reader.read(&mut [0; 8]).unwrap_err();
    assert!(error.breach().unwrap().contains("9 bytes into room for 8"), "{error}");
    assert_eq!(reader.read(&mut [0; 8]).unwrap_err().code(), Code::Poisoned);

    let error = with("code", |t| t.info = Some(strange_code)).info("a").unwrap_err();
    assert!(error.breach().unwrap().contains("-4711"), "{error}");

    let mut seen = 0;
    let error = with("list", |t| t.list = Some(lists_nonsense)).list("", &mut |_, _| {
        seen += 1;
        true
    });
    let error = error.unwrap_err();
    assert!(error.breach().unwrap().contains("../etc"), "{error}");
    assert_eq!(seen, 0);

    let mut writer = with("forgets", |t| t.finish = Some(forgets_bytes)).create("a").unwrap();
    writer.write(b"123").unwrap();
    let refused = writer.finish().unwrap_err();
    assert!(refused.error.breach().unwrap().contains("1 bytes where 3"), "{refused}");
}

fn put(session: Session, name: &str, bytes: &[u8]) -> Session {
    let mut writer = session.create(name).unwrap();
    writer.write(bytes).unwrap();
    let (info, session) = writer.finish().unwrap();
    assert_eq!(info, Info { len: bytes.len() as u64, created_us: None });
    session
}

struct WriteFails;
impl Fault for WriteFails {
    const WRITE_FAILS: bool = true;
}

struct WritePanics;
impl Fault for WritePanics {
    const WRITE_PANICS: bool = true;
}

#[test]
fn a_writer_is_poisoned_by_its_first_error_and_the_session_goes_on() {
    let session = session(leak(*table_with_locks::<Memory<WriteFails>>().raw()), "write fails");
    let mut writer = session.create("a").unwrap();
    let error = writer.write(b"1").unwrap_err();
    assert_eq!((error.code(), error.is_retryable(), error.object()), (Code::Full, true, Some("a")));
    assert_eq!(writer.write(b"").unwrap_err().code(), Code::Poisoned);
    let refused = writer.finish().unwrap_err();
    assert_eq!(refused.error.code(), Code::Poisoned);
    let mut session = *refused.session;
    assert_eq!(session.info("a").unwrap_err().code(), Code::NotFound);
}

#[test]
fn panics_arrive_as_errors_and_poison() {
    let mut plain = session(leak(sound()), "panics");
    let error = plain.command("panic", "boom 17").unwrap_err();
    assert_eq!(error.code(), Code::Panic);
    assert!(error.text().contains("boom 17"), "{error}");
    assert!(plain.is_poisoned());
    plain.close().unwrap();

    let session = session(leak(*table_with_locks::<Memory<WritePanics>>().raw()), "write panics");
    let mut writer = session.create("a").unwrap();
    assert_eq!(writer.write(b"1").unwrap_err().code(), Code::Panic);
    let session = writer.abort().unwrap();
    assert!(session.is_poisoned());
}

#[test]
fn a_panic_of_the_callers_closure_passes_the_plugin_by() {
    let mut session = put(session(leak(sound()), "closure"), "a", b"");
    let went = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        session.list("", &mut |_, _| panic!("of the caller")).map_err(|error| error.to_string())
    }));
    assert_eq!(went.unwrap_err().downcast_ref::<&str>(), Some(&"of the caller"));
    assert!(!session.is_poisoned());
    assert_eq!(session.info("a").unwrap().len, 0);
}

#[test]
fn a_plugin_answers_misuse_with_a_code() {
    let table = sound();
    let mut error =
        sbt_error { size: 32, code: 0, retryable: 0, native: 0, text_cap: 0, text_len: 0, text: null_mut() };
    let name = sbt_str { ptr: b"a".as_ptr(), len: 1 };
    // SAFETY: null handles and null places are what these calls are about; the rest is valid.
    unsafe {
        assert_eq!(table.close_session.unwrap()(null_mut(), &raw mut error), SBT_ERR_USAGE);
        assert_eq!(table.create.unwrap()(null_mut(), name, null_mut(), &raw mut error), SBT_ERR_USAGE);
        assert_eq!(table.write.unwrap()(null_mut(), null_mut(), 1, &raw mut error), SBT_ERR_USAGE);
        assert_eq!(table.finish.unwrap()(null_mut(), null_mut(), &raw mut error), SBT_ERR_USAGE);
        assert_eq!(table.read.unwrap()(null_mut(), dangling_mut(), 1, null_mut(), null_mut()), SBT_ERR_USAGE);
        assert!(table.extension.unwrap()(sbt_str { ptr: b"none".as_ptr(), len: 4 }).is_null());
    }
    assert_eq!(error.code, SBT_ERR_USAGE);
}

#[test]
fn locks_and_commands_go_through() {
    let mut session = session(leak(sound()), "locks");
    assert_eq!(session.command("echo", "hällo").unwrap(), "hällo");
    let lock = session.lock("l", LockMode::Exclusive).unwrap();
    let other = Plugin::from_static(leak(sound())).unwrap();
    let other = other.open(&OpenParams { location: "locks", ..OpenParams::default() }).unwrap();
    let refused = other.lock("l", LockMode::Shared).unwrap_err();
    assert_eq!(refused.error.code(), Code::Locked);
    let session = lock.release().unwrap();
    refused.session.lock("l", LockMode::Shared).unwrap();
    session.close().unwrap();
}

fn built(dir: &Path, name: &str, source: &str) -> PathBuf {
    let (text, library) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
    std::fs::write(&text, source).unwrap();
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
    let done = Command::new("cc").args(["-shared", "-fPIC", "-I", include, "-o"]).arg(&library).arg(&text).output();
    assert!(done.expect("cc is needed for this test").status.success());
    set_mode(&library, 0o755);
    library
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn load_error(path: &Path) -> LoadError {
    let error = Library::load(path).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    error
}

#[test]
fn files_that_are_no_plugin_are_refused_with_their_name() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(load_error(Path::new("relative.so")), LoadError::NotAbsolute(_)));
    assert!(matches!(load_error(&dir.path().join("missing.so")), LoadError::Open { .. }));
    assert!(matches!(load_error(dir.path()), LoadError::NotAFile(_)));

    let text = dir.path().join("text.so");
    std::fs::write(&text, "this is not a library at all").unwrap();
    set_mode(&text, 0o644);
    assert!(matches!(load_error(&text), LoadError::NotALibrary(_)));

    let plain = built(dir.path(), "plain", "int nothing(void) { return 0; }");
    assert!(matches!(load_error(&plain), LoadError::NoEntry(_)));
    for mode in [0o775, 0o757] {
        set_mode(&plain, mode);
        assert!(matches!(load_error(&plain), LoadError::Writable(_)));
    }

    let mut foreign = std::fs::read(&plain).unwrap();
    foreign[18] ^= 0x55;
    let path = dir.path().join("foreign.so");
    std::fs::write(&path, foreign).unwrap();
    set_mode(&path, 0o755);
    assert!(matches!(load_error(&path), LoadError::Architecture { .. }));
    let broken = dir.path().join("broken.so");
    std::fs::write(&broken, &std::fs::read(&plain).unwrap()[..64]).unwrap();
    set_mode(&broken, 0o755);
    assert!(matches!(load_error(&broken), LoadError::Load { .. }));
}

#[test]
fn plugins_of_another_version_are_refused_with_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    let newer = "#include \"setpiece_sbt.h\"\n\
        static const sbt_plugin p = {.head = {sizeof p, 3, 7}};\n\
        int32_t setpiece_sbt_query(uint32_t a, uint32_t b, const sbt_plugin **out) { (void)a; (void)b; *out = &p; return SBT_ERR_ABI; }\n";
    let error = load_error(&built(dir.path(), "newer", newer));
    assert!(matches!(error, LoadError::Table { error: TableError::Version { major: 3, minor: 7 }, .. }), "{error}");

    let without = "#include \"setpiece_sbt.h\"\n\
        int32_t setpiece_sbt_query(uint32_t a, uint32_t b, const sbt_plugin **out) { (void)a; (void)b; *out = 0; return RET; }\n";
    let error = load_error(&built(dir.path(), "refuses", &without.replace("RET", "SBT_ERR_INTERNAL")));
    assert!(matches!(error, LoadError::Refused { code: SBT_ERR_INTERNAL, .. }), "{error}");
    let error = load_error(&built(dir.path(), "empty", &without.replace("RET", "SBT_OK")));
    assert!(matches!(error, LoadError::Table { error: TableError::NoTable, .. }), "{error}");
}
