//! Sets that say they were taken in the future: a clock was wrong, or is.

use std::time::SystemTime;

use setpiece::model::{SetSummary, Timestamp};

use crate::console::Console;
use crate::text;

/// So far apart may clocks be, in microseconds.
const APART: i64 = 60_000_000;

/// Warns of those among `sets`.
pub(crate) fn warn<'s>(console: &Console, sets: impl IntoIterator<Item = &'s SetSummary>) {
    let now = Timestamp::from(SystemTime::now());
    for set in sets.into_iter().filter(|set| is_ahead(set, now)) {
        console.warn(&format!(
            "set {} says that it was taken at {}, which is yet to come: the clock was wrong then or is wrong now; what is \
             later may be taken for older, so name the set when restoring, and remove this one when others have replaced it",
            set.name,
            text::moment(set.ended)
        ));
    }
}

fn is_ahead(set: &SetSummary, now: Timestamp) -> bool {
    set.ended.0 > now.0.saturating_add(APART)
}

#[cfg(test)]
mod tests {
    use setpiece::model::Level;

    use super::*;
    use crate::tree::tests::set;

    #[test]
    fn clocks_may_be_a_little_apart() {
        let mut one = set(1, Level::Full, None);
        let now = Timestamp(1_800_000_000_000_000);
        for (ahead, expected) in [(-1, false), (0, false), (APART, false), (APART + 1, true), (3_600_000_000, true)] {
            one.ended = Timestamp(now.0 + ahead);
            assert_eq!(is_ahead(&one, now), expected, "{ahead}");
        }
    }
}
