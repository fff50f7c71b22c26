//! One request's way: who, what, may it, and only then to the cluster and back.

use std::sync::Arc;

use corral_gate::{Denial, DenialKind};
use corral_model::limits;
use corral_model::statement::{Attribute, Facts};
use corral_session::{Answer, Completion, Draft, HttpBody, HttpTarget, Running};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;

use super::call::{ApiVerb, Call};
use super::cluster::Cluster;
use super::judge::{self, ObjectFacts};
use super::masking;
use super::objects::{self, ObjectError};
use super::outgoing::asks_impersonation;
use super::secrets::MaskPlan;
use super::status::{code_of, refusal};
use crate::http_parts::bearer::bearer;
use crate::http_parts::bodies::{CollectError, ToClient, ToTarget, collect, full};
use crate::http_parts::headers::{asks_upgrade, strip_hop_by_hop};
use crate::http_parts::sessions::Sessions;
use crate::http_parts::target::Answered;

const EXPECT: HeaderName = HeaderName::from_static("expect");

/// Answers a request. Refusals are answers.
///
/// # Cancel safety
/// Dropping it ends what the request does at the target, and withdraws what waits for people.
pub(crate) async fn answer(
    sessions: &Sessions<Cluster>,
    target: &HttpTarget,
    request: Request<HttpBody>,
) -> Response<HttpBody> {
    let token = match bearer(request.headers()) {
        Ok(token) => token,
        Err(error) => {
            let denial = Denial::new(DenialKind::Authentication, error.to_string());
            sessions.refused(&denial.sentence());
            return refusal(&denial);
        }
    };
    let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
    let cluster = match sessions.of(token, target.name(), user_agent).await {
        Ok(cluster) => cluster,
        Err(denial) => return refusal(&denial),
    };
    let exchange = Exchange::new(&cluster);
    tokio::select! {
        biased;
        end = cluster.session.ended() => refusal(&end.denial),
        answered = exchange.run(request) => {
            answered.unwrap_or_else(|denial| refusal(&denial))
        }
    }
}

/// One request of a session.
struct Exchange<'a> {
    cluster: &'a Arc<Cluster>,
}

impl<'a> Exchange<'a> {
    fn new(cluster: &'a Arc<Cluster>) -> Self {
        Self { cluster }
    }

    async fn run(&self, request: Request<HttpBody>) -> Result<Response<HttpBody>, Denial> {
        let (parts, body) = request.into_parts();
        let line = line_of(&parts);
        let query = parts.uri.query().unwrap_or_default();
        let call = match Call::read(&parts.method, parts.uri.path(), query) {
            Ok(call) => call,
            Err(error) => return Err(self.obstructed(line, error.to_string(), false).await),
        };
        let plan = masking::plan(&call, &self.cluster.session.masked().await);
        let (body, object) = if call.has_object() {
            let collected = collect(body, limits::OBJECT_BYTES_MAX, limits::OBJECT_DEADLINE).await;
            match collected {
                Ok(bytes) => {
                    let content_type = content_type(&parts.headers);
                    let written = content_type.and_then(|content_type| {
                        objects::read(&call, content_type, bytes, plan.as_deref())
                    });
                    match written {
                        Ok(written) => (full(written.body), written.facts),
                        Err(error) => {
                            let is_size = error.is_size();
                            return Err(self.obstructed(line, error.to_string(), is_size).await);
                        }
                    }
                }
                Err(CollectError::Broken(error)) => return Err(broken(error.as_ref())),
                Err(error @ CollectError::TooLarge { .. }) => {
                    return Err(self.obstructed(line, error.to_string(), true).await);
                }
                Err(error @ CollectError::TooSlow(_)) => {
                    return Err(self.obstructed(line, error.to_string(), false).await);
                }
            }
        } else {
            (body, ObjectFacts::default())
        };
        let mut facts = judge::facts(&call, &self.cluster.options.known_groups, &object);
        let asks = Attribute::Flag(asks_impersonation(&parts.headers));
        facts.attributes.insert("asks_impersonation", asks);
        facts.is_masked = plan.is_some();
        if let Some(plan) = &plan
            && call.query.get("fieldSelector").is_some_and(|selector| plan.is_selected_by(selector))
        {
            let text = "a field selector on a masked field would tell its value";
            return Err(self.obstructed(line, text.to_owned(), false).await);
        }
        let running = self.decide(line, facts, call.is_stream()).await?;
        if asks_upgrade(&parts.headers) {
            return self.upgrade(running).await;
        }
        let verb = call.verb;
        self.forward(parts, body, running, plan.map(|plan| (plan, verb))).await
    }

    /// Decides a request, and waits for people where that is asked for.
    async fn decide(&self, text: String, facts: Facts, is_stream: bool) -> Result<Running, Denial> {
        let draft = Draft {
            text: text.into(),
            facts: Arc::new(facts),
            parameters: Vec::new(),
            state_digest: String::new(),
            is_stream,
        };
        match self.cluster.session.decide(draft).await {
            Answer::Allow(running) => Ok(running),
            Answer::Deny(denial) => Err(denial),
            Answer::Hold(waiting) => waiting.wait().await,
        }
    }

    /// The refusal of a request that can never be permitted, recorded.
    async fn obstructed(&self, line: String, text: String, is_size: bool) -> Denial {
        match self.decide(line, judge::obstructed(text, is_size), false).await {
            Err(denial) => denial,
            // The gate permits no obstacle; if it did, nothing would be forwarded either.
            Ok(_running) => Denial::new(DenialKind::Forbidden, "this request cannot be judged"),
        }
    }

    /// A permitted request that asks for another protocol on its connection.
    async fn upgrade(&self, running: Running) -> Result<Response<HttpBody>, Denial> {
        let denial =
            Denial::new(DenialKind::NotSupported, "streams into containers are not carried here");
        let (code, _) = code_of(denial.kind);
        let completion = Completion { code: code.as_u16().to_string(), ..Completion::default() };
        running.finish(completion).await;
        Err(denial)
    }

    async fn forward(
        &self,
        parts: Parts,
        body: HttpBody,
        running: Running,
        masks: Option<(Arc<MaskPlan>, ApiVerb)>,
    ) -> Result<Response<HttpBody>, Denial> {
        let cluster = self.cluster;
        let body = ToTarget::new(body, cluster.session.clone());
        let mut request = Request::new(body.boxed_unsync());
        *request.method_mut() = parts.method;
        *request.uri_mut() = parts.uri;
        *request.headers_mut() = parts.headers;
        let headers = request.headers_mut();
        cluster.outgoing.apply(headers, running.permit().decision_id());
        // The client was told to go on by this side already.
        headers.remove(EXPECT);
        headers.remove(CONTENT_LENGTH);
        if let Some((plan, _)) = &masks {
            masking::ask(plan, headers)
                .map_err(|error| Denial::new(DenialKind::NotSupported, error.to_string()))?;
        }
        let Answered { response, lease } =
            cluster.target.send(request).await.map_err(Denial::from)?;
        cluster.session.opened().await;
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        let mut body = corral_session::http::boxed(body);
        if let Some((plan, verb)) = &masks {
            let account = (cluster.session.clone(), running.seq());
            body = masking::apply(plan, *verb, &mut parts, body, account);
        }
        let completion =
            Completion { code: parts.status.as_u16().to_string(), ..Completion::default() };
        let body = ToClient::new(body, running, completion, cluster.session.clone(), lease);
        let mut answered = Response::new(body.await.boxed_unsync());
        *answered.status_mut() = parts.status;
        *answered.headers_mut() = parts.headers;
        Ok(answered)
    }
}

/// As people and the record read it: `GET /api/v1/pods?limit=500`.
fn line_of(parts: &Parts) -> String {
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    format!("{} {path}", parts.method)
}

/// The type of a body that says how it is written in one way only.
fn content_type(headers: &HeaderMap) -> Result<Option<&str>, ObjectError> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let coded = headers.contains_key(CONTENT_ENCODING);
    match (types.next(), types.next()) {
        (None, _) if !coded => Ok(None),
        (Some(one), None) if !coded => one.to_str().map(Some).map_err(|_| ObjectError::ContentType),
        _ => Err(ObjectError::ContentType),
    }
}

fn broken(error: &dyn std::error::Error) -> Denial {
    let mut denial = Denial::new(DenialKind::Protocol, "the body ended early");
    denial.internal = Some(error.to_string());
    denial
}
