//! A statement's turn among other sessions' definitions, and a definition's among their statements.

use std::sync::Arc;
use std::time::Instant;

use corral_model::{Effect, limits};

use super::Live;
use super::cursors::resolves_late;
use super::pending::Pending;
use super::task::{Analysed, Task, What};
use crate::analysis::{Analysis, StatementKind};
use crate::deny::Refusal;
use crate::link::Link;
use crate::turns::{Reach, Taken, Using, Wish};

/// What a statement does whose turn was asked for.
#[derive(Debug)]
pub(super) enum Next {
    Decide,
    /// What its names mean may have changed before it was registered: it is told again.
    Resolve,
    Wait,
    Refuse(Refusal),
}

impl Live {
    /// Takes the turn of a statement that is to be decided.
    pub(super) fn take_turn(
        &mut self,
        task: &mut Task,
        analysed: &Analysed,
        link: &mut Link,
    ) -> Next {
        task.using = None;
        let analysis = &*analysed.analysis;
        let claims = claims(&task.what, analysis);
        let is_free = self.admission.rights.may_run_unknown && !self.scope.is_masked();
        let looks_up = looks_up(task, analysis);
        let has_turn = claims.is_some() || (looks_up && !is_free);
        if !has_turn || self.transaction.is_failed() {
            task.defining = None;
            return Next::Decide;
        }
        let is_in_transaction =
            self.transaction.is_in_transaction() || self.transaction.is_pipeline_open();
        let wish = Wish { facts: &analysis.facts, claims, is_free, is_in_transaction };
        let Taken::Granted(using) = self.turn.take(wish, &mut task.defining, link.now) else {
            self.hasten_answers(link);
            return wait(task, link.now);
        };
        task.using = using;
        let needs_names = looks_up && task.needs_names.unwrap_or(analysis.needs_names);
        if needs_names && !self.keeper.is_settled() {
            task.using = None;
            return Next::Resolve;
        }
        Next::Decide
    }

    /// The message that was sent last looks names up until it is answered.
    pub(super) fn use_until_answered(&mut self, using: Option<Using>) {
        if let Some(Pending::Parse { using: slot, .. } | Pending::Bind { using: slot, .. }) =
            self.queue.back_mut()
        {
            *slot = using.map(Using::sent);
        }
    }

    /// A message of an open pipeline waits: others may wait for the names that those before it use,
    /// and the target keeps their answers back.
    pub(super) fn hasten_answers(&mut self, link: &mut Link) {
        if !self.queue.is_empty() {
            self.flush_full_queue(link);
        }
    }

    /// The target has begun to answer the statement at the front: of a single one without bodies
    /// it has looked up every name by then. FETCH has those of its cursor.
    pub(super) fn looked_up(&mut self) {
        let running = self.queue.front_mut().and_then(|front| front.running_mut());
        if let Some(running) = running
            && !running.analysis.has_bodies
            && matches!(
                running.analysis.kinds.as_slice(),
                [StatementKind::Rows | StatementKind::CopyIn | StatementKind::CopyOut]
            )
        {
            running.using = None;
        }
    }
}

/// Whether the target looks names up for it that others may change.
fn looks_up(task: &Task, analysis: &Analysis) -> bool {
    if task.opened.is_some() {
        return true;
    }
    // What was looked up at its Bind stays as it is.
    let is_late = !matches!(task.what, What::Execute { .. }) || resolves_late(analysis);
    is_late && (analysis.needs_names || analysis.has_bodies)
}

/// What a definition claims. What nobody knows may define, too: whom policy lets run that, it lets
/// define behind everybody's back.
fn claims(what: &What, analysis: &Analysis) -> Option<Reach> {
    let runs = matches!(what, What::Query | What::Call { .. } | What::Execute { .. });
    let is_claim = runs
        && analysis.session_change.catalogue
        && !analysis.facts.effects.contains(Effect::Unknown);
    is_claim.then(|| Reach {
        facts: Arc::clone(&analysis.facts),
        is_wide: analysis.session_change.is_wide,
    })
}

/// Each time twice as long, up to a limit.
fn wait(task: &mut Task, now: Instant) -> Next {
    let since = *task.turn_since.get_or_insert(now);
    let waited = now.saturating_duration_since(since);
    if waited >= limits::DEFINITION_WAIT_MAX {
        return Next::Refuse(waited_too_long());
    }
    let interval = waited
        .clamp(limits::CATALOGUE_LOOK_INTERVAL_MIN, limits::DEFINITION_LOOK_INTERVAL_MAX)
        .min(limits::DEFINITION_WAIT_MAX - waited);
    task.look_at = Some(now + interval);
    Next::Wait
}

/// As of a lock that is not available.
fn waited_too_long() -> Refusal {
    let seconds = limits::DEFINITION_WAIT_MAX.as_secs();
    Refusal::own(
        "55P03",
        format_args!(
            "for {seconds} s another session has been changing objects that the statement names, \
             or using what it changes; try again"
        ),
    )
}
