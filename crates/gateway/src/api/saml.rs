//! What a SAML provider's page, and its administrator, ask of the gateway.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use corral_identity::token::digest_of;

use super::Failure;
use super::sign_in::{Fields, browser_of, field, next_page, redirect, refused};
use crate::app::App;
use crate::app::sign_in::percent_encoded;

/// A form with a response, in bytes: base 64 is a third longer, and `+` takes three characters.
const FORM_BYTES_MAX: usize = 2 * corral_saml::bounds::RESPONSE_BYTES_MAX;

pub(super) fn routes() -> Router<Arc<App>> {
    let acs = post(take_response).layer(DefaultBodyLimit::max(FORM_BYTES_MAX));
    Router::new()
        .route("/auth/saml/{provider}/metadata", get(metadata))
        .route("/auth/saml/{provider}/acs", acs)
        .route("/auth/saml/{provider}/done", get(done))
}

/// saml-metadata-2.0, appendix A: its media type.
async fn metadata(
    State(app): State<Arc<App>>,
    Path(provider): Path<String>,
) -> Result<Response, Failure> {
    let media_type = [(header::CONTENT_TYPE, "application/samlmetadata+xml")];
    Ok((media_type, app.saml_metadata(&provider)?).into_response())
}

/// saml-bindings-2.0 section 3.5. The provider's page posts it, so that no cookie of ours comes
/// with it; the browser comes for the rest by itself.
async fn take_response(
    State(app): State<Arc<App>>,
    Path(provider): Path<String>,
    Form(form): Form<Fields>,
) -> Response {
    let response = field(&form, "SAMLResponse").unwrap_or_default();
    match app.take_saml_response(&provider, response).await {
        Ok(state) => {
            let (provider, state) = (percent_encoded(&provider), percent_encoded(&state));
            redirect(&format!("/auth/saml/{provider}/done?state={state}"))
        }
        Err(error) => refused(&error),
    }
}

async fn done(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Path(provider): Path<String>,
    Query(query): Query<Fields>,
) -> Response {
    let state = field(&query, "state").unwrap_or_default();
    // A browser that nobody knows belongs to no sign-in.
    let browser = browser_of(&headers).unwrap_or_else(|| digest_of(""));
    match app.finish_saml(&provider, state, browser).await {
        Ok(next) => next_page(next),
        Err(error) => refused(&error),
    }
}
