//! Policies: check a text, explain a decision.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use corral_api::{
    DecisionView, PolicyCheckRequest, PolicyCheckResponse, PolicyProblem, RuleView, VerdictNow,
};
use corral_gate::Verdict;
use corral_model::event::Outcome;

use super::Failure;
use super::extract::{Body, SignedIn};
use crate::app::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/policies/check", post(check))
        .route("/policies/schema", get(schema))
        .route("/decisions/{id}", get(explain))
}

async fn check(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Body(request): Body<PolicyCheckRequest>,
) -> Result<Json<PolicyCheckResponse>, Failure> {
    let texts: Vec<(String, String)> =
        request.policies.into_iter().map(|policy| (policy.name, policy.cedar)).collect();
    let problems = app.check_policies(&caller, &texts)?;
    let problems = problems
        .into_iter()
        .map(|problem| PolicyProblem {
            policy: problem.resource.unwrap_or_default(),
            line: problem.line,
            column: problem.column,
            message: problem.text,
        })
        .collect();
    Ok(Json(PolicyCheckResponse { problems }))
}

async fn schema(SignedIn(_): SignedIn, State(app): State<Arc<App>>) -> String {
    app.policy_schema()
}

async fn explain(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<DecisionView>, Failure> {
    let explanation = app.explain(&caller, &id).await?;
    let rules = explanation
        .rules
        .into_iter()
        .map(|rule| RuleView {
            id: rule.id,
            effect: rule.effect,
            reason: rule.reason,
            policy: rule.policy,
        })
        .collect();
    Ok(Json(DecisionView {
        id,
        event: explanation.event,
        rules,
        version_now: explanation.version_now,
        verdict_now: explanation.verdict_now.map(verdict_view),
    }))
}

fn verdict_view(verdict: Verdict) -> VerdictNow {
    match verdict {
        Verdict::Allow => VerdictNow { outcome: Outcome::Allow, reason: None },
        Verdict::Deny(denial) => {
            VerdictNow { outcome: Outcome::Deny, reason: Some(denial.client_text) }
        }
        Verdict::Hold(terms) => {
            let reasons: Vec<String> = terms
                .into_iter()
                .map(|term| format!("{} ({} of {})", term.reason, term.quorum, term.group))
                .collect();
            VerdictNow { outcome: Outcome::Hold, reason: Some(reasons.join("; ")) }
        }
    }
}
