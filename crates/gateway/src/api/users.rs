//! Offboarding by hand.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use corral_api::{UserDisabled, UserEnabled};

use super::Failure;
use super::extract::SignedIn;
use crate::app::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/users/{name}/disable", post(disable))
        .route("/users/{name}/enable", post(enable))
}

async fn disable(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<UserDisabled>, Failure> {
    let work = {
        let (app, name) = (app.clone(), name.clone());
        async move { app.disable_user(&caller, &name).await }
    };
    let disabled = app.to_its_end(work).await.ok_or_else(Failure::unfinished)??;
    Ok(Json(UserDisabled {
        name,
        runs_ended: disabled.runs_ended,
        sessions_closed: disabled.sessions_closed,
    }))
}

async fn enable(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<UserEnabled>, Failure> {
    let work = {
        let (app, name) = (app.clone(), name.clone());
        async move { app.enable_user(&caller, &name).await }
    };
    app.to_its_end(work).await.ok_or_else(Failure::unfinished)??;
    Ok(Json(UserEnabled { name }))
}
