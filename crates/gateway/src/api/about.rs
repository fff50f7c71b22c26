//! The gateway itself: version, listeners, health, metrics.

use std::sync::{Arc, LazyLock};

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use corral_api::{
    ClientQuery, GatewayInfo, ListenerClient, ProtocolView, RecordKey, TargetConnection,
    VersionInfo,
};
use corral_model::ids::TargetName;
use corral_model::native::{Lifetime, NativeClient};

use super::Failure;
use super::extract::{Asked, SignedIn};
use crate::app::about::ConnectFacts;
use crate::app::{App, AppError};
use crate::protocols;

const JSON_TYPE: &str = "application/json";
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/version", get(version))
        .route("/connection", get(connection))
        .route("/targets/{name}/connection", get(target_connection))
        .route("/protocols", get(list_protocols))
        .route("/record/key", get(record_key))
}

pub(super) fn unversioned_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/openapi.json", get(openapi))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

async fn version(State(app): State<Arc<App>>) -> Json<VersionInfo> {
    let about = app.about();
    Json(VersionInfo { name: about.name, version: about.version.to_owned() })
}

async fn connection(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Asked(query): Asked<ClientQuery>,
) -> Json<GatewayInfo> {
    let about = app.about();
    let facts = app.client_facts(&caller, lifetime(&query));
    Json(GatewayInfo {
        name: about.name,
        version: about.version.to_owned(),
        clients: facts.into_iter().filter_map(listener_client).collect(),
        listeners: about.listeners,
        ca_pem: about.ca_pem,
    })
}

fn lifetime(query: &ClientQuery) -> Lifetime {
    if query.kept { Lifetime::Kept } else { Lifetime::Process }
}

fn native_client(facts: &ConnectFacts) -> Option<NativeClient> {
    protocols::find(&facts.protocol).and_then(|protocol| protocol.native_client(&facts.reach))
}

fn listener_client(facts: ConnectFacts) -> Option<ListenerClient> {
    let client = native_client(&facts)?;
    let ConnectFacts { protocol, host, reach } = facts;
    Some(ListenerClient { protocol, host, port: reach.port, client })
}

async fn target_connection(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Asked(query): Asked<ClientQuery>,
) -> Result<Json<TargetConnection>, Failure> {
    let facts = app.connect_facts(&caller, &name, lifetime(&query))?;
    let not_found = |_| AppError::NotFound { kind: "target", name: name.clone() };
    let name = TargetName::new(&name).map_err(not_found)?;
    let client = native_client(&facts);
    let ConnectFacts { protocol, host, reach } = facts;
    Ok(Json(TargetConnection {
        name,
        protocol,
        host,
        port: reach.port,
        database: reach.named_target().map(|target| target.name.clone()),
        client,
        ca_pem: app.about().ca_pem,
    }))
}

/// What this gateway can serve, and what holds for each.
async fn list_protocols(SignedIn(_): SignedIn) -> Json<Vec<ProtocolView>> {
    let view = |service: &corral_session::Service| {
        let spec = service.protocol().spec();
        ProtocolView {
            id: spec.id.to_owned(),
            title: spec.title.to_owned(),
            assurance: spec.assurance.to_owned(),
        }
    };
    Json(protocols::all().iter().map(view).collect())
}

async fn record_key(SignedIn(_): SignedIn, State(app): State<Arc<App>>) -> Json<RecordKey> {
    Json(RecordKey { public_key: app.record_public_key() })
}

async fn openapi() -> Response {
    static DOCUMENT: LazyLock<Option<String>> =
        LazyLock::new(|| corral_api::openapi().to_pretty_json().ok());
    match DOCUMENT.as_deref() {
        Some(text) => ([(header::CONTENT_TYPE, JSON_TYPE)], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(app): State<Arc<App>>) -> Response {
    match app.readiness().await {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], app.metrics_text()).into_response()
}
