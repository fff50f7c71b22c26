//! A session after login: statements are decided, answers are matched, rows are masked.
//!
//! [`client`] reads what the client sends; [`resolve`], [`decide`] and [`forward`] carry one message,
//! a [`task`], through analysis and decision to the target; [`pending`] holds what that has to
//! answer, [`target`] reads the answers. It must not know how a connection came to be.

mod amend;
mod by_name;
mod call;
mod client;
mod copy;
mod cursors;
mod decide;
mod doubts;
mod extended;
mod forward;
mod hold;
mod messages;
mod names;
mod open;
mod parsed;
mod pending;
mod questions;
mod refuse;
mod resolve;
mod results;
mod rowlog;
mod rows;
mod scope;
mod settled;
mod sql_prepared;
mod store;
mod target;
mod task;
mod texts;
mod transaction;
mod turn;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corral_gate::machine::Wants;
use corral_gate::{Admission, Harmless, Input, Output, Rights};
use corral_model::event::{CloseReason, EventBody};
use corral_model::limits;

use self::copy::CopyIn;
use self::cursors::Cursors;
use self::doubts::Doubts;
use self::names::Keeper;
use self::parsed::Parsed;
use self::pending::{Pending, Running};
use self::rows::Origins;
use self::scope::Scope;
use self::sql_prepared::SqlStatements;
use self::store::Store;
use self::task::{Step, Task, What};
use self::texts::Texts;
use self::transaction::Transaction;
use crate::analyst::Analyst;
use crate::codec::answers::Field;
use crate::codec::target::{cancel_request, put_terminate};
use crate::deny::sqlstate;
use crate::encoding;
use crate::link::{Ending, Link};
use crate::shared::Shared;
use crate::target_login::TargetFacts;
use crate::turns::Turn;

/// What is known about results: the layout of the one at the front of the queue, and where masked
/// columns live.
#[derive(Debug, Default)]
struct Layouts {
    current: Option<Vec<Field>>,
    origins: Option<Origins>,
    /// Versions of names and scope for which `origins` holds.
    origins_of: (u64, u64),
}

/// A session that is logged in at its target.
#[derive(Debug)]
pub(crate) struct Live {
    admission: Box<Admission>,
    minor: u16,
    facts: TargetFacts,
    analyst: Arc<dyn Analyst>,
    is_open: bool,
    queue: VecDeque<Pending>,
    step: Step,
    /// An error in a pipeline: the client's messages are skipped up to its Sync.
    is_skipping: bool,
    /// The portal that the message before this one described.
    described: Option<String>,
    /// A Flush was sent because the queue is full.
    has_flushed: bool,
    is_client_gone: bool,
    /// The message at the front waits until the target has confirmed a name.
    is_front_unsettled: bool,
    parsed: Option<Box<Parsed>>,
    copy: CopyIn,
    store: Store,
    sql: SqlStatements,
    cursors: Cursors,
    doubts: Doubts,
    texts: Texts,
    keeper: Keeper,
    turn: Turn,
    scope: Arc<Scope>,
    transaction: Transaction,
    layouts: Layouts,
    seq: u64,
}

impl Live {
    /// Starts a session: the names are asked for before the client hears that it is ready.
    pub(crate) fn open(
        admission: Box<Admission>,
        minor: u16,
        facts: TargetFacts,
        shared: &Shared,
        link: &mut Link,
    ) -> Result<Self, Ending> {
        let analyst = shared.analyst.clone();
        let shared = shared.target(&admission, link.now);
        let scope = Scope::new(admission.classified.clone(), admission.rights.masked.clone(), 1);
        let mut live = Self {
            admission,
            minor,
            facts,
            analyst,
            is_open: false,
            queue: VecDeque::new(),
            step: Step::Ready,
            is_skipping: false,
            described: None,
            has_flushed: false,
            is_client_gone: false,
            is_front_unsettled: false,
            parsed: None,
            copy: CopyIn::default(),
            store: Store::default(),
            sql: SqlStatements::default(),
            cursors: Cursors::default(),
            doubts: Doubts::default(),
            texts: Texts::default(),
            turn: Turn::new(shared.clone()),
            keeper: Keeper::new(shared),
            scope: Arc::new(scope),
            transaction: Transaction::new(),
            layouts: Layouts::default(),
            seq: 0,
        };
        let reads_utf8 = |(name, value): &(String, String)| {
            name != "client_encoding" || encoding::is_utf8(value)
        };
        if !live.facts.parameters.iter().all(reads_utf8) {
            live.keeper.becomes_foreign();
        }
        let task = Task::new(What::Open, Arc::from(""), 0);
        live.resolve(Box::new(task), link)?;
        Ok(live)
    }

    /// One input after login. An error ends the session.
    pub(crate) fn handle(&mut self, input: Input, link: &mut Link) -> Result<(), Ending> {
        match input {
            Input::ClientReadable | Input::TargetReadable => {}
            Input::ClientClosed => self.is_client_gone = true,
            Input::TargetClosed => {
                self.pump_target(link)?;
                return Err(Ending::with(
                    CloseReason::Target,
                    "08006",
                    "the target closed its connection",
                ));
            }
            Input::Worked(done) => self.worked(done, link)?,
            Input::Checked(denial) => self.checked(denial, link),
            Input::Decided(decision) => self.decided(decision, link)?,
            Input::CancelAsked => self.cancel_asked(link),
            Input::RightsChanged(rights) => self.rights_changed(rights),
            Input::DeadlinePassed => {
                self.repeat_notice(link);
                self.look_again(link)?;
            }
            Input::End { reason, denial } => {
                return Err(Ending {
                    reason,
                    code: Some(sqlstate(denial.kind)),
                    text: denial.sentence(),
                });
            }
            Input::ClientTlsStarted
            | Input::Admitted(_)
            | Input::Refused(_)
            | Input::TargetConnected
            | Input::TargetTlsStarted { .. } => {}
        }
        self.pump_target(link)?;
        self.pump_client(link)?;
        // A refusal that needed no target, or a question's end, may have made room.
        self.end_if_gone()
    }

    /// A client that will send no more, and has nothing left to be read, ends its session: what
    /// still runs would be answered to nobody.
    fn end_if_gone(&self) -> Result<(), Ending> {
        let is_waiting = match self.step {
            Step::Ready | Step::Held(_) | Step::ExpectOthers(_) => false,
            Step::ExpectNames(_)
            | Step::ExpectWork(_)
            | Step::ExpectCheck(_)
            | Step::ExpectDecision(_) => true,
        };
        if self.is_client_gone && !is_waiting {
            return Err(Ending::quiet(CloseReason::Client));
        }
        Ok(())
    }

    fn rights_changed(&mut self, rights: Rights) {
        if rights.masked != self.scope.mask.masked {
            let classified = self.scope.mask.classified.clone();
            let (masked, version) = (rights.masked.clone(), self.scope.version + 1);
            self.scope = Arc::new(Scope::new(classified, masked, version));
        }
        self.admission.rights = rights;
    }

    /// What is left to do when the session ends, for whatever reason.
    pub(crate) fn close(&mut self, ending: &Ending, link: &mut Link) {
        let code = ending.code.unwrap_or("08006");
        match std::mem::replace(&mut self.step, Step::Ready) {
            Step::Held(hold) => link.ask(Output::Withdraw(hold.seq)),
            Step::ExpectNames(task) | Step::ExpectOthers(task) | Step::ExpectWork(task) => {
                if let Some(approved) = &task.approved {
                    decide::unused(&approved.permit, code, link);
                }
            }
            Step::Ready | Step::ExpectCheck(_) | Step::ExpectDecision(_) => {}
        }
        self.end_parsed(link);
        let queue = std::mem::take(&mut self.queue);
        let is_busy = !queue.is_empty();
        let mut undos = Vec::new();
        for pending in queue {
            match pending {
                Pending::Execute { running, .. }
                | Pending::Parse { running: Some(running), .. }
                | Pending::Query { running: Some(running), .. } => {
                    finish(&running, code, link);
                }
                Pending::Bind { undo: Some(undo), .. }
                | Pending::Close { undo: Some(undo), .. } => {
                    undos.push(undo);
                }
                _ => {}
            }
        }
        for undo in undos.into_iter().rev() {
            for running in self.store.undo(*undo) {
                finish(&running, code, link);
            }
        }
        for running in self.store.drain_unfinished() {
            finish(&running, "00000", link);
        }
        let is_ours = !matches!(ending.reason, CloseReason::Client | CloseReason::Target);
        // What nobody hears the answer of must not change objects later.
        if is_busy && (is_ours || self.turn.has_sent()) {
            self.cancel_target(link);
        }
        if !is_busy && self.transaction.is_certain() {
            // The target takes back what it was in the middle of.
            self.turn.ended(true);
        }
        self.turn.leave(Some(link.now));
        link.tell_target(Harmless::Control, put_terminate);
    }

    fn cancel_target(&self, link: &mut Link) {
        if let Some((process, key)) = &self.facts.key {
            link.ask(Output::CancelTarget(cancel_request(*process, key)));
        }
    }

    pub(crate) fn wants(&self, link: &Link) -> Wants {
        let client = match self.step {
            Step::Ready => {
                self.queue.len() < limits::PIPELINE_DEPTH_MAX
                    && link.buffers.target_out.len() < limits::WRITE_BUFFER_BYTES_HIGH
                    && ((!self.copy.is_awaited && !self.is_front_unsettled)
                        || self.has_little_unread(link))
            }
            // So that a lost client is seen.
            Step::Held(_) | Step::ExpectOthers(_) => self.has_little_unread(link),
            Step::ExpectNames(_)
            | Step::ExpectWork(_)
            | Step::ExpectCheck(_)
            | Step::ExpectDecision(_) => false,
        };
        Wants {
            client: client && !self.is_client_gone,
            target: link.buffers.client_out.len() < limits::WRITE_BUFFER_BYTES_HIGH,
        }
    }

    /// Whether what waits behind the message in work is little enough to read on.
    fn has_little_unread(&self, link: &Link) -> bool {
        let frame_len = match &self.step {
            Step::Held(hold) => hold.task.frame_len,
            Step::ExpectOthers(task) => task.frame_len,
            Step::Ready
            | Step::ExpectNames(_)
            | Step::ExpectWork(_)
            | Step::ExpectCheck(_)
            | Step::ExpectDecision(_) => 0,
        };
        link.buffers.client_in.len() < frame_len + limits::WRITE_BUFFER_BYTES_HIGH
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match &self.step {
            Step::Held(hold) => Some(hold.next_notice),
            Step::ExpectOthers(task) => task.look_at,
            Step::Ready
            | Step::ExpectNames(_)
            | Step::ExpectWork(_)
            | Step::ExpectCheck(_)
            | Step::ExpectDecision(_) => None,
        }
    }

    /// Whether the message in work would be skipped by the target.
    fn is_task_skipped(&self) -> bool {
        self.is_skipping
    }
}

/// Records how a statement ended.
fn finish(running: &Running, code: &str, link: &mut Link) {
    let duration: Duration = link.now.saturating_duration_since(running.started);
    if running.masked_rows > 0 {
        let columns = running.analysis.mask.iter().flat_map(|mask| &mask.masked);
        let columns = columns
            .map(|column| {
                let name = &column.name;
                format!("{}.{}.{}", name.schema, name.table, name.column)
            })
            .collect();
        link.ask(Output::Record(Box::new(EventBody::RowsMasked {
            seq_in_session: running.permit.seq(),
            columns,
            rows: running.masked_rows,
        })));
    }
    link.ask(Output::Record(Box::new(EventBody::StatementCompleted {
        decision: running.permit.decision_id().to_owned(),
        seq_in_session: running.permit.seq(),
        code: code.to_owned(),
        tag: running.tag.clone(),
        rows: running.rows,
        bytes: running.bytes,
        duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        digest: None,
    })));
}

/// Records what is left of a statement's rows, and how it ended.
fn finish_with_rows(running: &mut Running, code: &str, link: &mut Link) {
    if let Some(event) = running.log.as_mut().and_then(|log| log.take()) {
        link.ask(Output::Record(Box::new(event)));
    }
    finish(running, code, link);
}
