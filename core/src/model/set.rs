//! Backup sets: what kind they are and what they hold.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use super::branch::BranchHistory;
use super::id::{NodeId, SetId, SourceId};
use super::lsn::{Lsn, LsnSpan, Seq};
use super::mark::StateMark;
use super::time::Timestamp;

/// How much of the source a set holds, compared with other sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Level {
    /// Every valid page.
    #[n(0)]
    Full,
    /// The pages changed since the base, which may be of any level.
    #[n(1)]
    Differential,
    /// The pages changed since the base, which is a full set.
    #[n(2)]
    Cumulative,
}

/// What part of the source a set is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Scope {
    /// Everything but temporary tablespaces.
    #[n(0)]
    Database,
    /// One tablespace. Such a set is never consistent by itself.
    #[n(1)]
    Tablespace(#[n(0)] String),
    /// One table. Full only.
    #[n(2)]
    Table(#[n(0)] String),
    /// Redo and nothing else.
    #[n(3)]
    Log,
}

/// Whether a set can be brought to a consistent state by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Consistency {
    /// The set holds the redo it needs.
    #[n(0)]
    WithLog,
    /// No redo is needed: the source was closed cleanly, or the set is a snapshot between transactions.
    #[n(1)]
    NoLogNeeded,
    /// The redo was left out; archived log is needed to open what is restored.
    #[n(2)]
    WithoutLog,
}

macro_rules! text_form {
    ($name:ident { $($variant:ident = $text:literal),* }) => {
        impl $name {
            /// The word for it, as on the command line and in reports.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $($name::$variant => $text),* } }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.as_str()) }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text { $($text => Ok($name::$variant),)* _ => Err(UnknownWord(text.into())) }
            }
        }
    };
}

/// The word is none of those that are known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of the words that are known here")]
pub struct UnknownWord(pub String);

text_form!(Level { Full = "full", Differential = "differential", Cumulative = "cumulative" });
text_form!(Consistency { WithLog = "with-log", NoLogNeeded = "no-log-needed", WithoutLog = "without-log" });

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Database => f.pad("database"),
            Scope::Tablespace(name) => f.pad(&format!("tablespace:{name}")),
            Scope::Table(name) => f.pad(&format!("table:{name}")),
            Scope::Log => f.pad("log"),
        }
    }
}

impl FromStr for Scope {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text.split_once(':') {
            None if text == "database" => Ok(Scope::Database),
            None if text == "log" => Ok(Scope::Log),
            Some(("tablespace", name)) if !name.is_empty() => Ok(Scope::Tablespace(name.into())),
            Some(("table", name)) if !name.is_empty() => Ok(Scope::Table(name.into())),
            _ => Err(UnknownWord(text.into())),
        }
    }
}

/// The redo of one node that a set needs, as DM defines it.
///
/// `begin_lsn` is the last LSN that was surely on disk in the data files when the backup began, so redo is needed from
/// there on; `end_lsn` is the last LSN written when it ended. Equal numbers mean that nothing changed meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct NodeRange {
    /// The log stream.
    #[n(0)]
    pub node: NodeId,
    /// See the type.
    #[n(1)]
    pub begin_lsn: Lsn,
    /// The number of the unit that holds `begin_lsn`, where units are numbered when they are written.
    #[n(2)]
    pub begin_seq: Option<Seq>,
    /// See the type.
    #[n(3)]
    pub end_lsn: Lsn,
    /// The number of the unit that holds `end_lsn`.
    #[n(4)]
    pub end_seq: Option<Seq>,
}

impl NodeRange {
    /// The redo needed.
    #[must_use]
    pub fn span(&self) -> LsnSpan {
        LsnSpan { after: self.begin_lsn, upto: self.end_lsn }
    }
}

/// What chains, windows, retention and lists need to know of a set. The metadata file holds it and more.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SetSummary {
    /// The set.
    #[n(0)]
    pub id: SetId,
    /// The name the user gave it, or one made of source, level and time.
    #[n(1)]
    pub name: String,
    /// The source.
    #[n(2)]
    pub source: SourceId,
    /// The name of the source, for people.
    #[n(3)]
    pub source_name: String,
    /// The engine of the source, such as `sqlite`.
    #[n(4)]
    pub engine: String,
    /// How much it holds.
    #[n(5)]
    pub level: Level,
    /// What part of the source it is about.
    #[n(6)]
    pub scope: Scope,
    /// The set below it in its chain; `None` for a full set and for log.
    #[n(7)]
    pub base: Option<SetId>,
    /// Whether it can be opened by itself.
    #[n(8)]
    pub consistency: Consistency,
    /// Whether the source was running.
    #[n(9)]
    pub online: bool,
    /// The branch it was taken on, and that branch's history.
    #[n(10)]
    pub branch: BranchHistory,
    /// The redo needed, for each node.
    #[n(11)]
    pub nodes: Vec<NodeRange>,
    /// What is restored from the set is consistent from this LSN on. At least the largest `end_lsn`.
    #[n(12)]
    pub bak_end_lsn: Lsn,
    /// When the backup began.
    #[n(13)]
    pub began: Timestamp,
    /// When it ended; the state at `bak_end_lsn` is from then or before.
    #[n(14)]
    pub ended: Timestamp,
    /// Whether the source said that pages were damaged.
    #[n(15)]
    pub bad_pages: u64,
    /// Marks of the state at `bak_end_lsn`, for engines whose LSNs alone do not prove what they stand for.
    #[n(16)]
    pub marks: Option<Vec<StateMark>>,
}

impl SetSummary {
    /// Whether it can serve as a base: data of a database or tablespace, complete.
    #[must_use]
    pub fn holds_pages(&self) -> bool {
        matches!(self.scope, Scope::Database | Scope::Tablespace(_))
    }
}
