//! What was sent to the target and is not answered: one entry for each message with an answer, in
//! order. Answers are matched against the front; nothing else tells whom they are for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use corral_gate::Permit;

use super::rowlog::RowLog;
use super::rows::RowPlan;
use super::scope::Scope;
use super::store::Undo;
use crate::analysis::Analysis;
use crate::deny::Refusal;
use crate::turns::Using;

/// On whose behalf a message was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    /// The gateway, within the client's conversation: the client sees no answer, but errors.
    Gateway,
    /// The gateway's questions about names.
    Question,
}

/// Which of the gateway's questions an Execute is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// No question; for those that follow.
    Set(Setting),
    Catalogue,
    Session,
    Temporary,
    /// Which statements are SQL's.
    Prepared,
}

/// Whether the target compiles questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    /// It does not, up to the next Sync.
    Plainly,
    /// It does not, up to `AsBefore`.
    PlainlyWithin,
    AsBefore,
}

/// A permitted statement that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) permit: Permit,
    pub(crate) analysis: Arc<Analysis>,
    pub(crate) scope: Arc<Scope>,
    pub(crate) started: Instant,
    pub(crate) rows: u64,
    pub(crate) masked_rows: u64,
    pub(crate) bytes: u64,
    pub(crate) tag: Option<String>,
    /// None until the result's first row.
    pub(crate) plan: Option<RowPlan>,
    pub(crate) log: Option<Box<RowLog>>,
    /// A FunctionCall: one value comes back, and no rows.
    pub(crate) is_call: bool,
    /// COPY sends rows to the client; how many, its tag says.
    pub(crate) is_copying_out: bool,
    /// Until the target has looked the names up.
    pub(crate) using: Option<Using>,
}

/// One message that the target has to answer.
#[derive(Debug)]
pub(crate) enum Pending {
    Parse {
        sender: Sender,
        undo: Option<Box<Undo>>,
        /// It was sent under a permit that nothing else uses.
        running: Option<Box<Running>>,
        using: Option<Using>,
    },
    /// A Parse that must fail, in a refused message's place.
    Refused(Box<Refusal>),
    Bind {
        sender: Sender,
        /// Of the portal; 0 for the gateway's own.
        number: u64,
        undo: Option<Box<Undo>>,
        using: Option<Using>,
    },
    Close {
        sender: Sender,
        undo: Option<Box<Undo>>,
        is_last_of_question: bool,
    },
    DescribeStatement,
    DescribePortal {
        sender: Sender,
    },
    Execute {
        portal: String,
        /// Which portal of that name.
        number: u64,
        running: Box<Running>,
    },
    Ask(Question),
    Sync {
        sender: Sender,
        epoch: u64,
    },
    Query {
        running: Option<Box<Running>>,
        stand_in: Option<Box<Refusal>>,
        epoch: u64,
    },
}

impl Pending {
    pub(crate) fn is_sync(&self) -> bool {
        matches!(self, Self::Sync { .. })
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        match self {
            Self::Execute { running, .. } => Some(running),
            Self::Query { running, .. } => running.as_deref(),
            Self::Parse { .. }
            | Self::Refused(_)
            | Self::Bind { .. }
            | Self::Close { .. }
            | Self::DescribeStatement
            | Self::DescribePortal { .. }
            | Self::Ask(_)
            | Self::Sync { .. } => None,
        }
    }

    pub(crate) fn running_mut(&mut self) -> Option<&mut Running> {
        match self {
            Self::Execute { running, .. } => Some(running),
            Self::Query { running, .. } => running.as_deref_mut(),
            Self::Parse { .. }
            | Self::Refused(_)
            | Self::Bind { .. }
            | Self::Close { .. }
            | Self::DescribeStatement
            | Self::DescribePortal { .. }
            | Self::Ask(_)
            | Self::Sync { .. } => None,
        }
    }

    /// Whether it belongs to the gateway's questions about names.
    pub(crate) fn is_question(&self) -> bool {
        match self {
            Self::Ask(_) => true,
            Self::Parse { sender, .. }
            | Self::Bind { sender, .. }
            | Self::Close { sender, .. }
            | Self::DescribePortal { sender, .. }
            | Self::Sync { sender, .. } => *sender == Sender::Question,
            Self::Refused(_)
            | Self::DescribeStatement
            | Self::Execute { .. }
            | Self::Query { .. } => false,
        }
    }
}

/// Takes what an error makes the target skip: everything up to the next Sync, which stays.
pub(crate) fn take_skipped(queue: &mut VecDeque<Pending>) -> Vec<Pending> {
    let count = queue.iter().position(Pending::is_sync).unwrap_or(queue.len());
    queue.drain(..count).collect()
}
