//! From an analysis to a permit: the check or the decision that a message needs, and for what
//! people approved a second look.

use std::sync::Arc;

use corral_gate::{Decision, Denial, DenialKind, Output, Permit};
use corral_model::event::EventBody;
use corral_model::ids::StatementSeq;
use corral_model::statement::{Parameter, Statement};
use corral_model::{Effect, TraceParent};

use super::Live;
use super::cursors::resolves_late;
use super::forward::claim_until_ended;
use super::parsed::{parameters_ahead, runs_when_parsed};
use super::pending::Running;
use super::task::{Analysed, Approved, Step, Task, What};
use super::turn::Next;
use crate::analysis::StatementKind;
use crate::deny::Refusal;
use crate::link::{Ending, Link};
use crate::turns::Using;

impl Live {
    /// What the text does is known.
    pub(super) fn proceed(&mut self, mut task: Box<Task>, link: &mut Link) -> Result<(), Ending> {
        let Some(analysed) = task.analysed.take() else { return Ok(()) };
        if analysed.scope_version != self.scope.version {
            // Masks changed while it was analysed.
            return self.resolve(task, link);
        }
        if let (What::Query, None, [StatementKind::Execute { name }]) =
            (&task.what, &task.prepared, analysed.analysis.kinds.as_slice())
            && let Some(prepared) = self.sql.find(name)
        {
            task.prepared = Some(prepared.clone());
            task.needs_names = Some(true);
            return self.resolve(task, link);
        }
        let is_plain = task.opened.is_none()
            && matches!(&*analysed.analysis.kinds, [StatementKind::Rows | StatementKind::NoRows]);
        let analysed = if is_plain {
            analysed
        } else {
            match self.with_cursors(&task, analysed) {
                Ok(analysed) => analysed,
                Err(opened) => {
                    task.opened = Some(opened);
                    task.needs_names = Some(true);
                    return self.resolve(task, link);
                }
            }
        };
        if !is_plain && let Some(refusal) = self.masks_moved(&task, &analysed) {
            self.give_up(&task, refusal, link);
            return Ok(());
        }
        let analysed = self.with_parameter_types(&task.what, analysed);
        let analysed = self.with_doubt(&task.what, analysed);
        let analysed = match self.with_fetched_portal(&task.what, analysed) {
            Ok(analysed) => analysed,
            Err(refusal) => {
                self.give_up(&task, refusal, link);
                return Ok(());
            }
        };
        match self.take_turn(&mut task, &analysed, link) {
            Next::Decide => {}
            Next::Resolve => return self.resolve(task, link),
            Next::Wait => {
                self.step = Step::ExpectOthers(task);
                return Ok(());
            }
            Next::Refuse(refusal) => {
                self.give_up(&task, refusal, link);
                return Ok(());
            }
        }
        task.analysed = Some(analysed.clone());
        if let Some(approved) = task.approved.take() {
            self.run_approved(task, *approved, &analysed, link);
            return Ok(());
        }
        match std::mem::replace(&mut task.what, What::Query) {
            What::Open => {}
            What::Parse { name, types, .. } if runs_when_parsed(&analysed.analysis, &task.text) => {
                let parameters = parameters_ahead(link, task.frame_len, &name, &types);
                task.what = What::Parse { name, types, parameters: parameters.clone() };
                let statement = self.next_statement(&mut task, &analysed, parameters);
                self.step = Step::ExpectDecision(task);
                link.ask(Output::Decide(Box::new(statement)));
            }
            What::Parse { name, types, parameters } => {
                let seq = StatementSeq(self.seq + 1);
                let statement = self.statement(seq, &task, &analysed, Arc::default());
                task.what = What::Parse { name, types, parameters };
                self.step = Step::ExpectCheck(task);
                link.ask(Output::Check(Box::new(statement)));
            }
            What::Bind(binding) if !analysed.analysis.facts.effects.contains(Effect::Unknown) => {
                self.forward_bind(binding, &task, analysed, None, link);
                self.use_until_answered(task.using.take());
            }
            // The target plans it, and calls functions that say that they are IMMUTABLE.
            What::Bind(binding) => {
                if let Err(refusal) = self.to_bind(&binding.statement, &analysed) {
                    self.refuse_extended(refusal, task.frame_len, link);
                    return Ok(());
                }
                let parameters = binding.parameters.clone();
                task.what = What::Bind(binding);
                let statement = self.next_statement(&mut task, &analysed, parameters);
                self.step = Step::ExpectDecision(task);
                link.ask(Output::Decide(Box::new(statement)));
            }
            What::Query => {
                let statement = self.next_statement(&mut task, &analysed, Arc::default());
                self.step = Step::ExpectDecision(task);
                link.ask(Output::Decide(Box::new(statement)));
            }
            What::Call { parameters } => {
                task.what = What::Call { parameters: parameters.clone() };
                let statement = self.next_statement(&mut task, &analysed, parameters);
                self.step = Step::ExpectDecision(task);
                link.ask(Output::Decide(Box::new(statement)));
            }
            What::Execute { portal } => {
                if let Some(mut running) = self.take_suspended(&portal, &task, &analysed) {
                    running.using = task.using.take().map(Using::sent);
                    self.forward_execute(portal, running, task.frame_len, link);
                    claim_until_ended(task.defining.take());
                    return Ok(());
                }
                let bound = self.store.portal(&portal);
                let parameters = bound.map(|bound| bound.parameters.clone()).unwrap_or_default();
                task.what = What::Execute { portal };
                let statement = self.next_statement(&mut task, &analysed, parameters);
                self.step = Step::ExpectDecision(task);
                link.ask(Output::Decide(Box::new(statement)));
            }
        }
        Ok(())
    }

    /// The permit of a portal's earlier Execute, where nothing has changed that it looks up later.
    fn take_suspended(
        &mut self,
        portal: &str,
        task: &Task,
        analysed: &Analysed,
    ) -> Option<Box<Running>> {
        if task.opened.is_some() || !resolves_late(&analysed.analysis) {
            return None;
        }
        let scope_version = self.scope.version;
        let portal = self.store.portal_mut(portal)?;
        portal.suspended.take_if(|running| running.scope.version == scope_version)
    }

    fn next_statement(
        &mut self,
        task: &mut Task,
        analysed: &Analysed,
        parameters: Arc<[Parameter]>,
    ) -> Statement {
        self.seq += 1;
        task.seq = StatementSeq(self.seq);
        self.statement(task.seq, task, analysed, parameters)
    }

    pub(super) fn statement(
        &self,
        seq: StatementSeq,
        task: &Task,
        analysed: &Analysed,
        parameters: Arc<[Parameter]>,
    ) -> Statement {
        Statement {
            seq,
            text: task.text.clone(),
            facts: analysed.analysis.facts.clone(),
            parameters,
            in_transaction: self.transaction.is_in_transaction(),
            state_digest: analysed.state_digest.clone(),
            traceparent: TraceParent::in_comment(&task.text),
        }
    }

    /// Answers a Check.
    pub(super) fn checked(&mut self, denial: Option<Denial>, link: &mut Link) {
        let mut task = match std::mem::replace(&mut self.step, Step::Ready) {
            Step::ExpectCheck(task) => task,
            other => {
                self.step = other;
                return;
            }
        };
        if denial.is_some() {
            // The denial is in the record under the number that was shown.
            self.seq += 1;
        }
        if self.skip_if_failed(&task, link) {
            return;
        }
        match (denial, std::mem::replace(&mut task.what, What::Query), task.analysed.take()) {
            (None, What::Parse { name, types, .. }, Some(analysed)) => {
                self.forward_parse(name, types, &task, analysed, None, link);
                self.use_until_answered(task.using.take());
            }
            (Some(denial), _, analysed) => {
                let analysis = analysed.as_ref().map(|analysed| &*analysed.analysis);
                let refusal = Refusal::of(&denial, &task.text).with_parse_error(analysis);
                self.refuse_extended(refusal, task.frame_len, link);
            }
            (None, _, _) => {
                let refusal = Refusal::own("58000", "the statement could not be checked");
                self.refuse_extended(refusal, task.frame_len, link);
            }
        }
    }

    /// Answers a Decide: at once, or after people decided.
    pub(super) fn decided(&mut self, decision: Decision, link: &mut Link) -> Result<(), Ending> {
        let (task, was_held) = match std::mem::replace(&mut self.step, Step::Ready) {
            Step::ExpectDecision(task) => (task, false),
            Step::Held(hold) => (hold.task, true),
            other => {
                self.step = other;
                return Ok(());
            }
        };
        match decision {
            Decision::Deny(denial) => {
                if !self.skip_if_failed(&task, link) {
                    let analysis = task.analysed.as_ref().map(|analysed| &*analysed.analysis);
                    let refusal = Refusal::of(&denial, &task.text).with_parse_error(analysis);
                    self.refuse(&task, refusal, link);
                }
                Ok(())
            }
            Decision::Hold(held) => {
                self.hold(task, held, link);
                Ok(())
            }
            Decision::Allow(permit) => self.allowed(task, permit, was_held, link),
        }
    }

    fn allowed(
        &mut self,
        mut task: Box<Task>,
        permit: Permit,
        was_held: bool,
        link: &mut Link,
    ) -> Result<(), Ending> {
        let Some(analysed) = task.analysed.clone() else { return Ok(()) };
        if self.is_skipping && !matches!(task.what, What::Open) {
            unused(&permit, "25P02", link);
            self.skip(&task, link);
            return Ok(());
        }
        if !was_held && analysed.scope_version == self.scope.version {
            self.forward(*task, permit, &analysed, link);
            return Ok(());
        }
        // Time has passed, or masks have changed: look again at everything.
        let approved = Approved {
            permit,
            facts: analysed.analysis.facts.clone(),
            state_digest: analysed.state_digest.clone(),
        };
        task.approved = Some(Box::new(approved));
        task.was_held = true;
        task.analysed = None;
        self.keeper.read_anew();
        self.resolve(task, link)
    }

    /// The second look: it must be what was approved.
    fn run_approved(
        &mut self,
        task: Box<Task>,
        approved: Approved,
        analysed: &Arc<Analysed>,
        link: &mut Link,
    ) {
        let is_same = analysed.analysis.facts == approved.facts
            && analysed.state_digest == approved.state_digest;
        if is_same {
            self.forward(*task, approved.permit, analysed, link);
            return;
        }
        unused(&approved.permit, "42501", link);
        let mut denial = Denial::new(
            DenialKind::ApprovalDenied,
            "the database's objects, the session's settings or its masks changed while the statement waited; send it again",
        );
        denial.decision_id = Some(approved.permit.decision_id().to_owned());
        let refusal = Refusal::of(&denial, &task.text);
        self.refuse(&task, refusal, link);
    }

    /// Refuses without a decision, or after one that cannot be kept.
    pub(super) fn give_up(&mut self, task: &Task, refusal: Refusal, link: &mut Link) {
        if let Some(approved) = &task.approved {
            unused(&approved.permit, refusal.code, link);
        }
        if self.is_skipping && task.is_message() {
            self.skip(task, link);
        } else {
            self.refuse(task, refusal, link);
        }
    }

    /// Whether the pipeline has failed meanwhile, so that the message is skipped.
    pub(super) fn skip_if_failed(&mut self, task: &Task, link: &mut Link) -> bool {
        if !self.is_task_skipped() || !task.is_message() {
            return false;
        }
        self.skip_unused(task, link);
        true
    }

    /// Skips a message of a pipeline that has failed, and what people permitted of it.
    pub(super) fn skip_unused(&mut self, task: &Task, link: &mut Link) {
        if let Some(approved) = &task.approved {
            unused(&approved.permit, "25P02", link);
        }
        self.skip(task, link);
    }
}

/// A permit that will not be used: the record says so.
pub(super) fn unused(permit: &Permit, code: &str, link: &mut Link) {
    link.ask(Output::Record(Box::new(EventBody::StatementCompleted {
        decision: permit.decision_id().to_owned(),
        seq_in_session: permit.seq(),
        code: code.to_owned(),
        tag: None,
        rows: 0,
        bytes: 0,
        duration_us: 0,
        digest: None,
    })));
}
