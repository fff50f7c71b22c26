//! Held statements: list, show, approve, deny.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use corral_api::{ApprovalAnswer, ApprovalDecision, ApprovalQuery, ApprovalTerm, ApprovalView};

use super::Failure;
use super::extract::{Asked, Body, SignedIn};
use crate::app::{App, approvals as app_approvals};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/approvals", get(list))
        .route("/approvals/{id}", get(show))
        .route("/approvals/{id}/approve", post(approve))
        .route("/approvals/{id}/deny", post(deny))
}

async fn list(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Asked(query): Asked<ApprovalQuery>,
) -> Result<Json<Vec<ApprovalView>>, Failure> {
    let approvals = app.list_approvals(&caller, query.state).await?;
    Ok(Json(approvals.into_iter().map(view).collect()))
}

async fn show(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<ApprovalView>, Failure> {
    Ok(Json(view(app.show_approval(&caller, &id).await?)))
}

async fn approve(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Body(decision): Body<ApprovalDecision>,
) -> Result<Json<ApprovalView>, Failure> {
    Ok(Json(view(app.approve(&caller, &id, &decision.reason).await?)))
}

async fn deny(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Body(decision): Body<ApprovalDecision>,
) -> Result<Json<ApprovalView>, Failure> {
    Ok(Json(view(app.deny(&caller, &id, &decision.reason).await?)))
}

fn view(approval: app_approvals::ApprovalView) -> ApprovalView {
    let terms = approval
        .terms
        .into_iter()
        .map(|term| ApprovalTerm {
            rule: term.rule,
            group: term.group,
            quorum: term.quorum,
            reason: term.reason,
        })
        .collect();
    let answers = approval
        .answers
        .into_iter()
        .map(|answer| ApprovalAnswer {
            by: answer.by,
            approved: answer.is_approval,
            reason: answer.reason,
            at: answer.at,
        })
        .collect();
    ApprovalView {
        id: approval.id,
        state: approval.state,
        run_id: approval.run,
        session_id: approval.session,
        target: approval.target,
        statement: approval.statement,
        requested_at: approval.requested_at,
        expires_at: approval.expires_at,
        run_path: approval.run_path,
        principal: approval.principal.name,
        sponsor: approval.sponsor,
        decision: approval.decision_id,
        policy_version: approval.policy_version,
        parameters: approval.parameters,
        verbs: approval.verbs,
        effects: approval.effects,
        objects: approval.objects,
        in_transaction: approval.in_transaction,
        terms,
        answers,
        decided_at: approval.decided_at,
    }
}
