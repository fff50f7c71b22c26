//! Relays: tokens to join with, joining, which are connected.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use corral_api::{
    RelayJoinRequest, RelayJoinResponse, RelayProcessState, RelayProcessView, RelayRevoked,
    RelayToken, RelayTokenRequest, RelayView,
};
use corral_model::limits;

use super::Failure;
use super::extract::{Body, SignedIn};
use crate::app::App;
use crate::app::relays::{RelayProcess, RelayState};

/// A token and JSON around a certificate request.
const JOIN_BYTES_MAX: usize = 2 * limits::RELAY_REQUEST_BYTES_MAX;

pub(super) fn routes() -> Router<Arc<App>> {
    let join = post(join).layer(DefaultBodyLimit::max(JOIN_BYTES_MAX));
    Router::new()
        .route("/relays", get(list))
        .route("/relays/join", join)
        .route("/relays/{name}/tokens", post(invite))
        .route("/relays/{name}/revoke", post(revoke))
}

async fn list(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<RelayView>>, Failure> {
    let relays = app.list_relays(&caller)?;
    Ok(Json(relays.into_iter().map(view).collect()))
}

fn view(state: RelayState) -> RelayView {
    let process = |process: RelayProcess| RelayProcessView {
        id: process.serial,
        address: process.address,
        joined_at: process.joined_at,
        streams: u64::try_from(process.streams).unwrap_or(u64::MAX),
        state: match process.is_draining {
            true => RelayProcessState::Draining,
            false => RelayProcessState::Connected,
        },
    };
    RelayView {
        name: state.name,
        addresses: state.addresses,
        processes: state.processes.into_iter().map(process).collect(),
    }
}

async fn invite(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Body(request): Body<RelayTokenRequest>,
) -> Result<Json<RelayToken>, Failure> {
    let ttl = request.ttl_s.map(Duration::from_secs);
    let invited = app.invite_relay(&caller, &name, ttl).await?;
    Ok(Json(RelayToken {
        name: invited.relay,
        token: invited.token.into(),
        expires_at: invited.expires_at,
    }))
}

async fn join(
    State(app): State<Arc<App>>,
    Body(request): Body<RelayJoinRequest>,
) -> Result<Json<RelayJoinResponse>, Failure> {
    let joined = app.join_relay(request.token.secret(), &request.request_pem).await?;
    Ok(Json(RelayJoinResponse {
        relay: joined.relay,
        certificate_pem: joined.certificate_pem,
        authority_pem: joined.authority_pem,
        host: joined.host,
        port: joined.port,
    }))
}

async fn revoke(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<RelayRevoked>, Failure> {
    let revoked = app.revoke_relay(&caller, &name).await?;
    Ok(Json(RelayRevoked {
        name,
        certificates_revoked: revoked.certificates,
        connections_closed: revoked.connections,
    }))
}
