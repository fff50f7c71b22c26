//! Live sessions: list, show, kill.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use corral_api::{EndedView, SessionQuery, SessionState, SessionView};

use super::Failure;
use super::extract::{Asked, SignedIn};
use crate::app::sessions::SessionFilter;
use crate::app::{App, sessions as app_sessions};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/sessions", get(list))
        .route("/sessions/{id}", get(show))
        .route("/sessions/{id}/kill", post(kill))
}

async fn list(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Asked(query): Asked<SessionQuery>,
) -> Json<Vec<SessionView>> {
    let filter = SessionFilter {
        run: query.run.map(|id| id.to_string()),
        target: query.target.map(|name| name.to_string()),
        principal: query.principal,
    };
    Json(app.list_sessions(&caller, &filter).into_iter().map(view).collect())
}

async fn show(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<SessionView>, Failure> {
    Ok(Json(view(app.show_session(&caller, &id)?)))
}

async fn kill(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<EndedView>, Failure> {
    app.kill_session(&caller, &id).await?;
    Ok(Json(EndedView { id, runs_ended: 0, sessions_closed: 1 }))
}

fn view(session: app_sessions::SessionView) -> SessionView {
    SessionView {
        id: session.id,
        state: state(session.state),
        run_id: session.run,
        run_path: session.run_path,
        principal: session.principal.name,
        sponsor: session.sponsor,
        target: session.target,
        protocol: session.protocol,
        client_address: session.client_address,
        tls: session.is_tls,
        claims: session.claims.into_iter().collect(),
        started_at: session.started_at,
        statements: session.statements,
        rows: session.rows,
        bytes_to_client: session.bytes_to_client,
        bytes_to_target: session.bytes_to_target,
        waiting_for: session.waiting_for,
    }
}

fn state(state: app_sessions::SessionState) -> SessionState {
    match state {
        app_sessions::SessionState::Opening => SessionState::Opening,
        app_sessions::SessionState::Open => SessionState::Open,
        app_sessions::SessionState::Held => SessionState::Held,
        app_sessions::SessionState::Ending => SessionState::Ending,
    }
}
