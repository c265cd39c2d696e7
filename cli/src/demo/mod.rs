//! The demo: every step is a command of this program, run as a process of its own and shown as it would be typed.

mod database;
mod moment;
mod scene;
pub(crate) mod writer;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use setpiece::{Error, ErrorKind, Result};

use crate::console::{Answer, Console};
use crate::documents::{Text, Time};
use crate::text;
use database::Content;
use moment::Moment;
use scene::{Scene, Step};

/// How long the writer is left alone between two steps.
const WRITE_ON: Duration = Duration::from_millis(600);

#[derive(Serialize)]
struct Document {
    /// Whether what came back is what was noted.
    proven: bool,
    directory: PathBuf,
    kept: bool,
    moment: MomentDocument,
    recovered: ContentDocument,
    integrity_check: String,
    damage: Vec<String>,
    steps: Vec<Step>,
    seconds: f64,
}

#[derive(Serialize)]
struct MomentDocument {
    time: Time,
    lsn: u64,
    content: ContentDocument,
}

#[derive(Serialize)]
struct ContentDocument {
    transactions: i64,
    rows: usize,
    checksum: String,
}

impl From<&Content> for ContentDocument {
    fn from(content: &Content) -> Self {
        ContentDocument { transactions: content.transactions, rows: content.rows, checksum: content.checksum.clone() }
    }
}

/// Runs the demo. Fails when what comes back differs in anything.
pub(crate) fn run(dir: Option<PathBuf>, keep: bool, console: &Console) -> Result<Answer> {
    let began = Instant::now();
    let mut place = Place::make(dir, keep)?;
    let mut scene = Scene::set(&place.path, console)?;
    let outcome = play(&mut scene)?;
    let seconds = began.elapsed();
    let proven = outcome.recovered.is(&outcome.moment.content) && outcome.integrity == "ok";
    let document = Document {
        proven,
        directory: place.path.clone(),
        kept: place.kept(),
        moment: MomentDocument {
            time: Text(outcome.moment.time),
            lsn: outcome.moment.lsn.0,
            content: (&outcome.moment.content).into(),
        },
        recovered: (&outcome.recovered).into(),
        integrity_check: outcome.integrity,
        damage: outcome.damage,
        steps: scene.into_steps(),
        seconds: seconds.as_secs_f64(),
    };
    if !proven {
        place.keep();
        return Err(Error::new(ErrorKind::Internal, "what came back is not what was there")
            .on(place.path.display().to_string())
            .because(format!(
                "noted: {}, recovered: {}, integrity check: {}",
                outcome.moment.content, outcome.recovered, document.integrity_check
            )));
    }
    let text = farewell(&place, &outcome.moment, seconds);
    place.leave();
    Answer::new(&document, text)
}

struct Outcome {
    moment: Moment,
    recovered: Content,
    integrity: String,
    damage: Vec<String>,
}

/// The steps, in their order.
fn play(scene: &mut Scene<'_>) -> Result<Outcome> {
    scene.say(&format!(
        "A SQLite database in {}, and another process that never stops writing to it.",
        scene.dir.display()
    ));
    database::create(&scene.database())?;
    let writer = scene.background(&["demo-writer", "--database", &scene.database_text()], "writing")?;
    scene.say("A key, and an encrypted repository.");
    scene.introduce();
    scene.command(&["key", "new", "--out", &scene.key_text()], |_| "key made".into())?;
    scene.command(&["init"], |_| "repository made".into())?;
    scene.say("From now on every transaction is captured, in the background.");
    let source = scene.source();
    let stream = scene.background(&["log", "stream", "--source", &source], "capturing")?;
    scene.say("Backups, while the database is being written to.");
    for level in ["full", "differential", "cumulative"] {
        scene.command(&["backup", "--source", &source, "--level", level], backup_line)?;
        scene.wait(WRITE_ON)?;
    }
    scene.say("A moment to come back to. The writer is held for an instant, so that it can be compared.");
    let moment = moment::note(scene)?;
    scene.say(&format!("  {}, {}", moment.time, moment.content));
    scene.wait(WRITE_ON)?;
    scene.say("Somebody deletes every account. The redo of that is captured as well.");
    database::mistake(&scene.database())?;
    scene.wait(WRITE_ON)?;
    writer.kill()?;
    scene.show(&["sets"])?;
    stream.stop()?;
    scene.say("And then the disk: the writer is killed and pages of the database are overwritten.");
    let damage = database::damage(&scene.database())?;
    damage.iter().for_each(|line| scene.say(&format!("  {line}")));
    scene.say("The repository is whole, and the moment can be reached.");
    scene.command(&["check", "--depth", "pages"], check_line)?;
    let (back, until) = (scene.dir.join("recovered"), moment.time.to_string());
    let to = back.display().to_string();
    scene.command(&["restore", "--to", &to, "--until-time", &until], restore_line)?;
    let recovered = back.join("app.db");
    let integrity = database::integrity(&recovered);
    let content = Content::of_file(&recovered)?;
    scene.say(&format!("  came back: {content}"));
    scene.say(&format!("  was noted: {}", moment.content));
    scene.say(&format!("  PRAGMA integrity_check: {integrity}"));
    Ok(Outcome { moment, recovered: content, integrity, damage })
}

fn number(document: &Value, path: &str) -> u64 {
    document.pointer(path).and_then(Value::as_u64).unwrap_or_default()
}

fn word<'d>(document: &'d Value, path: &str) -> &'d str {
    document.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn backup_line(document: &Value) -> String {
    format!(
        "{} set, {} of pages, {} stored",
        word(document, "/set/level"),
        text::bytes(number(document, "/raw_bytes")),
        text::bytes(number(document, "/stored_bytes"))
    )
}

fn check_line(document: &Value) -> String {
    format!(
        "{}, {}, {}: all as written",
        text::count(number(document, "/sets"), "set"),
        text::count(number(document, "/frames"), "frame"),
        text::count(number(document, "/pages"), "page")
    )
}

fn restore_line(document: &Value) -> String {
    format!(
        "{} written, {} of redo applied, LSN {} reached",
        text::bytes(number(document, "/totals/write_bytes")),
        text::count(number(document, "/totals/log_units"), "unit"),
        number(document, "/recovered/lsn")
    )
}

fn farewell(place: &Place, moment: &Moment, took: Duration) -> String {
    let mut text = format!(
        "\nThe database is back as it was at {}, to the last byte of every row. It took {}.\n",
        moment.time,
        text::seconds(took)
    );
    if place.kept() {
        text += &format!(
            "\nEverything is still in {0}. Try next:\n  export SETPIECE_REPO=disk:{0}/repo SETPIECE_KEY_FILE={0}/demo.key\n  \
             setpiece sets\n  setpiece show latest\n  setpiece restore --dry-run --until-lsn {1}\n  \
             setpiece restore --to {0}/latest\n",
            place.path.display(),
            moment.lsn
        );
    } else {
        text += "\nTry next:\n  setpiece demo --dir DIR      the same, and everything stays there to be looked at\n  \
                 setpiece key new --out KEY; setpiece init --repo disk:/DIR --key-file KEY\n  \
                 setpiece backup --repo disk:/DIR --key-file KEY --source sqlite:/path/of/your.db\n";
    }
    text
}

/// The directory of the demo.
struct Place {
    path: PathBuf,
    /// Removes the directory when it is dropped.
    temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn make(dir: Option<PathBuf>, keep: bool) -> Result<Self> {
        if let Some(dir) = dir {
            let path = std::path::absolute(&dir).map_err(|error| Error::io(dir.display().to_string(), error))?;
            make_empty(&path)?;
            return Ok(Place { path, temporary: None });
        }
        let made = tempfile::Builder::new().prefix("setpiece-demo-").tempdir();
        let made = made.map_err(|error| Error::io("a temporary directory", error))?;
        let path = made.path().to_owned();
        let temporary = if keep {
            drop(made.keep());
            None
        } else {
            Some(made)
        };
        Ok(Place { path, temporary })
    }

    fn kept(&self) -> bool {
        self.temporary.is_none()
    }

    /// Leaves everything there after all.
    fn keep(&mut self) {
        drop(self.temporary.take().map(tempfile::TempDir::keep));
    }

    /// Removes what is not to be kept. What cannot be removed is in the system's temporary directory anyway.
    fn leave(self) {
        drop(self.temporary.map(tempfile::TempDir::close));
    }
}

fn make_empty(path: &Path) -> Result<()> {
    let failed = |error| Error::io(path.display().to_string(), error);
    std::fs::create_dir_all(path).map_err(failed)?;
    if std::fs::read_dir(path).map_err(failed)?.next().is_some() {
        return Err(Error::new(ErrorKind::Target, "is not empty")
            .on(path.display().to_string())
            .remedy("name a directory that does not exist yet or is empty"));
    }
    Ok(())
}

/// Waits, and stops waiting when the user does not want to any more.
fn pause(time: Duration, console: &Console) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        console.cancel.check()?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
