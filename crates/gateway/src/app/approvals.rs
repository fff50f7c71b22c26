//! Held statements and the people who decide them.

use std::sync::Arc;

use corral_gate::{Denial, DenialKind, HoldTerm, Ruling, Verdict};
use corral_model::event::ApprovalState;
use corral_model::ids::{
    ApprovalId, GroupName, PolicyVersion, PrincipalName, RunId, SessionId, TargetName,
};
use corral_model::statement::{Effects, ObjectRef, Parameter};
use corral_model::{Principal, PrincipalKind, Statement, limits};
use corral_session::{Control, Resolution};
use corral_store::{Approval, ApprovalRequest, ApprovalTerm, Vote, VoteError, VoteVerdict};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::caller::is_sponsor;
use super::config::Config;
use super::live::approvals::{Binding, Waiting};
use super::live::quorum;
use super::live::sessions::LiveSession;
use super::{App, AppError, Caller, Problem, new_id};

/// One person's answer to one approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub by: PrincipalName,
    pub is_approval: bool,
    pub reason: String,
    pub at: OffsetDateTime,
}

/// A held statement as approvers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalView {
    pub id: ApprovalId,
    pub state: ApprovalState,
    pub decision_id: String,
    pub principal: Principal,
    pub sponsor: PrincipalName,
    pub run: Option<RunId>,
    pub run_path: Option<String>,
    pub session: SessionId,
    pub target: TargetName,
    /// The exact text that runs when it is approved.
    pub statement: String,
    pub parameters: Vec<Parameter>,
    pub verbs: Vec<String>,
    pub effects: Effects,
    pub objects: Vec<ObjectRef>,
    pub in_transaction: bool,
    pub policy_version: PolicyVersion,
    /// All must be satisfied.
    pub terms: Vec<HoldTerm>,
    pub answers: Vec<Answer>,
    pub requested_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    pub decided_at: Option<OffsetDateTime>,
}

/// Longest reason of an answer, in bytes: it is shown to the client and kept.
const REASON_BYTES_MAX: usize = 1_000;

impl App {
    /// The approvals that the caller may see: all (administrator), those that it may answer and
    /// its own requests (principal), its own and below (run). Newest first.
    ///
    /// # Errors
    /// [`AppError::Unavailable`].
    pub async fn list_approvals(
        &self,
        caller: &Caller,
        state: Option<ApprovalState>,
    ) -> Result<Vec<ApprovalView>, AppError> {
        let stored = self.store.approvals(state, limits::LIST_LEN_MAX).await?;
        let config = self.config();
        let views = stored.into_iter().map(view_of);
        Ok(views.filter(|view| self.may_see_approval(&config, caller, view)).collect())
    }

    /// One approval.
    ///
    /// # Errors
    /// [`AppError::NotFound`], also for one that the caller may not see.
    pub async fn show_approval(&self, caller: &Caller, id: &str) -> Result<ApprovalView, AppError> {
        let not_found = || AppError::NotFound { kind: "approval", name: id.to_owned() };
        let id = ApprovalId::new(id).map_err(|_| not_found())?;
        let stored = self.store.approval(&id).await?.ok_or_else(not_found)?;
        let view = view_of(stored);
        let is_visible = self.may_see_approval(&self.config(), caller, &view);
        if is_visible { Ok(view) } else { Err(not_found()) }
    }

    /// Says yes. The statement runs when every term has its quorum of different people; nobody
    /// counts for two terms.
    ///
    /// # Errors
    /// [`AppError::Denied`] for the requester, the run's sponsor, a run, the administrator's
    /// token, or somebody who is in none of the named groups. [`AppError::Invalid`] without a
    /// reason. [`AppError::Conflict`] when it is no longer pending, or this person has already
    /// answered.
    pub async fn approve(
        &self,
        caller: &Caller,
        id: &str,
        reason: &str,
    ) -> Result<ApprovalView, AppError> {
        self.answer(caller, id, reason, VoteVerdict::Approve).await
    }

    /// Says no: the statement is refused.
    ///
    /// # Errors
    /// As [`App::approve`].
    pub async fn deny(
        &self,
        caller: &Caller,
        id: &str,
        reason: &str,
    ) -> Result<ApprovalView, AppError> {
        self.answer(caller, id, reason, VoteVerdict::Deny).await
    }

    async fn answer(
        &self,
        caller: &Caller,
        id: &str,
        reason: &str,
        verdict: VoteVerdict,
    ) -> Result<ApprovalView, AppError> {
        let not_found = || AppError::NotFound { kind: "approval", name: id.to_owned() };
        let id = ApprovalId::new(id).map_err(|_| not_found())?;
        let stored = self.store.approval(&id).await?.ok_or_else(not_found)?;
        let waiting = self.live.approvals().get(&id);
        let waiting = waiting.ok_or_else(|| not_pending(stored.state))?;
        // Whoever knows the id is told why they may not answer, also when they may not list it.
        let (approver, groups) = may_answer(&self.config(), caller, &waiting)?;
        let reason = checked_reason(reason)?;
        let at = OffsetDateTime::now_utc();
        let vote = Vote { approver, groups, verdict, reason, at };
        let terms = waiting.terms.clone();
        // Stored before it counts: an answer that is lost with the power must not have acted.
        let voted = self.store.vote(&id, vote, move |approval| judge(&terms, approval)).await;
        let approval = voted.map_err(|error| match error {
            VoteError::Store(error) => error.into(),
            VoteError::NoSuchApproval(id) => {
                AppError::NotFound { kind: "approval", name: id.to_string() }
            }
            VoteError::NotPending(state) => not_pending(state),
            VoteError::AnsweredAlready(_) => {
                AppError::Conflict("you have already answered this approval".to_owned())
            }
        })?;
        self.act_on(&approval);
        Ok(view_of(approval))
    }

    /// Tells the waiting session what people decided.
    fn act_on(&self, approval: &Approval) {
        let reason = approval.votes.last().map(|vote| vote.reason.clone()).unwrap_or_default();
        let (waiting, resolution) = match approval.state {
            ApprovalState::Approved => {
                let by: Vec<PrincipalName> =
                    yes_votes(approval).map(|vote| vote.approver.clone()).collect();
                let names = by.iter().map(ToString::to_string).collect();
                let waiting = self.live.approvals().approve(&approval.id, by);
                (waiting, Resolution::Approved { by: names, reason })
            }
            ApprovalState::Denied => {
                let by = approval.votes.last().map(|vote| vote.approver.to_string());
                let waiting = self.live.approvals().remove(&approval.id);
                (waiting, Resolution::Denied { by: by.unwrap_or_default(), reason })
            }
            ApprovalState::Pending | ApprovalState::Expired | ApprovalState::Withdrawn => return,
        };
        if let Some(waiting) = waiting {
            tell(&waiting, resolution);
        }
    }

    fn may_see_approval(&self, config: &Config, caller: &Caller, approval: &ApprovalView) -> bool {
        match caller {
            Caller::Admin => true,
            Caller::Principal { principal, .. } => {
                let is_own =
                    approval.principal == *principal || is_sponsor(principal, &approval.sponsor);
                let groups = config.standing(principal).map(|standing| standing.groups);
                let is_asked = groups.is_ok_and(|groups| {
                    let is_in = |name: &str| groups.iter().any(|group| group.as_str() == name);
                    approval.terms.iter().any(|term| is_in(&term.group))
                });
                is_own || is_asked
            }
            Caller::Run { run, .. } => {
                let of_run = approval.run.as_ref().and_then(|id| self.live.runs().get(id.as_str()));
                of_run.is_some_and(|of_run| of_run.is_within(run.as_str()))
            }
        }
    }

    /// Files an approval for a statement of `session`.
    ///
    /// # Errors
    /// A denial when too many are pending or the store is away.
    pub(super) async fn file_approval(
        &self,
        session: &Arc<LiveSession>,
        statement: &Statement,
        ruling: &Ruling,
        meaning: &str,
    ) -> Result<(ApprovalId, String), Denial> {
        let Verdict::Hold(terms) = &ruling.verdict else {
            return Err(Denial::new(DenialKind::Forbidden, "this statement is not held"));
        };
        if self.live.approvals().pending() >= limits::APPROVALS_PENDING_MAX {
            let text = "too many statements wait for approval; try again later";
            return Err(Denial::new(DenialKind::Forbidden, text));
        }
        let wait = terms.iter().filter_map(|term| term.expires_in).min();
        let wait = wait.unwrap_or(limits::APPROVAL_WAIT);
        let id = ApprovalId::new(new_id("a")).expect("an id is hexadecimal with a prefix");
        let now = OffsetDateTime::now_utc();
        let expires_at = now + wait;
        let binding = Binding::of(statement, session, meaning);
        let request = request_of(session, statement, ruling, terms, &binding);
        let filed = self.store.insert_approval(&id, &request, now, expires_at).await;
        filed.map_err(|error| {
            tracing::warn!(%error, "an approval cannot be filed");
            let text = "an approval could not be filed: the gateway's store is away";
            Denial::new(DenialKind::Forbidden, text)
        })?;
        let notice = self.notice(&id, terms, expires_at);
        self.live.approvals().file(Waiting {
            id: id.clone(),
            terms: terms.clone(),
            binding,
            session: session.clone(),
            deadline: Instant::now() + wait,
            approvers: None,
        });
        session.activity.wait_for(Some(id.clone()));
        self.signals.deadlines.notify_one();
        self.metrics.approval_requested();
        Ok((id, notice))
    }

    /// What the waiting client reads.
    fn notice(&self, id: &ApprovalId, terms: &[HoldTerm], expires_at: OffsetDateTime) -> String {
        let group = |term: &HoldTerm| match term.quorum {
            0 | 1 => format!("'{}'", term.group),
            people => format!("'{}' ({people} people)", term.group),
        };
        let groups: Vec<String> = terms.iter().map(group).collect();
        let reasons: Vec<&str> = terms.iter().map(|term| term.reason.as_str()).collect();
        let until = expires_at.truncate_to_second();
        let until = until.format(&time::format_description::well_known::Rfc3339);
        format!(
            "held: {} It waits for approval by {} until {}: corral approvals approve {id} \
             --reason TEXT ({}/api/v1/approvals/{id})",
            reasons.join(" "),
            groups.join(" and "),
            until.unwrap_or_default(),
            self.api_url(),
        )
    }

    /// Uses an approval up.
    ///
    /// # Errors
    /// A denial when it was not approved, or is for something else than this.
    pub(super) fn use_approval(
        self: &Arc<Self>,
        session: &Arc<LiveSession>,
        statement: &Statement,
        approval: &ApprovalId,
        meaning: &str,
    ) -> Result<Waiting, Denial> {
        let denied = |text: &str| Denial::new(DenialKind::ApprovalDenied, text);
        let used = self.live.approvals().take_approved(approval);
        let used = used.ok_or_else(|| denied("this statement has no approval that can be used"))?;
        if used.binding != Binding::of(statement, session, meaning) {
            let text = "what was approved is not what would run: the statement, its session, the \
                        target or the policies changed; send it again";
            return Err(denied(text));
        }
        let used_binding = used.binding.to_hex();
        let config = self.config();
        let is_active =
            |name: &PrincipalName| config.standing(&Principal::user(name.clone())).is_ok();
        if !used.approvers.iter().flatten().all(is_active) {
            return Err(denied("somebody who approved this is no longer active; send it again"));
        }
        let app = self.clone();
        let id = approval.clone();
        // The desk gave it out once and for all; the store only shows it.
        tokio::spawn(async move {
            let binding = used_binding;
            if let Err(error) =
                app.store.use_approval(&id, &binding, OffsetDateTime::now_utc()).await
            {
                tracing::warn!(%error, approval = %id, "an approval's use is not stored");
            }
        });
        Ok(used)
    }

    /// Nobody waits for this one any more.
    pub(super) fn withdraw_approval(self: &Arc<Self>, approval: &ApprovalId) {
        if self.live.approvals().remove(approval).is_some() {
            self.close_later(approval.clone(), ApprovalState::Withdrawn);
        }
    }

    /// A session is gone: its approvals with it.
    pub(super) fn withdraw_all_of(self: &Arc<Self>, session: &LiveSession) {
        let all = self.live.approvals().of_session(&session.id);
        for approval in all {
            self.withdraw_approval(&approval);
        }
    }

    /// Ends the waits that are over.
    pub(super) fn expire_approvals(self: &Arc<Self>) {
        let expired = self.live.approvals().expire(Instant::now());
        for waiting in expired {
            tell(&waiting, Resolution::Expired);
            self.close_later(waiting.id, ApprovalState::Expired);
        }
    }

    /// Stores an approval's end, which has already acted. With the store away it is withdrawn by
    /// the next start instead; the record has it in any case.
    fn close_later(self: &Arc<Self>, id: ApprovalId, state: ApprovalState) {
        let app = self.clone();
        let at = OffsetDateTime::now_utc();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = app.store.close_approval(&id, state, at).await {
                tracing::warn!(%error, approval = %id, "an approval's end is not stored");
            }
        });
    }
}

fn tell(waiting: &Waiting, resolution: Resolution) {
    waiting.session.activity.wait_for(None);
    waiting.session.tell(Control::Resolved { approval: waiting.id.clone(), resolution });
}

fn yes_votes(approval: &Approval) -> impl Iterator<Item = &Vote> {
    approval.votes.iter().filter(|vote| vote.verdict == VoteVerdict::Approve)
}

/// One no is enough; for a yes every term needs its own people.
fn judge(terms: &[HoldTerm], approval: &Approval) -> ApprovalState {
    if approval.votes.iter().any(|vote| vote.verdict == VoteVerdict::Deny) {
        return ApprovalState::Denied;
    }
    let groups_of = |vote: &Vote| vote.groups.iter().map(ToString::to_string).collect();
    let approvers: Vec<Vec<String>> = yes_votes(approval).map(groups_of).collect();
    if quorum::is_satisfied(terms, &approvers) {
        ApprovalState::Approved
    } else {
        ApprovalState::Pending
    }
}

fn request_of(
    session: &LiveSession,
    statement: &Statement,
    ruling: &Ruling,
    terms: &[HoldTerm],
    binding: &Binding,
) -> ApprovalRequest {
    let facts = &statement.facts;
    let term = |term: &HoldTerm| ApprovalTerm {
        rule: term.rule.clone(),
        group: term.group.clone(),
        quorum: term.quorum,
        reason: term.reason.clone(),
    };
    ApprovalRequest {
        decision_id: ruling.decision_id.clone(),
        run_id: session.run.as_ref().map(|run| run.id().clone()),
        run_path: session.run.as_ref().map(|run| run.path().to_owned()),
        session_id: session.id.clone(),
        principal: session.principal.clone(),
        sponsor: session.sponsor.clone(),
        target: session.target.clone(),
        database: None,
        statement: statement.text.to_string(),
        parameters: statement.parameters.to_vec(),
        verbs: facts.verbs.iter().map(|verb| verb.name.to_owned()).collect(),
        effects: facts.effects,
        objects: facts.objects.clone(),
        in_transaction: statement.in_transaction,
        terms: terms.iter().map(term).collect(),
        binding: binding.to_hex(),
        policy_version: ruling.policy_version,
    }
}

fn view_of(approval: Approval) -> ApprovalView {
    let request = approval.request;
    let term = |term: ApprovalTerm| HoldTerm {
        rule: term.rule,
        group: term.group,
        quorum: term.quorum,
        reason: term.reason,
        expires_in: None,
    };
    let answer = |vote: Vote| Answer {
        by: vote.approver,
        is_approval: vote.verdict == VoteVerdict::Approve,
        reason: vote.reason,
        at: vote.at,
    };
    ApprovalView {
        id: approval.id,
        state: approval.state,
        decision_id: request.decision_id,
        principal: request.principal,
        sponsor: request.sponsor,
        run: request.run_id,
        run_path: request.run_path,
        session: request.session_id,
        target: request.target,
        statement: request.statement,
        parameters: request.parameters,
        verbs: request.verbs,
        effects: request.effects,
        objects: request.objects,
        in_transaction: request.in_transaction,
        policy_version: request.policy_version,
        terms: request.terms.into_iter().map(term).collect(),
        answers: approval.votes.into_iter().map(answer).collect(),
        requested_at: approval.requested_at,
        expires_at: approval.expires_at,
        decided_at: approval.closed_at,
    }
}

fn checked_reason(reason: &str) -> Result<String, AppError> {
    let reason = reason.trim();
    let invalid = |text: &str| Err(AppError::Invalid(vec![Problem::new(None, text)]));
    if reason.is_empty() {
        return invalid("a reason is missing; say why with --reason TEXT");
    }
    if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        return invalid("a reason has at most 1000 bytes and no control characters");
    }
    Ok(reason.to_owned())
}

fn not_pending(state: ApprovalState) -> AppError {
    let state = match state {
        ApprovalState::Pending => "not held by this gateway any more",
        ApprovalState::Approved => "already approved",
        ApprovalState::Denied => "already denied",
        ApprovalState::Expired => "expired",
        ApprovalState::Withdrawn => "withdrawn",
    };
    AppError::Conflict(format!("this approval is {state}"))
}

/// Who answers, and in which of the named groups that person is at this moment.
fn may_answer(
    config: &Config,
    caller: &Caller,
    waiting: &Waiting,
) -> Result<(PrincipalName, Vec<GroupName>), AppError> {
    let denied = |text: String| Err(AppError::Denied(text));
    let principal = match caller {
        Caller::Principal { principal, .. } if principal.kind == PrincipalKind::User => principal,
        Caller::Principal { .. } | Caller::Run { .. } => {
            return denied("only people approve; sign in as a user".to_owned());
        }
        Caller::Admin => {
            let text = "the administrator's token is nobody's name; sign in as a user to approve";
            return denied(text.to_owned());
        }
    };
    let session = &waiting.session;
    let has_started_it = session
        .run
        .as_ref()
        .is_some_and(|run| run.started_by().any(|name| *name == principal.name));
    if session.principal == *principal || has_started_it {
        return denied("nobody approves their own request".to_owned());
    }
    if is_sponsor(principal, &session.sponsor) {
        return denied("the sponsor of a run does not approve its requests".to_owned());
    }
    let standing = config.standing(principal).map_err(|why| AppError::Denied(why.to_string()))?;
    let is_named =
        |group: &GroupName| waiting.terms.iter().any(|term| term.group == group.as_str());
    let groups: Vec<GroupName> = standing.groups.into_iter().filter(is_named).collect();
    if groups.is_empty() {
        let wanted: Vec<&str> = waiting.terms.iter().map(|term| term.group.as_str()).collect();
        return denied(format!("only members of {} answer this", wanted.join(" or ")));
    }
    Ok((principal.name.clone(), groups))
}
