//! `/scim/v2` (RFC 7644): what a provider asks, in SCIM's own media type and errors.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use corral_model::{Secret, limits};
use corral_scim::{Document, ErrorType, ListQuery, Page, Patch, ResourceKind, ScimError, schema};
use serde_json::Value;

use crate::app::App;
use crate::app::scim::{Named, ScimProvider, Shown, etag_matches};

/// Where the service is, below the gateway's address.
pub(super) const BASE: &str = "/scim/v2";

type Answer = Result<Response, Refusal>;
/// A request's body, or why it could not be read, which is told in SCIM's form.
type Body = Result<Bytes, BytesRejection>;

/// A refusal as SCIM writes it.
struct Refusal(ScimError);

impl From<ScimError> for Refusal {
    fn from(error: ScimError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = scim(status, self.0.body());
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"corral scim\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// The service, to be nested at [`BASE`]. Everything in it needs a provider's SCIM token.
pub(super) fn service(app: Arc<App>) -> Router<Arc<App>> {
    let of_kind = |kind: ResourceKind| {
        let folder = format!("/{}", kind.endpoint());
        Router::new()
            .route(&folder, get(list).post(create))
            .route(&format!("{folder}/.search"), post(search))
            .route(&format!("{folder}/{{id}}"), get(show).put(replace).patch(patch).delete(delete))
            .layer(Extension(kind))
    };
    Router::new()
        .route("/ServiceProviderConfig", get(service_provider_config))
        .route("/ResourceTypes", get(resource_types))
        .route("/ResourceTypes/{id}", get(resource_type))
        .route("/Schemas", get(schemas))
        .route("/Schemas/{id}", get(schema_of))
        .route("/.search", post(search_all))
        .route("/Bulk", post(not_served))
        .route("/Me", axum::routing::any(not_served))
        .merge(of_kind(ResourceKind::User))
        .merge(of_kind(ResourceKind::Group))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(limits::SCIM_BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(app, authenticated))
}

/// Lets nobody through without the SCIM token of a provider.
async fn authenticated(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let refuse = |text: &str| Refusal(ScimError::new(401, text));
    let value = request.headers().get(header::AUTHORIZATION);
    let value = value.ok_or_else(|| refuse("this needs the SCIM token of an identity provider"))?;
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer")
        || token.is_empty()
        || token.len() > limits::CREDENTIAL_BYTES_MAX
    {
        return Err(refuse("write `authorization: Bearer TOKEN`"));
    }
    let provider = app.scim_provider(&Secret::new(token.to_owned())).await?;
    request.extensions_mut().insert(provider);
    Ok(next.run(request).await)
}

/// What every request says beside its path and its body.
struct Asked {
    provider: ScimProvider,
    base: String,
    query: Vec<(String, String)>,
    media_type: String,
    if_match: Option<String>,
    if_none_match: Option<String>,
}

impl FromRequestParts<Arc<App>> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let provider = parts.extensions.get::<ScimProvider>().cloned();
        let provider = provider.ok_or_else(|| ScimError::new(401, "no provider has signed in"))?;
        let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| ScimError::bad(ErrorType::InvalidValue, error.body_text()))?;
        let text = |name| {
            let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
            value.map(ToOwned::to_owned)
        };
        let media_type = text(header::CONTENT_TYPE).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default();
        Ok(Self {
            provider,
            base: format!("{}{BASE}", app.api_url()),
            query,
            media_type: media_type.trim().to_ascii_lowercase(),
            if_match: text(header::IF_MATCH),
            if_none_match: text(header::IF_NONE_MATCH),
        })
    }
}

impl Asked {
    fn query(&self, kind: ResourceKind) -> Result<ListQuery, ScimError> {
        ListQuery::of_url(kind, &self.query)
    }

    fn named<'r>(&'r self, kind: ResourceKind, id: &'r str) -> Named<'r> {
        Named { kind, id, if_match: self.if_match.as_deref(), base: &self.base }
    }

    /// A JSON body, in either of the two media types.
    fn read(&self, body: Body) -> Result<Value, ScimError> {
        let body = body.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let most = limits::SCIM_BODY_BYTES_MAX;
                ScimError::new(413, format!("the request is larger than {most} bytes"))
            }
            _ => ScimError::bad(ErrorType::InvalidSyntax, "the request ended too early"),
        })?;
        if !matches!(self.media_type.as_str(), "application/scim+json" | "application/json") {
            return Err(ScimError::new(415, "send `content-type: application/scim+json`"));
        }
        serde_json::from_slice(&body).map_err(|error| {
            // serde's own words would quote what was sent.
            let (line, column) = (error.line(), error.column());
            let detail = format!("the body is not JSON: line {line}, column {column}");
            ScimError::bad(ErrorType::InvalidSyntax, detail)
        })
    }
}

async fn list(
    asked: Asked,
    State(app): State<Arc<App>>,
    Extension(kind): Extension<ResourceKind>,
) -> Answer {
    let page = app.scim_list(&asked.provider, kind, &asked.query(kind)?, &asked.base);
    Ok(scim(StatusCode::OK, page.body()))
}

async fn search(
    asked: Asked,
    State(app): State<Arc<App>>,
    Extension(kind): Extension<ResourceKind>,
    body: Body,
) -> Answer {
    let query = ListQuery::of_search(kind, &asked.read(body)?)?;
    Ok(scim(StatusCode::OK, app.scim_list(&asked.provider, kind, &query, &asked.base).body()))
}

async fn search_all(asked: Asked, State(app): State<Arc<App>>, body: Body) -> Answer {
    let queries = ListQuery::of_search_in_all(&asked.read(body)?)?;
    Ok(scim(StatusCode::OK, app.scim_list_all(&asked.provider, &queries, &asked.base).body()))
}

async fn create(
    asked: Asked,
    State(app): State<Arc<App>>,
    Extension(kind): Extension<ResourceKind>,
    body: Body,
) -> Answer {
    let query = asked.query(kind)?;
    let document = Document::read(kind, asked.read(body)?)?;
    let work = {
        let (app, provider, base) = (app.clone(), asked.provider.clone(), asked.base.clone());
        async move { app.scim_create(&provider, document, &base).await }
    };
    let shown = app.to_its_end(work).await.ok_or_else(unfinished)??;
    Ok(resource(StatusCode::CREATED, shown, &query))
}

async fn show(
    asked: Asked,
    State(app): State<Arc<App>>,
    Extension(kind): Extension<ResourceKind>,
    Path(id): Path<String>,
) -> Answer {
    let query = asked.query(kind)?;
    let shown = app.scim_show(&asked.provider, asked.named(kind, &id))?;
    let known = asked.if_none_match.as_deref();
    if known.is_some_and(|known| etag_matches(known, &shown.etag)) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    Ok(resource(StatusCode::OK, shown, &query))
}

async fn replace(
    asked: Asked,
    State(app): State<Arc<App>>,
    Extension(kind): Extension<ResourceKind>,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    let query = asked.query(kind)?;
    let document = Document::read(kind, asked.read(body)?)?;
    let work = {
        let app = app.clone();
        async move { app.scim_replace(&asked.provider, asked.named(kind, &id), document).await }
    };
    let shown = app.to_its_end(work).await.ok_or_else(unfinished)??;
    Ok(resource(StatusCode::OK, shown, &query))
}

async fn patch(
    asked: Asked,
    State(app): State<Arc<App>>,
    Extension(kind): Extension<ResourceKind>,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    let query = asked.query(kind)?;
    let patch = Patch::read(asked.read(body)?)?;
    let work = {
        let app = app.clone();
        async move { app.scim_patch(&asked.provider, asked.named(kind, &id), &patch).await }
    };
    let shown = app.to_its_end(work).await.ok_or_else(unfinished)??;
    Ok(resource(StatusCode::OK, shown, &query))
}

async fn delete(
    asked: Asked,
    State(app): State<Arc<App>>,
    Extension(kind): Extension<ResourceKind>,
    Path(id): Path<String>,
) -> Answer {
    let work = {
        let app = app.clone();
        async move { app.scim_delete(&asked.provider, asked.named(kind, &id)).await }
    };
    app.to_its_end(work).await.ok_or_else(unfinished)??;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn service_provider_config(asked: Asked) -> Response {
    scim(StatusCode::OK, schema::service_provider_config(&asked.base))
}

async fn resource_types(asked: Asked) -> Response {
    scim(StatusCode::OK, Page::whole(schema::resource_types(&asked.base)).body())
}

async fn resource_type(asked: Asked, Path(id): Path<String>) -> Answer {
    one_of(schema::resource_types(&asked.base), &id)
}

async fn schemas(asked: Asked) -> Response {
    scim(StatusCode::OK, Page::whole(schema::schemas(&asked.base)).body())
}

async fn schema_of(asked: Asked, Path(id): Path<String>) -> Answer {
    one_of(schema::schemas(&asked.base), &id)
}

fn unfinished() -> Refusal {
    Refusal(ScimError::new(500, "the change failed inside the gateway; look at its state"))
}

fn one_of(documents: Vec<Value>, id: &str) -> Answer {
    let found = documents.into_iter().find(|document| document["id"] == id);
    let found = found.ok_or_else(|| ScimError::new(404, "there is no document of this id"))?;
    Ok(scim(StatusCode::OK, found))
}

async fn not_served() -> Refusal {
    Refusal(ScimError::new(501, "this is not served; /ServiceProviderConfig says what is"))
}

async fn no_such_path() -> Refusal {
    Refusal(ScimError::new(
        404,
        "there is nothing at this path; /ResourceTypes lists what there is",
    ))
}

async fn no_such_method() -> Refusal {
    Refusal(ScimError::new(405, "this path does not take this method"))
}

fn resource(status: StatusCode, shown: Shown, query: &ListQuery) -> Response {
    let mut response = scim(status, Value::Object(query.projection.of_shown(shown.resource)));
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&shown.etag) {
        headers.insert(header::ETAG, etag);
    }
    if let Ok(location) = HeaderValue::from_str(&shown.location) {
        headers.insert(header::LOCATION, location);
    }
    response
}

fn scim(status: StatusCode, body: Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    let media_type = HeaderValue::from_static("application/scim+json");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}
