//! A connection that stays: one `psql` that is told one statement after the other.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::cluster::Cluster;

/// Around the word that ends the output of a statement.
const BEGIN: char = '\u{1}';
const END: char = '\u{2}';

/// An open connection, in which a transaction can stay open.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    /// Connects to a database.
    #[must_use]
    pub fn open(cluster: &Cluster, database: &str) -> Self {
        let mut command = cluster.psql_command(database);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("psql starts");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Session { child, input, output }
    }

    /// Runs one statement, or one command of `psql`, and gives its output without the last line's end; the rows of a
    /// `COPY ... FROM STDIN` and their `\.` follow it on lines of their own.
    pub fn run(&mut self, statement: &str) -> Result<String, String> {
        let bare = statement.starts_with('\\') || statement.ends_with("\n\\.") || statement.ends_with(';');
        let end = if bare { "\n" } else { ";\n" };
        let echo = format!("\\echo {BEGIN} :ERROR :SQLSTATE :LAST_ERROR_MESSAGE {END}\n");
        let sent = [statement, end, &echo].into_iter().try_for_each(|text| self.input.write_all(text.as_bytes()));
        sent.and_then(|()| self.input.flush()).map_err(|error| format!("the connection is lost: {error}"))?;
        let (text, verdict) = self.answer()?;
        match verdict.trim().split_once(' ') {
            Some(("false", _)) => Ok(text.trim_end_matches('\n').to_owned()),
            _ => Err(verdict.trim().trim_start_matches("true ").to_owned()),
        }
    }

    /// What comes before the closing word, and the word.
    fn answer(&mut self) -> Result<(String, String), String> {
        let mut text = String::new();
        while !text.ends_with(&format!("{END}\n")) {
            let read = self.output.read_line(&mut text).map_err(|error| format!("psql: {error}"))?;
            if read == 0 {
                return Err("the connection is lost".into());
            }
        }
        let (before, verdict) = text.trim_end_matches(['\n', END]).rsplit_once(BEGIN).ok_or("psql is out of step")?;
        Ok((before.to_owned(), verdict.to_owned()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
