//! Numbers, times and identifiers as people read them.

use std::fmt::Display;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use setpiece::model::Timestamp;

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// Bytes with a unit, three digits or so: `12.3 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Seconds, with as many decimals as matter.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// A moment to the second, in UTC.
pub(crate) fn moment(time: Timestamp) -> String {
    Timestamp(time.0.div_euclid(1_000_000) * 1_000_000).to_string()
}

/// A moment that may not be known.
pub(crate) fn maybe(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "?".into(), moment)
}

/// The part of an identifier that tells it from others; of a set, its time to the millisecond.
pub(crate) fn short(id: impl Display) -> String {
    id.to_string().chars().take(13).collect()
}

/// A number and the thing it counts: `1 set`, `3 sets`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Columns whose values are numbers.
const NUMBERS: [&str; 12] = [
    "RAW",
    "STORED",
    "LSN",
    "SIZE",
    "BYTES",
    "PAGES",
    "FRAMES",
    "PAGE",
    "BEGIN LSN",
    "BEGIN SEQ",
    "END LSN",
    "END SEQ",
];

/// A table without lines between its columns, so that other programs can take it apart too.
pub(crate) fn table<R: Into<comfy_table::Row>>(header: &[&str], rows: impl IntoIterator<Item = R>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    table.add_rows(rows);
    for (column, name) in table.column_iter_mut().zip(header) {
        column.set_padding((0, 2));
        if NUMBERS.contains(name) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_fits() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (1536 << 20, "1.5 GiB")];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert!(bytes(u64::MAX).ends_with("PiB"));
    }

    #[test]
    fn tables_are_columns_and_nothing_else() {
        let text = table(&["NAME", "N"], [["a", "1"], ["bcdef", "22"]]);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("bcdef") && !text.contains('|'), "{text}");
    }
}
