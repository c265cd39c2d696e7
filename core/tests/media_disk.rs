//! `PluginMedium` over the disk plugin: what core sees of a medium behind the ABI.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use setpiece_core::ErrorKind;
use setpiece_core::media::{LockMode, Medium, ObjectName, PluginMedium, PluginParams};
use setpiece_media_disk::PLUGIN;
use setpiece_sbt_abi::host::Plugin;

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn params(dir: &std::path::Path) -> PluginParams {
    PluginParams { label: "disk:test".into(), location: dir.to_str().unwrap().into(), ..PluginParams::default() }
}

fn medium(dir: &std::path::Path) -> PluginMedium {
    PluginMedium::open(Plugin::from_static(&PLUGIN).unwrap(), params(dir)).unwrap()
}

fn put(medium: &dyn Medium, object: &str, bytes: &[u8]) {
    let mut writer = medium.create(&name(object)).unwrap();
    writer.write(bytes).unwrap();
    assert_eq!(writer.finish().unwrap().len, bytes.len() as u64);
}

fn get(medium: &dyn Medium, object: &str, offset: u64) -> Vec<u8> {
    let mut reader = medium.open(&name(object), offset).unwrap();
    let mut all = Vec::new();
    let mut part = [0u8; 7];
    loop {
        match reader.read(&mut part).unwrap() {
            0 => return all,
            got => all.extend_from_slice(&part[..got]),
        }
    }
}

#[test]
fn objects_come_back_by_many_threads_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let medium: Arc<dyn Medium> = Arc::new(medium(dir.path()));
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let medium = Arc::clone(&medium);
            std::thread::spawn(move || {
                for round in 0..10 {
                    let object = format!("set-{n}/piece-{round}.bak");
                    put(&*medium, &object, object.as_bytes());
                    assert_eq!(get(&*medium, &object, 4), &object.as_bytes()[4..]);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    let mut names = Vec::new();
    medium
        .list("set-3/", &mut |info| {
            assert!(info.created.is_some());
            names.push(info.name.to_string());
            Ok(())
        })
        .unwrap();
    names.sort();
    assert_eq!(names.len(), 10);
    assert!(names.iter().all(|name| name.starts_with("set-3/")));
}

#[test]
fn kinds_and_words_of_the_plugin_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let medium = medium(dir.path());
    put(&medium, "a", b"1");
    let error = medium.create(&name("a")).map(drop).unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::Exists, Some("a")));
    assert!(error.to_string().contains("the name is taken"), "{error}");
    assert_eq!(medium.open(&name("b"), 0).map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(medium.info(&name("b")).unwrap(), None);
    medium.remove(&name("b")).unwrap();
    medium.remove(&name("a")).unwrap();
    assert_eq!(medium.info(&name("a")).unwrap(), None);

    let plugin = Plugin::from_static(&PLUGIN).unwrap();
    let error = PluginMedium::open(plugin.clone(), params(&dir.path().join("missing"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no such directory"), "{error}");
    let by_parameter = format!("path={}", dir.path().join("missing").display());
    let by_parameter = PluginParams { parms: by_parameter, ..PluginParams::default() };
    let error = PluginMedium::open(plugin.clone(), by_parameter).unwrap_err();
    assert!(error.to_string().contains("create=yes"), "{error}");
    let wrong = PluginParams { parms: "colour=red".into(), ..params(dir.path()) };
    let error = PluginMedium::open(plugin, wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("colour"), "{error}");
}

#[test]
fn a_dropped_writer_leaves_nothing_and_two_writers_have_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let medium = medium(dir.path());
    let mut writer = medium.create(&name("deep/er/a")).unwrap();
    writer.write(b"1").unwrap();
    assert_eq!(medium.info(&name("deep/er/a")).unwrap(), None);
    drop(writer);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    let (mut one, mut two) = (medium.create(&name("a")).unwrap(), medium.create(&name("a")).unwrap());
    one.write(b"one").unwrap();
    two.write(b"two").unwrap();
    two.finish().unwrap();
    assert_eq!(one.finish().unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(get(&medium, "a", 0), b"two");
}

#[test]
fn locks_are_held_until_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (medium(dir.path()), medium(dir.path()));
    assert!(one.capabilities().locks);
    let held = one.lock(&name("locks/x"), LockMode::Exclusive).unwrap();
    let error = two.lock(&name("locks/x"), LockMode::Shared).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    drop(held);
    let _shared = two.lock(&name("locks/x"), LockMode::Shared).unwrap();
    let _too = one.lock(&name("locks/x"), LockMode::Shared).unwrap();
    assert!(one.lock(&name("locks/x"), LockMode::Exclusive).is_err());
}

#[test]
fn what_the_closure_of_a_list_says_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let medium = medium(dir.path());
    (0..5).for_each(|n| put(&medium, &format!("x{n}"), b""));
    let mut seen = 0;
    let error = medium
        .list("", &mut |_| {
            seen += 1;
            Err(setpiece_core::Error::new(ErrorKind::Cancelled, "enough"))
        })
        .unwrap_err();
    assert_eq!((seen, error.kind()), (1, ErrorKind::Cancelled));
}
