//! How positions in SQLite's log become LSNs that grow for ever, and what is remembered of them in a cookie.
//!
//! A log is written from its first frame on, again and again. Each time is a *generation*, known by the salts in its
//! header. An LSN is `generation number << 32 | frame`, where the frame is the last one of a transaction. SQLite does
//! not number generations, so whoever looks at a log gives it a number, from the cookie (what was last seen of this
//! branch) and what it sees now. Two observers who start from the same cookie and see the same log get the same
//! number; that is why every observer must be given what is on record. The rules:
//!
//! | last seen | seen now | number | redo between is known |
//! |---|---|---|---|
//! | nothing of this branch | anything | highest on record + 1 | no |
//! | nothing at all | anything | hours since 2020 | no |
//! | there is a record that may not be read | anything | quarters of a second since 2020 | no |
//! | a log | the same salts, the same checksum at the frame last seen | the same | yes |
//! | a log | any other log, or no frames | + 1 | no |
//! | no frames | a log, or still no frames; the database file was not written to | the same | yes |
//! | no frames | a log, or still no frames; the database file was written to | + 1 | no |
//!
//! The last two lines rest on this: a generation can end only when all of it has been copied into the database file.
//! The checkpoint sequence number in the header is of no use, since each connection counts for itself; neither are the
//! salts, of which some connections count on from those before and others draw both.
//!
//! An observer that knows nothing begins with the clock, so that two who cannot know of each other (two repositories, or
//! a host that may write to a repository and not read it) give the later state the larger number if their clocks are
//! right. Hours keep LSNs below 2^53, which readers of JSON are glad of; a host that begins anew each time needs more.
//! Such a host waits for the next quarter of a second before it looks, and its log stream before it goes on with another
//! log ([`Clock::next`]). So no number is ahead of the clock, and whoever looks later gives a larger one, however often the
//! log is begun anew.
//! Numbers alone prove nothing, however: observers who start from different cookies can give one number to
//! different logs. What two records have to do with each other is proven by marks (`mark.rs`).

use std::time::{Duration, Instant, SystemTime};

use minicbor::{Decode, Encode};
use setpiece_core::model::{BranchId, Lsn};
use setpiece_core::{Error, ErrorKind, Result};

use crate::dbfile::FileMark;
use crate::wal::{Cursor, Salts, Sum, WalHeader};

const COOKIE_VERSION: u32 = 1;
const MAX_COOKIE: usize = 64 << 10;
/// Branches that a cookie remembers; the ones seen longest ago are forgotten first.
const MAX_POINTS: usize = 16;

/// The LSN of frame `frame` of generation `ordinal`.
pub(crate) fn lsn(ordinal: u32, frame: u32) -> Lsn {
    Lsn(u64::from(ordinal) << 32 | u64::from(frame))
}

/// The generation of an LSN.
pub(crate) fn ordinal_of(lsn: Lsn) -> u32 {
    (lsn.0 >> 32) as u32
}

/// The frame of an LSN.
pub(crate) fn frame_of(lsn: Lsn) -> u32 {
    (lsn.0 & u64::from(u32::MAX)) as u32
}

/// A generation of the log and a committed frame in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct WalMark {
    #[n(0)]
    pub(crate) salts: Salts,
    #[n(1)]
    pub(crate) sum: Sum,
}

/// What was seen of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Point {
    /// The branch.
    #[n(0)]
    pub(crate) branch: BranchId,
    /// The number given to the generation.
    #[n(1)]
    pub(crate) ordinal: u32,
    /// The last committed frame.
    #[n(2)]
    pub(crate) frame: u32,
    /// The log; `None` when it had no frames, or when there was none.
    #[n(3)]
    pub(crate) wal: Option<WalMark>,
    /// The database file when the log had no frames.
    #[n(4)]
    pub(crate) file: Option<FileMark>,
}

impl Point {
    /// Its LSN.
    pub(crate) fn lsn(&self) -> Lsn {
        lsn(self.ordinal, self.frame)
    }
}

/// What there is to see now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    /// A log up to its last transaction, the checksum at the frame of the last point, and the database file.
    Log { header: WalHeader, end: Cursor, watched: Option<Sum>, file: Option<FileMark> },
    /// A log without frames, or none at all.
    Nothing { file: Option<FileMark> },
}

/// A position and how it hangs together with what was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The position.
    pub(crate) point: Point,
    /// Whether all redo between the point before and this one is in the log as it is now.
    pub(crate) linked: bool,
}

/// The number of the generation behind the one numbered `ordinal`, for every observer.
///
/// # Errors
/// When the numbers are used up.
pub(crate) fn next_ordinal(ordinal: u32) -> Result<u32> {
    ordinal.checked_add(1).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "the numbers for generations of the log are used up")
            .remedy("begin a new repository")
    })
}

/// Where an observer begins that knows nothing: the hour before this one, counted from 2020.
pub(crate) fn number_by_hours(now: SystemTime) -> u32 {
    // One short of now, since the first generation gets the number behind.
    u32::try_from(since_2020(now).as_secs() / 3600)
        .map_or(LAST_BY_CLOCK, |hours| hours.saturating_sub(1).min(LAST_BY_CLOCK))
}

fn since_2020(now: SystemTime) -> Duration {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(Duration::from_secs(1_577_836_800))
}

/// Some numbers are left behind it when a clock is far ahead.
const LAST_BY_CLOCK: u32 = u32::MAX - (1 << 26);

/// Gives new generations numbers by the clock, on a host that may not read what it writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock;

impl Clock {
    /// 32 bits are enough until 2053.
    const TICK: Duration = Duration::from_millis(250);
    /// It is not waited longer for a clock that was set back.
    const PATIENCE: u32 = 4;

    fn tick(now: SystemTime) -> u32 {
        let ticks = since_2020(now).as_millis() / Clock::TICK.as_millis();
        u32::try_from(ticks).map_or(LAST_BY_CLOCK, |ticks| ticks.min(LAST_BY_CLOCK))
    }

    /// Waits until the clock has come behind the number `highest`, and to another number than it shows now; gives that.
    pub(crate) fn next(self, highest: u32) -> u32 {
        let now = Clock::tick(SystemTime::now());
        let wanted = highest.max(now).saturating_add(1).min(now.saturating_add(Clock::PATIENCE));
        let began = Instant::now();
        loop {
            let now = Clock::tick(SystemTime::now());
            if now >= wanted || now == LAST_BY_CLOCK || began.elapsed() > Clock::TICK * Clock::PATIENCE {
                return now;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Gives what is seen now on `branch` its number; a new one is at least `floor`.
///
/// # Errors
/// When the numbers are used up.
pub(crate) fn place(cookie: &Cookie, branch: BranchId, seen: Seen, floor: u32) -> Result<Placed> {
    let known = cookie.point(branch);
    let (step, linked) = match (known, seen) {
        (None, _) => (1, false),
        (Some(Point { wal: Some(was), frame, .. }), Seen::Log { header, end, watched, .. }) => {
            let same = header.salts == was.salts && *frame <= end.frame && watched == Some(was.sum);
            if same { (0, true) } else { (1, false) }
        }
        (Some(Point { wal: Some(_), .. }), Seen::Nothing { .. }) => (1, false),
        (Some(Point { wal: None, file: was, .. }), Seen::Log { file, .. } | Seen::Nothing { file }) => {
            let same = was.is_some() && *was == file;
            if same { (0, true) } else { (1, false) }
        }
    };
    let from = known.map_or(cookie.highest, |point| point.ordinal);
    let ordinal = if step == 0 { from } else { next_ordinal(from)?.max(floor) };
    let point = match seen {
        Seen::Log { header, end, .. } => {
            let wal = Some(WalMark { salts: header.salts, sum: end.sum });
            Point { branch, ordinal, frame: end.frame, wal, file: None }
        }
        Seen::Nothing { file } => Point { branch, ordinal, frame: 0, wal: None, file },
    };
    Ok(Placed { point, linked })
}

/// What an observer knows when it begins to look.
#[derive(Debug)]
pub(crate) struct Memory {
    /// What is known of the log.
    pub(crate) cookie: Cookie,
    /// A new number is at least this one.
    pub(crate) floor: u32,
    /// Where numbers come from that are given later, if not from counting on.
    pub(crate) clock: Option<Clock>,
}

/// What an observer leaves for the next one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Cookie {
    #[n(0)]
    version: u32,
    /// The highest generation number given on any branch.
    #[n(1)]
    highest: u32,
    /// The newest point of each branch, the one seen last first.
    #[n(2)]
    points: Vec<Point>,
}

impl Cookie {
    /// Knows nothing, except that numbers up to `highest` are taken.
    pub(crate) fn new(highest: u32) -> Self {
        Cookie { version: COOKIE_VERSION, highest, points: Vec::new() }
    }

    /// The highest number that is taken.
    pub(crate) fn highest(&self) -> u32 {
        self.highest
    }

    /// The newest point of `branch`.
    pub(crate) fn point(&self, branch: BranchId) -> Option<&Point> {
        self.points.iter().find(|point| point.branch == branch)
    }

    /// Remembers `point` if it is newer than what is known of its branch.
    pub(crate) fn note(&mut self, point: Point) {
        self.highest = self.highest.max(point.ordinal);
        let newest = match self.point(point.branch) {
            Some(have) if have.lsn() > point.lsn() => *have,
            _ => point,
        };
        self.points.retain(|have| have.branch != point.branch);
        self.points.insert(0, newest);
        self.points.truncate(MAX_POINTS);
    }

    /// Learns all that `other` knows; of equals what this one knows stays.
    pub(crate) fn merge(&mut self, other: &Cookie) {
        self.highest = self.highest.max(other.highest);
        for point in other.points.iter().rev() {
            if self.point(point.branch).is_none_or(|have| have.lsn() < point.lsn()) {
                self.note(*point);
            }
        }
    }

    /// The bytes to be stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to a vector cannot fail.
        let _infallible = minicbor::encode(self, &mut bytes);
        bytes
    }

    /// Reads what `encode` wrote.
    ///
    /// # Errors
    /// When it is something else. It is not passed over: LSNs would begin anew.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: String| Error::damaged("what the last backup or log unit remembers of the log", what);
        if bytes.len() > MAX_COOKIE {
            return Err(damaged(format!("{} bytes are more than it can have", bytes.len())));
        }
        let cookie: Cookie = minicbor::decode(bytes).map_err(|error| damaged(error.to_string()))?;
        if cookie.version != COOKIE_VERSION {
            let what = format!("version {} of it is not known, only {COOKIE_VERSION}", cookie.version);
            return Err(Error::new(ErrorKind::Unsupported, what).remedy("use a newer version of Setpiece"));
        }
        if cookie.points.len() > MAX_POINTS {
            return Err(damaged("too many branches".into()));
        }
        Ok(cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRANCH: BranchId = BranchId(7);

    fn log(salts: Salts, frame: u32, sum: Sum, watched: Option<Sum>) -> Seen {
        let header = WalHeader { big: false, page_size: 4096, salts, sum: [0, 0] };
        Seen::Log { header, end: Cursor { frame, sum }, watched, file: None }
    }

    fn known(wal: Option<WalMark>, frame: u32) -> Cookie {
        let mut cookie = Cookie::new(3);
        cookie.note(Point { branch: BRANCH, ordinal: 10, frame, wal, file: None });
        cookie
    }

    #[test]
    fn a_generation_keeps_its_number_as_long_as_its_history_fits() {
        let cookie = known(Some(WalMark { salts: [5, 6], sum: [1, 1] }), 4);
        let same = place(&cookie, BRANCH, log([5, 6], 9, [2, 2], Some([1, 1])), 0).unwrap();
        assert_eq!((same.point.lsn(), same.linked), (lsn(10, 9), true));
        let shorter = place(&cookie, BRANCH, log([5, 6], 3, [2, 2], None), 0).unwrap();
        assert_eq!((shorter.point.lsn(), shorter.linked), (lsn(11, 3), false));
        let other = place(&cookie, BRANCH, log([5, 6], 9, [2, 2], Some([1, 3])), 0).unwrap();
        assert_eq!((other.point.lsn(), other.linked), (lsn(11, 9), false));
    }

    /// A stream saw three restarts of an empty log as one new generation, a backup counted three by the salts, and the
    /// backup's LSN was behind all that was captured later.
    #[test]
    fn another_log_is_the_next_one_whatever_its_salts() {
        let cookie = known(Some(WalMark { salts: [u32::MAX, 6], sum: [1, 1] }), 4);
        for salt in [0, 1, 2000, 1 << 20] {
            let placed = place(&cookie, BRANCH, log([salt, 99], 2, [2, 2], None), 0).unwrap();
            assert_eq!((placed.point.lsn(), placed.linked), (lsn(11, 2), false), "salt {salt}");
        }
    }

    #[test]
    fn who_knows_nothing_begins_with_the_clock() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let hours = |seconds| number_by_hours(at(seconds));
        assert_eq!((hours(0), hours(1_577_836_811), hours(1_577_836_800 + 5 * 3600)), (0, 0, 4));
        let ticks = |seconds| Clock::tick(at(seconds));
        assert_eq!((ticks(0), ticks(1_577_836_811), ticks(1 << 50)), (0, 44, LAST_BY_CLOCK));
        assert!(ticks(2_600_000_000) < LAST_BY_CLOCK, "2052");
    }

    #[test]
    fn no_number_by_the_clock_is_given_twice_or_ahead_of_it() {
        let first = Clock.next(0);
        let second = Clock.next(0);
        assert!(second > first);
        let third = Clock.next(second + 1);
        assert!(third >= second + 2 && Clock::tick(SystemTime::now()) >= third);
        let began = Instant::now();
        assert!(Clock.next(u32::MAX) < LAST_BY_CLOCK);
        assert!(began.elapsed() < Duration::from_secs(2), "a clock that was set back is not waited for");
    }

    #[test]
    fn other_branches_are_remembered_and_push_the_numbers_up() {
        let mut cookie = known(None, 0);
        let first = place(&cookie, BranchId(8), Seen::Nothing { file: None }, 0).unwrap();
        assert_eq!(first.point.lsn(), lsn(11, 0));
        cookie.note(first.point);
        let back = Cookie::decode(&cookie.encode()).unwrap();
        assert_eq!(back, cookie);
        assert_eq!(back.point(BRANCH).map(Point::lsn), Some(lsn(10, 0)));
        assert_eq!(place(&back, BranchId(9), Seen::Nothing { file: None }, 0).unwrap().point.lsn(), lsn(12, 0));
    }

    #[test]
    fn an_empty_log_proves_nothing_without_the_mark_of_the_file() {
        let cookie = known(None, 0);
        let empty = place(&cookie, BRANCH, Seen::Nothing { file: None }, 0).unwrap();
        assert_eq!((empty.point.lsn(), empty.linked), (lsn(11, 0), false));
        let written = place(&cookie, BRANCH, log([1, 2], 3, [2, 2], None), 0).unwrap();
        assert_eq!((written.point.lsn(), written.linked), (lsn(11, 3), false));
    }

    #[test]
    fn cookies_that_are_none_are_refused() {
        assert_eq!(Cookie::decode(b"").unwrap_err().kind(), ErrorKind::Damaged);
        assert_eq!(Cookie::decode(&vec![0; MAX_COOKIE + 1]).unwrap_err().kind(), ErrorKind::Damaged);
        let newer = Cookie { version: 2, ..Cookie::new(0) };
        assert_eq!(Cookie::decode(&newer.encode()).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
