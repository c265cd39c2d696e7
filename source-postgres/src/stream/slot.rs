//! The replication slot, by which the server keeps its log until it is durable on a medium.

use std::thread;
use std::time::{Duration, Instant};

use setpiece_core::model::Lsn;
use setpiece_core::{Error, ErrorKind, Result};

use crate::client::{Client, ConnectInfo, Mode, Row, quote_literal, sqlstate};
use crate::dialect::Dialect;
use crate::session::lsn;

/// From here on a slot says whether its log is still there, and from here on why it is not.
const TELLS_STATUS: u32 = 130_000;
const TELLS_REASON: u32 = 170_000;
/// No slot has a longer name.
const LONGEST_NAME: usize = 63;

/// How long a slot may stay in use by a stream that has ended, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// What a slot is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Missing,
    /// The server keeps its log from there on; `None` for a slot that was never used.
    Keeps(Option<Lsn>),
}

/// A connection for questions about the slot.
pub(super) struct Keeper {
    client: Client,
    dialect: Dialect,
    version: u32,
    name: String,
}

impl Keeper {
    /// Connects, and makes sure that this server can stream to this user.
    pub(super) fn connect(info: &ConnectInfo, dialect: Dialect, name: &str) -> Result<Self> {
        check_name(name)?;
        let mut client = Client::connect(info, Mode::Sql)?;
        let roles = dialect.name("roles");
        let row = one(client.query(&format!(
            "SELECT current_setting('server_version_num') AS version, current_setting('wal_level') AS level, \
                 current_setting('max_wal_senders') AS senders, current_user AS name, \
                 (SELECT rolreplication OR rolsuper FROM {roles} WHERE rolname = current_user) AS may"
        ))?)?;
        let refuse =
            |text: &str, remedy: String| Err(Error::new(ErrorKind::Source, text).on(info.to_string()).remedy(remedy));
        if row.get("level")? == "minimal" {
            let text = "wal_level is minimal: the log does not hold what a restore needs";
            return refuse(text, "set wal_level = replica and restart the server".into());
        }
        if row.get("senders")? == "0" {
            let text = "max_wal_senders is 0: the server streams its log to nobody";
            return refuse(text, "set max_wal_senders to 2 or more and restart the server".into());
        }
        if row.optional("may")? != Some("t") {
            let user = row.get("name")?;
            return refuse("the user has no right to replication", format!("ALTER ROLE \"{user}\" REPLICATION"));
        }
        let version = row.get("version")?.parse().unwrap_or_default();
        Ok(Keeper { client, dialect, version, name: name.to_owned() })
    }

    /// What the slot is.
    ///
    /// # Errors
    /// When it cannot be used: it is of another kind, others use it (which may pass), or its log is gone.
    pub(super) fn look(&mut self) -> Result<Slot> {
        let slots = self.dialect.name("replication_slots");
        let status = if self.version >= TELLS_STATUS { "wal_status" } else { "NULL" };
        let reason = if self.version >= TELLS_REASON { "invalidation_reason" } else { "NULL" };
        let rows = self.client.query(&format!(
            "SELECT slot_type AS kind, active_pid AS user, restart_lsn AS lsn, {status} AS status, {reason} AS reason \
             FROM {slots} WHERE slot_name = {}",
            quote_literal(&self.name)
        ))?;
        let Some(row) = rows.first() else { return Ok(Slot::Missing) };
        self.judge(row)
    }

    /// Looks until the slot is free: that a stream has ended, the server may learn a little later.
    pub(super) fn look_patiently(&mut self) -> Result<Slot> {
        let began = Instant::now();
        loop {
            match self.look() {
                Err(error) if error.is_retryable() && began.elapsed() < PATIENCE => thread::sleep(PAUSE),
                looked => return looked,
            }
        }
    }

    fn judge(&self, row: &Row) -> Result<Slot> {
        if row.get("kind")? != "physical" {
            return Err(self.error("is a slot for logical replication").remedy("name another with --slot"));
        }
        if row.optional("status")? == Some("lost") {
            let why = row.optional("reason")?.map(|reason| format!(" ({reason})")).unwrap_or_default();
            let text = format!("the server has given the slot up{why} and removed log that was not captured");
            return Err(self.error(text).remedy(format!(
                "drop it (SELECT pg_drop_replication_slot('{}')), start the stream again and take a backup; then see \
                 what max_slot_wal_keep_size and idle_replication_slot_timeout of the server allow",
                self.name
            )));
        }
        if let Some(process) = row.optional("user")? {
            let text = format!("the slot is in use by process {process} of the server");
            return Err(self
                .error(text)
                .remedy("stop the other stream, or name another slot with --slot")
                .retryable(true));
        }
        row.optional("lsn")?.map(lsn).transpose().map(Slot::Keeps)
    }

    /// Makes the slot; gives the LSN from which on the server keeps its log.
    pub(super) fn create(&mut self) -> Result<Option<Lsn>> {
        let create = self.dialect.name("create_physical_replication_slot");
        let made = self.client.query(&format!("SELECT lsn FROM {create}({}, true)", quote_literal(&self.name)));
        let rows = made.map_err(|error| match sqlstate(&error) {
            Some("53400" | "55000") => error.remedy("raise max_replication_slots of the server and restart it"),
            _ => error,
        })?;
        one(rows)?.optional("lsn")?.map(lsn).transpose()
    }

    /// The end of the log that the server has made durable.
    pub(super) fn log_end(&mut self) -> Result<Lsn> {
        let [recovery, received, flushed] =
            ["is_in_recovery", "last_wal_receive_lsn", "current_wal_flush_lsn"].map(|name| self.dialect.name(name));
        let replayed = self.dialect.name("last_wal_replay_lsn");
        let sql = format!(
            "SELECT CASE WHEN {recovery}() THEN coalesce({received}(), {replayed}()) ELSE {flushed}() END AS lsn"
        );
        lsn(one(self.client.query(&sql)?)?.get("lsn")?)
    }

    fn error(&self, text: impl Into<String>) -> Error {
        Error::new(ErrorKind::Source, text).on(format!("replication slot {}", self.name))
    }
}

fn one(rows: Vec<Row>) -> Result<Row> {
    rows.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Source, "the server answered without a row"))
}

/// The names that a server takes.
fn check_name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, "is no name of a replication slot")
        .on(name)
        .remedy(format!("use up to {LONGEST_NAME} small letters, digits and underscores")))
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_that_a_server_refuses_are_refused() {
        check_name("setpiece_2").unwrap();
        for wrong in ["", "Big", "a b", "x'y", "a-b", &"x".repeat(64)] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
