//! The gateway itself: version, listeners, health, metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use corral_api::{GatewayInfo, ListenerClient, RecordKey, TargetConnection, VersionInfo};

use corral_model::native::Reach;

use super::Failure;
use super::extract::SignedIn;
use crate::app::App;
use crate::protocols;

const JSON_TYPE: &str = "application/json";
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/version", get(version))
        .route("/connection", get(connection))
        .route("/targets/{name}/connection", get(target_connection))
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

async fn connection(SignedIn(_): SignedIn, State(app): State<Arc<App>>) -> Json<GatewayInfo> {
    let about = app.about();
    Json(GatewayInfo {
        name: about.name,
        version: about.version.to_owned(),
        clients: listener_clients(&about.listeners),
        listeners: about.listeners,
        ca_pem: about.ca_pem,
    })
}

/// What clients of each shared listener are told, whatever their target.
fn listener_clients(listeners: &BTreeMap<String, String>) -> Vec<ListenerClient> {
    let of = |id: &'static str| -> Option<ListenerClient> {
        let (host, port) = listeners.get(id)?.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let client = protocols::find(id)?.native_client(&Reach { port, database: None })?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(ListenerClient { protocol: id.to_owned(), host, port, client })
    };
    protocols::ids().filter_map(of).collect()
}

async fn target_connection(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<TargetConnection>, Failure> {
    let facts = app.connect_facts(&caller, &name)?;
    let reach = Reach { port: facts.port, database: facts.database.clone() };
    let client =
        protocols::find(&facts.protocol).and_then(|protocol| protocol.native_client(&reach));
    Ok(Json(TargetConnection {
        name: facts.target,
        protocol: facts.protocol,
        host: facts.host,
        port: facts.port,
        database: facts.database,
        client,
        ca_pem: app.about().ca_pem,
    }))
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
