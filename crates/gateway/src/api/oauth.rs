//! The token service over HTTP: forms in, JSON out, errors as RFC 6749 section 5.2 has them.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use corral_api::oauth::{
    ACCESS_TOKEN_TYPE, CLIENT_CREDENTIALS, ID_TOKEN_TYPE, Introspection, JWT_TYPE, RUN_DETAIL,
    RunDetail, ServerMetadata, StartedDetail, TOKEN_EXCHANGE, TokenResponse,
};
use corral_api::sign_in::{
    AUTHORIZE_PATH, CODE_GRANT, DEVICE_GRANT, DEVICE_PATH, TOKEN_PATH as TOKEN,
};
use corral_identity::jwt::Algorithm;
use corral_model::{RunId, Secret, limits};
use corral_session::ConnectionFacts;
use serde_json::{Value, json};
use time::OffsetDateTime;

use self::form::{ClientAuthentication, Form};
use self::refusal::Refusal;
use super::extract::SignedIn;
use super::sign_in;
use crate::app::App;
use crate::app::runs::StartRun;
use crate::app::token_service::same_run::SameRun;
use crate::app::token_service::{Exchange, Exchanged, TokenForm};
use crate::possession::proof_of;

mod form;
mod refusal;

const INTROSPECT: &str = "/oauth2/introspect";
const REVOKE: &str = "/oauth2/revoke";
const JWKS: &str = "/oauth2/jwks";

/// The name of a run that nobody named.
const RUN_NAME: &str = "run";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(TOKEN, post(token))
        .route(INTROSPECT, post(introspect))
        .route(REVOKE, post(revoke))
        .route(JWKS, get(jwks))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .layer(DefaultBodyLimit::max(limits::TOKEN_REQUEST_BYTES_MAX))
}

async fn token(
    State(app): State<Arc<App>>,
    Extension(client): Extension<ConnectionFacts>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Refusal> {
    match form.required("grant_type")? {
        TOKEN_EXCHANGE => exchange(&app, &client, &headers, &form).await,
        CLIENT_CREDENTIALS => client_credentials(&app, &headers, &form).await,
        CODE_GRANT => Ok(sign_in::code_grant(&app, |name| form.owned(name)).await),
        DEVICE_GRANT => Ok(sign_in::device_grant(&app, |name| form.owned(name)).await),
        _ => Err(Refusal::new(
            "unsupported_grant_type",
            "grant_type is token-exchange (RFC 8693), client_credentials, authorization_code or \
             device_code",
        )),
    }
}

/// RFC 8693 section 2.1.
async fn exchange(
    app: &App,
    client: &ConnectionFacts,
    headers: &HeaderMap,
    form: &Form,
) -> Result<Response, Refusal> {
    // What is not understood must not silently widen what is given.
    for name in ["resource", "audience"] {
        if form.get(name).is_some() {
            return Err(Refusal::new(
                "invalid_target",
                "targets are named in authorization_details, not in resource or audience",
            ));
        }
    }
    if form.get("scope").is_some() {
        return Err(Refusal::new("invalid_scope", "scopes mean nothing here; a run names targets"));
    }
    if form.get("actor_token").is_some() || form.get("actor_token_type").is_some() {
        return Err(Refusal::invalid("the actor is the new run; send no actor_token"));
    }
    let subject = form.required("subject_token")?;
    check_subject_type(subject, form.required("subject_token_type")?)?;
    let token_form = match form.get("requested_token_type") {
        None | Some(ACCESS_TOKEN_TYPE) => TokenForm::Opaque,
        Some(JWT_TYPE) => TokenForm::Jwt,
        Some(_) => {
            return Err(Refusal::invalid("requested_token_type is access_token or jwt"));
        }
    };
    let asked = asked(form.get("authorization_details"))?;
    let proof = proof_of(headers, "POST", TOKEN).map_err(Refusal::bad_proof)?;
    let subject = Secret::new(subject.to_owned());
    let exchanged = match asked {
        Asked::Start(ask) => {
            let workload = form.get("client_id").map(str::to_owned);
            let traceparent = corral_session::traceparent(headers);
            let ask = StartRun { traceparent, client_ip: client.client_ip, ..*ask };
            app.exchange(Exchange { subject, workload, ask, form: token_form, proof }).await
        }
        Asked::SameRun(run) => {
            app.exchange_for_same_run(SameRun { subject, run, form: token_form, proof }).await
        }
    };
    let exchanged = exchanged.map_err(Refusal::of_exchange)?;
    Ok(Json(answer(exchanged, token_form)).into_response())
}

fn check_subject_type(subject: &str, kind: &str) -> Result<(), Refusal> {
    let is_fitting = match kind {
        ACCESS_TOKEN_TYPE => true,
        JWT_TYPE | ID_TOKEN_TYPE => subject.contains('.'),
        _ => {
            let text = "subject_token_type is jwt, id_token or access_token";
            return Err(Refusal::invalid(text));
        }
    };
    if is_fitting { Ok(()) } else { Err(Refusal::invalid("the subject_token is no JWT")) }
}

/// What an exchange is to give a token of.
#[derive(Debug)]
enum Asked {
    /// Of a run that starts.
    Start(Box<StartRun>),
    /// Of the subject token's own run, which this is.
    SameRun(RunId),
}

/// The one authorization detail (RFC 9396 section 2), or a run with no wishes.
fn asked(details: Option<&str>) -> Result<Asked, Refusal> {
    let Some(text) = details else {
        let ask = StartRun { name: RUN_NAME.to_owned(), ..StartRun::default() };
        return Ok(Asked::Start(Box::new(ask)));
    };
    let unfit = || {
        Refusal::new(
            "invalid_authorization_details",
            "authorization_details is a list of one object: type corral_run, name, and where \
             wanted purpose, targets, actions, renew_within_s and ttl_s; or type corral_run and \
             run_id, for another JWT of the same run",
        )
    };
    let details: Vec<RunDetail> = serde_json::from_str(text).map_err(|_| unfit())?;
    let [detail] = <[RunDetail; 1]>::try_from(details).map_err(|_| unfit())?;
    if detail.kind != RUN_DETAIL {
        return Err(unfit());
    }
    // A wish beside a run that is there would be ignored: that run is what it is.
    let has_wishes = detail.purpose.is_some()
        || !detail.targets.is_empty()
        || !detail.actions.is_empty()
        || detail.renew_within_s.is_some()
        || detail.ttl_s.is_some();
    let seconds = |seconds: Option<u64>| seconds.map(std::time::Duration::from_secs);
    match (detail.name, detail.run_id) {
        (Some(name), None) => Ok(Asked::Start(Box::new(StartRun {
            name,
            purpose: detail.purpose,
            targets: detail.targets,
            actions: detail.actions,
            renew_within: seconds(detail.renew_within_s),
            ttl: seconds(detail.ttl_s),
            ..StartRun::default()
        }))),
        (None, Some(run)) if !has_wishes => Ok(Asked::SameRun(run)),
        (None, Some(_)) | (None, None) | (Some(_), Some(_)) => Err(unfit()),
    }
}

fn answer(exchanged: Exchanged, form: TokenForm) -> TokenResponse {
    let Exchanged { run, path, token, expires_at, is_bound } = exchanged;
    let issued = match form {
        TokenForm::Opaque => ACCESS_TOKEN_TYPE,
        TokenForm::Jwt => JWT_TYPE,
    };
    TokenResponse {
        access_token: token.into(),
        token_type: if is_bound { "DPoP" } else { "Bearer" }.to_owned(),
        issued_token_type: Some(issued.to_owned()),
        expires_in: seconds_until(expires_at),
        authorization_details: vec![StartedDetail {
            kind: RUN_DETAIL.to_owned(),
            run_id: run.id,
            name: run.name,
            path,
            principal: run.principal.name,
            sponsor: run.sponsor,
            parent: run.parent,
            targets: run.targets,
            actions: run.actions,
            expires_at: run.expires_at,
        }],
    }
}

fn seconds_until(at: OffsetDateTime) -> u64 {
    u64::try_from((at - OffsetDateTime::now_utc()).whole_seconds()).unwrap_or(0)
}

/// RFC 6749 section 4.4: a workload with a secret signs in.
async fn client_credentials(
    app: &App,
    headers: &HeaderMap,
    form: &Form,
) -> Result<Response, Refusal> {
    let ClientAuthentication { id, secret } = ClientAuthentication::of(headers, form)?;
    let signed_in = app.sign_in_workload(&id, secret).await.map_err(Refusal::of_client)?;
    let response = TokenResponse {
        access_token: signed_in.token.into(),
        token_type: "Bearer".to_owned(),
        issued_token_type: None,
        expires_in: seconds_until(signed_in.expires_at),
        authorization_details: Vec::new(),
    };
    Ok(Json(response).into_response())
}

/// RFC 7662.
async fn introspect(
    SignedIn(caller): SignedIn,
    State(app): State<Arc<App>>,
    form: Form,
) -> Result<Json<Introspection>, Refusal> {
    let token = Secret::new(form.required("token")?.to_owned());
    let facts = app.introspect(&caller, &token).await.map_err(Refusal::of_exchange)?;
    let Some(facts) = facts else { return Ok(Json(Introspection::default())) };
    Ok(Json(Introspection {
        active: true,
        iss: Some(app.api_url()),
        sub: Some(facts.subject),
        exp: facts.expires_at.map(OffsetDateTime::unix_timestamp),
        token_type: Some(if facts.key.is_some() { "DPoP" } else { "Bearer" }.to_owned()),
        sponsor: facts.sponsor,
        run_id: facts.run,
        run_path: facts.run_path,
        act: facts.actors,
        cnf: facts.key.map(|key| json!({ "jkt": key })),
    }))
}

/// RFC 7009. Having the token is the right to take it back.
async fn revoke(State(app): State<Arc<App>>, form: Form) -> Result<(), Refusal> {
    let token = Secret::new(form.required("token")?.to_owned());
    app.revoke(&token).await.map_err(Refusal::of_revocation)
}

async fn jwks(State(app): State<Arc<App>>) -> Json<Value> {
    Json(app.access_token_keys())
}

async fn metadata(State(app): State<Arc<App>>) -> Json<ServerMetadata> {
    let issuer = app.api_url();
    let at = |path: &str| format!("{issuer}{path}");
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Json(ServerMetadata {
        authorization_endpoint: at(AUTHORIZE_PATH),
        device_authorization_endpoint: at(DEVICE_PATH),
        token_endpoint: at(TOKEN),
        introspection_endpoint: at(INTROSPECT),
        revocation_endpoint: at(REVOKE),
        jwks_uri: at(JWKS),
        grant_types_supported: texts(&[
            TOKEN_EXCHANGE,
            CLIENT_CREDENTIALS,
            CODE_GRANT,
            DEVICE_GRANT,
        ]),
        response_types_supported: texts(&["code"]),
        code_challenge_methods_supported: texts(&["S256"]),
        token_endpoint_auth_methods_supported: texts(&[
            "none",
            "client_secret_basic",
            "client_secret_post",
        ]),
        authorization_details_types_supported: texts(&[RUN_DETAIL]),
        dpop_signing_alg_values_supported: Algorithm::ALL
            .iter()
            .map(|algorithm| algorithm.name().to_owned())
            .collect(),
        issuer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_one_run_without_unknown_wishes() {
        let check = |text: &str, is_read: bool| {
            assert_eq!(asked(Some(text)).is_ok(), is_read, "{text}");
        };
        check(r#"[{"type":"corral_run","name":"a","targets":["t"],"ttl_s":60}]"#, true);
        check(r#"[{"type":"corral_run","run_id":"r-1"}]"#, true);
        check(r#"[{"type":"corral_run","run_id":"r-1","name":"a"}]"#, false);
        check(r#"[{"type":"corral_run","run_id":"r-1","ttl_s":60}]"#, false);
        check(r#"[{"type":"corral_run","run_id":"r-1","targets":["t"]}]"#, false);
        check(r#"[{"type":"corral_run","run_id":"not an id"}]"#, false);
        check(r#"[{"type":"corral_run","name":"a"},{"type":"corral_run","name":"b"}]"#, false);
        check(r#"[{"type":"other","name":"a"}]"#, false);
        check(r#"[{"type":"corral_run"}]"#, false);
        check(r#"[{"type":"corral_run","name":"a","for":"ada"}]"#, false);
        check(r#"[{"type":"corral_run","name":"a","name":"b"}]"#, false);
        check(r#"{"type":"corral_run","name":"a"}"#, false);
        check("[]", false);
        check("", false);
        let unnamed = asked(None).expect("no wishes");
        assert!(matches!(unnamed, Asked::Start(ask) if ask.name == RUN_NAME));
    }
}
