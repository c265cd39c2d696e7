//! The ways in which an increment finds the pages that changed, each of them alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use setpiece_core::Result;
use setpiece_core::backup::BackupReport;
use setpiece_core::backup::archive::archive;
use setpiece_core::backup::log::{StreamOptions, stream};
use setpiece_core::format::Compression;
use setpiece_core::model::{BranchHistory, FileEntry, FileId, LogUnit, Lsn, PageSet, StateMark, Tablespace, Timestamp};
use setpiece_core::pipeline::Cancel;
use setpiece_core::source::{
    BackupRun, BeginRequest, CapturedPoint, ChangeMap, EndInfo, IncrementRule, JoinedChanges, LogStream, NamedPosition,
    NodePosition, PageState, Source, SourceInfo,
};
use setpiece_source_postgres::{LogFile, LogHome, PostgresSource};
use setpiece_test_postgres::{Builder, Cluster};

use super::{Store, around};

/// Where changes are known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The segments that the server archived, and the last bit from its own log.
    Record,
    /// The segments that were streamed from the server, and the last bit from its own log.
    Stream,
    /// The server's own log.
    Live,
    /// The server's summaries of its log.
    Summaries,
    /// The pages themselves.
    Scan,
}

impl Way {
    /// A cluster that can go this way, and what does the work of its archive command, if this way needs one.
    pub fn prepare(self, builder: Builder) -> (Cluster, Archiver) {
        let builder = match self {
            Way::Live => builder.setting("wal_keep_size", "4GB"),
            Way::Summaries => builder.setting("summarize_wal", "on"),
            Way::Record | Way::Stream | Way::Scan => builder,
        };
        let mut cluster = builder.init();
        let archiver = Archiver::of(&mut cluster, self);
        cluster.start();
        (cluster, archiver)
    }

    /// Makes the server's log begin behind everything that was written so far, where this way does without it.
    pub fn forget_log(self, cluster: &Cluster) {
        if self == Way::Live {
            return;
        }
        cluster.execute("CREATE TABLE IF NOT EXISTS switched (n int); INSERT INTO switched VALUES (1)");
        let switched = cluster.psql("SELECT pg_switch_wal()");
        cluster.execute("CHECKPOINT");
        let limit = Duration::from_secs(60);
        match self {
            // What is not archived or not summarized yet is kept.
            Way::Record => {
                let waits = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name ~ '^[0-9A-F]{24}.ready$'";
                cluster.wait_until(&format!("SELECT ({waits}) = 0"), limit);
            }
            Way::Stream => {
                let slots = "SELECT coalesce(bool_or(restart_lsn >=";
                cluster.wait_until(&format!("{slots} '{switched}'), false) FROM pg_replication_slots"), limit);
            }
            Way::Summaries => {
                let redo = "SELECT redo_lsn FROM pg_control_checkpoint()";
                let done = "SELECT summarized_lsn FROM pg_get_wal_summarizer_state()";
                cluster.wait_until(&format!("SELECT ({done}) >= ({redo})"), limit);
            }
            _ => {}
        }
        cluster.execute("CHECKPOINT");
    }

    /// An increment is known to have gone this way.
    pub fn check(self, report: &BackupReport, online: bool) {
        let said = report.decisions.join("\n");
        assert!(self.says(online).iter().all(|words| said.contains(words)), "{self:?}: {said}");
    }

    /// What the decision of an increment must say. A server that stands still has no summaries.
    fn says(self, online: bool) -> &'static [&'static str] {
        match self {
            Way::Record | Way::Stream => {
                &["changed pages: from the redo on record up to LSN", "then from the server's own log since"]
            }
            Way::Live => &["changed pages: from the server's own log since"],
            Way::Summaries if online => &["changed pages: from the server's summaries of its log since"],
            Way::Summaries => &["changed pages: "],
            Way::Scan => &["changed pages: by looking at every page, because"],
        }
    }
}

/// A source that goes one way and knows no other.
pub struct Only<S>(pub S, pub Way);

impl<S: Source> Source for Only<S> {
    fn info(&self) -> Result<SourceInfo> {
        self.0.info()
    }

    fn increment_rule(&self) -> IncrementRule {
        self.0.increment_rule()
    }

    fn positions(&self) -> Result<Vec<NamedPosition>> {
        self.0.positions()
    }

    fn checkpoint(&self) -> Result<Vec<NodePosition>> {
        self.0.checkpoint()
    }

    fn begin(&self, request: &BeginRequest<'_>) -> Result<Box<dyn BackupRun + '_>> {
        Ok(Box::new(OnlyRun(self.0.begin(request)?, self.1)))
    }

    fn log_stream(&self, last: Option<&CapturedPoint>) -> Result<Box<dyn LogStream + '_>> {
        self.0.log_stream(last)
    }
}

struct OnlyRun<'s>(Box<dyn BackupRun + 's>, Way);

impl BackupRun for OnlyRun<'_> {
    fn online(&self) -> bool {
        self.0.online()
    }

    fn begin(&self) -> &[NodePosition] {
        self.0.begin()
    }

    fn branch(&self) -> &BranchHistory {
        self.0.branch()
    }

    fn tablespaces(&self) -> &[Tablespace] {
        self.0.tablespaces()
    }

    fn files(&self) -> &[FileEntry] {
        self.0.files()
    }

    fn valid_pages(&self, file: FileId) -> Result<Option<PageSet>> {
        self.0.valid_pages(file)
    }

    fn read(&self, file: FileId, first: u64, count: u64, into: &mut Vec<u8>) -> Result<()> {
        self.0.read(file, first, count, into)
    }

    fn inspect(&self, file: FileId, page: u64, bytes: &[u8]) -> PageState {
        self.0.inspect(file, page, bytes)
    }

    fn change_map(&self, since: Lsn, marks: Option<&[StateMark]>) -> Result<ChangeMap> {
        match self.1 {
            Way::Scan => Ok(ChangeMap::Unknown("the test wants it so".into())),
            _ => self.0.change_map(since, marks),
        }
    }

    fn changed_pages(&self, file: &FileEntry, changes: &JoinedChanges) -> PageSet {
        self.0.changed_pages(file, changes)
    }

    fn lsns_tell(&self, file: FileId, base_began: Timestamp) -> bool {
        self.0.lsns_tell(file, base_began)
    }

    fn end(&mut self) -> Result<EndInfo> {
        self.0.end()
    }

    fn log(&mut self, sink: &mut dyn FnMut(LogUnit, Vec<u8>) -> Result<()>) -> Result<()> {
        let forgets = self.1 != Way::Record;
        self.0.log(&mut |unit, bytes| {
            let changes = unit.changes.clone().filter(|_| !forgets);
            sink(LogUnit { changes, ..unit }, bytes)
        })
    }
}

/// Archives what the server wants archived while it lives, as the archive command of a cluster made by [`Way::prepare`];
/// or streams from it.
pub struct Archiver {
    stop: Cancel,
    uri: String,
    data: PathBuf,
    done: PathBuf,
}

impl Archiver {
    /// That of a cluster that is not started yet.
    pub fn of(cluster: &mut Cluster, way: Way) -> Self {
        let (data, done) = (cluster.data_dir().to_owned(), cluster.server_dir("done"));
        if way == Way::Record {
            cluster.option("archive_mode", "on");
            let command = format!("until test -e {}/%f; do sleep 0.02; done", done.display());
            cluster.option("archive_command", &command);
        }
        Archiver { stop: Cancel::new(), uri: cluster.uri(), data, done }
    }

    fn stream(&self, store: &Store) {
        let source = PostgresSource::open(&self.uri).unwrap();
        stream(&store.0, &source, &StreamOptions::default(), around(&self.stop)).unwrap();
    }

    fn run(&self, store: &Store) {
        let mut handled = BTreeSet::new();
        while !self.stop.is_cancelled() {
            let names = fs::read_dir(self.data.join("pg_wal/archive_status")).into_iter().flatten();
            let mut names: Vec<String> = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
            names.sort();
            for name in names.iter().filter_map(|name| name.strip_suffix(".ready")) {
                if handled.insert(name.to_owned()) {
                    push(store, &self.data, name);
                    fs::write(self.done.join(name), "").unwrap();
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Does `work` while a cluster that goes this way is archived.
pub fn archiving<T>(way: Way, archiver: &Archiver, store: &Store, work: impl FnOnce() -> T) -> T {
    struct Stop<'a>(&'a Archiver);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.stop.cancel();
        }
    }
    thread::scope(|scope| {
        // The thread ends with the work, be it by a panic.
        let _stop = Stop(archiver);
        if way == Way::Record {
            scope.spawn(|| archiver.run(store));
        }
        if way == Way::Stream {
            scope.spawn(|| archiver.stream(store));
        }
        work()
    })
}

fn push(store: &Store, data: &Path, name: &str) {
    let home = LogHome::open(data).unwrap();
    if let Ok(LogFile::Keep(info, captured)) = home.file(&data.join("pg_wal").join(name)) {
        archive(&store.0, &info, &captured, Compression::Zstd(1), around(&Cancel::new())).unwrap();
    }
}
