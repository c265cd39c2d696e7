//! A second server that follows a first one.

use std::ffi::OsString;
use std::time::Duration;

use crate::builder::Builder;
use crate::cluster::Cluster;
use crate::home::Home;

impl Cluster {
    /// A standby that streams from `primary`, started; made by the version's own `pg_basebackup`. Tablespaces that the
    /// primary has now lie elsewhere here; a later one would be at the same place as the primary's and hurt both, unless
    /// it is in the data directory (`allow_in_place_tablespaces`).
    #[must_use]
    pub fn standby_of(primary: &Cluster) -> Cluster {
        let mut builder = Builder::new(primary.version());
        builder.account = primary.account;
        let home = Home::new(builder.account);
        let data = home.make("data", 0o700);
        let mut arguments: Vec<OsString> =
            ["-R", "-X", "stream", "-c", "fast", "--no-sync", "-D"].map(Into::into).into();
        arguments.push(data.clone().into());
        for row in primary.rows("SELECT oid, pg_tablespace_location(oid) FROM pg_tablespace") {
            // Those in the data directory have a relative path or none.
            if row[1].starts_with('/') {
                let place = home.make(&format!("dirs/{}", row[0]), 0o700);
                arguments.push(format!("--tablespace-mapping={}={}", row[1], place.display()).into());
            }
        }
        primary.run_as_server("pg_basebackup", &arguments);
        let mut standby = builder.cluster(primary.installation.clone(), home, data);
        standby.start();
        standby
    }

    /// Waits until all that `primary` has written to its log by now is replayed here.
    ///
    /// # Panics
    /// When that takes longer than a minute.
    pub fn catch_up_with(&self, primary: &Cluster) {
        let lsn = primary.psql("SELECT pg_current_wal_flush_lsn()");
        let question = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'");
        self.wait_until(&question, Duration::from_secs(60));
    }

    /// Makes a standby a primary, on a new timeline.
    ///
    /// # Panics
    /// When it is none after a minute.
    pub fn promote(&self) {
        assert_eq!(self.psql("SELECT pg_promote()"), "t", "the standby is not promoted");
    }
}
