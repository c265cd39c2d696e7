//! What is said to the server in SQL: what it is, that a backup begins, that it ends.

use std::path::PathBuf;

use setpiece_core::model::Lsn;
use setpiece_core::{Error, ErrorKind, Result};

use crate::client::{Client, ConnectInfo, Mode, Row};
use crate::dialect::Dialect;
use crate::tree::Space;
use crate::wal::parse_lsn;

/// The oldest server that is supported, as its own number.
const OLDEST: u32 = 120_000;
/// From here on the functions of a backup have their present names.
const NEW_NAMES: u32 = 150_000;

/// A connection on which a backup is taken. The server ends the backup when the connection is lost.
pub(crate) struct Session {
    client: Client,
    pub dialect: Dialect,
    /// `server_version_num`.
    pub version: u32,
}

/// What a server says of itself.
#[derive(Clone, Debug)]
pub(crate) struct ServerFacts {
    pub dialect: Dialect,
    pub version: String,
    pub system_identifier: u64,
    pub data_directory: PathBuf,
    pub cluster_name: String,
    pub wal_level: String,
    pub settings: Vec<(String, String)>,
}

/// How a cluster is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Built {
    pub block_size: u32,
    pub blocks_per_segment: u32,
    pub wal_segment_size: u32,
    pub checksums: u32,
}

/// What the server handed over when the backup ended.
pub(crate) struct Stopped {
    pub lsn: Lsn,
    pub label: String,
    pub tablespace_map: String,
}

impl Session {
    /// Connects to a server that is of the dialect given, or of the one that it says it is.
    pub(crate) fn connect(info: &ConnectInfo, dialect: Dialect) -> Result<Self> {
        let mut client = Client::connect(info, Mode::Sql)?;
        let said = one(&mut client, "SELECT current_setting('server_version_num') AS v, version() AS text")?;
        let version: u32 = number(said.get("v")?)?;
        let dialect = Dialect::of_server(dialect, said.get("text")?);
        if version < OLDEST {
            return Err(Error::new(ErrorKind::Unsupported, format!("the server is of version {version}"))
                .on(info.to_string())
                .remedy("servers from version 12 on are supported"));
        }
        client
            .execute("SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0")?;
        Ok(Session { client, dialect, version })
    }

    /// The connection, if the server still answers on it.
    pub(crate) fn still_there(mut self) -> Option<Self> {
        self.client.query("SELECT 1").is_ok().then_some(self)
    }

    /// The rows of any statement.
    pub(crate) fn query(&mut self, sql: &str) -> Result<Vec<Row>> {
        self.client.query(sql)
    }

    /// Who the server is and how it is set up.
    pub(crate) fn facts(&mut self) -> Result<ServerFacts> {
        let control = self.dialect.name("control_system");
        let settings = self.dialect.name("settings");
        let row = one(
            &mut self.client,
            // Who may not see the directory gets an empty one.
            &format!(
                "SELECT current_setting('server_version') AS version, (SELECT system_identifier FROM {control}()) AS \
                 system, coalesce((SELECT setting FROM {settings} WHERE name = 'data_directory'), '') AS directory, \
                 current_setting('cluster_name') AS name, current_setting('wal_level') AS wal_level"
            ),
        )
        .map_err(|error| error.remedy("back up as a superuser, or as a member of pg_read_all_settings"))?;
        let recorded =
            ["data_checksums", "wal_log_hints", "archive_mode", "block_size", "wal_segment_size", "lc_collate"];
        let list = recorded.map(|name| format!("'{name}'")).join(", ");
        let settings =
            self.client.query(&format!("SELECT name, setting FROM {settings} WHERE name IN ({list}) ORDER BY name"))?;
        Ok(ServerFacts {
            dialect: self.dialect,
            version: row.get("version")?.to_owned(),
            // The server's integers are signed; the identifier is not.
            system_identifier: number::<i64>(row.get("system")?)?.cast_unsigned(),
            data_directory: row.get("directory")?.into(),
            cluster_name: row.get("name")?.to_owned(),
            wal_level: row.get("wal_level")?.to_owned(),
            settings: settings
                .iter()
                .map(|row| Ok((row.get("name")?.to_owned(), row.get("setting")?.to_owned())))
                .collect::<Result<_>>()?,
        })
    }

    /// How the cluster is built, as its control file says.
    pub(crate) fn built(&mut self) -> Result<Built> {
        let init = self.dialect.name("control_init");
        let row = one(
            &mut self.client,
            &format!(
                "SELECT database_block_size AS block, blocks_per_segment AS blocks, bytes_per_wal_segment AS segment, \
                 data_page_checksum_version AS sums FROM {init}()"
            ),
        )?;
        Ok(Built {
            block_size: number(row.get("block")?)?,
            blocks_per_segment: number(row.get("blocks")?)?,
            wal_segment_size: number(row.get("segment")?)?,
            checksums: number(row.get("sums")?)?,
        })
    }

    /// The names of the tablespaces.
    pub(crate) fn tablespaces(&mut self) -> Result<Vec<Space>> {
        let catalog = self.dialect.name("tablespace");
        let rows = self.client.query(&format!("SELECT oid, spcname AS name FROM {catalog}"))?;
        rows.iter().map(|row| Ok(Space { oid: number(row.get("oid")?)?, name: row.get("name")?.to_owned() })).collect()
    }

    /// Keeps the log from now on until the connection ends.
    pub(crate) fn reserve_log(&mut self) -> Result<()> {
        let name = format!("setpiece_{}", std::process::id());
        let create = self.dialect.name("create_physical_replication_slot");
        // The name is free again when a run before this one on the same connection is over.
        let drop = self.dialect.name("drop_replication_slot");
        let slots = self.dialect.name("replication_slots");
        self.client.query(&format!(
            "SELECT {drop}(slot_name) FROM {slots} WHERE slot_name = '{name}' AND NOT active AND temporary"
        ))?;
        self.client.query(&format!("SELECT {create}('{name}', true, true)")).map(drop_rows)
    }

    /// Refuses a server whose log nobody keeps: nothing archives it, nothing streams it by a slot. What a standby replays is
    /// kept where its primary is.
    pub(crate) fn refuse_unkept_log(&mut self, facts: &ServerFacts) -> Result<()> {
        let archives = facts.settings.iter().any(|(name, value)| name == "archive_mode" && value != "off");
        let (slots, standby) = (self.dialect.name("replication_slots"), self.in_recovery()?);
        let streamed = format!("SELECT count(*) AS n FROM {slots} WHERE slot_type = 'physical' AND NOT temporary");
        if archives || standby || number::<u64>(one(&mut self.client, &streamed)?.get("n")?)? > 0 {
            return Ok(());
        }
        let text = "a set without its log could never be recovered: nobody archives the log of this server";
        Err(Error::new(ErrorKind::Source, text)
            .remedy("set archive_mode and archive_command, or stream the log, or back up without --without-log"))
    }

    /// Begins a backup; gives the LSN from which a restore needs redo.
    pub(crate) fn start(&mut self) -> Result<Lsn> {
        let call = if self.version >= NEW_NAMES && self.dialect == Dialect::Postgresql {
            "pg_backup_start('setpiece', true)".to_owned()
        } else {
            format!("{}('setpiece', true, false)", self.dialect.name("start_backup"))
        };
        let row = one(&mut self.client, &format!("SELECT {call} AS lsn"))?;
        lsn(row.get("lsn")?)
    }

    /// Whether the server is a standby now; it may be promoted at any time.
    pub(crate) fn in_recovery(&mut self) -> Result<bool> {
        let call = self.dialect.name("is_in_recovery");
        Ok(one(&mut self.client, &format!("SELECT {call}() AS r"))?.get("r")? == "t")
    }

    /// The timeline of the newest checkpoint: that of the backup that was just begun.
    pub(crate) fn timeline(&mut self) -> Result<u32> {
        let control = self.dialect.name("control_checkpoint");
        let row = one(&mut self.client, &format!("SELECT timeline_id AS t FROM {control}()"))?;
        number(row.get("t")?)
    }

    /// Ends the backup. The log is collected by the caller, so the server need not wait until it is archived.
    pub(crate) fn stop(&mut self) -> Result<Stopped> {
        let call = if self.version >= NEW_NAMES && self.dialect == Dialect::Postgresql {
            "pg_backup_stop(false)".to_owned()
        } else {
            format!("{}(false, false)", self.dialect.name("stop_backup"))
        };
        let row = one(&mut self.client, &format!("SELECT lsn, labelfile, spcmapfile FROM {call}"))?;
        Ok(Stopped {
            lsn: lsn(row.get("lsn")?)?,
            label: row.get("labelfile")?.to_owned(),
            tablespace_map: row.optional("spcmapfile")?.unwrap_or_default().to_owned(),
        })
    }

    /// Asks for a checkpoint; gives the LSN from which a restart would need redo.
    pub(crate) fn checkpoint(&mut self) -> Result<Lsn> {
        self.client.execute("CHECKPOINT")?;
        let control = self.dialect.name("control_checkpoint");
        let row = one(&mut self.client, &format!("SELECT redo_lsn AS lsn FROM {control}()"))?;
        lsn(row.get("lsn")?)
    }

    /// The end of the log: written on a server, replayed on a standby.
    pub(crate) fn log_end(&mut self) -> Result<Lsn> {
        let [recovery, replay, insert] =
            ["is_in_recovery", "last_wal_replay_lsn", "current_wal_lsn"].map(|name| self.dialect.name(name));
        let row = one(
            &mut self.client,
            &format!("SELECT CASE WHEN {recovery}() THEN {replay}() ELSE {insert}() END AS lsn"),
        )?;
        lsn(row.get("lsn")?)
    }
}

fn drop_rows(rows: Vec<Row>) {
    drop(rows);
}

fn one(client: &mut Client, sql: &str) -> Result<Row> {
    let rows = client.query(sql)?;
    rows.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Source, "the server answered without a row").on(sql))
}

pub(crate) fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::new(ErrorKind::Source, format!("the server said {text:?} where a number belongs")))
}

/// An LSN as the server writes it: two hexadecimal numbers.
pub(crate) fn lsn(text: &str) -> Result<Lsn> {
    parse_lsn(text).ok_or_else(|| Error::new(ErrorKind::Source, format!("{text:?} is no LSN")))
}
