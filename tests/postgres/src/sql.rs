//! SQL by the version's own `psql`, and the version's other programs.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::lsn::Lsn;
use crate::process::{Account, output_of, poll};

/// Between columns and rows: no text of a test has them.
const COLUMN: char = '\u{1f}';
const ROW: char = '\u{1e}';

/// Programs that will not be run by root.
const NOT_BY_ROOT: [&str; 7] =
    ["initdb", "pg_createsubscriber", "pg_ctl", "pg_resetwal", "pg_rewind", "pg_upgrade", "postgres"];

impl Cluster {
    /// Runs SQL in the database `postgres`, each statement a transaction of its own unless it says otherwise, and gives
    /// what it returned: one value, or several with lines and `|` between.
    ///
    /// # Panics
    /// When a statement fails.
    #[must_use = "statements without a result are for `execute`"]
    pub fn psql(&self, sql: &str) -> String {
        self.try_psql(sql).unwrap_or_else(|said| panic!("{sql}: {said}"))
    }

    /// [`Cluster::psql`] for statements whose result is of no interest.
    pub fn execute(&self, sql: &str) {
        self.try_psql(sql).unwrap_or_else(|said| panic!("{sql}: {said}"));
    }

    /// [`Cluster::psql`] that gives the error back.
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        self.try_psql_in("postgres", sql)
    }

    /// [`Cluster::try_psql`] in another database.
    pub fn try_psql_in(&self, database: &str, sql: &str) -> Result<String, String> {
        let text = self.run_psql(database, &[], sql)?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// The rows of one statement; NULL is the empty text.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let separators = ["-F".to_owned(), COLUMN.to_string(), "-R".to_owned(), ROW.to_string()];
        let text = self.run_psql("postgres", &separators, sql).unwrap_or_else(|said| panic!("{sql}: {said}"));
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let row = |row: &str| row.split(COLUMN).map(str::to_owned).collect();
        if text.is_empty() { Vec::new() } else { text.split(ROW).map(row).collect() }
    }

    fn run_psql(&self, database: &str, options: &[String], sql: &str) -> Result<String, String> {
        let mut command = self.psql_command(database);
        command.args(["-v", "ON_ERROR_STOP=1", "-f", "-"]).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("psql does not start: {error}"))?;
        let mut input = child.stdin.take().expect("it is piped");
        let sql = sql.to_owned();
        let writer = std::thread::spawn(move || input.write_all(sql.as_bytes()).ok());
        let output = child.wait_with_output().map_err(|error| format!("psql: {error}"))?;
        writer.join().expect("the writing thread does not panic");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(String::from_utf8_lossy(&output.stdout).into_owned()) } else { Err(said) }
    }

    /// `psql` with bare output.
    pub(crate) fn psql_command(&self, database: &str) -> Command {
        let mut command = Account::Ours.command(&self.installation.program("psql"));
        command.args(["-X", "-q", "-A", "-t", "-d"]).arg(self.uri_to(database));
        command
    }

    /// Runs one of the version's programs against this cluster (`pg_verifybackup`, `pg_checksums`, `pg_amcheck`,
    /// `pg_waldump`, `pgbench`, `pg_controldata`, ...), which finds server and data directory by itself, and gives what
    /// it wrote. Paths among the arguments must be absolute.
    ///
    /// # Panics
    /// When it fails.
    pub fn run_tool<A: AsRef<OsStr>>(&self, name: &str, arguments: &[A]) -> String {
        self.try_tool(name, arguments).unwrap_or_else(|said| panic!("{name}: {said}"))
    }

    /// [`Cluster::run_tool`] that gives back what it said when it failed.
    pub fn try_tool<A: AsRef<OsStr>>(&self, name: &str, arguments: &[A]) -> Result<String, String> {
        let account = if NOT_BY_ROOT.contains(&name) { self.account } else { Account::Ours };
        let mut command = self.tool(account, name);
        command.args(arguments);
        output_of(&mut command)
    }

    /// A command that runs any program as the server's user; the program has to be where that user can reach it.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        self.account.command(program)
    }

    fn tool(&self, account: Account, name: &str) -> Command {
        let mut command = account.command(&self.installation.program(name));
        command.env("PGDATA", self.data_dir()).env("PGHOST", self.socket_dir()).env("PGPORT", self.port().to_string());
        command.env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        command
    }

    /// Runs a program as the server's user; for what makes files that the server will own.
    pub(crate) fn run_as_server(&self, name: &str, arguments: &[OsString]) -> String {
        output_of(self.tool(self.account, name).args(arguments)).unwrap_or_else(|said| panic!("{name}: {said}"))
    }

    /// Where the log ends.
    #[must_use]
    pub fn current_lsn(&self) -> Lsn {
        self.psql("SELECT pg_current_wal_lsn()").parse().expect("a server writes LSNs")
    }

    /// Asks a yes-or-no question until the answer is yes.
    ///
    /// # Panics
    /// When it is not yes in time.
    pub fn wait_until(&self, question: &str, limit: Duration) {
        let yes = || (self.try_psql(question).as_deref() == Ok("t")).then_some(());
        let answer = poll(limit, yes);
        assert!(answer.is_some(), "{question} is not true after {limit:?}; last: {:?}", self.try_psql(question));
    }
}
