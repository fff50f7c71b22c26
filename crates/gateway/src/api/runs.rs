//! Runs: start, list, draw as trees, renew, end, kill.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use corral_api::{
    BudgetLeft, EndRunRequest, EndedView, JobView, RenewRunRequest, RunNode, RunQuery,
    RunStateView, RunView, StartRunRequest, StartRunResponse,
};
use corral_model::resource::Job;
use corral_model::{RunEnd, RunState, RunUse};
use corral_session::ConnectionFacts;
use time::OffsetDateTime;

use super::Failure;
use super::extract::{Asked, Body, MaybeBody, SignedIn};
use crate::app::runs::{EndedRuns, RunFilter, StartRun};
use crate::app::{App, runs as app_runs};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/runs", get(list).post(start))
        .route("/runs/tree", get(tree))
        .route("/runs/{id}", get(show))
        .route("/runs/{id}/renew", post(renew))
        .route("/runs/{id}/end", post(end))
        .route("/runs/{id}/kill", post(kill))
}

async fn start(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Extension(client): Extension<ConnectionFacts>,
    Body(request): Body<StartRunRequest>,
) -> Result<(StatusCode, Json<StartRunResponse>), Failure> {
    let ask = StartRun {
        name: request.name,
        purpose: request.purpose,
        targets: request.targets.iter().map(ToString::to_string).collect(),
        actions: request.actions,
        renew_within: request.renew_within_s.map(Duration::from_secs),
        ttl: request.ttl_s.map(Duration::from_secs),
        for_principal: request.for_principal.map(|name| name.to_string()),
        process: match (request.process, request.wrapper) {
            (Some(process), Some(key)) => Some((process, key.into_secret())),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(Failure::invalid("process and wrapper go together".to_owned()));
            }
        },
        traceparent: request.traceparent,
        client_ip: client.client_ip,
    };
    let started = app.start_run(&caller, ask).await?;
    let run = started.run;
    let response = StartRunResponse {
        run_id: run.id,
        token: started.token.into(),
        expires_at: run.expires_at,
        name: run.name,
        path: started.path,
        principal: run.principal.name,
        sponsor: run.sponsor,
        parent: run.parent,
        targets: run.targets,
        actions: run.actions,
    };
    Ok((StatusCode::OK, Json(response)))
}

async fn list(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Asked(query): Asked<RunQuery>,
) -> Result<Json<Vec<RunView>>, Failure> {
    let runs = app.list_runs(&caller, filter(query)).await?;
    Ok(Json(runs.into_iter().map(view).collect()))
}

async fn tree(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Asked(query): Asked<RunQuery>,
) -> Result<Json<Vec<RunNode>>, Failure> {
    let roots = app.run_tree(&caller, filter(query)).await?;
    Ok(Json(roots.into_iter().map(node).collect()))
}

async fn show(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<RunView>, Failure> {
    Ok(Json(view(app.show_run(&caller, &id).await?)))
}

async fn renew(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Body(request): Body<RenewRunRequest>,
) -> Result<Json<RunView>, Failure> {
    let ttl = request.ttl_s.map(Duration::from_secs);
    app.renew_run(&caller, &id, ttl).await?;
    Ok(Json(view(app.show_run(&caller, &id).await?)))
}

async fn end(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    MaybeBody(request): MaybeBody<EndRunRequest>,
) -> Result<Json<EndedView>, Failure> {
    let ended = app.end_run(&caller, &id, request.left).await?;
    Ok(Json(ended_view(id, ended)))
}

async fn kill(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<EndedView>, Failure> {
    let ended = app.kill_run(&caller, &id).await?;
    Ok(Json(ended_view(id, ended)))
}

fn filter(query: RunQuery) -> RunFilter {
    RunFilter {
        with_ended: !query.active,
        principal: query.principal,
        below: query.root.map(|id| id.to_string()),
    }
}

fn ended_view(id: String, ended: EndedRuns) -> EndedView {
    EndedView { id, runs_ended: ended.runs_ended, sessions_closed: ended.sessions_closed }
}

fn state_view(state: &RunState) -> (RunStateView, Option<RunEnd>, Option<OffsetDateTime>) {
    match state {
        RunState::Active => (RunStateView::Active, None, None),
        RunState::Ended { reason, at } => (RunStateView::Ended, Some(*reason), Some(*at)),
    }
}

fn left(found: &app_runs::RunView) -> BudgetLeft {
    BudgetLeft {
        statements: found.left.statements,
        writes: found.left.writes,
        rows: found.left.rows,
        bytes: found.left.bytes,
        wall_time_s: found.wall_time_left.map(|left| left.as_secs()),
    }
}

fn view(found: app_runs::RunView) -> RunView {
    let left = left(&found);
    let run = found.run;
    let RunUse { used, targets: used_targets, actions: used_actions } = found.done;
    let (state, end_reason, ended_at) = state_view(&run.state);
    RunView {
        id: run.id,
        name: run.name,
        parent: run.parent,
        path: found.path,
        principal: run.principal.name,
        sponsor: run.sponsor,
        purpose: run.purpose,
        targets: run.targets,
        actions: run.actions,
        renew_within_s: run.renew_within_s,
        depth: run.depth,
        state,
        end_reason,
        sessions: found.sessions_open,
        statements: used.statements,
        writes: used.writes,
        rows: used.rows,
        bytes: used.bytes,
        left,
        used_targets: used_targets.into_iter().collect(),
        used_actions: used_actions.into_iter().collect(),
        started_by: run.started_by,
        process: run.process,
        attached: run.attached,
        job: run.job.map(job_view),
        started_at: run.started_at,
        expires_at: run.expires_at,
        ended_at,
    }
}

fn job_view(job: Job) -> JobView {
    let Job { platform, issuer, key, claims } = job;
    JobView { platform, issuer, key, claims }
}

// As deep as a run may be, which a limit bounds.
fn node(found: app_runs::RunNode) -> RunNode {
    let left = left(&found.view);
    let run = found.view.run;
    let (state, end_reason, ended_at) = state_view(&run.state);
    RunNode {
        run_id: run.id,
        name: run.name,
        principal: run.principal.name,
        sponsor: run.sponsor,
        state,
        end_reason,
        sessions: found.view.sessions_open,
        process: run.process,
        statements: found.view.done.used.statements,
        rows: found.view.done.used.rows,
        left,
        actions: run.actions,
        started_at: run.started_at,
        expires_at: run.expires_at,
        ended_at,
        children: found.children.into_iter().map(node).collect(),
    }
}
