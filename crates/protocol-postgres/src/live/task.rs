//! One message of the client on its way to being permitted.

use std::sync::Arc;
use std::time::Instant;

use corral_gate::Permit;
use corral_model::ids::StatementSeq;
use corral_model::statement::Facts;
use corral_model::statement::Parameter;

use super::cursors::Opened;
use super::scope::Scope;
use super::sql_prepared::SqlPrepared;
use crate::analysis::{Analysis, Names};
use crate::turns::{Defining, Using};

/// What a text does, and under which names and masks that was told. A session shares it within
/// itself: what it points to is other sessions' too, and counting there would cost a cache miss
/// for each count.
#[derive(Debug, Clone)]
pub(crate) struct Analysed {
    pub(crate) analysis: Arc<Analysis>,
    pub(crate) names: Option<Arc<Names>>,
    /// What an approval binds; empty for texts that need no names.
    pub(crate) state_digest: Arc<str>,
    pub(crate) names_version: u64,
    pub(crate) scope_version: u64,
}

/// What a Bind says.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) portal: String,
    pub(crate) statement: String,
    pub(crate) parameters: Arc<[Parameter]>,
}

/// Which message it is. The message itself stays at the front of the client's buffer.
#[derive(Debug)]
pub(crate) enum What {
    /// No message: the session opens, and only names are wanted.
    Open,
    Query,
    /// A function by its OID; the text is the SELECT that does the same.
    Call {
        parameters: Arc<[Parameter]>,
    },
    Parse {
        name: String,
        types: Arc<[u32]>,
        /// Of the Bind that follows, where the Parse is decided for both.
        parameters: Arc<[Parameter]>,
    },
    Bind(Binding),
    Execute {
        portal: String,
    },
}

/// A permit of a person's, with what it was given for.
#[derive(Debug)]
pub(crate) struct Approved {
    pub(crate) permit: Permit,
    pub(crate) facts: Arc<Facts>,
    pub(crate) state_digest: Arc<str>,
}

/// The message at the front of the client's buffer.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) what: What,
    pub(crate) text: Arc<str>,
    /// What its analysis is kept under: the text, or the outline that others have too.
    pub(crate) outline: Arc<str>,
    pub(crate) frame_len: usize,
    /// Its text waits to be read until it is known in which encoding the target reads it.
    pub(crate) is_unread: bool,
    /// Told without names.
    pub(crate) needs_names: Option<bool>,
    pub(crate) analysed: Option<Arc<Analysed>>,
    /// What its EXECUTE runs, where that is known.
    pub(crate) prepared: Option<SqlPrepared>,
    /// Cursors or portals that it runs, and that are analysed with it.
    pub(crate) opened: Option<Arc<[Opened]>>,
    /// Under which it is being analysed.
    pub(crate) scope: Option<Arc<Scope>>,
    /// Of its decision.
    pub(crate) seq: StatementSeq,
    /// It waited for people: everything is looked at again before it runs.
    pub(crate) was_held: bool,
    pub(crate) approved: Option<Box<Approved>>,
    /// When to look again for what another session does.
    pub(crate) look_at: Option<Instant>,
    /// The names that it uses, from its decision on.
    pub(crate) using: Option<Using>,
    /// What it will change, also while it waits for its turn.
    pub(crate) defining: Option<Defining>,
    /// Since when it waits for its turn.
    pub(crate) turn_since: Option<Instant>,
}

impl Task {
    pub(crate) fn new(what: What, text: Arc<str>, frame_len: usize) -> Self {
        Self {
            what,
            outline: text.clone(),
            text,
            frame_len,
            is_unread: false,
            needs_names: None,
            analysed: None,
            prepared: None,
            opened: None,
            scope: None,
            seq: StatementSeq(0),
            was_held: false,
            approved: None,
            look_at: None,
            using: None,
            defining: None,
            turn_since: None,
        }
    }

    /// A message whose text cannot be read before the names are known; it is looked at again then.
    pub(crate) fn unread(what: What, frame_len: usize) -> Self {
        Self { is_unread: true, ..Self::new(what, Arc::from(""), frame_len) }
    }

    /// Whether an error in an open pipeline makes the target skip it.
    pub(crate) fn is_message(&self) -> bool {
        !matches!(self.what, What::Open)
    }
}

/// What the client's side waits for.
#[derive(Debug)]
pub(crate) enum Step {
    /// The next message may be looked at.
    Ready,
    /// The gateway's questions about names are on their way.
    ExpectNames(Box<Task>),
    /// Another session asks them, or has its turn first.
    ExpectOthers(Box<Task>),
    /// An analysis thread works.
    ExpectWork(Box<Task>),
    ExpectCheck(Box<Task>),
    ExpectDecision(Box<Task>),
    /// People decide.
    Held(Box<Hold>),
}

/// A statement that waits for people.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) task: Box<Task>,
    pub(crate) seq: StatementSeq,
    pub(crate) notice: String,
    pub(crate) next_notice: Instant,
}
