//! Targets that only the log knows: the right set is chosen for a transaction and for a name, and what is nowhere is
//! refused before anything is written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test")]

mod common;

use common::{RECOVERY, Store, archive_all, around, open, reachable};
use setpiece_core::model::{Level, RecoveryTarget, SetId, Until};
use setpiece_core::pipeline::Cancel;
use setpiece_core::restore::{RestorePlan, RestoreRequest, plan, restore};
use setpiece_core::{Error, ErrorKind, Result};
use setpiece_test_postgres::{Cluster, Version, every_version};

every_version!(a_transaction_is_found_and_the_set_before_it_is_taken);

/// Runs statements in one transaction and gives its number.
fn transaction(cluster: &Cluster, statements: &str, end: &str) -> u64 {
    let said = cluster.psql(&format!("BEGIN; {statements}; SELECT txid_current(); {end}"));
    said.lines().last().unwrap().parse().unwrap()
}

fn insert(cluster: &Cluster, word: &str) -> u64 {
    transaction(cluster, &format!("INSERT INTO t (word) VALUES ('{word}')"), "COMMIT")
}

struct Restoring<'a> {
    store: &'a Store,
    cluster: &'a Cluster,
}

impl Restoring<'_> {
    fn request(until: Until, exclusive: bool) -> RestoreRequest {
        let mut request = RestoreRequest::default();
        request.target = RecoveryTarget { until, exclusive, branch: None };
        request
    }

    fn plan(&self, until: Until) -> Result<RestorePlan> {
        plan(&self.store.0, &[&RECOVERY], &Restoring::request(until, false), around(&Cancel::new()))
    }

    /// Why a target is refused; nothing is there afterwards.
    fn refused(&self, until: Until) -> Error {
        let dir = reachable();
        let planned = self.plan(until.clone()).err().expect("the plan is refused");
        let request = Restoring::request(until, false);
        let to = dir.path().join("back");
        let error = restore(&self.store.0, &[&RECOVERY], &request, &to, around(&Cancel::new())).unwrap_err();
        assert_eq!((planned.to_string(), planned.kind()), (error.to_string(), ErrorKind::Unreachable));
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        error
    }

    /// The words that are there after a recovery, and the set that it began with.
    fn words(&self, until: Until, exclusive: bool) -> (String, SetId) {
        let dir = reachable();
        let to = dir.path().join("back");
        let request = Restoring::request(until.clone(), exclusive);
        let report = restore(&self.store.0, &[&RECOVERY], &request, &to, around(&Cancel::new())).unwrap();
        let words = open(self.cluster, &to).psql("SELECT string_agg(word, ' ' ORDER BY id) FROM t");
        (words, report.start.id)
    }
}

fn a_transaction_is_found_and_the_set_before_it_is_taken(version: Version) {
    let cluster = Cluster::new(version).start();
    let store = Store::new();
    cluster.execute("CREATE TABLE t (id serial PRIMARY KEY, word text)");
    let early = insert(&cluster, "early");
    let first = store.online(&cluster, Level::Full).summary.id;
    let one = insert(&cluster, "one");
    let prepared = transaction(&cluster, "INSERT INTO t (word) VALUES ('prepared')", "PREPARE TRANSACTION 'p'");
    let two = insert(&cluster, "two");
    cluster.execute("COMMIT PREPARED 'p'");
    let inner = "SAVEPOINT s; INSERT INTO t (word) VALUES ('outer'); SELECT xmin FROM t WHERE word = 'outer'";
    let said = cluster.psql(&format!("BEGIN; {inner}; COMMIT"));
    let sub: u64 = said.lines().last().unwrap().parse().unwrap();
    let gone = transaction(&cluster, "INSERT INTO t (word) VALUES ('gone')", "ROLLBACK");
    archive_all(&store, &cluster, |_| ());
    let second = store.online(&cluster, Level::Differential).summary.id;
    let late = insert(&cluster, "late");
    insert(&cluster, "last");
    archive_all(&store, &cluster, |_| ());

    let world = Restoring { store: &store, cluster: &cluster };
    let at = |xid, exclusive| world.words(Until::Transaction(xid), exclusive);
    let is = |words: &str, set| (words.to_owned(), set);
    // The prepared one, whose row comes before that of `two`, is there from its commit on.
    assert_eq!(at(prepared, true), is("early one two", first));
    assert_eq!(at(prepared, false), is("early one prepared two", first));
    assert_eq!(at(late, false), is("early one prepared two outer late", second));
    // The server looks at the lower half of a number only.
    for xid in [one, gone, two | 1 << 32] {
        assert_eq!(world.plan(Until::Transaction(xid)).unwrap().start.id, first, "{xid}");
    }

    let error = world.refused(Until::Transaction(sub));
    assert!(error.to_string().contains("subtransaction"), "{error}");
    let error = world.refused(Until::Transaction(999_999));
    assert!(error.remedy_text().unwrap().contains("looked through"), "{error:?}");
    // It is in the redo of the first set, before the state at its end.
    world.refused(Until::Transaction(early));
}

/// Redo whose record does not tell its names is searched for them.
#[test]
fn a_name_is_found_where_the_record_does_not_tell_it() {
    let cluster = Cluster::new(Version::V15).start();
    let store = Store::new();
    let silent = |unit: &mut setpiece_core::model::LogUnit| unit.points = None;
    cluster.execute("CREATE TABLE t (id serial PRIMARY KEY, word text)");
    let first = store.online(&cluster, Level::Full).summary.id;
    insert(&cluster, "one");
    for name in ["here", "twice"] {
        cluster.execute(&format!("SELECT pg_create_restore_point('{name}')"));
    }
    insert(&cluster, "two");
    archive_all(&store, &cluster, silent);
    let second = store.online(&cluster, Level::Differential).summary.id;
    cluster.execute("SELECT pg_create_restore_point('twice')");
    insert(&cluster, "three");
    archive_all(&store, &cluster, silent);

    let world = Restoring { store: &store, cluster: &cluster };
    let at = |name: &str| world.words(Until::Name(name.into()), false);
    assert_eq!(at("here"), ("one".to_owned(), first));
    assert_eq!(at("twice"), ("one two".to_owned(), second));
    let error = world.refused(Until::Name("nowhere".into()));
    assert!(error.to_string().contains("no point of that name"), "{error}");
    assert!(error.remedy_text().unwrap().contains("looked through"), "{error:?}");
}
