//! Where CI systems say that jobs have ended.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Extension, Router};
use corral_identity::webhook::Delivery;
use corral_model::limits;
use corral_session::ConnectionFacts;

use super::Failure;
use crate::app::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/jobs/ended/{workload}", post(take))
        .layer(DefaultBodyLimit::max(limits::WEBHOOK_BODY_BYTES_MAX))
}

/// 204 whether or not a run ended by it.
async fn take(
    State(app): State<Arc<App>>,
    Path(workload): Path<String>,
    Extension(client): Extension<ConnectionFacts>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Failure> {
    let body = body.map_err(|error| Failure::of_status(error.status(), error.body_text()))?;
    let own = app.clone();
    let work = async move {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let delivery = Delivery {
            hub_signature: text("x-hub-signature-256"),
            signature: text("webhook-signature"),
            id: text("webhook-id"),
            timestamp: text("webhook-timestamp"),
            token: text("x-gitlab-token"),
            body: &body,
        };
        own.take_job_ends(&workload, &delivery, client.client_ip).await
    };
    match app.to_its_end(work).await {
        Some(done) => done.map(|()| StatusCode::NO_CONTENT).map_err(Failure::from),
        None => Err(Failure::unfinished()),
    }
}
