//! Noting a moment that can be compared later: the writer is held, and everything before is captured.

use std::time::{Duration, Instant, SystemTime};

use setpiece::model::{Level, Lsn, Scope, Timestamp};
use setpiece::source::{BeginRequest, Source};
use setpiece::transform::Secret;
use setpiece::{Error, ErrorKind, Result, Setpiece, source};

use super::database::{Content, failed, open};
use super::scene::Scene;

/// How long capture may take to come up to the writer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A state of the database and when it was.
pub(super) struct Moment {
    pub(super) time: Timestamp,
    pub(super) lsn: Lsn,
    pub(super) content: Content,
}

/// Holds the writer, waits until all that it did is captured, and notes time, position and content.
pub(super) fn note(scene: &Scene<'_>) -> Result<Moment> {
    let database = scene.database();
    let sqlite = |error| failed(&database, error);
    let source = source::open(&scene.source())?;
    let key = std::fs::read_to_string(scene.key_text()).map_err(|error| Error::io(scene.key_text(), error))?;
    let setpiece = Setpiece::open(&scene.repository(), &[Secret::from_key_text(&key)?])?;
    let connection = open(&database)?;
    connection.execute_batch("BEGIN IMMEDIATE").map_err(sqlite)?;
    let content = Content::of(&connection).map_err(sqlite)?;
    let lsn = captured(&setpiece, &*source, scene)?;
    let time = Timestamp::from(SystemTime::now());
    connection.execute_batch("ROLLBACK").map_err(sqlite)?;
    Ok(Moment { time, lsn, content })
}

/// Waits until the redo on record reaches the position of the source, and gives that position.
fn captured(setpiece: &Setpiece, source: &dyn Source, scene: &Scene<'_>) -> Result<Lsn> {
    let id = source.info()?.id;
    let until = Instant::now() + PATIENCE;
    loop {
        let catalog = setpiece.catalog()?;
        // The source numbers its log as it does on record once it is shown what is on record.
        let cookie = catalog.memory_of(source, id, true)?;
        let scope = Scope::Database;
        let request = BeginRequest { scope: &scope, level: Level::Full, without_log: false, cookie: cookie.as_deref() };
        let position = source.begin(&request)?.begin().first().map(|position| position.lsn).unwrap_or_default();
        let on_record = catalog.units().map(|(_, unit)| unit.span.upto).max().unwrap_or_default();
        if on_record >= position {
            return Ok(position);
        }
        if Instant::now() > until {
            return Err(Error::new(ErrorKind::Internal, format!("redo is captured up to {on_record}, not {position}")));
        }
        scene.wait(Duration::from_millis(50))?;
    }
}
