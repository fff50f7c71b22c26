//! Credentials for clients, what the gateway publishes, how a target presents itself.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use corral_api::{
    CredentialRequest, CredentialView, PresentedView, PublishedQuery, PublishedView, RenewalView,
};
use time::OffsetDateTime;

use super::Failure;
use super::extract::{Asked, Body, ShownToken, SignedIn};
use crate::app::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/credentials", post(issue))
        .route("/published/{protocol}", get(published))
        .route("/targets/{name}/presented", get(presented))
        .route("/targets/{name}/renewal", get(renewal))
}

async fn issue(
    SignedIn(caller): SignedIn,
    ShownToken(token): ShownToken,
    State(app): State<Arc<App>>,
    Body(request): Body<CredentialRequest>,
) -> Result<Json<CredentialView>, Failure> {
    let CredentialRequest { protocol, material } = request;
    let issued = app.issue_credential(&caller, token, &protocol, material).await?;
    Ok(Json(CredentialView {
        credential: issued.credential,
        ttl_s: issued.ttl.as_secs(),
        expires_at: OffsetDateTime::now_utc() + issued.ttl,
    }))
}

async fn published(
    SignedIn(_): SignedIn,
    State(app): State<Arc<App>>,
    Path(protocol): Path<String>,
    Asked(query): Asked<PublishedQuery>,
) -> Result<Json<PublishedView>, Failure> {
    let published = app.published(&protocol, &query.host, query.port).await?;
    Ok(Json(PublishedView { protocol, clients: published.clients, targets: published.targets }))
}

async fn presented(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<PresentedView>, Failure> {
    let keys = app.target_presents(&caller, &name).await?;
    Ok(Json(PresentedView { name, keys }))
}

async fn renewal(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<RenewalView>, Failure> {
    let status = app.renewal_status(&caller, &name)?;
    let is_renewed = status.is_some();
    let (until, failure) = status.map_or((None, None), |status| (status.until, status.failure));
    Ok(Json(RenewalView { name, is_renewed, until, failure }))
}
