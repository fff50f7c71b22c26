//! HTTP over [`crate::app`]: routes, and what every request has to pass.
//!
//! Handlers hold no logic: they read a request, call one function of the app as the caller that
//! the token names, and translate the answer. One file for each resource.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, MatchedPath, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use corral_model::limits;

use crate::app::App;
use crate::streams::Streams;

mod about;
mod approvals;
mod attach;
mod credentials;
mod events;
mod extract;
mod failure;
mod job_ends;
mod linger;
mod login;
mod oauth;
mod page;
mod policies;
mod relays;
mod reports;
mod resources;
mod runs;
#[cfg(feature = "saml")]
mod saml;
mod scim;
mod sessions;
mod sign_in;
mod signals;
mod streams;
mod upgrade;
mod users;

pub use failure::Failure;

/// Everything that the `https` listener serves.
///
/// # Limits
/// [`limits::API_BODY_BYTES_MAX`] for a body, [`limits::API_TIMEOUT`] until an answer begins.
pub(crate) fn router(app: Arc<App>, streams: Streams) -> Router {
    let v1 = Router::new()
        .merge(about::routes())
        .merge(credentials::routes())
        .merge(login::routes())
        .merge(sign_in::v1_routes())
        .merge(resources::routes())
        .merge(relays::routes())
        .merge(policies::routes())
        .merge(users::routes())
        .merge(runs::routes())
        .merge(job_ends::routes())
        .merge(reports::routes())
        .merge(attach::routes())
        .merge(streams::routes())
        .merge(sessions::routes())
        .merge(approvals::routes())
        .merge(events::routes());
    #[cfg(feature = "saml")]
    let auth = saml::routes();
    #[cfg(not(feature = "saml"))]
    let auth = Router::new();
    Router::new()
        .merge(auth)
        .nest(corral_api::BASE, v1)
        .nest(scim::BASE, scim::service(app.clone()))
        .merge(about::unversioned_routes())
        .merge(signals::routes())
        .merge(sign_in::routes())
        .merge(oauth::routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(limits::API_BODY_BYTES_MAX))
        .layer(Extension(streams))
        .layer(middleware::from_fn(guard))
        .with_state(app)
}

/// Bounds the time until an answer begins, reads what it left unread, keeps answers out of caches,
/// and logs.
async fn guard(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let (request, unread) = linger::watch(request);
    let mut response = match tokio::time::timeout(limits::API_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            Failure::unavailable("the gateway did not answer in time; try again").into_response()
        }
    };
    unread.read().await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    tracing::debug!(
        %method,
        path = path.as_deref().unwrap_or("-"),
        status = response.status().as_u16(),
        duration_us = started.elapsed().as_micros(),
        "request answered"
    );
    response
}

async fn no_such_path() -> Failure {
    Failure::of_status(
        StatusCode::NOT_FOUND,
        "there is nothing at this path; /api/openapi.json lists what there is",
    )
}

async fn no_such_method() -> Failure {
    Failure::of_status(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path does not take this method; /api/openapi.json lists what there is",
    )
}
