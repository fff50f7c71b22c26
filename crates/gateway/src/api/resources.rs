//! Resources: apply, list, show, delete.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use corral_api::{ApplyRequest, ApplyResponse, Change, ChangeAction, ErrorCode};
use corral_model::resource::ResourceKind;
use serde_json::Value;

use super::Failure;
use super::extract::{Body, SignedIn};
use crate::app::resources::{Applied, ApplyOptions, ChangeKind, ResourceView};
use crate::app::{App, AppError};

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/apply", post(apply))
        .route("/resources", get(list_all))
        .route("/resources/{kind}", get(list))
        .route("/resources/{kind}/{name}", get(show).delete(delete))
}

async fn apply(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Body(request): Body<ApplyRequest>,
) -> Result<Json<ApplyResponse>, Failure> {
    let options = ApplyOptions { dry_run: request.dry_run, prune: request.prune };
    let work = {
        let app = app.clone();
        async move { app.apply(&caller, request.resources, options).await }
    };
    let applied = app.to_its_end(work).await.ok_or_else(Failure::unfinished)??;
    Ok(Json(applied_view(applied, options.dry_run)?))
}

/// Whatever the caller may see: everything for an administrator, else the targets.
async fn list_all(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<Value>>, Failure> {
    let mut all: Vec<Value> = Vec::new();
    for kind in ResourceKind::ALL {
        match app.list_resources(&caller, kind.name()) {
            Ok(resources) => all.extend(resources.into_iter().map(manifest_form)),
            Err(AppError::Denied(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Json(all))
}

async fn list(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path(kind): Path<String>,
) -> Result<Json<Vec<Value>>, Failure> {
    let resources = app.list_resources(&caller, &kind)?;
    Ok(Json(resources.into_iter().map(manifest_form).collect()))
}

async fn show(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    Ok(Json(manifest_form(app.show_resource(&caller, &kind, &name)?)))
}

async fn delete(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    Path((kind, name)): Path<(String, String)>,
) -> Result<Json<ApplyResponse>, Failure> {
    let work = {
        let app = app.clone();
        async move { app.delete_resource(&caller, &kind, &name).await }
    };
    let applied = app.to_its_end(work).await.ok_or_else(Failure::unfinished)??;
    Ok(Json(applied_view(applied, false)?))
}

/// The spec as it would stand in a manifest.
fn manifest_form(resource: ResourceView) -> Value {
    let mut spec = resource.spec;
    if let Value::Object(keys) = &mut spec {
        keys.insert("kind".to_owned(), Value::String(resource.kind));
        keys.insert("name".to_owned(), Value::String(resource.name));
    }
    spec
}

fn applied_view(applied: Applied, dry_run: bool) -> Result<ApplyResponse, Failure> {
    let mut changes: Vec<Change> = Vec::with_capacity(applied.changes.len());
    for change in applied.changes {
        let kind = ResourceKind::parse(&change.kind).ok_or_else(|| {
            tracing::error!(kind = change.kind, "the app named an unknown kind of resource");
            Failure::new(ErrorCode::Internal, "the gateway cannot tell what changed")
        })?;
        changes.push(Change {
            action: action(change.change),
            kind,
            name: change.name,
            before: change.before,
            after: change.after,
        });
    }
    Ok(ApplyResponse { version: applied.version, dry_run, changes })
}

fn action(change: ChangeKind) -> ChangeAction {
    match change {
        ChangeKind::Created => ChangeAction::Created,
        ChangeKind::Changed => ChangeAction::Changed,
        ChangeKind::Unchanged => ChangeAction::Unchanged,
        ChangeKind::Deleted => ChangeAction::Deleted,
    }
}
