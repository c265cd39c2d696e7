//! A page of the server that does not fit its checksum: it stops a backup, or marks the set and is told ever after.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use common::{RECOVERY, Store, reachable};
use setpiece_core::ErrorKind;
use setpiece_core::backup::{BackupOptions, OnBadPage, Surroundings, backup};
use setpiece_core::events::{Event, Observer};
use setpiece_core::model::{Level, Until};
use setpiece_core::pipeline::Cancel;
use setpiece_core::restore::{RestoreRequest, restore};
use setpiece_core::verify::{Depth, check};
use setpiece_source_postgres::PostgresSource;
use setpiece_test_postgres::{Cluster, StopMode, Version, damaged_pages, every_version};

every_version!(a_damaged_page_is_named_from_the_backup_to_the_restore);

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Observer for Warnings {
    fn event(&self, event: &Event) {
        if let Event::Warning { text } = event {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

impl Warnings {
    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap()).join("\n")
    }
}

fn a_damaged_page_is_named_from_the_backup_to_the_restore(version: Version) {
    let mut cluster = Cluster::new(version).checksums(true).start();
    cluster.execute("CREATE TABLE t AS SELECT i, repeat(md5(i::text), 9) FROM generate_series(1, 3000) i");
    let name = cluster.psql("SELECT pg_relation_filepath('t')");
    cluster.stop(StopMode::Fast);
    let file = OpenOptions::new().write(true).open(cluster.data_dir().join(&name)).unwrap();
    file.write_all_at(b"garbage", 17 * 8192 + 4000).unwrap();
    cluster.start();
    let store = Store::new();
    let source = PostgresSource::open(&cluster.uri()).unwrap();
    let place = format!("{name} page 17");
    let error = store.try_backup(&source, Level::Full).unwrap_err();
    assert!(error.kind() == ErrorKind::BadPage && error.to_string().contains(&place), "{error}");

    let (warnings, cancel) = (Warnings::default(), Cancel::new());
    let around = Surroundings { observer: &warnings, cancel: &cancel, cache: None };
    let mut options = BackupOptions::default();
    options.on_bad_page = OnBadPage::Warn;
    let report = backup(&store.0, &source, &options, around).unwrap();
    assert_eq!(report.summary.bad_pages, 1);
    let bad = &report.bad_pages[0];
    assert_eq!((bad.path.as_str(), bad.page), (name.as_str(), 17));
    assert!(warnings.take().contains(&place));

    // No damage of the set, and yet it is told.
    let checked = check(&store.0, &[&RECOVERY], &[], Depth::Pages, 2, around).unwrap();
    assert!(checked.findings.is_empty(), "{:?}", checked.findings);
    assert!(warnings.take().contains(&place));
    options.level = Level::Differential;
    let next = backup(&store.0, &source, &options, around).unwrap();
    assert_eq!(next.summary.level, Level::Full, "{:?}", next.decisions);
    warnings.take();
    let dir = reachable();
    let back = dir.path().join("back");
    // Nothing begins with such a set unless it is named.
    let mut request = RestoreRequest::default();
    let error = restore(&store.0, &[&RECOVERY], &request, &back, around).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    request.set = Some(report.summary.name.clone());
    request.target.until = Until::SetEnd;
    restore(&store.0, &[&RECOVERY], &request, &back, around).unwrap();
    assert!(warnings.take().contains(&place));
    assert_eq!(damaged_pages(&back), [(name, 17)]);
}
