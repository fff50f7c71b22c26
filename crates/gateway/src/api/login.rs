//! Signing in and out.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use corral_api::{ErrorCode, Identity, IdentityKind, LoginRequest, LoginResponse};
use corral_model::{PrincipalKind, limits};

use super::Failure;
use super::extract::{Body, SignedIn};
use crate::app::App;

pub(super) fn routes() -> Router<Arc<App>> {
    let login = post(login).layer(DefaultBodyLimit::max(limits::LOGIN_MESSAGE_BYTES_MAX));
    Router::new()
        .route("/login", login)
        .route("/logout", post(logout))
        .route("/whoami", get(whoami))
}

async fn login(
    State(app): State<Arc<App>>,
    Body(request): Body<LoginRequest>,
) -> Result<Json<LoginResponse>, Failure> {
    let name = request.name.as_str();
    let secret = request.secret.into_secret();
    let signed_in = match request.kind {
        PrincipalKind::User => app.sign_in_user(name, secret).await?,
        PrincipalKind::Workload => app.sign_in_workload(name, secret).await?,
    };
    Ok(Json(LoginResponse { token: signed_in.token.into(), expires_at: signed_in.expires_at }))
}

async fn logout(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
) -> Result<StatusCode, Failure> {
    app.sign_out(&caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn whoami(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
) -> Result<Json<Identity>, Failure> {
    let whoami = app.whoami(&caller).await?;
    let kind = IdentityKind::parse(whoami.kind).ok_or_else(|| {
        tracing::error!(kind = whoami.kind, "the app named an unknown kind of caller");
        Failure::new(ErrorCode::Internal, "the gateway cannot tell who this is")
    })?;
    Ok(Json(Identity {
        kind,
        name: whoami.name,
        sponsor: whoami.sponsor,
        groups: whoami.groups,
        provider: whoami.provider,
        run_id: whoami.run,
        expires_at: whoami.expires_at,
    }))
}
