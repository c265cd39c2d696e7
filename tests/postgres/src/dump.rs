//! What a cluster holds, as text that can be compared.

use crate::cluster::Cluster;

/// Beginnings of lines that differ from one dump to the next of the same cluster, or from one program to the next.
const PASSING: [&str; 4] =
    ["\\restrict ", "\\unrestrict ", "-- Dumped from database version", "-- Dumped by pg_dump version"];

impl Cluster {
    /// All databases, roles and tablespaces, by `pg_dumpall`. Equal clusters have equal dumps, wherever their
    /// tablespaces lie; the rows of materialized views are not in it.
    ///
    /// # Panics
    /// When `pg_dumpall` fails.
    #[must_use]
    pub fn dump(&self) -> String {
        normal(&self.run_tool("pg_dumpall", &["--no-sync"]))
    }

    /// [`Cluster::dump`] of what the log brings back: without the rows of unlogged tables, which a recovery empties, and
    /// without the positions of sequences, which it moves ahead.
    #[must_use]
    pub fn dump_logged(&self) -> String {
        let all = self.run_tool("pg_dumpall", &["--no-sync", "--no-unlogged-table-data"]);
        let kept = |line: &&str| !line.starts_with("SELECT pg_catalog.setval(");
        lines(normal(&all).lines().filter(kept))
    }
}

fn normal(text: &str) -> String {
    let kept = |line: &&str| !PASSING.iter().any(|begin| line.starts_with(begin));
    lines(text.lines().filter(kept).map(without_location))
}

/// `CREATE TABLESPACE name OWNER user LOCATION 'path';` up to the path.
fn without_location(line: &str) -> &str {
    if !line.starts_with("CREATE TABLESPACE ") {
        return line;
    }
    line.rsplit_once(" LOCATION '").map_or(line, |(begin, _)| begin)
}

fn lines<'t>(lines: impl Iterator<Item = &'t str>) -> String {
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn what_passes_is_left_out() {
        let dump =
            "\\restrict aX9\nCREATE TABLESPACE s OWNER postgres LOCATION '/tmp/a';\nCOPY t FROM stdin;\n1\n\\.\n";
        assert_eq!(normal(dump), "CREATE TABLESPACE s OWNER postgres\nCOPY t FROM stdin;\n1\n\\.\n");
    }
}
