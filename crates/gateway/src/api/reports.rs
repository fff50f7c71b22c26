//! Reports over runs.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use corral_api::{DormantReport, GrantReport, OrphanReport, RefusedReport, SponsorReport};

use super::Failure;
use super::extract::SignedIn;
use crate::app::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/reports/sponsors", get(sponsors))
        .route("/reports/dormant", get(dormant))
        .route("/reports/grants", get(grants))
        .route("/reports/refused", get(refused))
        .route("/reports/orphans", get(orphans))
}

async fn sponsors(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<SponsorReport>>, Failure> {
    let view = |report: crate::app::reports::SponsorReport| SponsorReport {
        sponsor: report.sponsor,
        runs_active: report.runs_active,
        runs_ended: report.runs_ended,
        sessions: report.sessions,
        statements: report.used.statements,
        writes: report.used.writes,
        rows: report.used.rows,
        bytes: report.used.bytes,
        last_started_at: report.last_started_at,
    };
    Ok(Json(app.report_sponsors(&caller).await?.into_iter().map(view).collect()))
}

async fn dormant(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<DormantReport>>, Failure> {
    let view = |report: crate::app::reports::DormantReport| DormantReport {
        workload: report.workload,
        sponsor: report.sponsor,
        last_started_at: report.last_started_at,
    };
    Ok(Json(app.report_dormant(&caller).await?.into_iter().map(view).collect()))
}

async fn grants(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<GrantReport>>, Failure> {
    let view = |report: crate::app::reports::GrantReport| GrantReport {
        run_id: report.run,
        path: report.path,
        sponsor: report.sponsor,
        is_active: report.is_active,
        unused_targets: report.unused_targets,
        unused_actions: report.unused_actions,
    };
    Ok(Json(app.report_grants(&caller).await?.into_iter().map(view).collect()))
}

async fn refused(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<RefusedReport>>, Failure> {
    let view = |report: crate::app::reports::RefusedReport| RefusedReport {
        time: report.time,
        principal: report.principal,
        sponsor: report.sponsor,
        name: report.name,
        count: report.count,
        reason: report.reason,
    };
    Ok(Json(app.report_refused(&caller).await?.into_iter().map(view).collect()))
}

async fn orphans(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<OrphanReport>>, Failure> {
    let view = |report: crate::app::reports::OrphanReport| OrphanReport {
        run_id: report.run,
        path: report.path,
        sponsor: report.sponsor,
        reason: report.reason,
        claimed_left: report.left,
        ended_at: report.ended_at,
    };
    Ok(Json(app.report_orphans(&caller).await?.into_iter().map(view).collect()))
}
